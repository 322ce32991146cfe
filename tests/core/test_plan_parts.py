"""Parts of a plan: what waits for files, and what of a later plan somebody agreed to before."""

from __future__ import annotations

from dataclasses import replace

from builders import (
    all_files,
    desired,
    files_of,
    instances,
    observed,
    pin_of,
    plan,
    running,
    server,
    steps_of,
    stray,
)

from reconciler.core.desired import DesiredState
from reconciler.core.observed import FileStatus, ObservedGateway, ObservedServer, ObservedState
from reconciler.core.plan import Action, Plan, WritePins
from reconciler.core.plan_parts import agreed, leave_out, leave_stops_out, parts_of, split
from reconciler.core.words import ModelName, SpecHash

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


def test_models_that_are_left_out_stay_as_they_are() -> None:
    state = desired({"a": {}, "b": {}})
    whole = plan(state, observed(state, gateway=ObservedGateway()))
    part = leave_out(whole, frozenset({ModelName("a")}), "a run is at it")
    assert {one.address for one in part.steps} == {"instance.b", "gateway"}
    left = next(one for one in part.changes if one.address == "instance.a")
    assert (left.action, left.blocked) == (Action.NO_OP, "a run is at it")
    without = leave_out(whole, frozenset(), "a run is at it", gateway=True)
    assert {one.address for one in without.steps} == {"instance.a", "instance.b"}


def test_what_needs_something_that_is_left_out_is_left_out_too() -> None:
    state = desired({"a": {"port": 8001}}, gateway=False)
    old = stray("b", address="127.0.0.1:8001")
    part = leave_out(plan(state, observed(state, old)), frozenset({ModelName("b")}), "later")
    assert part.steps == ()
    found = next(one for one in part.changes if one.address == "instance.a")
    assert "instance.b has to change first" in found.blocked


def test_stops_are_left_out_and_starts_are_not() -> None:
    state = desired({"a": {}, "c": {}})
    whole = plan(state, observed(state, stray("a"), stray("b"), gateway=ObservedGateway()))
    part = leave_stops_out(whole, "a guard holds it back")
    assert {one.address for one in part.steps} == {"instance.c", "gateway"}
    assert {one.address for one in part.blocked} == {"instance.a", "instance.b"}


def test_who_was_cut_off_serves_on_where_its_stop_is_left_out() -> None:
    """By a run that was killed while it drained them."""
    state = desired({"a": {}, "b": {}, "c": {}})
    seen = observed(state, stray("a", routed=False), stray("b"), gateway=ObservedGateway())
    part = leave_stops_out(plan(state, seen), "a guard holds it back")
    done = [(one.address, type(one.effect).__name__) for one in part.steps if "." in one.address]
    assert done == [("instance.a", "AwaitReady"), ("instance.c", "StartServer")]
    assert {one.address for one in part.blocked} == {"instance.a", "instance.b"}


def test_a_plan_falls_into_parts_that_do_not_need_each_other() -> None:
    state = desired({"a": {}, "b": {"replicas": 2}, "c": {}})
    whole = plan(state, observed(state, server(state, "c"), gateway=ObservedGateway()))
    found = parts_of(whole)
    models = [sorted(one.models) for one in found]
    assert models == [["a"], ["b"], []]
    assert [one.gateway for one in found] == [False, False, True]


def test_what_needs_each_other_is_one_part() -> None:
    state = desired({"a": {"port": 8001}, "c": {"port": 8002}}, gateway=False)
    old = (stray("b", address="127.0.0.1:8001"), stray("c", address="127.0.0.1:8002"))
    found = parts_of(plan(state, observed(state, *old)))
    assert [sorted(one.models) for one in found] == [["a", "b"], ["c"]]


def test_what_leaves_and_what_comes_is_one_part() -> None:
    state = desired({"new": {"port": 8001}, "stays": {"port": 8002}}, gateway=False)
    old = (stray("old", address="127.0.0.1:8003"), stray("stays", address="127.0.0.1:8002"))
    found = parts_of(plan(state, observed(state, *old)))
    assert [sorted(one.models) for one in found] == [["new", "old"], ["stays"]]


def test_the_lock_file_ties_nobody_together() -> None:
    far = {"source": {"repo": "org/far"}, "quant": "Q4"}
    state = desired({"a": far, "b": far, "c": {}})
    pins = {
        name: replace(one, pin=pin_of(state.models[name]) if name != "c" else None)
        for name, one in all_files(state).items()
    }
    live = [server(state, name) for name in ("a", "b", "c")]
    whole = plan(state, observed(state, *live, files=pins, lock={}))
    assert [step.address for step in whole.steps] == ["lock"]
    found = parts_of(whole)
    assert [sorted(one.models) for one in found] == [["a"], ["b"]]
    effects = [one.plan.steps[0].effect for one in found]
    assert all(isinstance(one, WritePins) and len(one.pins) == 1 for one in effects)
