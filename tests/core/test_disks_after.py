"""What room a plan leaves on the disks that it fills, or makes room on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import pytest
from builders import desired, disk, disks, files_of, observed, plan, running
from hypothesis import given
from hypothesis import strategies as st
from plan_cases import CASES, HUB, pinned

from reconciler.core.basis import basis_of, differences
from reconciler.core.capacity import RESERVE_BYTES
from reconciler.core.desired import DesiredState
from reconciler.core.guards import Allowed, guard
from reconciler.core.observed import FileStatus, ObservedState
from reconciler.core.plan import DiskAfter, Plan
from reconciler.core.plan_parts import restrict
from reconciler.core.present import plan_text, plan_values
from reconciler.core.resources import ObservedDisk
from reconciler.core.stored import URLS, Blob, ObservedStore, StoredRepo
from reconciler.core.words import ModelName

GIB = 2**30
FREE = 20 * GIB
A, B = ModelName("a"), ModelName("b")


@dataclass(frozen=True)
class Given:
    """One model, its one file and its disk (None: that was not looked at)."""

    name: str
    size: int
    came: int = 0
    held: int = 0
    goes: bool = False
    device: int | None = 1


@st.composite
def any_models(draw: st.DrawFn) -> list[Given]:
    found = []
    for name in sorted(draw(st.sets(st.sampled_from("abcdef"), min_size=1))):
        size = draw(st.integers(1, 9 * GIB))
        came = draw(st.integers(0, size))
        device = draw(st.sampled_from([1, 2, None]))
        found.append(
            Given(name, size, came, draw(st.integers(0, 9 * GIB)), draw(st.booleans()), device)
        )
    return found


def machine(models: Sequence[Given], free: int = FREE) -> tuple[DesiredState, ObservedState]:
    """A model that goes has its file in the store; of any other one it is on its way."""
    whole = {
        one.name: {
            "source": {"url": f"https://host/{one.name}", "sha256": one.name * 64},
            "state": "absent" if one.goes else "present",
        }
        for one in models
    }
    state = desired(whole)
    repos, files = {}, {}
    where: dict[ModelName, ObservedDisk] = {}
    for number, one in enumerate(models):
        name = ModelName(one.name)
        if one.goes:
            blob = Blob(f"/r/{name}", one.name * 64, one.size, (1, number))
            repos[name] = StoredRepo(URLS, blobs=(blob,))
        else:
            seen = files_of(state.models[name], FileStatus.MISSING, one.size)
            shards = tuple(replace(file, came=one.came) for file in seen.files)
            files[name] = replace(seen, files=shards, held_bytes=one.held)
        if one.device:
            there = disk(free - RESERVE_BYTES, one.device, f"/{one.device}")
            where |= disks(there, one.name)
    seen_all = observed(state, files=files, disks=where, store=ObservedStore(repos), lock={})
    return state, seen_all


def made_for(*models: Given, free: int = FREE) -> Plan:
    return plan(*machine(models, free))


@given(models=any_models())
def test_it_is_what_was_free_less_what_comes_and_more_by_what_goes(models: list[Given]) -> None:
    expected: dict[str, int] = {}
    for one in models:
        coming = one.size - one.came
        if one.device and (one.goes or coming):
            more = one.size if one.goes else -max(coming - one.held, 0)
            folder = f"/{one.device}"
            expected[folder] = expected.get(folder, FREE) + more
    made = made_for(*models)
    assert made.disks == tuple(DiskAfter(key, FREE, left) for key, left in expected.items())
    values = json.loads(json.dumps(plan_values(made)))
    assert values["disks"] == [asdict(one) for one in made.disks]
    lines = [line for line in plan_text(made).splitlines() if line.startswith("Disk: ")]
    assert len(lines) == sum(left >= 0 for left in expected.values())
    assert made == made_for(*models)


@given(models=any_models(), free=st.integers(0, 10**15))
def test_a_saved_plan_does_not_hang_on_it(models: list[Given], free: int) -> None:
    (state, before), (_, after) = machine(models), machine(models, free)
    first, now = plan(state, before), plan(state, after)
    actions = {one.address: one.action for one in first.changes}
    assert basis_of(now, after) == basis_of(first, before)
    assert not list(differences(basis_of(first, before), actions, basis_of(now, after), now))
    assert now.steps == first.steps


@pytest.mark.parametrize(
    ("models", "said"),
    [
        ([Given("a", 5 * GIB)], ["Disk: 20.0 GiB free in /1, 15.0 GiB afterwards."]),
        ([Given("a", 5 * GIB, goes=True)], ["Disk: 20.0 GiB free in /1, 25.0 GiB afterwards."]),
        (
            [Given("a", 5 * GIB), Given("b", 2 * GIB, goes=True)],
            ["Disk: 20.0 GiB free in /1, 17.0 GiB afterwards."],
        ),
        (
            [Given("a", 5 * GIB, came=GIB, held=4 * GIB)],
            ["Disk: 20.0 GiB free in /1, 20.0 GiB afterwards."],
        ),
        (
            [Given("a", 5 * GIB, device=2), Given("b", GIB)],
            [
                "Disk: 20.0 GiB free in /2, 15.0 GiB afterwards.",
                "Disk: 20.0 GiB free in /1, 19.0 GiB afterwards.",
            ],
        ),
        ([Given("a", 20 * GIB)], ["Disk: 20.0 GiB free in /1, 0 B afterwards."]),
        ([Given("a", 20 * GIB + 1)], []),
        ([Given("a", 5 * GIB, device=None)], []),
        ([Given("a", 5 * GIB, came=5 * GIB)], []),
    ],
    ids=[
        "a download",
        "a removal",
        "both",
        "its room is taken already",
        "two disks",
        "to the last byte",
        "too little",
        "nobody looked",
        "nothing is fetched",
    ],
)
def test_its_words(models: list[Given], said: list[str]) -> None:
    lines = plan_text(made_for(*models)).splitlines()
    assert [line for line in lines if line.startswith("Disk:")] == said


def test_of_too_little_the_guard_speaks() -> None:
    state, seen = machine([Given("a", 25 * GIB)])
    made = plan(state, seen)
    assert [one.free_after_bytes for one in made.disks] == [-5 * GIB]
    text = plan_text(made, guard(made, state, seen, Allowed()))
    assert "Disk:" not in text
    assert "Refused: 25.0 GiB to download, 20.0 GiB free in /1, of which 5.0 GiB stay free." in text


def test_a_part_tells_of_its_own_files() -> None:
    made = made_for(Given("a", 5 * GIB), Given("b", GIB, goes=True))
    for name, left in ((A, 15 * GIB), (B, 21 * GIB)):
        assert restrict(made, frozenset({name})).disks == (DiskAfter("/1", FREE, left),)
    assert restrict(made, frozenset()).disks == ()


def test_wrong_bytes_make_room_for_the_right_ones_in_our_store_alone() -> None:
    for store, left in (("models", FREE), ("/r/models/", FREE), ("elsewhere", FREE - GIB)):
        state = HUB.model_copy(update={"store": store})
        seen = pinned(state, hashes="rw", disks=disks(disk(FREE - RESERVE_BYTES), "a"))
        made = plan(state, seen)
        assert made.download_bytes == GIB
        assert made.disks == (DiskAfter("/r/models", FREE, left),)


def test_a_folder_cannot_forge_a_line() -> None:
    there = disk(FREE, folder="/x\nPlan: 0 to add")
    state, seen = machine([Given("a", GIB)])
    text = plan_text(plan(state, replace(seen, disks={A: there})))
    assert "free in /x\\nPlan: 0 to add, " in text


@pytest.mark.parametrize("name", sorted(CASES))
def test_what_fetches_and_removes_nothing_says_nothing(name: str) -> None:
    state, seen = CASES[name]
    made = plan(state, replace(seen, disks=disks(disk(FREE), *state.models)))
    assert bool(made.disks) == bool(made.download_bytes or made.freed_bytes)


def test_a_plan_that_does_nothing_is_free_of_it() -> None:
    made = plan(HUB, running(HUB, disks=disks(disk(FREE), "a")))
    assert (made.is_noop, made.disks) == (True, ())
    assert "Disk" not in plan_text(made)
