"""Plan guards: too much change, protected models, no room, another file. Exit 4, nothing done.

In: a plan, the observed state, what the operator allowed. Out: the guards that it met.
A guard refuses the whole plan; what stops one resource only is in `core.obstacles`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from reconciler.core.capacity import crowded, free_text
from reconciler.core.desired import DesiredState
from reconciler.core.observed import ObservedState
from reconciler.core.plan import Action, Guard, Plan, ResourceType
from reconciler.core.present import human_bytes
from reconciler.core.resolve import model_of
from reconciler.core.words import InstanceName, ModelName, Phase

ANOTHER_FILE = "another desired file"
_ALLOW_DESTROY = "--allow-destroy"

SHARE_PERCENT = 30
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
        *_disks(plan, observed),
    ]
    return _agreeing([one for one in found if one is not None])


def flags_of(guards: Iterable[Guard]) -> str:
    """All that lets these through, as it is typed behind a verb; empty where nothing does."""
    flags = [one.flag for one in guards]
    return " ".join(dict.fromkeys(flags)) if all(flags) else ""


def _agreeing(guards: list[Guard]) -> tuple[Guard, ...]:
    """Of two that ask for one flag, the larger number: typed twice, the last one would count."""
    counts = (int(one.answer) for one in guards if one.flag.startswith(_ALLOW_DESTROY))
    flag = f"{_ALLOW_DESTROY} {max(counts, default=0)}"
    return tuple(
        replace(one, flag=flag) if one.flag.startswith(_ALLOW_DESTROY) else one for one in guards
    )


def _names(plan: Plan, *actions: Action) -> set[InstanceName]:
    return {
        InstanceName(change.name)
        for change in plan.changes
        if change.type is ResourceType.INSTANCE and change.action in actions
    }


def _running(observed: ObservedState) -> set[InstanceName]:
    """What runs. A server that has had its TERM ends whatever is decided now."""
    return {one.instance for one in observed.servers if one.phase is not Phase.STOPPING}


def _another_file(plan: Plan, observed: ObservedState, allowed: Allowed) -> Guard | None:
    last = observed.journal.desired
    runs = observed.servers or observed.gateway.master
    if not runs or last in {None, plan.desired} or allowed.switch_file:
        return None
    message = f"this root was last applied from {last}, not from {plan.desired}"
    return Guard(ANOTHER_FILE, message, "--switch-file", plan.desired)


def _too_many_stops(plan: Plan, observed: ObservedState, allowed: Allowed) -> Guard | None:
    """What an operator suspended was asked for by name; it does not count."""
    running = _running(observed)
    stops = _names(plan, Action.DELETE) & running
    count = sum(model_of(name) not in observed.journal.suspended for name in stops)
    nothing_left = stops == running and not _names(plan, Action.CREATE)
    many = _is_large(count, running) and count >= LEAST_STOPS
    if not count or not (nothing_left or many) or count <= allowed.destroy:
        return None
    left = "nothing would be left running" if nothing_left else "that is more than 30 %"
    message = f"{count} of {len(running)} running instances would be stopped: {left}"
    return Guard("too many stops", message, f"{_ALLOW_DESTROY} {count}", str(count))


def _too_many_replacements(plan: Plan, observed: ObservedState, allowed: Allowed) -> Guard | None:
    running = _running(observed)
    count = len(_names(plan, Action.REPLACE, Action.SURGE) & running)
    many = _is_large(count, running) and count >= LEAST_REPLACEMENTS
    if not many or count <= allowed.destroy:
        return None
    message = (
        f"{count} of {len(running)} running instances would be replaced: that is more than 30 %"
    )
    return Guard("too many replacements", message, f"{_ALLOW_DESTROY} {count}", str(count))


def _is_large(count: int, running: set[InstanceName]) -> bool:
    return 100 * count > SHARE_PERCENT * len(running)


def _protected(
    plan: Plan, desired: DesiredState, observed: ObservedState, allowed: Allowed
) -> list[Guard]:
    """A protected model stays protected when its entry is taken out of the file."""
    declared = {ModelName(name) for name, model in desired.models.items() if model.protect}
    gone = {name for name in observed.journal.protected if name not in desired.models}
    touched = _names(plan, Action.DELETE, Action.REPLACE, Action.SURGE) & _running(observed)
    models = {model_of(name) for name in touched}
    return [
        Guard(
            "protected model",
            f"{name} is protected and would be stopped or replaced",
            f"--allow-protected {name}",
            name,
        )
        for name in sorted(((declared | gone) & models) - allowed.protected)
    ]


def _disks(plan: Plan, observed: ObservedState) -> list[Guard]:
    needs = {
        ModelName(change.name): change.impact.download_bytes
        for change in plan.changes
        if change.impact.download_bytes
    }
    return [
        Guard(
            "not enough disk",
            f"{human_bytes(sum(wanted.values()))} to download, {free_text(disk)}",
            "",
        )
        for disk, wanted in crowded(needs, observed)
    ]
