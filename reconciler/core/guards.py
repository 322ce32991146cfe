"""Plan guards: too much change, protected models, no room, another file. Exit 4, nothing done.

In: a plan, the observed state, what the operator allowed. Out: the guards that it met.
A guard refuses the whole plan; what stops one resource only is in `core.obstacles`.
"""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.core.desired import DesiredState
from reconciler.core.observed import ObservedState
from reconciler.core.plan import Action, Change, Guard, Plan, ResourceType
from reconciler.core.present import human_bytes
from reconciler.core.resolve import model_of
from reconciler.core.words import InstanceName, ModelName

SHARE = 0.30
LEAST_STOPS = 2
LEAST_REPLACEMENTS = 3
"""More than 30 % of what runs, and at least 2 stops or 3 replacements (DESIGN 5)."""


@dataclass(frozen=True, slots=True)
class Allowed:
    """What the operator let through by flags."""

    destroy: int = 0
    protected: frozenset[str] = frozenset()
    switch_file: bool = False


def guard(
    plan: Plan, desired: DesiredState, observed: ObservedState, allowed: Allowed
) -> tuple[Guard, ...]:
    """The guards that refuse this plan; empty when it may run."""
    found = [
        _another_file(plan, observed, allowed),
        _too_many_stops(plan, observed, allowed),
        _too_many_replacements(plan, observed, allowed),
        *_protected(plan, desired, observed, allowed),
        _disk(plan, observed),
    ]
    return tuple(one for one in found if one is not None)


def _instances(plan: Plan, *actions: Action) -> list[Change]:
    return [
        change
        for change in plan.changes
        if change.type is ResourceType.INSTANCE and change.action in actions
    ]


def _running(observed: ObservedState) -> int:
    return len({server.instance for server in observed.servers})


def _another_file(plan: Plan, observed: ObservedState, allowed: Allowed) -> Guard | None:
    last = observed.journal.desired
    runs = observed.servers or observed.gateway.master
    if not runs or last in {None, plan.desired} or allowed.switch_file:
        return None
    message = f"this root was last applied from {last}, not from {plan.desired}"
    return Guard("another desired file", message, "--switch-file", plan.desired)


def _too_many_stops(plan: Plan, observed: ObservedState, allowed: Allowed) -> Guard | None:
    suspended = observed.journal.suspended
    stops = [
        change
        for change in _instances(plan, Action.DELETE)
        if model_of(InstanceName(change.name)) not in suspended
    ]
    running, count = _running(observed), len(stops)
    nothing_left = count == running and not _instances(plan, Action.CREATE)
    many = count > SHARE * running and count >= LEAST_STOPS
    if not count or not (nothing_left or many) or count <= allowed.destroy:
        return None
    left = "nothing would be left running" if nothing_left else "that is more than 30 %"
    message = f"{count} of {running} running instances would be stopped: {left}"
    return Guard("too many stops", message, f"--allow-destroy {count}", str(count))


def _too_many_replacements(plan: Plan, observed: ObservedState, allowed: Allowed) -> Guard | None:
    running = _running(observed)
    count = len(_instances(plan, Action.REPLACE, Action.SURGE))
    if not (count > SHARE * running and count >= LEAST_REPLACEMENTS) or count <= allowed.destroy:
        return None
    message = f"{count} of {running} running instances would be replaced: that is more than 30 %"
    return Guard("too many replacements", message, f"--allow-destroy {count}", str(count))


def _protected(
    plan: Plan, desired: DesiredState, observed: ObservedState, allowed: Allowed
) -> list[Guard]:
    """A protected model stays protected when its entry is taken out of the file."""
    declared = {ModelName(name) for name, model in desired.models.items() if model.protect}
    gone = {name for name in observed.journal.protected if name not in desired.models}
    touched = {
        model_of(InstanceName(change.name))
        for change in _instances(plan, Action.DELETE, Action.REPLACE, Action.SURGE)
    }
    return [
        Guard(
            "protected model",
            f"{name} is protected and would be stopped or replaced",
            f"--allow-protected {name}",
            name,
        )
        for name in sorted(((declared | gone) & touched) - allowed.protected)
    ]


def _disk(plan: Plan, observed: ObservedState) -> Guard | None:
    needed, free = plan.download_bytes, observed.disk_free_bytes
    if needed <= free:
        return None
    message = f"{human_bytes(needed)} to download, {human_bytes(free)} free where the store lies"
    return Guard("not enough disk", message, "")
