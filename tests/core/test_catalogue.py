"""The catalogue of `quants` beside what the hub says."""

from __future__ import annotations

from dataclasses import replace

import pytest
from builders import desired, files_of, observed, plan

from reconciler.core.catalogue import catalogue_warnings
from reconciler.core.lockfile import FileRole, LockedFile, Pin
from reconciler.core.observed import FileStatus, ObservedFiles
from reconciler.core.obstacles import Marks
from reconciler.core.words import ModelName
from reconciler.errors import Position

A = ModelName("a")
GB = 10**9
PIN = Pin(
    "org/far",
    "main",
    "Q4",
    "a" * 40,
    (
        LockedFile("x-Q4.gguf", 100 * GB, "b" * 64),
        LockedFile("mmproj.gguf", 50 * GB, "c" * 64, role=FileRole.MMPROJ),
    ),
)


def warnings(files: ObservedFiles | None, **quants: int) -> list[str]:
    state = desired(
        {"a": {"source": {"repo": "org/far"}, "quant": "Q4", "quants": quants}, "b": {}}
    )
    seen = observed(state, files={A: files} if files else {})
    marks: Marks = {("models", "a", "quants", "Q4"): Position("x.yaml", 5, 7)}
    return [str(one) for one in catalogue_warnings(state, seen, marks)]


@pytest.mark.parametrize(("size", "fits"), [(95, True), (94, False), (105, True), (106, False)])
def test_the_pinned_quant_is_compared_without_the_hub(size: int, fits: bool) -> None:
    files = ObservedFiles(FileStatus.PRESENT, pin=PIN)
    said = f"x.yaml:5:7: `a`: Q4 is said to have {size}GB in `quants`; it has 100GB"
    assert warnings(files, Q4=size * GB) == ([] if fits else [said])


def test_all_quants_are_compared_where_the_hub_was_asked() -> None:
    files = ObservedFiles(FileStatus.MISSING, quants={"q8": 5 * GB, "Q2": GB})
    assert warnings(files, Q4=1, Q8=4 * GB, Q2=GB, none=1) == [
        "`a`: Q8 is said to have 4000MB in `quants`; it has 5000MB"
    ]


def test_nothing_is_said_of_what_is_not_known() -> None:
    assert warnings(None, Q4=1) == []
    assert warnings(ObservedFiles(FileStatus.UNKNOWN), Q4=1) == []


def test_a_plan_warns() -> None:
    state = desired({"a": {"source": {"repo": "org/far"}, "quant": "Q4", "quants": {"Q4": 1}}})
    files = {A: replace(files_of(state.models["a"]), pin=PIN)}
    [warning] = plan(state, observed(state, files=files)).warnings
    assert "Q4 is said to have 0KB in `quants`; it has 100GB" in warning.summary
