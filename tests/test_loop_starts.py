"""What a run remembers of starts, with drivers in memory."""

from __future__ import annotations

import pytest
from fake_runtime import Behaviour
from launches import SITE, make_launch
from test_loop import Machine, wanted

from reconciler.core.downtime import LastStart
from reconciler.core.launch import LastGood
from reconciler.core.observed import FileStatus, Journal, ObservedFile, ObservedFiles
from reconciler.core.words import InstanceName, SpecHash
from reconciler.remember import remember_file


@pytest.fixture
def world() -> Machine:
    return Machine()


def test_how_long_a_good_start_took_is_remembered(world: Machine) -> None:
    file = ObservedFile("a.gguf", 140, "1:2:3:4")
    there = ObservedFiles(FileStatus.PRESENT, "/a.gguf", "a.gguf", (file,))
    world.files.found["a.gguf"] = there
    world.runtime.behaviours["a"] = Behaviour(loads_s=3)
    world.runtime.behaviours["b"] = Behaviour(dies_after_s=0)
    world.apply(wanted())
    [(name, start)] = world.state.read().starts.items()
    assert (name, start.weights_bytes) == ("a", 140)
    assert start.seconds >= 3


def test_starts_of_models_that_are_gone_are_forgotten(world: Machine) -> None:
    both = {InstanceName(name): LastStart(1.0, 1) for name in ("a", "z")}
    world.state.write(Journal(starts=both))
    remember_file(wanted().desired, SITE, world.drivers)
    assert world.state.read().starts == {"a": LastStart(1.0, 1)}


def test_what_was_stopped_for_good_is_not_gone_back_to(world: Machine) -> None:
    world.apply(wanted())
    [a, _] = world.runtime.list()
    noted = LastGood(make_launch("a"), SpecHash("x"))
    world.state.update(lambda journal: journal.keeping(a.instance, noted))
    world.apply(wanted("  b: {source: {path: b.gguf}, port: 8002}"))
    assert world.state.read().last_good == {}
