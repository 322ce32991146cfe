"""Parts of a plan: of some models alone, of files alone, or what has to wait for files.

In: a whole plan. Out: a plan of fewer changes and steps. Numbers stay, so that needs hold; what
would need a change of others first is left as it is, and blocked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from reconciler.core.plan import (
    Action,
    AwaitReady,
    Change,
    FetchFiles,
    FileEffect,
    Plan,
    ResourceType,
    StartServer,
    Step,
    WritePins,
)
from reconciler.core.plan_lock import lock_part
from reconciler.core.resolve import model_of
from reconciler.core.waiting import without_holds
from reconciler.core.words import GATEWAY_ADDRESS, RENDER_ADDRESS, InstanceName, ModelName

_OF_MODELS = {ResourceType.INSTANCE, ResourceType.MODEL_FILE}


def restrict(
    plan: Plan,
    models: frozenset[ModelName],
    *,
    gateway: bool = True,
    reload: bool = False,
    renders: frozenset[str] = frozenset(),
) -> Plan:
    """The part of a plan that concerns some models; with `gateway` also its start.

    `reload`: whatever else is done about the gateway, too. `renders`: addresses of those in it.

    The warnings are about starts: a part that starts nothing has none.
    What would need a change of others first is left as it is, and blocked: it says which.
    """
    plan = lock_part(plan, models)
    kept = [
        change
        for change in plan.changes
        if change.address in renders or _concerns(change, models, gateway=gateway, reload=reload)
    ]
    addresses = {change.address for change in kept}
    outside = _cut_off(plan.steps, addresses)
    steps = tuple(step for step in plan.steps if step.address in addresses - outside.keys())
    starts = any(isinstance(step.effect, StartServer) for step in steps)
    part = Plan(
        plan.desired,
        tuple(_needing(change, outside.get(change.address, "")) for change in kept),
        steps,
        plan.warnings if starts else (),
    )
    return without_holds(plan, part)


def split(plan: Plan) -> tuple[Plan, tuple[Step, ...]]:
    """The part that waits for no file, with the files themselves; and the steps that do wait."""
    files = {step.number for step in plan.steps if isinstance(step.effect, FileEffect)}
    behind = set(files)
    while more := {step.number for step in plan.steps if behind & set(step.needs)} - behind:
        behind |= more
    waiting = behind - files
    steps = tuple(step for step in plan.steps if step.number not in waiting)
    late = tuple(step for step in plan.steps if step.number in waiting)
    return replace(plan, steps=steps), late


def agreed(plan: Plan, before: Plan) -> Plan:
    """What of a plan an earlier one has said already: nobody agreed to the rest.

    That is left as it is, and blocked. What was to be replaced may also have gone by itself.
    """
    earlier = {change.address: change.action for change in before.changes}
    strange = {
        change.address
        for change in plan.changes
        if change.action is not Action.NO_OP
        and (
            earlier.get(change.address, Action.NO_OP) is Action.NO_OP
            or change.action not in {earlier[change.address], Action.CREATE, Action.ADOPT}
        )
    }
    return without(plan, strange, "it changed while files were on their way: `apply` once more")


def leave_out(
    plan: Plan,
    models: frozenset[ModelName],
    why: str,
    *,
    gateway: bool = False,
    renders: frozenset[str] = frozenset(),
) -> Plan:
    """The plan without these models (and the gateway, and renders): they stay as they are.

    So does what would need a change of theirs first.
    """
    every = {model_of(InstanceName(one.name)) for one in plan.changes if one.type in _OF_MODELS}
    plan = lock_part(plan, frozenset(every) - models)
    out = {
        change.address
        for change in plan.changes
        if (change.type in _OF_MODELS and model_of(InstanceName(change.name)) in models)
        or (change.type is ResourceType.GATEWAY and gateway)
        or (change.type is ResourceType.RENDER and change.address in renders)
    }
    return without(plan, out, why)


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a plan that needs nothing of the rest, and of which the rest needs nothing."""

    plan: Plan
    models: frozenset[ModelName]
    gateway: bool
    render: str = ""
    """The address of the one render that it is about."""


def parts_of(plan: Plan) -> tuple[Part, ...]:
    """The plan in parts that can go their ways at the same time; changes without steps are gone."""
    renders = {one.address for one in plan.steps if one.address.startswith(RENDER_ADDRESS)}
    alone = (_only(plan, address) for address in sorted(renders))
    own = tuple(Part(one, frozenset(), gateway=False, render=one.steps[0].address) for one in alone)
    plan = replace(plan, steps=tuple(one for one in plan.steps if one.address not in renders))
    owners = {step.number: _owners(step) for step in plan.steps}
    groups: list[set[str]] = []
    for step in plan.steps:
        if isinstance(step.effect, WritePins):
            # Whoever has pins writes them: the lock file ties nobody together.
            groups += [{owner} for owner in owners[step.number]]
            continue
        before = (*step.needs, *(one for one in step.after if one in owners))
        needs = (owners[need] for need in before if len(owners[need]) == 1)
        groups.append(owners[step.number].union(*needs))
    merged = _merged(groups)
    every = {ModelName(name) for group in merged for name in group if name != GATEWAY_ADDRESS}
    return (*(_part(plan, group, every) for group in sorted(merged, key=_order)), *own)


