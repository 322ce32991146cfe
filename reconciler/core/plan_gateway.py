"""The gateway's part of a plan: start, reload, restart or stop nginx, or leave it alone.

In: desired and observed state, the plan in the making. Out: its change and steps.
Routes depend on the desired state only; a port that a stranger holds is left out of them, so
that one stranger does not take the gateway from all the others.
"""

from __future__ import annotations

from reconciler.core.desired import DesiredState
from reconciler.core.draft import Draft
from reconciler.core.gateway import gateway_view, render_gateway
from reconciler.core.observed import ObservedState
from reconciler.core.plan import (
    Action,
    ApplyGateway,
    Change,
    RenderedGateway,
    ResourceType,
    StopGateway,
)
from reconciler.core.site import Site
from reconciler.core.words import GATEWAY_ADDRESS
from reconciler.errors import GatewayError

STOP_GRACE_S = 10.0
"""How long nginx may finish running requests when it is stopped; its servers drained before."""


def plan_gateway(
    draft: Draft, desired: DesiredState, site: Site, observed: ObservedState
) -> int | None:
    """Plan nginx; return the number of the step that frees its ports, if it is stopped."""
    running = observed.gateway.master is not None or bool(observed.gateway.orphans)
    if desired.gateway is None:
        if not running:
            return None
        _say(draft, Action.DELETE, "`gateway: false`")
        return _stop(draft, observed, "`gateway: false`")
    try:
        rendered = rendered_gateway(desired, site, observed)
    except GatewayError as error:
        _say(draft, Action.NO_OP, "keeps serving" if running else "not running", error.message)
        return None
    if observed.gateway.master and observed.gateway.generation == rendered.generation:
        _say(draft, Action.NO_OP, "serves this configuration")
        return None
    blocked = _blocked(desired, observed)
    if blocked:
        _say(draft, Action.NO_OP, "keeps serving" if running else "not running", blocked)
        return None
    _plan_apply(draft, rendered, observed)
    return None


def rendered_gateway(desired: DesiredState, site: Site, observed: ObservedState) -> RenderedGateway:
    """The configuration that nginx should run."""
    strangers = frozenset(port for port, holder in observed.ports.items() if holder.owner is None)
    return render_gateway(gateway_view(desired, site, strangers), observed.templates)


def _blocked(desired: DesiredState, observed: ObservedState) -> str:
    if not observed.nginx:
        return observed.nginx_reason
    if desired.gateway is None:
        return ""
    holder = observed.ports.get(desired.gateway.port)
    if holder is not None and holder.owner is None:
        return f"{holder}: stop it, or change `gateway.listen`"
    return ""


def _plan_apply(draft: Draft, rendered: RenderedGateway, observed: ObservedState) -> None:
    seen = observed.gateway
    action, reason = Action.UPDATE, "its configuration changed"
    needs = set(draft.port_stops.values())
    master = seen.master
    if master is None:
        action, reason = Action.CREATE, "not running"
        if seen.orphans:
            action, reason = Action.REPLACE, "its master was killed, only workers are left"
    elif seen.generation is None:
        # It lives and does not answer for itself: a reload could not be confirmed either.
        action, reason = Action.REPLACE, "nginx does not answer"
        needs.add(_stop(draft, observed, reason))
        master = None
    _say(draft, action, reason)
    orphans = () if seen.master else seen.orphans
    effect = ApplyGateway(rendered, observed.nginx, master, orphans)
    draft.step(GATEWAY_ADDRESS, effect, reason, needs)


def _stop(draft: Draft, observed: ObservedState, reason: str) -> int:
    effect = StopGateway(observed.gateway.master, observed.gateway.orphans, STOP_GRACE_S)
    needs = {number for numbers in draft.stops.values() for number in numbers}
    return draft.step(GATEWAY_ADDRESS, effect, reason, needs)


def _say(draft: Draft, action: Action, reason: str, blocked: str = "") -> None:
    draft.changes.append(
        Change(GATEWAY_ADDRESS, ResourceType.GATEWAY, "gateway", action, reason, blocked=blocked)
    )
