"""Parts of a plan: what concerns some models alone, or their files alone.

In: a whole plan. Out: a plan of fewer changes and steps. Numbers stay, so that needs hold; what
would need a change of others first is left as it is, and blocked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from reconciler.core.plan import Action, Change, FetchFiles, Plan, ResourceType, StartServer, Step
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
    address_of = {step.number: step.address for step in plan.steps}
    outside: dict[str, str] = {}
    while more := _needs_outside(plan.steps, addresses, address_of):
        outside |= more
        addresses -= more.keys()
    steps = tuple(step for step in plan.steps if step.address in addresses)
    starts = any(isinstance(step.effect, StartServer) for step in steps)
    return Plan(
        plan.desired,
        tuple(_left(change, outside.get(change.address, "")) for change in kept),
        steps,
        plan.warnings if starts else (),
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


def _left(change: Change, other: str) -> Change:
    if not other:
        return change
    why = f"{other} has to change first: `apply` does all of it"
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
