"""Parts of a plan: what waits for files, and what of a later plan somebody agreed to before."""

from __future__ import annotations

from dataclasses import replace

from builders import (
    all_files,
    desired,
    files_of,
    instances,
    observed,
    plan,
    running,
    server,
    steps_of,
)

from reconciler.core.desired import DesiredState
from reconciler.core.observed import FileStatus, ObservedServer, ObservedState
from reconciler.core.plan import Action, Plan
from reconciler.core.plan_parts import agreed, split
from reconciler.core.words import SpecHash

STATE = desired(
    {"far": {"source": {"repo": "org/far"}, "quant": "Q4", "port": 8002}, "near": {"port": 8001}},
    gateway=False,
)


def machine(
    state: DesiredState, *servers: ObservedServer, far: FileStatus = FileStatus.MISSING
) -> ObservedState:
    files = all_files(state, far=files_of(state.models["far"], far))
    return observed(state, *servers, files=files)


def old(name: str, state: DesiredState = STATE) -> ObservedServer:
    return server(state, name, spec=SpecHash("0" * 12))


def actions(made: Plan) -> dict[str, Action]:
    return {one.address: one.action for one in made.changes}


def test_only_what_waits_for_files_is_late() -> None:
    made = plan(STATE, machine(STATE, old("far"), old("near")))
    part, late = split(made)
    assert {step.address for step in late} == {"instance.far"}
    assert "instance.near" in {step.address for step in part.steps}
    assert part.changes == made.changes
    assert len(part.steps) + len(late) == len(made.steps)


def test_what_waits_for_what_waits_is_late_too() -> None:
    """The port is free only once the other one, which waits for its files, has stopped."""
    state = desired(
        {
            "far": {"source": {"repo": "org/far"}, "quant": "Q4", "port": 8009},
            "near": {"port": 8002},
        },
        gateway=False,
    )
    seen = machine(state, old("far", STATE))
    _, late = split(plan(state, seen))
    assert {step.address for step in late} == {"instance.far", "instance.near"}


def test_without_files_nothing_is_late() -> None:
    made = plan(STATE, machine(STATE, far=FileStatus.PRESENT))
    verified = replace(made, steps=tuple(one for one in made.steps if "file" not in one.address))
    assert split(verified) == (verified, ())


def test_the_same_again_is_agreed_to() -> None:
    made = plan(STATE, machine(STATE, old("far")))
    assert agreed(made, made) == made


def test_what_has_gone_by_itself_is_started_all_the_same() -> None:
    first = plan(STATE, machine(STATE, old("far"), old("near")))
    again = plan(STATE, machine(STATE, server(STATE, "near")))
    assert actions(first)["instance.far"] is Action.REPLACE
    assert actions(again)["instance.far"] is Action.CREATE
    assert agreed(again, first) == again


def test_what_died_meanwhile_is_left() -> None:
    first = plan(STATE, machine(STATE, server(STATE, "near")))
    again = plan(STATE, machine(STATE))
    found = agreed(again, first)
    assert actions(found)["instance.near"] is Action.NO_OP
    assert [one.address for one in found.blocked] == ["instance.near"]
    assert "it changed while files were on their way" in found.blocked[0].blocked
    assert "instance.near" not in {step.address for step in found.steps}
    assert "instance.far" in {step.address for step in found.steps}


def test_a_replacement_is_not_what_a_start_was() -> None:
    first = plan(STATE, machine(STATE))
    again = plan(STATE, machine(STATE, old("near")))
    assert [one.address for one in agreed(again, first).blocked] == ["instance.near"]


def test_what_needs_a_stranger_change_is_left_too() -> None:
    """The new one would take the port of a server that only now is in the way."""
    state = desired({"a": {"port": 8002}, "b": {"port": 8009}}, gateway=False)
    other = desired({"a": {"port": 8001}, "b": {"port": 8002}}, gateway=False)
    first = plan(state, observed(state, server(state, "b")))
    again = plan(state, observed(state, server(other, "b")))
    found = agreed(again, first)
    assert [one.address for one in found.blocked] == ["instance.a", "instance.b"]
    assert "instance.b has to change first" in found.blocked[0].blocked
    assert steps_of(found) == []


def test_nothing_to_do_is_agreed_to() -> None:
    made = plan(STATE, running(STATE))
    assert agreed(made, plan(STATE, machine(STATE))) == made
    assert set(instances(STATE)) == {"far", "near"}
