"""The rows of `list`."""

from __future__ import annotations

from dataclasses import replace

import pytest
from builders import desired, files_of

from reconciler.core.listing import model_rows, on_disk_text
from reconciler.core.observed import FileStatus, ObservedFile, ObservedFiles
from reconciler.core.words import ModelName, ModelState

HUB = {"source": {"repo": "org/far"}, "quant": "Q4", "quants": {"Q8": "2GB", "Q4": "1GB"}}
STATE = desired({"b": {"port": 8001, "aliases": ("bee",)}, "a": HUB, "c": {"state": "absent"}})


def test_all_models_are_there_with_what_is_known_of_them() -> None:
    files = {ModelName("b"): files_of(STATE.models["b"], size=140)}
    a, b, c = model_rows(STATE, files)
    assert (a.name, a.source, a.quants) == ("a", "org/far@main", {"Q4": 10**9, "Q8": 2 * 10**9})
    assert (a.on_disk, a.size_bytes, a.missing_bytes) == (FileStatus.UNKNOWN, 10**9, None)
    assert (b.on_disk, b.size_bytes, b.missing_bytes) == (FileStatus.PRESENT, 140, 0)
    assert (b.port, b.aliases, b.source) == (8001, ["bee"], "b.gguf")
    assert (c.state, c.size_bytes, c.path) == (ModelState.ABSENT, None, None)


def test_a_url_is_shown_without_what_may_be_a_key() -> None:
    source = {"url": "https://example.org/x.gguf?key=1", "sha256": "5" * 64}
    [row] = model_rows(desired({"a": {"source": source}}), {})
    assert row.source == "https://example.org/x.gguf?…"


def test_files_that_can_be_fetched_count_as_missing() -> None:
    files = {ModelName("a"): files_of(STATE.models["a"], FileStatus.MISSING, size=77)}
    row = model_rows(STATE, files)[0]
    assert (row.on_disk, row.size_bytes, row.missing_bytes) == (FileStatus.MISSING, 77, 77)


GIB = 2**30
WHOLE, NONE = ObservedFile("1", GIB, identity="i"), ObservedFile("2", 3 * GIB)


@pytest.mark.parametrize(
    ("status", "files", "said"),
    [
        (FileStatus.PRESENT, (WHOLE,), "all"),
        (FileStatus.MISSING, (NONE,), "nothing"),
        (FileStatus.MISSING, (replace(NONE, came=GIB),), "1.0 GiB (33 %)"),
        (FileStatus.MISSING, (WHOLE, replace(NONE, came=GIB)), "2.0 GiB (50 %)"),
        (FileStatus.BAD, (WHOLE,), "unusable"),
        (FileStatus.BAD, (), "nothing"),
        (FileStatus.UNKNOWN, (), "not known"),
    ],
)
def test_what_is_on_disk_in_words(
    status: FileStatus, files: tuple[ObservedFile, ...], said: str
) -> None:
    row = model_rows(STATE, {ModelName("a"): ObservedFiles(status, files=files)})[0]
    assert on_disk_text(row) == said
    assert on_disk_text(model_rows(STATE, {})[2]) == "-"
