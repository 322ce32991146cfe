"""Whether a machine can hold what is wanted: weights in memory, files on disk."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from builders import (
    ENGINE,
    SITE,
    all_files,
    desired,
    disk,
    disks,
    files_of,
    observed,
    plan,
    server,
)

from reconciler.core.capacity import capacity_of, memory_text, reserve_of, to_fetch
from reconciler.core.desired import DesiredState
from reconciler.core.observed import FileStatus, ObservedFiles, ObservedState
from reconciler.core.observed_engine import ObservedEngine
from reconciler.core.plan_parts import restrict
from reconciler.core.planner import make_plan
from reconciler.core.present import plan_text, plan_values
from reconciler.core.resources import ObservedDisk, ObservedGpu, ObservedMemory
from reconciler.core.words import ModelName

GIB = 2**30
BARE = ObservedMemory(ram_bytes=24 * GIB, gpus=())
CARD = ObservedGpu("H100", 80 * GIB)
SILENT = ObservedGpu("GB10", None)
MODERN = replace(ENGINE, flags={**ENGINE.flags, "load-mode": "--load-mode"})
FAR = {"source": {"repo": "org/far"}, "quant": "Q4"}


@pytest.mark.parametrize(
    ("memory", "capacity", "said"),
    [
        (ObservedMemory(), None, "0 B of RAM"),
        (replace(BARE, gpus=None), None, "24.0 GiB of RAM"),
        (BARE, 24 * GIB, "24.0 GiB of RAM and no GPU"),
        (replace(BARE, limit_bytes=2**63), 24 * GIB, "24.0 GiB of RAM and no GPU"),
        (
            replace(BARE, limit_bytes=4 * GIB, swap_bytes=GIB),
            5 * GIB,
            "4.0 GiB of RAM (the limit of its cgroup), 1.0 GiB of swap and no GPU",
        ),
        (replace(BARE, gpus=(CARD,)), 104 * GIB, "24.0 GiB of RAM and a GPU with 80.0 GiB"),
        (
            replace(BARE, gpus=(CARD, CARD)),
            184 * GIB,
            "24.0 GiB of RAM and 2 GPUs with 160.0 GiB",
        ),
        (replace(BARE, gpus=(CARD, SILENT)), None, "24.0 GiB of RAM and 2 GPUs with 80.0 GiB"),
    ],
)
def test_what_a_machine_can_hold(memory: ObservedMemory, capacity: int | None, said: str) -> None:
    assert capacity_of(memory) == capacity
    assert memory_text(memory) == said


def sized(
    size: int,
    memory: ObservedMemory = BARE,
    engine: ObservedEngine = MODERN,
    names: tuple[str, ...] = ("a",),
    **fields: Any,
) -> tuple[DesiredState, ObservedState]:
    """Models of that size each, and a machine."""
    state = desired(dict.fromkeys(names, fields))
    files = {name: files_of(model, size=size) for name, model in state.models.items()}
    seen = observed(state, files=all_files(state, **files), memory=memory, engine=engine)
    return state, seen


def blocked(state: DesiredState, seen: ObservedState) -> dict[str, tuple[str, ...]]:
    return {change.address: change.obstacles for change in plan(state, seen).blocked}


def warnings(state: DesiredState, seen: ObservedState) -> list[str]:
    return [one.summary for one in plan(state, seen).warnings]


TOO_LARGE = "its weights take 25.0 GiB, this machine has 24.0 GiB of RAM and no GPU"
SMALLER = f"not enough memory: {TOO_LARGE}; choose a smaller quant"
FROM_DISK = "read from disk over and over"


def test_what_fits_is_not_spoken_of() -> None:
    state, seen = sized(24 * GIB)
    assert blocked(state, seen) == {}
    assert warnings(state, seen) == []


def test_a_model_larger_than_all_memory_is_blocked() -> None:
    state, seen = sized(25 * GIB)
    way = "or run it from disk, slowly: `args: {load-mode: mmap}`"
    assert blocked(state, seen) == {"instance.a": (f"{SMALLER}, {way}",)}
    assert warnings(state, seen) == []


def test_the_way_out_is_spelled_as_the_engine_spells_it() -> None:
    older = replace(ENGINE, flags={**ENGINE.flags, "mmap": "--mmap"})
    (reasons,) = blocked(*sized(25 * GIB, engine=older)).values()
    assert reasons[0].endswith("`args: {mmap: true}`")


def test_a_missing_engine_hides_no_lack_of_memory() -> None:
    state, seen = sized(25 * GIB, engine=ObservedEngine(None, reason="no engine"))
    way = "or run it from disk, slowly: `args: {load-mode: mmap}`"
    assert blocked(state, seen) == {"instance.a": ("no engine", f"{SMALLER}, {way}")}


@pytest.mark.parametrize(
    "args",
    [
        {"load-mode": "mmap"},
        {"lm": "mmap+mlock"},
        {"mmap": True},
        {"load-mode": ("none", "mmap")},
    ],
)
def test_who_asks_to_map_the_weights_is_only_warned(args: dict[str, Any]) -> None:
    known = dict.fromkeys(("load-mode", "lm", "mmap"), "--x")
    state, seen = sized(25 * GIB, engine=replace(ENGINE, flags=known), args=args)
    assert blocked(state, seen) == {}
    assert warnings(state, seen) == [f"a will {FROM_DISK}: {TOO_LARGE}"]


def test_an_engine_without_words_for_it_is_only_warned_about() -> None:
    state, seen = sized(25 * GIB, engine=ENGINE)
    assert blocked(state, seen) == {}
    assert warnings(state, seen) == [f"a will {FROM_DISK}: {TOO_LARGE}"]


@pytest.mark.parametrize(
    "args",
    [
        {"load-mode": "none"},
        {"lm": "mlock"},
        {"load-mode": "dio"},
        {"mmap": False},
        {"mlock": True},
    ],
)
def test_weights_that_must_be_held_cannot_stay_on_disk(args: dict[str, Any]) -> None:
    known = dict.fromkeys(("load-mode", "lm", "no-mmap", "mlock"), "--x")
    state, seen = sized(25 * GIB, engine=replace(ENGINE, flags=known), args=args)
    assert blocked(state, seen) == {"instance.a": (SMALLER,)}


@pytest.mark.parametrize(
    ("memory", "fields"),
    [
        (replace(BARE, gpus=(SILENT,)), {}),
        (replace(BARE, gpus=None), {}),
        (ObservedMemory(), {}),
        (BARE, {"args": {"rpc": "far:50052"}}),
    ],
)
def test_what_cannot_be_judged_is_not_judged(
    memory: ObservedMemory, fields: dict[str, Any]
) -> None:
    engine = replace(MODERN, flags={**MODERN.flags, "rpc": "--rpc"})
    state, seen = sized(10**15, memory=memory, engine=engine, **fields)
    assert blocked(state, seen) == {}
    assert warnings(state, seen) == []


def test_swap_and_cards_count() -> None:
    memory = replace(BARE, swap_bytes=GIB, gpus=(CARD,))
    assert blocked(*sized(105 * GIB, memory=memory)) == {}
    assert len(blocked(*sized(105 * GIB + 1, memory=memory))) == 1


def test_what_runs_is_not_judged_again() -> None:
    state, seen = sized(25 * GIB)
    again = replace(seen, servers=(server(state, "a", files=""),))
    assert blocked(state, again) == {}
    assert warnings(state, again) == []


def test_models_that_do_not_fit_together_are_a_warning() -> None:
    state, seen = sized(13 * GIB, names=("a", "b"), replicas=2)
    assert blocked(state, seen) == {}
    (said,) = warnings(state, seen)
    assert said == (
        "the weights of all 2 running models take 26.0 GiB together, this machine has 24.0 GiB of "
        "RAM and no GPU: they push each other out of memory"
    )
    # Also when one of them runs already, but not when there is nothing to start.
    one = replace(seen, servers=(server(state, "a", files=""), server(state, "a[1]", files="")))
    assert warnings(state, one) == [said]
    everything = tuple(server(state, name, files="") for name in ("a", "a[1]", "b", "b[1]"))
    assert warnings(state, replace(seen, servers=everything)) == []


def test_a_blocked_model_takes_no_memory() -> None:
    state = desired({"a": {}, "b": {}, "huge": {}})
    files = {name: files_of(state.models[name], size=10 * GIB) for name in ("a", "b")}
    files["huge"] = files_of(state.models["huge"], size=30 * GIB)
    seen = observed(state, files=all_files(state, **files), memory=BARE, engine=MODERN)
    assert blocked(state, seen).keys() == {"instance.huge"}
    assert warnings(state, seen) == []


def test_a_warning_is_shown_and_stays_with_a_part_of_the_plan() -> None:
    state, seen = sized(25 * GIB, engine=ENGINE)
    made = plan(state, seen)
    text = plan_text(made)
    assert text.endswith(f"\n\nWarning: a will {FROM_DISK}: {TOO_LARGE}.\n")
    assert restrict(made, frozenset({ModelName("a")})).warnings == made.warnings
    assert restrict(made, frozenset({ModelName("b")})).warnings == ()


def test_a_start_says_what_weights_it_holds() -> None:
    made = plan(*sized(7 * GIB))
    values: Any = plan_values(made)["resource_changes"]
    impacts = {one["address"]: one["impact"]["memory_bytes"] for one in values}
    assert impacts == {"gateway": None, "instance.a": 7 * GIB, "model_file.a": None}


def unknown(reason: str = "the hub is far") -> ObservedFiles:
    return ObservedFiles(FileStatus.UNKNOWN, reason=reason)


def test_the_catalogue_speaks_where_the_hub_cannot() -> None:
    quants = {"Q4": "25GiB", "Q2": "20GiB", "Q1": "2GiB"}
    state = desired({"a": {**FAR, "quants": quants}})
    seen = observed(
        state,
        files={ModelName("a"): unknown()},
        memory=BARE,
        engine=MODERN,
        disks=disks(disk(GIB), "a"),
    )
    assert blocked(state, seen)["instance.a"] == tuple(
        line.strip()
        for line in """
        the hub is far
        not enough disk: 25.0 GiB for a to download (sizes by `quants`), 6.0 GiB free in /r/models,\
 of which 5.0 GiB stay free
        not enough memory: its weights take 25.0 GiB (27 GB by `quants`), this machine has 24.0 GiB\
 of RAM and no GPU; choose a smaller quant (Q2 fits), or run it from disk, slowly:\
 `args: {load-mode: mmap}`
        """.strip().splitlines()
    )
    lines = plan_text(make_plan(state, SITE, seen)).splitlines()
    assert lines[0] == "  ! instance.a                       blocked, not running, for 3 reasons:"
    assert lines[1] == "      - the hub is far"
    assert [line[:24] for line in lines[2:4]] == [
        "      - not enough disk:",
        "      - not enough memor",
    ]


def test_what_the_hub_tells_of_is_left_to_the_guard() -> None:
    state = desired({"a": FAR, "b": {**FAR, "quants": {"Q4": "3GiB"}}})
    files = all_files(
        state, a=files_of(state.models["a"], FileStatus.MISSING, 2 * GIB), b=unknown()
    )
    seen = observed(state, files=files, disks=disks(disk(4 * GIB), "a", "b"))
    both = "2.0 GiB for a and 3.0 GiB for b"
    there = "9.0 GiB free in /r/models, of which 5.0 GiB stay free"
    assert blocked(state, seen) == {
        "instance.b": (
            "the hub is far",
            f"not enough disk: {both} to download (sizes by `quants`), {there}",
        )
    }
    assert blocked(state, replace(seen, disks=disks(disk(5 * GIB), "a", "b"))) == {
        "instance.b": ("the hub is far",)
    }


def test_many_downloads_are_counted_and_a_store_elsewhere_is_named() -> None:
    names = ("a", "b", "c", "d")
    state = desired({name: {**FAR, "quants": {"Q4": "1GiB"}} for name in names}, store="/big")
    big = ObservedDisk(1, "/big", GIB, 20 * GIB)
    files = {ModelName(name): unknown() for name in names}
    seen = observed(state, files=files, disks=disks(big, *names))
    (first, *_) = blocked(state, seen).values()
    assert first[1] == (
        "not enough disk: 4.0 GiB for 4 models to download (sizes by `quants`), "
        "1.0 GiB free in /big, of which 1.0 GiB stay free"
    )


def test_each_disk_is_judged_alone() -> None:
    state = desired({name: {**FAR, "quants": {"Q4": "3GiB"}} for name in ("a", "b", "c")})
    files = {ModelName(name): unknown() for name in ("a", "b", "c")}
    one, two = disk(3 * GIB), disk(5 * GIB, 2, "/two")
    seen = observed(state, files=files, disks={**disks(one, "a"), **disks(two, "b", "c")})
    assert {name: len(reasons) for name, reasons in blocked(state, seen).items()} == {
        "instance.a": 1,
        "instance.b": 2,
        "instance.c": 2,
    }


def test_room_that_is_taken_already_is_not_needed_twice() -> None:
    state = desired({"a": {**FAR, "quants": {"Q4": "3GiB"}}})
    files = {ModelName("a"): replace(unknown(), held_bytes=2 * GIB)}
    seen = observed(state, files=files, disks=disks(disk(GIB), "a"))
    assert len(blocked(state, seen)["instance.a"]) == 1
    # Not even a disk that is full to the last byte is too full for what needs none.
    files = {ModelName("a"): replace(unknown(), held_bytes=4 * GIB)}
    seen = observed(state, files=files, disks=disks(disk(-5 * GIB), "a"))
    assert len(blocked(state, seen)["instance.a"]) == 1


@pytest.mark.parametrize(
    ("size", "reserve"), [(20 * GIB, GIB), (100 * GIB, 5 * GIB), (4000 * GIB, 5 * GIB)]
)
def test_what_downloads_leave_free(size: int, reserve: int) -> None:
    assert reserve_of(ObservedDisk(1, "/", 0, size)) == reserve


def test_what_is_to_be_fetched() -> None:
    state = desired(
        {
            "absent": {**FAR, "state": "absent"},
            "here": FAR,
            "path": {},
            "silent": FAR,
            "unseen": {**FAR, "quants": {"Q4": 5}},
        }
    )
    files = {ModelName("here"): files_of(state.models["here"]), ModelName("silent"): unknown()}
    assert to_fetch(state, files) == {"unseen": 5}


def test_a_model_that_need_not_run_says_all_its_reasons_too() -> None:
    state = desired({"a": {**FAR, "state": "present", "quants": {"Q4": "2GiB"}}})
    seen = observed(state, files={ModelName("a"): unknown()}, disks=disks(disk(GIB), "a"))
    assert len(blocked(state, seen)["model_file.a"]) == 2
