"""What a watch knows beside what it sees: back-offs that it waits out, servers that are wedged."""

from __future__ import annotations

from dataclasses import replace

import pytest
from builders import desired, instances, observed, plan, server, stray

from reconciler.core.backoff import tried_again
from reconciler.core.desired import DesiredState
from reconciler.core.observed import DOWN, Crashes, Journal, ObservedState
from reconciler.core.obstacles import launch_id
from reconciler.core.plan import Action, Change, StartServer, StopServer
from reconciler.core.status import instance_rows
from reconciler.core.words import InstanceName, ModelName, Phase

A, B = InstanceName("a"), InstanceName("b")
STATE = desired({"a": {}, "b": {}})
NOW = 5000.0


def crashed(state: DesiredState = STATE, fatal: int = 0) -> ObservedState:
    """`a` ended by itself twice, `b` runs."""
    launch = launch_id(instances(state)["a"], observed(state))
    crashes = Crashes(launch, 2, fatal, 1.0, "killed by SIGSEGV", NOW + 9)
    journal = Journal(crashes={A: crashes}, restarts={A: 1})
    return observed(state, server(state, "b"), journal=journal, now=NOW)


def change(seen: ObservedState, name: str = "a") -> Change:
    return next(one for one in plan(STATE, seen).changes if one.address == f"instance.{name}")


def test_a_watch_waits_out_a_back_off() -> None:
    found = change(crashed())
    assert found.action is Action.NO_OP
    assert found.blocked == "ended 2 times, last: killed by SIGSEGV; next start in 9 s"
    assert found.waits_until == NOW + 9
    assert change(replace(crashed(), now=NOW + 9)).action is Action.CREATE


def test_an_operator_does_not() -> None:
    assert change(replace(crashed(), now=None)).action is Action.CREATE


def test_what_is_given_up_only_an_operator_starts() -> None:
    seen = crashed(fatal=3)
    found = change(seen)
    assert found.waits_until is None
    assert found.blocked == (
        "given up: 3 times in a row killed by SIGSEGV; `llm-reconcile restart a` tries it once more"
    )
    asked = tried_again(seen.journal, [ModelName("a")])
    assert change(replace(seen, journal=asked)).action is Action.CREATE
    assert tried_again(seen.journal, [ModelName("b")]) == seen.journal


def test_status_says_when_and_how_often() -> None:
    def row(seen: ObservedState) -> tuple[Phase, str, int | None]:
        one = instance_rows(STATE, seen, plan(STATE, seen))[0]
        return one.phase, one.next, one.restarts

    assert row(crashed()) == (Phase.EXITED, "", 1)
    assert row(crashed(fatal=3)) == (Phase.BLOCKED, "", 1)
    assert row(replace(crashed(), now=None))[2] is None


@pytest.mark.parametrize("rollout", ["recreate", "surge"])
def test_a_wedged_server_is_replaced_without_a_drain(rollout: str) -> None:
    state = desired({"a": {"rollout": rollout}})
    live = server(state, "a")
    made = plan(state, observed(state, live, wedged={live.ref: "it is wedged: no token"}))
    stop, start = (step.effect for step in made.steps)
    assert isinstance(stop, StopServer)
    assert isinstance(start, StartServer)
    assert (stop.server, stop.drain_s) == (live.ref, 0.0)
    found = next(one for one in made.changes if one.address == "instance.a")
    assert (found.action, found.reason) == (Action.REPLACE, "it is wedged: no token")


def test_another_process_is_not_the_wedged_one() -> None:
    state = desired({"a": {}})
    gone = stray("a").ref
    assert plan(state, observed(state, server(state, "a"), wedged={gone: "wedged"})).is_noop


def test_after_down_the_watch_starts_nothing() -> None:
    seen = replace(crashed(), journal=Journal(wish=DOWN))
    row = instance_rows(STATE, seen, plan(STATE, seen))[0]
    assert row.next == "apply starts it"
