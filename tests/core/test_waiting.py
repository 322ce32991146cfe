"""Whether requests wait for a server that is replaced, or get 503: by `gateway.hold`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from builders import NGINX, desired, holders, instances, observed, plan, server, stray
from hypothesis import given
from hypothesis import strategies as st

from reconciler.core.desired import DesiredState
from reconciler.core.downtime import STOP_S, LastStart
from reconciler.core.observed import Journal, LastExit, ObservedGateway, ObservedState
from reconciler.core.plan import Detail, Plan
from reconciler.core.plan_parts import restrict
from reconciler.core.present import downtime_text, plan_text
from reconciler.core.words import InstanceName, ModelName, Phase

TOOK = Journal(starts={InstanceName(name): LastStart(12.0, 140) for name in ("a", "a[1]")})


def held(hold: object = "90s", **model: Any) -> DesiredState:
    return desired({"a": model}, gateway={"hold": hold})


def seen(state: DesiredState, *servers: Any, **special: Any) -> ObservedState:
    return observed(state, *servers, journal=TOOK, **special)


def hold_of(made: Plan) -> float | None:
    return next(one.impact.hold_s for one in made.changes if one.address == "instance.a")


@pytest.mark.parametrize(
    ("hold", "said"),
    [
        ("0s", "about 12 s of downtime, requests get 503"),
        (0.5, "about 12 s of downtime, requests wait less than a second, then get 503"),
        ("5s", "about 12 s of downtime, requests wait up to 5 s, then get 503"),
        (12, "about 12 s of downtime, requests wait up to 12 s, then get 503"),
        (12 + STOP_S, "about 12 s of downtime, requests wait"),
        ("1m30s", "about 12 s of downtime, requests wait"),
    ],
)
def test_requests_wait_as_long_as_the_gateway_lets_them(hold: object, said: str) -> None:
    state = held(hold)
    made = plan(state, seen(state, stray("a")))
    assert state.gateway
    assert hold_of(made) == state.gateway.hold
    assert f"      {said}\n" in plan_text(made)


@given(seconds=st.floats(0, 1e5), hold=st.none() | st.floats(0, 1e5))
def test_they_wait_or_get_503_and_never_both_without_a_time(
    seconds: float, hold: float | None
) -> None:
    said = downtime_text(seconds, hold)
    assert ("of downtime" in said) == (seconds > 0)
    assert ("get 503" in said) == (seconds > 0 and hold is not None and hold < seconds)
    assert ("requests wait" in said) == (seconds > 0 and bool(hold))
    assert downtime_text(None, hold) == ""


SURGE = {"rollout": "surge"}
TWO = {"replicas": 2}
NEW = {"params": {"temp": "0.2"}}
UNREACHED = {"routed": False}
LOADING = {"phase": Phase.STARTING}


@pytest.mark.parametrize(
    ("model", "servers", "is_held"),
    [
        (SURGE, (stray("a"),), False),
        ({}, (), False),
        ({}, (server(held(), "a"),), False),
        (TWO, (stray("a"), server(held(**TWO), "a[1]")), False),
        (TWO, (stray("a"), stray("a[1]")), True),
        (TWO, (stray("a"),), True),
        (TWO, (stray("a"), server(held(**TWO), "a[1]", **UNREACHED)), True),
        (TWO, (stray("a"), server(held(**TWO), "a[1]", **LOADING)), True),
    ],
    ids=[
        "the new one comes first",
        "nothing serves",
        "nothing changes",
        "another replica answers",
        "all replicas are replaced",
        "the other replica is not there",
        "the other replica has no route",
        "the other replica loads",
    ],
)
def test_nothing_waits_where_something_answers(
    model: dict[str, Any], servers: tuple[Any, ...], is_held: bool
) -> None:
    state = held(**model)
    made = plan(state, seen(state, *servers))
    assert hold_of(made) == (90.0 if is_held else None)
    assert ("requests wait" in plan_text(made)) == is_held


def test_a_replica_that_is_blocked_serves_on() -> None:
    """This version has failed as one of the two: what serves there stays."""
    state, name = held(**TWO, **NEW), InstanceName("a[1]")
    failed = LastExit(1.0, "not ready", instances(state)[name].spec.hash)
    journal = replace(TOOK, last_exits={name: failed})
    for known, hold in ((TOOK, 90.0), (journal, None)):
        made = plan(state, observed(state, stray("a"), stray("a[1]"), journal=known))
        assert hold_of(made) == hold


def test_without_a_gateway_that_is_known_nothing_is_said_of_requests() -> None:
    """One that is blocked and does not run lets nobody wait."""
    bare = desired({"a": {"port": 8001}}, gateway=False)
    on_port = stray("a", address=instances(bare)["a"].address)
    blocked = seen(held(), stray("a"), gateway=ObservedGateway(), ports=holders(8888))
    for made in (plan(bare, seen(bare, on_port)), plan(held(), blocked)):
        assert hold_of(made) is None
        assert "about 12 s of downtime\n" in plan_text(made)


def test_a_part_that_leaves_the_gateway_as_it_is_knows_nothing_of_a_new_hold() -> None:
    before, after = held("80s"), held("90s", **NEW)
    live = (server(before, "a"),)
    same = seen(after, *live)
    other = seen(after, *live, gateway=seen(before).gateway)
    only_a = frozenset({ModelName("a")})
    assert hold_of(restrict(plan(after, same), only_a)) == 90.0
    assert hold_of(restrict(plan(after, other), only_a)) is None
    assert hold_of(restrict(plan(after, other), only_a, reload=True)) == 80.0


@pytest.mark.parametrize(
    ("before", "after", "hold"),
    [
        ("90s", "90s", 90.0),
        ("5s", "5s", 5.0),
        ("0s", "90s", None),
        ("5s", "90s", None),
        ("5s", "10s", None),
        ("80s", "90s", 80.0),
        ("90s", "5s", 5.0),
        ("90s", "0s", 0.0),
        (None, "90s", 90.0),
    ],
)
def test_while_nginx_is_reloaded_the_shorter_time_counts(
    before: str | None, after: str, hold: float | None
) -> None:
    """Where that would be wrong of all but the first requests, nothing is said."""
    state = held(after)
    gateway = seen(held(before)).gateway if before else ObservedGateway()
    made = plan(state, seen(state, stray("a"), gateway=gateway))
    assert hold_of(made) == hold
    told = [one.details for one in made.changes if one.address == "gateway"]
    if before and before != after:
        assert told == [(Detail("hold", before, after),)]
    else:
        assert told == [()]


def test_a_gateway_that_stays_as_it_is_is_known_by_what_it_runs() -> None:
    state, no_nginx = held("90s"), {"nginx": (), "nginx_reason": "no nginx was found"}
    for gateway, hold in ((seen(held("5s")).gateway, 5.0), (NGINX, None)):
        made = plan(state, seen(state, stray("a"), gateway=gateway, **no_nginx))
        assert hold_of(made) == hold
    # It does not say what it runs.
    assert hold_of(plan(state, seen(state, stray("a"), gateway=NGINX))) is None
