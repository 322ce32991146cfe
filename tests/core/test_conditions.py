"""Conditions: what is so of an instance, in each case, and since when."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from builders import desired, holders, instances, observed, plan, running, server, stray
from plan_cases import DIED, ONE, STOPPED

from reconciler.core.conditions import Condition, condition_values, conditions_of
from reconciler.core.desired import DesiredState
from reconciler.core.downtime import LastStart
from reconciler.core.observed import Crashes, Journal, ObservedState
from reconciler.core.obstacles import launch_id
from reconciler.core.status import instance_rows
from reconciler.core.words import InstanceName, Phase

A = InstanceName("a")
LAUNCH = launch_id(instances(ONE)["a"], observed(ONE))


def conditions(state: DesiredState, seen: ObservedState) -> dict[str, Condition]:
    made = plan(state, seen)
    found = conditions_of(instance_rows(state, seen, made), seen, made, 7)["a"]
    return {str(one.type): one for one in found}


def ended(count: int = 1, fatal: int = 0, next_at: float = 0.0) -> Journal:
    """A journal of a server that ended by itself, for the same cause each time."""
    crashes = Crashes(LAUNCH, count, fatal, 50.0, "no memory", next_at)
    return replace(DIED, crashes={A: crashes})


READY = server(ONE, "a", since=3.0)
CASES: dict[str, tuple[tuple[DesiredState, ObservedState], str, str, str, str]] = {
    "all is well": (
        (ONE, observed(ONE, READY)),
        "true ready 3.0",
        "false as-wanted 3.0",
        "false as-wanted 3.0",
        "false not-stalled 3.0",
    ),
    "ready for less than it is up": (
        (ONE, observed(ONE, READY, journal=Journal(starts={A: LastStart(2.5, 0)}))),
        "true ready 5.5",
        "false as-wanted 5.5",
        "false as-wanted 5.5",
        "false not-stalled 5.5",
    ),
    "loading": (
        (ONE, observed(ONE, server(ONE, "a", phase=Phase.STARTING, since=3.0))),
        "false starting 3.0",
        "true starting 3.0",
        "false starting 3.0",
        "false not-stalled 3.0",
    ),
    "silent": (
        (ONE, observed(ONE, server(ONE, "a", phase=Phase.UNHEALTHY))),
        "unknown unhealthy None",
        "false not-watched None",
        "true unhealthy None",
        "false not-stalled None",
    ),
    "nobody starts it": (
        (ONE, observed(ONE)),
        "false absent None",
        "false not-watched None",
        "false absent None",
        "false not-stalled None",
    ),
    "a watch starts it": (
        (ONE, observed(ONE, now=60.0)),
        "false absent None",
        "true planned None",
        "false absent None",
        "false not-stalled None",
    ),
    "stopped": (
        (ONE, observed(ONE, journal=STOPPED)),
        "false suspended 1.0",
        "false suspended 1.0",
        "false suspended 1.0",
        "false not-stalled 1.0",
    ),
    "waits for its next start": (
        (ONE, observed(ONE, journal=ended(2, next_at=70.0), now=60.0)),
        f"false exited {DIED.last_exits[A].at}",
        f"true back-off {DIED.last_exits[A].at}",
        "true ended 50.0",
        f"false not-stalled {DIED.last_exits[A].at}",
    ),
    "given up": (
        (ONE, observed(ONE, journal=ended(3, 3), now=60.0)),
        "false blocked None",
        "false blocked None",
        "true ended 50.0",
        "true given-up 50.0",
    ),
    "ready again": (
        (ONE, observed(ONE, READY, journal=ended())),
        "true ready 3.0",
        "false as-wanted 3.0",
        "true ended 50.0",
        "false not-stalled 3.0",
    ),
    "blocked": (
        (ONE, observed(ONE, ports=holders(8001))),
        "false blocked None",
        "false blocked None",
        "false blocked None",
        "true blocked None",
    ),
    "it runs, and cannot be replaced": (
        (ONE, observed(ONE, stray("a", since=3.0), ports=holders(8001))),
        "true ready 3.0",
        "false blocked None",
        "true blocked None",
        "true blocked None",
    ),
    "drift": (
        (ONE, observed(ONE, replace(READY, files="1:2:3:4"))),
        "true ready 3.0",
        "false as-wanted 3.0",
        "true drift None",
        "false not-stalled 3.0",
    ),
    "not wanted": (
        (desired({}), running(ONE)),
        "true ready 0.0",
        "false not-watched None",
        "false as-wanted 0.0",
        "false not-stalled 0.0",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_so_and_since_when(name: str) -> None:
    (state, seen), *expected = CASES[name]
    found = conditions(state, seen)
    said = [f"{one.status} {one.reason} {one.since}" for one in found.values()]
    assert list(found) == ["Ready", "Progressing", "Degraded", "Stalled"]
    assert said == expected


def message(name: str, kind: str) -> str:
    return conditions(*CASES[name][0])[kind].message


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("all is well", "Ready", "it answers requests"),
        ("nobody starts it", "Progressing", "apply starts it"),
        ("a watch starts it", "Progressing", "the watch starts it"),
        ("stopped", "Ready", "suspended by `stop`: too hot"),
        ("waits for its next start", "Progressing", "next start in 10 s"),
        ("waits for its next start", "Degraded", "it ended 2 times in a row, last: no memory"),
        ("ready again", "Degraded", "it ended, last: no memory"),
        ("given up", "Stalled", "given up: 3 times in a row no memory"),
        ("blocked", "Stalled", "port 8001 is held by"),
        ("it runs, and cannot be replaced", "Degraded", "it runs, not as wanted: port 8001"),
        ("drift", "Degraded", "its weights on disk are not the ones it loaded"),
        ("silent", "Degraded", "does not answer"),
    ],
)
def test_each_says_why(name: str, kind: str, words: str) -> None:
    assert words in message(name, kind)


def test_as_plain_values() -> None:
    first: dict[str, Any] = condition_values(conditions(*CASES["all is well"][0]).values())[0]
    assert first == {
        "type": "Ready",
        "status": "true",
        "reason": "ready",
        "message": "it answers requests",
        "since": 3.0,
        "observed_generation": 7,
    }
