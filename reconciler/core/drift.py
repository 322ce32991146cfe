"""Drift: what is not as it was applied last, whatever the desired file wants by now.

In: the plan that the last applied state leads to, what was seen, the files of nginx as they lie
there. Out: one `Drift` a resource, as lines and as plain values. It decides nothing: `apply` mends
what can be mended.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass

from reconciler.core.desired import DesiredState
from reconciler.core.engine import owned_argv, user_argv, user_flags_of
from reconciler.core.observed import FileStatus, ObservedServer, ObservedState
from reconciler.core.plan import Action, Change, Detail, Plan, ResourceType
from reconciler.core.plan_gateway import wanted_gateway
from reconciler.core.present import detail_text
from reconciler.core.resolve import Instance, resolve
from reconciler.core.site import Site
from reconciler.core.words import GATEWAY_ADDRESS, Phase

_SAID = {
    Action.DELETE: "it runs, and what was applied does not want it",
    Action.REPLACE: "it is not what was applied",
    Action.SURGE: "it is not what was applied",
}
"""Where the plan's own reason speaks of a file that may say something else by now."""


@dataclass(frozen=True, slots=True)
class Drift:
    """One resource that is not as it was applied."""

    address: str
    type: ResourceType
    reason: str
    details: tuple[Detail, ...] = ()


def drift_of(
    desired: DesiredState, site: Site, observed: ObservedState, plan: Plan, lies: Mapping[str, str]
) -> tuple[Drift, ...]:
    """All that differs. `lies`: nginx's files by name, of the generation that it runs."""
    found = [one for change in plan.changes if (one := _of_change(change, observed))]
    known = {one.address for one in found}
    found += [one for one in _other_flags(desired, observed) if one.address not in known]
    if GATEWAY_ADDRESS not in known and (names := _edited(desired, site, observed, lies)):
        reason = f"edited by hand: {', '.join(names)}; a reload would read that"
        found.append(Drift(GATEWAY_ADDRESS, ResourceType.GATEWAY, reason))
    return tuple(sorted(found, key=lambda one: (one.type, one.address)))


def _of_change(change: Change, observed: ObservedState) -> Drift | None:
    """What a change tells of; that a server still loads, or what a lock file lacks, is no drift."""
    loads = {one.instance for one in observed.servers if one.phase is Phase.STARTING}
    if change.type is ResourceType.LOCK or (change.action is Action.ADOPT and change.name in loads):
        return None
    is_suspended = change.type is ResourceType.INSTANCE and change.reason.startswith("suspended")
    if change.blocked or change.drift or is_suspended:
        reason = change.blocked or change.drift or change.reason
    elif change.action is Action.NO_OP:
        return None
    else:
        reason = _SAID.get(change.action, change.reason)
    details = change.details if change.action in {Action.REPLACE, Action.SURGE} else ()
    return Drift(change.address, change.type, reason, details)


def _other_flags(desired: DesiredState, observed: ObservedState) -> list[Drift]:
    """Servers with the right label, whose flags are not those that it stands for."""
    wanted = {one.name: one for one in resolve(desired, observed.files)}
    return [
        Drift(f"instance.{one.instance}", ResourceType.INSTANCE, "it runs with other flags")
        for one in observed.servers
        if one.instance in wanted
        and one.spec == wanted[one.instance].spec.hash
        and _differs(one, wanted[one.instance], observed)
    ]


def _differs(server: ObservedServer, wanted: Instance, observed: ObservedState) -> bool:
    files, engine = observed.files[wanted.model_name], observed.engine
    if files.status is not FileStatus.PRESENT or engine.kind is None:
        return False
    own = owned_argv(wanted.model_name, files.given, server.address, engine.flags)
    argv = (*own, *user_argv(wanted.spec.flags, engine.flags, engine.pairs))
    return user_flags_of(argv) != user_flags_of(server.argv)


def _edited(
    desired: DesiredState, site: Site, observed: ObservedState, lies: Mapping[str, str]
) -> list[str]:
    """The files of what nginx runs that say something else than what was rendered."""
    wanted = wanted_gateway(desired, site, observed, {})
    rendered = wanted.rendered if wanted else None
    if rendered is None or rendered.generation != observed.gateway.generation:
        return []
    return sorted(name for name, text in rendered.files.items() if lies.get(name) != text)


def drift_lines(found: Sequence[Drift], file: str, parts: Collection[str] = ()) -> list[str]:
    """As lines of text; without any drift, that there is none.

    `parts`: what was applied in part since, of a file that was not kept.
    """
    names = ", ".join(sorted(parts))
    said = f"Since then {names} {'were' if len(parts) > 1 else 'was'} applied in part"
    after = [f"{said}; this is against the last whole apply."] if parts else []
    if not found:
        return [f"No drift: all is as it was applied from {file}.", *after]
    lines = []
    for one in found:
        lines.append(f"  ! {one.address:<32} {one.reason}")
        lines += [f"      {detail_text(detail)}" for detail in one.details]
    plural = "" if len(found) == 1 else "s"
    return [*lines, "", f"Drift: {len(found)} resource{plural} not as applied from {file}.", *after]


def drift_values(found: Sequence[Drift]) -> list[dict[str, object]]:
    """As plain values, for JSON."""
    return [
        {
            "address": one.address,
            "type": one.type,
            "reason": one.reason,
            "details": [asdict(detail) for detail in one.details],
        }
        for one in found
    ]
