"""What holds for every desired state on every machine, in any order of steps, with any failure."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from builders import SITE, desired, instances, running, steps_of
from hypothesis import given, note
from hypothesis import strategies as st
from strategies import TAPES, any_world, desired_states, expected
from world import Luck, World
from world_files import WRONG, key_of

from reconciler.core.desired import DesiredState
from reconciler.core.guards import Allowed, guard
from reconciler.core.observed import FileStatus, ObservedState
from reconciler.core.plan import Action, FileEffect, Plan, ResourceType, StopServer
from reconciler.core.plan_parts import agreed, split
from reconciler.core.planner import make_plan
from reconciler.core.present import plan_text, plan_values
from reconciler.core.resolve import model_of
from reconciler.core.status import status_values
from reconciler.core.words import (
    LOCK_ADDRESS,
    InstanceName,
    ModelName,
    ModelState,
    Phase,
    SpecHash,
)

MOST_ROUNDS = 4


def look(world: World, state: DesiredState) -> tuple[ObservedState, Plan]:
    """Observe and plan; whatever can be said about it can be said."""
    seen = world.observe(state)
    made = make_plan(state, SITE, seen)
    note(f"{plan_text(made, guard(made, state, seen, Allowed()))}{steps_of(made)}")
    assert plan_values(made)
    quiet = all(step.address == LOCK_ADDRESS for step in made.steps) and not made.blocked
    assert status_values(state, seen, made)["converged"] == quiet
    assert_left_alone(state, seen, made)
    return seen, made


def assert_left_alone(state: DesiredState, seen: ObservedState, made: Plan) -> None:
    """What is right, ready and routed gets no step, unless a second copy of it must go.

    What is blocked keeps what runs of it, but for a second copy.
    """
    right = {name: one.spec.hash for name, one in instances(state).items()}
    live = [server.instance for server in seen.servers]
    touched = {step.address for step in made.steps}
    for server in seen.servers:
        settled = server.phase is Phase.READY and server.routed
        wanted = right.get(server.instance) == server.spec
        suspended = model_of(server.instance) in seen.journal.suspended
        spoiled = any(seen.hashes.get(one) == WRONG for one in server.files.split(","))
        right_one = wanted and not suspended and not spoiled
        if settled and right_one and live.count(server.instance) == 1:
            assert f"instance.{server.instance}" not in touched
    stops = [one.effect.instance for one in made.steps if isinstance(one.effect, StopServer)]
    for change in made.blocked:
        name = InstanceName(change.name)
        if change.type is not ResourceType.INSTANCE:
            continue
        assert stops.count(name) == max(0, live.count(name) - 1)


def converge(world: World, state: DesiredState, luck: Luck) -> Plan:
    """Rounds without faults until there is nothing to do; the plan that says so."""
    luck.faults = False
    for _ in range(MOST_ROUNDS):
        _, made = look(world, state)
        if made.is_noop:
            return made
        known = world.found_wrong
        assert world.run(made, state, luck) or world.found_wrong > known
    _, made = look(world, state)
    assert made.is_noop
    return made


def assert_as_wanted(world: World, state: DesiredState, final: Plan) -> None:
    """The machine is what the file says; where something is blocked, nothing has two copies."""
    blocked = {change.name for change in final.blocked}
    live: dict[str, SpecHash] = {}
    for server in world.servers.values():
        assert server.instance not in live, "two copies"
        live[server.instance] = server.spec
        good = server.phase is Phase.READY and world.is_routed(server)
        assert good or server.instance in blocked
    for key in unwanted(state, world):
        assert world.files.get(key) not in {None, FileStatus.PRESENT}
    want = expected(state, world)
    assert {name: spec for name, spec in want.items() if name not in blocked} == {
        name: spec for name, spec in live.items() if name not in blocked
    }
    if "gateway" not in blocked:
        assert (world.gateway.master is None) == (state.gateway is None)
        assert world.gateway.orphans == ()


def unwanted(state: DesiredState, world: World) -> set[str]:
    """The sources that only absent models have, and of which it is known what they had."""
    gone = {name: one for name, one in state.models.items() if one.state is ModelState.ABSENT}
    kept = {key_of(one.source) for name, one in state.models.items() if name not in gone}
    known = {world.pins[ModelName(name)].repo for name in gone if name in world.pins}
    known |= {key_of(one.source) for one in gone.values() if one.source.url}
    return {key_of(one.source) for one in gone.values()} & known - kept


@given(state=desired_states(), tape=TAPES)
def test_any_machine_converges_after_one_round_without_faults(
    state: DesiredState, tape: bytes
) -> None:
    luck = Luck(tape)
    world = any_world(state, luck)
    _, made = look(world, state)
    assert world.run(made, state, luck)
    _, again = look(world, state)
    assert again.is_noop
    assert not again.blocked
    assert_as_wanted(world, state, again)


@given(state=desired_states(), tape=TAPES)
def test_what_waits_for_files_comes_in_a_round_of_its_own(state: DesiredState, tape: bytes) -> None:
    """The files come between: the second round then does what the first one said, and all of it."""
    luck = Luck(tape)
    world = any_world(state, luck)
    _, first = look(world, state)
    part, late = split(first)
    assert not any(isinstance(step.effect, FileEffect) for step in late)
    assert world.run(part, state, luck)
    _, again = look(world, state)
    assert agreed(again, first) == again
    assert {step.address for step in again.steps} == {step.address for step in late}
    assert world.run(again, state, luck)
    _, last = look(world, state)
    assert last.is_noop
    assert_as_wanted(world, state, last)


@given(state=desired_states(trouble=True), tape=TAPES, rounds=st.integers(0, 3))
def test_any_machine_converges_once_faults_stop(
    state: DesiredState, tape: bytes, rounds: int
) -> None:
    luck = Luck(tape, faults=True)
    world = any_world(state, luck, trouble=True)
    for _ in range(rounds):
        _, made = look(world, state)
        world.run(made, state, luck)
        world.weather(luck)
    assert_as_wanted(world, state, converge(world, state, luck))


@given(
    history=st.lists(desired_states(trouble=True), max_size=3), last=desired_states(), tape=TAPES
)
def test_any_history_of_files_ends_in_the_last_one(
    history: list[DesiredState], last: DesiredState, tape: bytes
) -> None:
    luck = Luck(tape, faults=True)
    world = World()
    for state in history:
        _, made = look(world, state)
        world.run(made, state, luck)
        world.weather(luck)
    final = converge(world, last, luck)
    assert not final.blocked
    assert_as_wanted(world, last, final)


def edited(state: DesiredState, name: str, change: dict[str, Any]) -> DesiredState:
    models = {**state.models, name: state.models[name].model_copy(update=change)}
    return state.model_copy(update={"models": models})


@given(state=desired_states(), tape=TAPES, data=st.data())
def test_an_edit_of_one_model_touches_that_one_only(
    state: DesiredState, tape: bytes, data: st.DataObject
) -> None:
    luck = Luck(tape)
    world = any_world(state, luck)
    converge(world, state, luck)
    names = sorted(state.models)
    if not names:
        return
    name = data.draw(st.sampled_from(names))
    changed = edited(state, name, {"env": {"EDITED": "1"}, "aliases": ("new",)})
    _, made = look(world, changed)
    mine = {f"instance.{one}" for one in instances(state) if model_of(InstanceName(one)) == name}
    around = {*mine, "gateway", f"model_file.{name}"}
    assert {step.address for step in made.steps} <= around
    changes = [one for one in made.changes if one.action is not Action.NO_OP]
    assert {one.address for one in changes} <= around
    before, count = (world.started, world.stopped), len(mine & {one.address for one in changes})
    assert world.run(made, changed, luck)
    assert (world.started, world.stopped) == (before[0] + count, before[1] + count)
    suspended = name in world.journal.suspended
    assert count == (0 if suspended else len(mine))


def shuffled(
    state: DesiredState, seen: ObservedState, chance: random.Random
) -> tuple[DesiredState, ObservedState]:
    """The same in another order of everything that has none."""

    def mixed(values: dict[Any, Any]) -> dict[Any, Any]:
        items = list(values.items())
        chance.shuffle(items)
        return dict(items)

    models = {
        name: model.model_copy(
            update={key: mixed(getattr(model, key)) for key in ("params", "args", "env")}
        )
        for name, model in mixed(state.models).items()
    }
    servers = list(seen.servers)
    chance.shuffle(servers)
    return state.model_copy(update={"models": models}), replace(
        seen,
        servers=tuple(servers),
        files=mixed(dict(seen.files)),
        ports=mixed(dict(seen.ports)),
        templates=mixed(dict(seen.templates)),
    )


@given(state=desired_states(trouble=True), tape=TAPES, chance=st.randoms(use_true_random=False))
def test_the_order_of_things_changes_nothing(
    state: DesiredState, tape: bytes, chance: random.Random
) -> None:
    world = any_world(state, Luck(tape), trouble=True)
    full = {
        name: model.model_copy(
            update={
                "params": {**model.params, "ctx_size": "1", "c": "2"},
                "args": {"jinja": True, "n": ("1", "2")},
                "env": {**model.env, "B": "2"},
            }
        )
        for name, model in state.models.items()
    }
    state = state.model_copy(update={"models": full})
    seen = world.observe(state)
    other, seen_otherwise = shuffled(state, seen, chance)
    first, second = make_plan(state, SITE, seen), make_plan(other, SITE, seen_otherwise)
    assert plan_text(first) == plan_text(second)
    assert first == second == make_plan(state, SITE, seen)


@pytest.mark.parametrize("gateway", [True, False])
def test_an_edit_of_one_of_twenty(gateway: bool) -> None:
    models = {f"m{number}": {"port": 8000 + number} for number in range(20)}
    state = desired(models, gateway=gateway)
    assert make_plan(state, SITE, running(state)).is_noop
    made = make_plan(edited(state, "m7", {"env": {"A": "1"}}), SITE, running(state))
    assert {step.address for step in made.steps} == {"instance.m7"}
