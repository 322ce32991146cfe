"""The gateway's part of a plan: start, reload, restart or stop nginx, or leave it alone.

In: desired and observed state, the plan in the making. Out: its change and steps.
Routes depend on the desired state only; a port that a stranger or a blocked server of ours holds
is left out of them, so that it does not take the gateway from all the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from reconciler.core import differences
from reconciler.core.desired import DesiredState, Gateway
from reconciler.core.draft import Draft
from reconciler.core.gateway import render_gateway
from reconciler.core.gateway_view import gateway_view
from reconciler.core.observed import ObservedState
from reconciler.core.outline import stuck_addresses
from reconciler.core.plan import (
    Action,
    ApplyGateway,
    Change,
    Detail,
    RenderedGateway,
    ResourceType,
    StopGateway,
)
from reconciler.core.site import Site
from reconciler.core.words import GATEWAY_ADDRESS, InstanceName
from reconciler.errors import Diagnostic, GatewayError, Severity

STOP_GRACE_S = 10.0
"""How long nginx may finish running requests when it is stopped; its servers drained before."""


@dataclass(frozen=True, slots=True)
class WantedGateway:
    """What nginx should run, or why it cannot be made to now."""

    rendered: RenderedGateway | None
    blocked: str = ""


def wanted_gateway(
    desired: DesiredState,
    site: Site,
    observed: ObservedState,
    staying: Mapping[int, InstanceName],
) -> WantedGateway | None:
    """The configuration for nginx; None for `gateway: false`. `staying` ports will not be freed."""
    if desired.gateway is None:
        return None
    strangers = {port for port, holder in observed.ports.items() if holder.owner is None}
    try:
        without = frozenset(strangers | staying.keys())
        view = gateway_view(desired, site, without, observed.secrets)
        rendered = render_gateway(view, observed.templates)
    except GatewayError as error:
        return WantedGateway(None, error.message)
    if observed.gateway.master and observed.gateway.generation == rendered.generation:
        return WantedGateway(rendered)
    return WantedGateway(rendered, _obstacle(desired.gateway, observed, staying))


def _obstacle(
    gateway: Gateway, observed: ObservedState, staying: Mapping[int, InstanceName]
) -> str:
    if not observed.nginx:
        return observed.nginx_reason or "no nginx was found"
    if not observed.has_listen_address:
        return f"{gateway.host} is no address of this machine: change `gateway.listen`"
    holder = observed.ports.get(gateway.port)
    if holder is not None and holder.owner is None:
        return f"{holder}: stop it, or change `gateway.listen`"
    if gateway.port in staying:
        return f"port {gateway.port} is still held by {staying[gateway.port]}, which is blocked"
    return ""


def plan_gateway(draft: Draft, wanted: WantedGateway | None, observed: ObservedState) -> int | None:
    """Plan nginx; return the number of the step that frees its ports, if it is stopped."""
    running = observed.gateway.master is not None or bool(observed.gateway.orphans)
    if wanted is None:
        if not running:
            return None
        _say(draft, Action.DELETE, "`gateway: false`")
        # Their streams go through it: each server drains while nginx still stands.
        return _stop(draft, observed, "`gateway: false`", draft.stops.values())
    if wanted.rendered is None or wanted.blocked:
        _say(draft, Action.NO_OP, "keeps serving" if running else "not running", (), wanted.blocked)
    elif observed.gateway.master and observed.gateway.generation == wanted.rendered.generation:
        _say(draft, Action.NO_OP, "serves this configuration")
    else:
        _plan_apply(draft, wanted.rendered, observed)
    return None


def open_to_all(desired: DesiredState, changes: Iterable[Change]) -> tuple[Diagnostic, ...]:
    """Said when the gateway is set up so: everybody who can reach this machine may use it."""
    gateway = desired.gateway
    is_changed = any(
        one.type is ResourceType.GATEWAY and one.action not in {Action.NO_OP, Action.DELETE}
        for one in changes
    )
    if not gateway or gateway.keys_file or gateway.is_local or not is_changed:
        return ()
    said = f"{gateway.listen} can be reached by other machines, and `gateway.keys_file` is not set"
    return (Diagnostic(Severity.WARNING, f"{said}: everybody there may use all models"),)


def _plan_apply(draft: Draft, rendered: RenderedGateway, observed: ObservedState) -> None:
    seen = observed.gateway
    action, reason = Action.UPDATE, ""
    needs = {number for numbers in draft.port_stops.values() for number in numbers}
    master = seen.master
    if master is None:
        action, reason = Action.CREATE, "not running"
        if seen.orphans:
            action, reason = Action.REPLACE, "its master was killed, only workers are left"
    elif seen.generation is None:
        # It lives and does not answer for itself: a reload could not be confirmed either.
        action, reason = Action.REPLACE, "nginx does not answer"
        needs.add(_stop(draft, observed, reason, ()))
        master = None
    details: tuple[Detail, ...] = ()
    restart: float | None = None
    if action is Action.UPDATE:
        reason, details = differences.configuration(seen.outline, rendered.outline)
        if seen.outline and stuck_addresses(seen.outline.listens, rendered.outline.listens):
            action, restart = Action.REPLACE, STOP_GRACE_S
            reason = "one of its addresses cannot be changed by a reload"
    _say(draft, action, reason, details)
    orphans = () if seen.master else seen.orphans
    effect = ApplyGateway(rendered, observed.nginx, master, orphans, restart)
    draft.step(GATEWAY_ADDRESS, effect, reason, needs)


def _stop(draft: Draft, observed: ObservedState, reason: str, needs: Iterable[int]) -> int:
    effect = StopGateway(observed.gateway.master, observed.gateway.orphans, STOP_GRACE_S)
    return draft.step(GATEWAY_ADDRESS, effect, reason, set(needs))


def _say(
    draft: Draft,
    action: Action,
    reason: str,
    details: tuple[Detail, ...] = (),
    blocked: str = "",
) -> None:
    change = Change(GATEWAY_ADDRESS, ResourceType.GATEWAY, "gateway", action, reason, details)
    draft.changes.append(replace(change, obstacles=(blocked,) if blocked else ()))
