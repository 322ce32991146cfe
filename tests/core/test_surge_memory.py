"""`rollout: surge` where memory does not hold both copies."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from builders import ENGINE, all_files, desired, files_of, observed, plan, server

from reconciler.core.desired import DesiredState
from reconciler.core.observed import FileStatus, ObservedState
from reconciler.core.resources import ObservedGpu, ObservedMemory
from reconciler.core.words import ModelName

GIB = 2**30
BARE = ObservedMemory(ram_bytes=24 * GIB, gpus=())
CARD = ObservedGpu("H100", 80 * GIB)
FLAGS = {"load-mode": "--load-mode", "no-mmap": "--no-mmap", "rpc": "--rpc"}
MODERN = replace(ENGINE, flags={**ENGINE.flags, **FLAGS})
SURGE: dict[str, Any] = {"rollout": "surge"}
SECOND = "not enough memory for a second copy beside the one that serves (`rollout: surge`): "


def blocked(state: DesiredState, seen: ObservedState) -> dict[str, tuple[str, ...]]:
    return {change.address: change.obstacles for change in plan(state, seen).blocked}


def surging(
    old: str, new: str, *names: str, memory: ObservedMemory = BARE, **fields: Any
) -> tuple[DesiredState, ObservedState]:
    """Models that run and are replaced by a launch with another context size.

    `old`, `new`: the identities of the weights that they run on, and shall run on.
    """
    before = desired({key: {**SURGE, "params": {"ctx_size": "1"}} for key in names})
    state = desired({key: {**SURGE, **fields} for key in names})
    size = int(new.split(":")[2])
    files = {
        name: replace(one, files=(replace(one.files[0], identity=new),))
        for name, model in state.models.items()
        for one in [files_of(model, size=size)]
    }
    servers = [server(before, name, files=old) for name in names]
    return state, observed(
        state, *servers, files=all_files(state, **files), memory=memory, engine=MODERN
    )


def weights(gibibytes: int, inode: int = 1) -> str:
    return f"1:{inode}:{gibibytes * GIB}:3"


def test_a_surge_needs_room_for_both() -> None:
    assert blocked(*surging(weights(12), weights(12, 2), "a")) == {}
    reason = (
        f"{SECOND}the weights of all that would run take 25.0 GiB, this machine has 24.0 GiB "
        "of RAM and no GPU; `rollout: recreate` stops the old one first"
    )
    found = blocked(*surging(weights(12), weights(13, 2), "a"))
    assert found == {"instance.a": (reason,)}


def test_copies_that_map_one_file_share_its_memory_but_not_on_gpus() -> None:
    assert blocked(*surging(weights(20), weights(20), "a")) == {}
    own: dict[str, Any] = {"args": {"load-mode": "mlock"}}
    assert blocked(*surging(weights(20), weights(20), "a", **own)) == {}
    own = {"args": {"no-mmap": True}}
    assert "40.0 GiB" in str(blocked(*surging(weights(20), weights(20), "a", **own)))
    card = replace(BARE, gpus=(CARD,))
    assert blocked(*surging(weights(50), weights(50), "a", memory=card)) == {}
    assert "106.0 GiB" in str(blocked(*surging(weights(53), weights(53), "a", memory=card)))


def test_surges_get_the_room_in_their_order() -> None:
    card = replace(BARE, gpus=(CARD,))
    found = blocked(*surging(weights(24), weights(24), "a", "b", "c", memory=card))
    assert found.keys() == {"instance.b", "instance.c"}
    assert "the weights of all that would run take 120.0 GiB" in str(found["instance.b"])


def test_what_else_runs_takes_room_from_a_surge() -> None:
    state, seen = surging(weights(8), weights(8, 2), "a")
    both = desired({"a": SURGE, "z": {}})
    for size, fits in ((8, True), (9, False)):
        beside = server(both, "z", files=weights(size, 3))
        files = {**seen.files, **all_files(desired({"z": {}}))}
        crowded = replace(seen, servers=(*seen.servers, beside), files=files)
        assert (blocked(both, crowded) == {}) is fits
    assert blocked(state, seen) == {}


@pytest.mark.parametrize(
    ("memory", "fields"),
    [
        (replace(BARE, gpus=None), {}),
        (BARE, {"args": {"rpc": "box:50052"}}),
        (BARE, {"args": {"load-mode": "mmap"}}),
    ],
)
def test_a_surge_is_refused_only_where_it_certainly_does_not_fit(
    memory: ObservedMemory, fields: dict[str, Any]
) -> None:
    pair = surging(weights(20), weights(20, 2), "a", memory=memory, **fields)
    assert blocked(*pair) == {}


def test_files_that_are_still_to_come_need_room_too() -> None:
    state, seen = surging(weights(20), weights(20, 2), "a")
    (model,) = state.models.values()
    coming = files_of(model, FileStatus.MISSING, size=5 * GIB)
    unknown = replace(seen.files[ModelName("a")], files=())
    assert "25.0 GiB" in str(blocked(state, replace(seen, files={ModelName("a"): coming})))
    assert blocked(state, replace(seen, files={ModelName("a"): unknown})) == {}
