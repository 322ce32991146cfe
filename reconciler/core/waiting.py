"""Requests while a server is replaced: how long running ones get, and whether new ones wait.

In: all cases, what is blocked, the gateway as it is and will be; all steps. Out: by model how long
requests are held, by address how long a stop waits, and a change with that. It is for people; no
step hangs on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from reconciler.core.cases import Case
from reconciler.core.decide import Decision
from reconciler.core.observed import ObservedGateway
from reconciler.core.obstacles import Obstacles
from reconciler.core.plan import (
    Action,
    ApplyGateway,
    Change,
    Plan,
    ResourceType,
    Step,
    StepEffect,
    StopServer,
)
from reconciler.core.plan_gateway import WantedGateway
from reconciler.core.words import ModelName, Phase


@dataclass(frozen=True, slots=True)
class Hold:
    """How many seconds requests wait for a server, before and after nginx is reloaded."""

    before: float
    after: float


def holds_of(
    cases: Sequence[Case], blocked: Obstacles, hold: Hold | None
) -> Mapping[ModelName, Hold]:
    """The models of which nothing answers while a server is replaced.

    `hold`: of all of them; None: that is not known, or there is no gateway.
    """
    if hold is None:
        return {}
    steady = {case.model_name for case in cases if _serves_on(case, blocked)}
    names = {case.model_name for case in cases} - steady
    return dict.fromkeys(sorted(names), hold)


def hold_in_force(wanted: WantedGateway | None, seen: ObservedGateway) -> Hold | None:
    """How long requests wait while a plan is carried out."""
    if wanted is None:
        return None
    before = seen.outline.hold_s if seen.outline else None
    after = wanted.rendered.outline.hold_s if wanted.rendered and not wanted.blocked else before
    if wanted.rendered and seen.generation == wanted.rendered.generation:
        before = after
    elif seen.master is None:
        # What is to be started may let them wait; what cannot be started is not there.
        before = None if wanted.blocked else after
    return None if before is None or after is None else Hold(before, after)


def _serves_on(case: Case, blocked: Obstacles) -> bool:
    keep = case.keep
    if keep is None or keep.phase is not Phase.READY or not keep.routed:
        return False
    return case.surges or case.name in blocked or case.decision is Decision.NOTHING


def with_hold(change: Change, hold: Hold | None) -> Change:
    """The change with how long requests wait, where there is a time to wait out."""
    time = change.impact.downtime_s
    # Servers are replaced while nginx is still reloaded: where it will let requests wait longer,
    # and too short for that time now, the first of them fare otherwise than the rest.
    if hold is None or not time or hold.before < min(hold.after, time):
        return change
    shorter = min(hold.before, hold.after)
    return replace(change, impact=replace(change.impact, hold_s=shorter))


def drains_of(steps: Iterable[Step]) -> Mapping[str, float]:
    """By address: how long the first stop among its steps waits for running requests."""
    found: dict[str, float] = {}
    for step in steps:
        if time := _drain_s(step.effect):
            found.setdefault(step.address, time)
    return found


def _drain_s(effect: StepEffect) -> float | None:
    match effect:
        case StopServer(drain_s=time) | ApplyGateway(restart_grace_s=time):
            return time
        case _:
            return None


def with_drain(change: Change, drain_s: float | None) -> Change:
    """The change with how long running requests get, where it stops what answers them."""
    if drain_s is None or change.action not in {Action.DELETE, Action.REPLACE, Action.SURGE}:
        return change
    return replace(change, impact=replace(change.impact, drain_s=drain_s))


def without_holds(plan: Plan, part: Plan) -> Plan:
    """A part of a plan; where it leaves the gateway as it is, without what that was to become."""
    gateways = [one for one in plan.changes if one.type is ResourceType.GATEWAY]
    if all(one in part.changes or one.action is Action.NO_OP for one in gateways):
        return part
    bare = (replace(one, impact=replace(one.impact, hold_s=None)) for one in part.changes)
    return replace(part, changes=tuple(bare))
