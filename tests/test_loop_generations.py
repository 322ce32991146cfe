"""What a run keeps of the desired state that it applies, with drivers in memory."""

from __future__ import annotations

import errno
from dataclasses import replace

import pytest
from fake_drivers import FakeWorld
from launches import SITE

from reconciler.core.generations import Generation
from reconciler.core.guards import Allowed
from reconciler.core.lockfile import Pin
from reconciler.core.parse import SourceText, parse_desired
from reconciler.core.words import ModelName
from reconciler.look import Wanted, look, nothing_wanted
from reconciler.loop import carry_out
from reconciler.remember import keep_generation

A = ModelName("a")
PIN = Pin("x/y", "main", "Q8_0", "c0ffee", ())
NO_ROOM = OSError(errno.ENOSPC, "No space left on device")


def wanted(port: int = 8001) -> Wanted:
    model = f"{{source: {{repo: x/y}}, quant: Q8_0, port: {port}}}"
    text = f"version: 1\ngateway: false\nmodels:\n  a: {model}\n"
    parsed = parse_desired((SourceText("desired/x.yaml", text.encode()),))
    return Wanted(parsed.desired, parsed.marks, sources=parsed.sources)


@pytest.fixture
def world() -> FakeWorld:
    return FakeWorld()


def apply(world: FakeWorld, what: Wanted) -> tuple[Generation, ...]:
    keep_generation(what.sources, SITE.desired, world.drivers)
    carry_on(world, what)
    return world.generations.all()


def carry_on(world: FakeWorld, what: Wanted) -> None:
    seen = look(what, SITE, world.drivers, Allowed())
    assert carry_out(what, seen, world.drivers, lambda _: None, world.cancel()).converged


def test_each_applied_state_is_kept_once(world: FakeWorld) -> None:
    for what in (wanted(), wanted(), wanted(8002)):
        apply(world, what)
    found = world.generations.all()
    assert [one.number for one in found] == [1, 2]
    assert [one.sources for one in found] == [wanted().sources, wanted(8002).sources]
    assert {one.origin.who for one in found} == {"somebody"}
    assert {one.lock for one in found} == {None}


def test_what_has_no_text_is_not_kept(world: FakeWorld) -> None:
    assert apply(world, replace(wanted(), sources=())) == ()


def test_without_room_the_run_goes_on(world: FakeWorld) -> None:
    world.generations.fault = NO_ROOM
    assert apply(world, wanted()) == ()
    world.generations.fault = None
    apply(world, wanted())
    world.generations.fault = NO_ROOM
    world.lock.pins[A] = PIN
    [kept] = apply(world, wanted(8002))
    assert kept.sources == wanted().sources


def test_the_lock_file_that_a_run_leads_to_belongs_to_it(world: FakeWorld) -> None:
    what = wanted()
    keep_generation(what.sources, SITE.desired, world.drivers)
    world.lock.pins[A] = PIN
    carry_on(world, what)
    [kept] = world.generations.all()
    assert kept.lock == world.lock.text()
    assert kept.lock
    # And where there was nothing to do, too.
    world.lock.pins[A] = replace(PIN, commit="decaf")
    carry_on(world, what)
    [again] = world.generations.all()
    assert again == replace(kept, lock=world.lock.text())


def test_a_pin_that_was_moved_makes_a_new_one(world: FakeWorld) -> None:
    [first] = apply(world, wanted())
    moving = replace(wanted(), moving=frozenset({A}))
    carry_on(world, moving)
    assert world.generations.all() == (first,)
    world.lock.pins[A] = PIN
    carry_on(world, moving)
    old, new = world.generations.all()
    assert (old, new.sources, new.lock) == (first, first.sources, world.lock.text())


def test_what_is_not_applied_as_a_whole_changes_none(world: FakeWorld) -> None:
    found = apply(world, wanted())
    world.lock.pins[A] = PIN
    carry_on(world, wanted(8002))
    stops = wanted()
    stops = replace(stops, desired=nothing_wanted(stops.desired), stops=True)
    carry_on(world, stops)
    assert world.generations.all() == found
