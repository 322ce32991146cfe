"""What stands where: the rows of `status`, from the observed state and the plan.

In: desired and observed state, the plan that they lead to. Out: one `InstanceRow` an instance.
The phase of a process is what was observed; `blocked` and `suspended` are what the plan says.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from reconciler.core.desired import DesiredState
from reconciler.core.observed import ObservedServer, ObservedState
from reconciler.core.obstacles import ONCE_MORE
from reconciler.core.plan import Action, Change, Plan, ResourceType
from reconciler.core.resolve import model_of
from reconciler.core.words import GATEWAY_ADDRESS, LOCK_ADDRESS, InstanceName, Phase


@dataclass(frozen=True, slots=True)
class InstanceRow:
    """One line of `status`; the fields of `status --json` in their order (DESIGN 6)."""

    name: str
    model: str
    replica: int
    phase: Phase
    pid: int | None
    port: int | None
    quant: str | None
    alias: list[str]
    restarts: int | None
    """Starts by a watch after it had ended; None while no watch runs, as nobody counts."""
    since: float | None
    reason: str
    next: str
    memory_bytes: int | None
    spec: str | None


_NEXT = {
    Action.CREATE: "starts it",
    Action.UPDATE: "stops its second copy",
    Action.ADOPT: "waits for it",
    Action.REPLACE: "replaces it",
    Action.SURGE: "replaces it",
    Action.DELETE: "stops it",
}


def instance_rows(
    desired: DesiredState, observed: ObservedState, plan: Plan
) -> tuple[InstanceRow, ...]:
    """All instances that are wanted or live, sorted by name."""
    live: dict[str, ObservedServer] = {}
    for server in observed.servers:
        known = live.get(server.instance)
        if known is None or (server.routed and not known.routed):
            live[server.instance] = server
    return tuple(
        _row(change, live.get(change.name), desired, observed)
        for change in plan.changes
        if change.type is ResourceType.INSTANCE
    )


def _row(
    change: Change,
    server: ObservedServer | None,
    desired: DesiredState,
    observed: ObservedState,
) -> InstanceRow:
    name = InstanceName(change.name)
    model = desired.models.get(model_of(name))
    replica = name.partition("[")[2].rstrip("]")
    return InstanceRow(
        name=name,
        model=model_of(name),
        replica=int(replica or 0),
        phase=_phase(change, server, observed),
        pid=server.ref.pid if server else None,
        port=model.port if model else None,
        quant=model.quant if model else None,
        alias=list(model.aliases) if model else [],
        restarts=observed.journal.restarts.get(name, 0) if observed.now else None,
        since=server.since if server else None,
        reason=change.blocked or change.drift or _reason(change),
        next=_next(change, watched=observed.now is not None and not observed.journal.is_down),
        memory_bytes=server.memory_bytes if server else None,
        spec=server.spec if server else None,
    )


def _reason(change: Change) -> str:
    return "" if change.action is Action.NO_OP and change.reason == "ready" else change.reason


def _phase(change: Change, server: ObservedServer | None, observed: ObservedState) -> Phase:
    name = InstanceName(change.name)
    if server:
        return server.phase
    if change.blocked:
        return Phase.EXITED if change.waits_until else Phase.BLOCKED
    if model_of(name) in observed.journal.suspended:
        return Phase.SUSPENDED
    return Phase.EXITED if observed.last_exit(name) else Phase.ABSENT


def _next(change: Change, *, watched: bool) -> str:
    who = "the watch" if watched else "apply"
    if change.blocked.endswith(ONCE_MORE) or change.waits_until:
        return ""
    if change.blocked:
        return f"{who} tries again once that is mended"
    if change.reason.startswith("suspended"):
        return f"`llm-reconcile start {model_of(InstanceName(change.name))}` ends it"
    if change.action is Action.ADOPT and change.reason == "not routed":
        return f"{who} sends it requests"
    return f"{who} {_NEXT[change.action]}" if change.action in _NEXT else ""


def remarks(rows: tuple[InstanceRow, ...], plan: Plan) -> list[str]:
    """What there is to say below the table; several reasons are a list, as in a plan."""
    obstacles = {
        change.name: change.obstacles
        for change in plan.changes
        if change.type is ResourceType.INSTANCE
    }
    said = []
    for row in rows:
        reasons = obstacles.get(row.name, ())
        if len(reasons) > 1:
            then = f"; {row.next}" if row.next else ""
            head = f"{row.name}: blocked for {len(reasons)} reasons{then}:"
            said.append("\n  - ".join((head, *reasons)))
        elif notes := [note for note in (row.reason, row.next) if note]:
            said.append(f"{row.name}: {'; '.join(notes)}.")
    return said


def status_values(desired: DesiredState, observed: ObservedState, plan: Plan) -> dict[str, object]:
    """`status --json` (DESIGN 6)."""
    listen = desired.gateway.listen if desired.gateway else None
    running = observed.gateway.master is not None
    return {
        "converged": is_converged(plan),
        "instances": [asdict(row) for row in instance_rows(desired, observed, plan)],
        "gateway": {
            "phase": gateway_phase(observed, plan) if listen or running else Phase.ABSENT,
            "listen": listen,
            "generation": observed.gateway.generation,
        },
        "drift": [
            {"address": change.address, "reason": change.drift}
            for change in plan.changes
            if change.drift
        ],
        "suspended": sorted(observed.journal.suspended),
    }


def gateway_phase(observed: ObservedState, plan: Plan) -> Phase:
    """Where nginx stands."""
    if observed.gateway.master is not None:
        return Phase.READY if observed.gateway.generation else Phase.UNHEALTHY
    if observed.gateway.orphans:
        return Phase.UNHEALTHY
    blocked = any(change.blocked for change in plan.changes if change.address == GATEWAY_ADDRESS)
    return Phase.BLOCKED if blocked else Phase.ABSENT


def gateway_trouble(plan: Plan) -> str:
    """What is not as wanted about nginx; empty when it serves what the file says."""
    for change in plan.changes:
        if change.address == GATEWAY_ADDRESS and (change.blocked or change.action != Action.NO_OP):
            return change.blocked or change.reason
    return ""


def is_converged(plan: Plan) -> bool:
    """Whether the machine is as wanted; that a pin is not written down yet is no matter of its."""
    return not plan.blocked and all(step.address == LOCK_ADDRESS for step in plan.steps)
