"""What the journal holds once a file was applied in part, and who sees by it what is wanted."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
from fake_drivers import FakeWorld
from launches import SITE
from test_loop import Machine, wanted

from reconciler.cli.carry import Course
from reconciler.cli.output import Output
from reconciler.core.guards import Allowed
from reconciler.core.observed import DOWN, Crashes, Journal
from reconciler.core.selection import Selection
from reconciler.core.words import InstanceName, ModelName
from reconciler.errors import StateFolderError
from reconciler.look import look
from reconciler.recording import About, Recording
from reconciler.remember import remember_end, remember_file, remember_part

ONE = Selection(targets=frozenset({"b"}))
GUARDED = wanted(
    "  a: {source: {path: a.gguf}, port: 8001, protect: true}\n"
    "  b: {source: {path: b.gguf}, port: 8002}\n"
)
OPEN = wanted("  b: {source: {path: b.gguf}, port: 8002, protect: true}\n")


@pytest.fixture
def world() -> Machine:
    return Machine()


def test_a_part_is_noted_as_what_it_is(world: Machine) -> None:
    remember_file(GUARDED.desired, SITE, world.drivers)
    crashes = {InstanceName("a"): Crashes("x", 2)}
    before = world.state.update(lambda known: replace(known, crashes=crashes))
    remember_part(OPEN.desired, ONE, SITE, world.drivers)
    after = world.state.read()
    assert after.protected == {ModelName("a"), ModelName("b")}
    assert (after.wish, after.crashes) == (before.wish, before.crashes)
    assert after.parts.keys() == {"b"}
    remember_part(OPEN.desired, Selection(excludes=frozenset({"b"})), SITE, world.drivers)
    assert world.state.read() == after
    remember_file(OPEN.desired, SITE, world.drivers)
    whole = world.state.read()
    assert whole.protected == {ModelName("b")}
    assert whole.parts == {}


def test_a_part_takes_no_protection_off_a_model_that_left_the_file(world: Machine) -> None:
    remember_file(GUARDED.desired, SITE, world.drivers)
    world.apply(GUARDED)
    remember_part(OPEN.desired, ONE, SITE, world.drivers)
    guards = look(OPEN, SITE, world.drivers, Allowed()).guards
    assert "--allow-protected a" in [one.flag for one in guards]


def test_after_down_a_part_leaves_all_else_down(world: Machine) -> None:
    remember_end(world.drivers)
    remember_part(GUARDED.desired, ONE, SITE, world.drivers)
    assert world.state.read().is_down
    assert world.state.read().parts.keys() == {"b"}
    remember_end(world.drivers)
    assert world.state.read().parts == {}


def test_what_is_kept_while_a_newer_file_waits_keeps_its_parts(world: Machine) -> None:
    remember_part(OPEN.desired, ONE, SITE, world.drivers)
    remember_file(wanted().desired, SITE, world.drivers, keeps_parts=True)
    assert world.state.read().parts.keys() == {"b"}
    assert world.state.read().protected == {ModelName("b")}


def test_a_full_disk_keeps_a_part_from_nothing_but_a_new_protection(world: Machine) -> None:
    remember_file(OPEN.desired, SITE, world.drivers)
    world.state.fault = StateFolderError("no space left")
    remember_part(OPEN.desired, ONE, SITE, world.drivers)
    with pytest.raises(StateFolderError):
        remember_part(GUARDED.desired, ONE, SITE, world.drivers)


def test_a_run_that_waited_for_files_sees_what_came_meanwhile() -> None:
    recording = Recording(About("apply", "f"), FakeWorld().drivers)

    def ends(began: Journal, now: Journal) -> bool:
        course = Course(Output(), threading.Event(), recording, began, "mine")
        return course.is_superseded(now)

    part = Journal(wish=DOWN, parts={"b": "mine"})
    assert not ends(part, part)
    # A second `down` after a part was begun.
    assert ends(part, Journal(wish=DOWN))
    assert ends(part, Journal(wish="other"))
    # Another part of the same file is none of its business; of another one it may be.
    assert not ends(part, replace(part, parts={"b": "mine", "c": "mine"}))
    assert ends(Journal(wish="mine"), Journal(wish="mine", parts={"c": "other"}))
