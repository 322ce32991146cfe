"""The rows of `list`."""

from __future__ import annotations

from builders import desired, files_of

from reconciler.core.listing import model_rows
from reconciler.core.observed import FileStatus
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


def test_files_that_can_be_fetched_count_as_missing() -> None:
    files = {ModelName("a"): files_of(STATE.models["a"], FileStatus.MISSING, size=77)}
    row = model_rows(STATE, files)[0]
    assert (row.on_disk, row.size_bytes, row.missing_bytes) == (FileStatus.MISSING, 77, 77)