def _only(plan: Plan, address: str) -> Plan:
    changes = tuple(change for change in plan.changes if change.address == address)
    steps = tuple(step for step in plan.steps if step.address == address)
    return replace(plan, changes=changes, steps=steps)


def _owners(step: Step) -> set[str]:
    """The models that a step is about, or the gateway."""
    if isinstance(step.effect, WritePins):
        return {str(name) for name, _ in step.effect.pins}
    kind, _, name = step.address.partition(".")
    return {str(model_of(InstanceName(name)))} if name else {kind}


def _merged(groups: list[set[str]]) -> list[set[str]]:
    found: list[set[str]] = []
    for group in groups:
        touched = [one for one in found if one & group]
        found = [one for one in found if one not in touched]
        found.append(group.union(*touched))
    return found


def _order(group: set[str]) -> tuple[bool, list[str]]:
    return GATEWAY_ADDRESS in group, sorted(group)


def _part(plan: Plan, group: set[str], every: set[ModelName]) -> Part:
    models = frozenset(ModelName(name) for name in group if name != GATEWAY_ADDRESS)
    gateway = GATEWAY_ADDRESS in group
    part = leave_out(plan, frozenset(every - models), "another part", gateway=not gateway)
    addresses = {step.address for step in part.steps}
    changes = tuple(change for change in part.changes if change.address in addresses)
    return Part(replace(part, changes=changes), models, gateway)


def leave_stops_out(plan: Plan, why: str) -> Plan:
    """The plan without anything that ends or replaces a server: only what is missing is made.

    Who was cut off by an earlier run, to be ended, serves on.
    """
    out = {
        change.address
        for change in plan.changes
        if change.type is ResourceType.INSTANCE
        and change.action in {Action.DELETE, Action.REPLACE, Action.SURGE}
    }
    rest = without(plan, out, why)
    routes = (
        step for step in plan.steps if step.address in out and isinstance(step.effect, AwaitReady)
    )
    return replace(rest, steps=tuple(sorted((*rest.steps, *routes), key=lambda one: one.number)))


def without(plan: Plan, out: set[str], why: str) -> Plan:
    """The plan without these resources, and without what would need a change of theirs first."""
    addresses = {step.address for step in plan.steps} - out
    outside = _cut_off(plan.steps, addresses)
    changes = (
        _left(change, why)
        if change.address in out and change.action is not Action.NO_OP
        else _needing(change, outside.get(change.address, ""))
        for change in plan.changes
    )
    steps = (step for step in plan.steps if step.address in addresses - outside.keys())
    return replace(plan, changes=tuple(changes), steps=tuple(steps))


def only_files(plan: Plan, models: frozenset[ModelName]) -> Plan:
    """The part of a plan that fetches the files of some models, with what that needs."""
    plan = lock_part(plan, models)
    kept: dict[int, Step] = {}
    for step in reversed(plan.steps):
        is_meant = isinstance(step.effect, FetchFiles) and step.effect.model in models
        if is_meant or any(step.number in other.needs for other in kept.values()):
            kept[step.number] = step
    addresses = {step.address for step in kept.values()}
    changes = tuple(change for change in plan.changes if change.address in addresses)
    return Plan(plan.desired, changes, tuple(reversed(kept.values())))


def _cut_off(steps: tuple[Step, ...], addresses: set[str]) -> dict[str, str]:
    """The resources whose steps need those of others, directly or not -> one of these."""
    address_of = {step.number: step.address for step in steps}
    left, outside = set(addresses), dict[str, str]()
    while more := _needs_outside(steps, left, address_of):
        outside |= more
        left -= more.keys()
    return outside


def _needs_outside(
    steps: tuple[Step, ...], addresses: set[str], address_of: Mapping[int, str]
) -> dict[str, str]:
    """The resources whose steps need those of others -> one of these."""
    return {
        step.address: address_of[need]
        for step in steps
        if step.address in addresses
        for need in step.needs
        if address_of[need] not in addresses
    }


def _needing(change: Change, other: str) -> Change:
    if not other:
        return change
    return _left(change, f"{other} has to change first: `apply` does all of it")


def _left(change: Change, why: str) -> Change:
    return Change(change.address, change.type, change.name, Action.NO_OP, why, obstacles=(why,))


def _concerns(change: Change, models: frozenset[ModelName], *, gateway: bool, reload: bool) -> bool:
    if change.type is ResourceType.GATEWAY:
        return gateway and (reload or change.action is Action.CREATE)
    if change.type in {ResourceType.LOCK, ResourceType.RENDER}:
        return change.type is ResourceType.LOCK
    return model_of(InstanceName(change.name)) in models


def with_reason(plan: Plan, reason: str) -> Plan:
    """The same plan, with another reason for all that is removed."""
    changes = (
        replace(change, reason=reason) if change.action is Action.DELETE else change
        for change in plan.changes
    )
    return replace(plan, changes=tuple(changes))
