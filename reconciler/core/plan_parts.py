"""Parts of a plan: of some models alone, of files alone, or what has to wait for files.

In: a whole plan. Out: a plan of fewer changes and steps. Numbers stay, so that needs hold; what
would need a change of others first is left as it is, and blocked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from reconciler.core.plan import (
    Action,
    Change,
    FetchFiles,
    FileEffect,
    Plan,
    ResourceType,
    StartServer,
    Step,
)
from reconciler.core.plan_lock import lock_part
from reconciler.core.resolve import model_of
from reconciler.core.words import InstanceName, ModelName


def restrict(plan: Plan, models: frozenset[ModelName], *, gateway: bool = True) -> Plan:
    """The part of a plan that concerns some models; with `gateway` also its start.

    The warnings are about starts: a part that starts nothing has none.
    What would need a change of others first is left as it is, and blocked: it says which.
    """
    plan = lock_part(plan, models)
    kept = [change for change in plan.changes if _concerns(change, models, gateway=gateway)]
    addresses = {change.address for change in kept}
    outside = _cut_off(plan.steps, addresses)
    steps = tuple(step for step in plan.steps if step.address in addresses - outside.keys())
    starts = any(isinstance(step.effect, StartServer) for step in steps)
    return Plan(
        plan.desired,
        tuple(_needing(change, outside.get(change.address, "")) for change in kept),
        steps,
        plan.warnings if starts else (),
    )


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
    addresses = {step.address for step in plan.steps} - strange
    outside = _cut_off(plan.steps, addresses)
    steps = tuple(step for step in plan.steps if step.address in addresses - outside.keys())
    return replace(
        plan,
        changes=tuple(
            _left(change, "it changed while files were on their way: `apply` once more")
            if change.address in strange
            else _needing(change, outside.get(change.address, ""))
            for change in plan.changes
        ),
        steps=steps,
    )


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


def _concerns(change: Change, models: frozenset[ModelName], *, gateway: bool) -> bool:
    if change.type is ResourceType.GATEWAY:
        return gateway and change.action is Action.CREATE
    if change.type is ResourceType.LOCK:
        return True
    return model_of(InstanceName(change.name)) in models


def with_reason(plan: Plan, reason: str) -> Plan:
    """The same plan, with another reason for all that is removed."""
    changes = (
        replace(change, reason=reason) if change.action is Action.DELETE else change
        for change in plan.changes
    )
    return replace(plan, changes=tuple(changes))
