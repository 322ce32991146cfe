"""How long nobody answers: by how long the last good start took."""

from __future__ import annotations

import pytest
from builders import SITE, desired, observed, plan, running, server, stray

from reconciler.core.downtime import STOP_S, LastStart, replacement_s, start_s
from reconciler.core.observed import Journal, ObservedServer
from reconciler.core.plan import Impact, Plan
from reconciler.core.planner import make_plan
from reconciler.core.present import plan_text
from reconciler.core.words import InstanceName, ModelName

A = InstanceName("a")
ONE = desired({"a": {}})
SURGE = desired({"a": {"rollout": "surge"}})


def took(seconds: float, weights: int = 140) -> Journal:
    return Journal(starts={A: LastStart(seconds, weights)})


def impact_of(made: Plan) -> Impact:
    return next(one.impact for one in made.changes if one.address == "instance.a")


@pytest.mark.parametrize(
    ("journal", "size", "expected"),
    [
        (Journal(), 140, None),
        (took(8.0), 140, 8.0),
        (took(8.0), 280, 16.0),
        (took(8.0), 14, 0.8),
        (took(8.0), 13, None),
        (took(8.0), 1401, None),
        (took(8.0, 0), 140, None),
        (took(8.0, 0), 0, 8.0),
        (took(8.0), 0, None),
    ],
    ids=[
        "never started",
        "the same files",
        "a larger quant",
        "a smaller quant",
        "much less",
        "much more",
        "not known what it loaded",
        "nothing known of both",
        "not known what it loads",
    ],
)
def test_a_start_takes_as_long_as_the_last_one_by_its_bytes(
    journal: Journal, size: int, expected: float | None
) -> None:
    assert start_s(A, size, journal.starts) == pytest.approx(expected)
    down = replacement_s(A, size, journal.starts)
    assert down == (expected and pytest.approx(STOP_S + expected))


def test_a_replacement_is_gone_for_stop_and_start() -> None:
    made = plan(ONE, observed(ONE, stray("a"), journal=took(12.0)))
    assert impact_of(made).downtime_s == pytest.approx(12.0 + STOP_S)
    assert "      about 12 s of downtime, requests get 503\n" in plan_text(made)


def test_a_restart_is_one_too() -> None:
    seen = running(ONE, journal=took(0.5))
    made = make_plan(ONE, SITE, seen, restart=frozenset({ModelName("a")}))
    assert impact_of(made).downtime_s == pytest.approx(0.5 + STOP_S)
    assert "      less than a second of downtime, requests get 503\n" in plan_text(made)


def test_a_surge_costs_none() -> None:
    made = plan(SURGE, observed(SURGE, stray("a"), journal=took(12.0)))
    assert impact_of(made).downtime_s == 0
    assert "downtime" not in plan_text(made)


@pytest.mark.parametrize(
    ("servers", "journal"),
    [((stray("a"),), Journal()), ((), took(12.0)), ((server(ONE, "a"),), took(12.0))],
    ids=["not known", "nothing serves", "nothing changes"],
)
def test_else_nothing_is_said(servers: tuple[ObservedServer, ...], journal: Journal) -> None:
    made = plan(ONE, observed(ONE, *servers, journal=journal))
    assert impact_of(made).downtime_s is None
    assert "downtime" not in plan_text(made)
