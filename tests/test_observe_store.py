"""What is looked at of the store before an absent model's files go, and when it is not."""

from __future__ import annotations

from typing import Any

import pytest
from fake_drivers import FakeWorld

from reconciler.core.desired import DesiredState
from reconciler.core.observed import ObservedState
from reconciler.core.resources import ObservedDisk
from reconciler.core.stored import Link, Needed, ObservedStore, StoredRepo
from reconciler.core.words import ModelName
from reconciler.errors import Diagnostic, InvalidDesiredError, Position, Severity
from reconciler.observe import observe_absent, observe_store

GONE = {"gone": {"source": {"repo": "org/x"}, "quant": "Q4", "state": "absent"}}
USED = {(1, 2): frozenset({7})}


@pytest.fixture
def world() -> FakeWorld:
    return FakeWorld()


def desired(models: dict[str, Any]) -> DesiredState:
    return DesiredState.model_validate({"version": 1, "models": models})


def repo(*names: str) -> StoredRepo:
    links = tuple(Link(f"/s/{name}", "c" * 40, name, "5" * 64, 0, (1, 2)) for name in names)
    return StoredRepo("models--org--x", links=links)


def test_who_uses_the_files_of_an_absent_model_is_looked_at(world: FakeWorld) -> None:
    world.store.found["models--org--x"] = repo("x-Q4.gguf", "x-Q8.gguf")
    world.store.users = USED
    world.store.others = {"desired/y.yaml": Needed()}
    seen = observe_store(desired(GONE), world.drivers, {})
    assert set(seen.repos) == {"gone"}
    assert (seen.open, seen.elsewhere, seen.doubt) == (USED, world.store.others, "")


def test_the_disk_that_they_lie_on_is_looked_at(world: FakeWorld) -> None:
    world.store.found["models--org--x"] = repo("x-Q4.gguf")
    before = ObservedState(disks={ModelName("else"): ObservedDisk(2, "/else", 1, 2)})
    seen = observe_absent(desired(GONE), world.drivers, {}, before)
    assert seen.store == observe_store(desired(GONE), world.drivers, {})
    assert {name: one.folder for name, one in seen.disks.items()} == {
        "else": "/else",
        "gone": "/store/org/x",
    }
    world.store.found.clear()
    assert observe_absent(desired(GONE), world.drivers, {}, before) == before


def test_of_what_has_gone_already_nobody_is_asked(world: FakeWorld) -> None:
    """Looking through what all processes have open is work, at each plan for ever."""
    world.store.found["models--org--x"] = repo("x-Q8.gguf")
    world.store.users = USED
    assert observe_store(desired(GONE), world.drivers, {}) == ObservedStore()
    kept = {"gone": {**GONE["gone"], "state": "present"}}
    world.store.found["models--org--x"] = repo("x-Q4.gguf")
    assert observe_store(desired(kept), world.drivers, {}) == ObservedStore()


def test_what_cannot_be_told_of_others_is_a_doubt(world: FakeWorld) -> None:
    world.store.found["models--org--x"] = repo("x-Q4.gguf")
    broken = Diagnostic(Severity.ERROR, "no", Position("desired/y.yaml", 1, 1))
    world.store.broken = InvalidDesiredError((broken,))
    assert observe_store(desired(GONE), world.drivers, {}).doubt == str(broken)
