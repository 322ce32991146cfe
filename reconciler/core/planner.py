"""The planner: desired state + observed state -> plan. A pure function.

In: `DesiredState`, its marks, `Site`, `ObservedState`. Out: a `Plan`: changes and ordered steps.
It takes no callable and no clock, and never mutates its input; what it may not know it must not
need. The decision itself is `core.decide`; the order of steps is made here:
a start needs its files, its own stop and the stop of whoever holds its address; a new server
starts after those that leave; a stop for a replacement needs the new files first; a surge stops the
old copy after the new one is ready.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from reconciler.core import differences
from reconciler.core.capacity import memory_warnings
from reconciler.core.cases import Case, make_cases
from reconciler.core.catalogue import catalogue_warnings
from reconciler.core.decide import Decision
from reconciler.core.desired import DesiredState, Model
from reconciler.core.downtime import replacement_s
from reconciler.core.draft import Draft
from reconciler.core.engine import owned_argv, user_argv
from reconciler.core.keys import scope_warnings
from reconciler.core.launch import LastGood, Launch
from reconciler.core.observed import FileStatus, ObservedFiles, ObservedServer, ObservedState
from reconciler.core.obstacles import (
    Marks,
    Obstacles,
    Scene,
    cut_off,
    engine_warnings,
    find_obstacles,
    held,
    port_obstacle,
    staying_ports,
)
from reconciler.core.plan import (
    Action,
    AwaitReady,
    Change,
    Impact,
    Plan,
    ResourceType,
    StartServer,
    StopServer,
)
from reconciler.core.plan_back import is_cut_off, last_good, noted, plan_back, serve_again
from reconciler.core.plan_files import plan_files
from reconciler.core.plan_gateway import open_to_all, plan_gateway, wanted_gateway
from reconciler.core.plan_lock import plan_lock
from reconciler.core.plan_removals import plan_removals
from reconciler.core.plan_renders import plan_renders
from reconciler.core.resolve import Instance, tcp_port
from reconciler.core.site import Site
from reconciler.core.waiting import drains_of, hold_in_force, holds_of, with_drain, with_hold
from reconciler.core.words import ModelName, Phase
from reconciler.errors import Diagnostic, Severity

STARTUP_S = 600.0
READ_BYTES_PER_S = 50e6
"""`probe.startup: auto` is 10 min, or size / 50 MB/s if that is longer (DESIGN 3)."""

DEFAULT_DRAIN_S = 300.0
DEFAULT_GRACE_S = 30.0
"""For a server whose model is no longer in the file; the defaults of `Model`."""


def make_plan(
    desired: DesiredState,
    site: Site,
    observed: ObservedState,
    marks: Marks | None = None,
    restart: frozenset[ModelName] = frozenset(),
) -> Plan:
    """Plan everything. Deterministic: equal input gives an equal plan.

    `restart`: models whose servers are replaced though nothing about them changed.
    """
    draft = Draft()
    scene = Scene(desired, observed, marks or {}, site.path(desired.store))
    plan_lock(draft, desired, site, observed)
    cases = make_cases(desired, observed, restart)
    blocked = find_obstacles(cases, scene)
    gateway = wanted_gateway(desired, site, observed, staying_ports(cases, blocked))
    if gateway and gateway.blocked:
        blocked |= cut_off(cases, blocked, gateway.blocked)
    plan_files(draft, scene, _starting(cases, blocked))
    for case in cases:
        _plan_stops(draft, case, desired, blocked)
    plan_removals(draft, desired, observed)
    gateway_stop = plan_gateway(draft, gateway, observed)
    holds = holds_of(cases, blocked, hold_in_force(gateway, observed.gateway))
    for case in cases:
        change = _plan_run(draft, case, site, observed, blocked, gateway_stop)
        draft.changes.append(with_hold(change, holds.get(case.model_name)))
    plan_renders(draft, desired, site, observed, scene.marks)
    drains = drains_of(draft.steps)
    told = (with_drain(change, drains.get(change.address)) for change in draft.changes)
    changes = tuple(sorted(told, key=lambda change: (change.type, change.address)))
    warnings = (
        *lost_roots(observed),
        *open_to_all(desired, changes),
        *_scope_warnings(desired, observed),
        *catalogue_warnings(desired, observed, scene.marks),
        *_memory_warnings(cases, blocked, observed),
        *engine_warnings(cases, scene),
    )
    return Plan(site.desired, changes, tuple(draft.steps), warnings)


def _starting(cases: Sequence[Case], blocked: Obstacles) -> frozenset[ModelName]:
    """The models of which a server is to be started."""
    starting = (case for case in cases if case.wanted and case.needs_start)
    return frozenset(case.model_name for case in starting if case.name not in blocked)


def lost_roots(observed: ObservedState) -> tuple[Diagnostic, ...]:
    """Servers that nobody will find from here: of a folder that was moved, or is gone."""
    return tuple(
        Diagnostic(
            Severity.WARNING,
            f"servers of {root} still run, a folder that is gone. If it was moved: "
            f"`llm-reconcile down --root {root}` stops them",
        )
        for root in observed.lost_roots
    )


def _scope_warnings(desired: DesiredState, observed: ObservedState) -> Iterator[Diagnostic]:
    keys_file = desired.gateway and desired.gateway.keys_file
    if keys_file:
        yield from scope_warnings(keys_file, observed.secrets.keys or (), desired.models)


def _memory_warnings(
    cases: Sequence[Case], blocked: Obstacles, observed: ObservedState
) -> tuple[Diagnostic, ...]:
    starting = [
        case.wanted
        for case in cases
        if case.wanted and case.needs_start and case.name not in blocked
    ]
    staying = [case.wanted for case in cases if case.wanted and case.keep]
    found = memory_warnings(starting, staying, observed)
    return tuple(Diagnostic(Severity.WARNING, summary) for summary in found)


def _times(case: Case, desired: DesiredState) -> tuple[float, float]:
    model = desired.models.get(case.model_name)
    return (model.drain, model.grace) if model else (DEFAULT_DRAIN_S, DEFAULT_GRACE_S)


def _plan_stops(draft: Draft, case: Case, desired: DesiredState, blocked: Obstacles) -> None:
    """Stops of this instance's copies; what each has to wait for is added with the start."""
    stopping = list(case.extras)
    needs: set[int] = set()
    if case.keep and case.name not in blocked:
        if case.decision in {Decision.STOP, Decision.REPLACE}:
            stopping.insert(0, case.keep)
        if case.decision is Decision.REPLACE:
            needs = draft.files.get(case.model_name, needs)
    drain_s, grace_s = _times(case, desired)
    for server in stopping:
        reason = "to be replaced" if case.wanted else case.rest_reason
        if server is not case.keep:
            reason = "a second copy of the instance"
        port = tcp_port(server.address)
        effect = StopServer(
            instance=case.name,
            server=server.ref,
            slot=server.slot,
            address=server.address,
            drain_s=0.0 if case.is_wedged or server.phase is Phase.STOPPING else drain_s,
            grace_s=grace_s,
            unroute=port is None,
        )
        number = draft.step(f"instance.{case.name}", effect, reason, needs)
        draft.stops[server.ref] = number
        if case.wanted is None:
            draft.leaving.add(number)
        if port is not None:
            draft.port_stops.setdefault(port, set()).add(number)


def _plan_run(
    draft: Draft,
    case: Case,
    site: Site,
    observed: ObservedState,
    blocked: Obstacles,
    gateway_stop: int | None,
) -> Change:
    """The start (or the wait for readiness) of one instance, and what a person reads about it."""
    address = f"instance.{case.name}"
    change = Change(address, ResourceType.INSTANCE, case.name, Action.NO_OP, "ready")
    files = observed.files.get(case.model_name, ObservedFiles(FileStatus.UNKNOWN))
    wanted, keep = case.wanted, case.keep
    if case.name in blocked:
        reason = "keeps running" if keep else "not running"
        waits = held(wanted, observed) if wanted else None
        until = waits.until if waits else None
        change = replace(change, obstacles=blocked[case.name], reason=reason, waits_until=until)
        startup_s = _startup(wanted, files)
        change = plan_back(draft, case, wanted, observed, change, startup_s) if wanted else change
    elif wanted is None:
        action = Action.DELETE if keep else Action.NO_OP
        return replace(change, action=action, reason=case.rest_reason)
    elif keep is None or case.needs_start:
        return _plan_start(draft, case, wanted, site, observed, gateway_stop)
    else:
        stranger = port_obstacle(wanted, observed)
        reason = "serves, but not on its port" if stranger else change.reason
        drift = _file_drift(keep, files, wanted.model) or _engine_drift(keep, observed)
        obstacles = (stranger,) if stranger else ()
        change = replace(change, drift=drift, obstacles=obstacles, reason=reason)
        if case.decision is Decision.AWAIT:
            back = noted(case.name, wanted.spec.hash, keep.address, observed)
            change = _plan_wait(draft, case, keep, back, _startup(wanted, files), change)
    return _with_extras(case, change)


def _plan_wait(
    draft: Draft,
    case: Case,
    keep: ObservedServer,
    back: LastGood | None,
    budget_s: float,
    change: Change,
) -> Change:
    serving = any(extra.phase is Phase.READY for extra in case.extras)
    late, fallback = serving or back is not None, None if serving else back
    effect = AwaitReady(case.name, keep.ref, keep.address, budget_s, late, fallback)
    reason = "still loading" if keep.phase is Phase.STARTING else "does not answer /health"
    if keep.phase is Phase.READY:
        reason = "ready, and not noted yet" if keep.routed else "not routed"
    number = draft.step(change.address, effect, reason, set())
    if tcp_port(keep.address) is None:
        # What serves now serves on until this one does.
        for extra in case.extras:
            draft.also_needs(draft.stops[extra.ref], {number})
    return replace(change, action=Action.ADOPT, reason=reason)


def _with_extras(case: Case, change: Change) -> Change:
    """Say that a second copy is stopped, where nothing else says it."""
    if not case.extras:
        return change
    quiet = change.action is Action.NO_OP and not change.blocked
    action = Action.UPDATE if quiet else change.action
    return replace(change, action=action, reason=f"{change.reason}, its second copy is stopped")


def _plan_start(
    draft: Draft,
    case: Case,
    wanted: Instance,
    site: Site,
    observed: ObservedState,
    gateway_stop: int | None,
) -> Change:
    files, keep = observed.files[wanted.model_name], case.keep
    # A surge has two slots: what holds the second one goes before, what serves goes after.
    before = case.extras if case.surges or not keep else (keep, *case.extras)
    needs = {draft.stops[server.ref] for server in before}
    needs |= _address_stops(draft, wanted, gateway_stop)
    needs |= draft.files.get(case.model_name, set())
    if keep and is_cut_off(case):
        # Its stop may wait for files, or for whom a guard asks.
        needs.add(serve_again(draft, case, keep, _startup(wanted, files)))
    last_exit = observed.last_exit(case.name)
    reason = f"exited: {last_exit.reason}" if last_exit else "not running"
    details = differences.creation(wanted.model, wanted.spec, files.given)
    action = Action.CREATE
    if keep:
        action = Action.SURGE if case.surges else Action.REPLACE
        reason = "its launch changed"
        details = differences.replacement(keep, wanted.model, wanted.spec, files.given)
        if keep.phase is Phase.STOPPING:
            reason, details = "it is stopping, or has lost its socket", ()
        elif keep.spec == wanted.spec.hash:
            reason, details = case.restart, ()
    slot = "b" if case.surges and keep and keep.slot == "a" else "a"
    launch = _launch(wanted, site, observed, slot)
    address = f"instance.{case.name}"
    fallback = last_good(case, launch, observed)
    late = case.surges or fallback is not None
    effect = StartServer(launch, _startup(wanted, files), late, fallback)
    # What leaves may hold the memory that a new server needs. One that has ended by itself is
    # started again at once: it had its memory before.
    is_new = action in {Action.CREATE, Action.SURGE} and not last_exit
    number = draft.step(address, effect, reason, needs, draft.leaving if is_new else ())
    if case.surges and keep:
        draft.also_needs(draft.stops[keep.ref], {number})
    elif keep and fallback:
        draft.keeps(draft.stops[keep.ref], LastGood(fallback, launch.spec_hash))
    down = {
        Action.REPLACE: replacement_s(case.name, files.size, observed.journal.starts),
        Action.SURGE: 0.0,
    }
    impact = Impact(downtime_s=down.get(action), memory_bytes=files.size or None)
    return Change(address, ResourceType.INSTANCE, case.name, action, reason, details, impact=impact)


def _address_stops(draft: Draft, wanted: Instance, gateway_stop: int | None) -> set[int]:
    """The steps that free the address that a new server will listen on."""
    port = tcp_port(wanted.address)
    if port is None:
        return set()
    return draft.port_stops.get(port, set()) | ({gateway_stop} if gateway_stop else set())


def _launch(wanted: Instance, site: Site, observed: ObservedState, slot: str) -> Launch:
    files, engine = observed.files[wanted.model_name], observed.engine
    socket = wanted.address == "socket"
    address = f"unix:{site.socket(wanted.name, slot)}" if socket else wanted.address
    argv = owned_argv(wanted.model_name, files.given, address, engine.flags)
    return Launch(
        instance=wanted.name,
        env=wanted.spec.env,
        spec_hash=wanted.spec.hash,
        command=engine.command,
        argv=(*argv, *user_argv(wanted.spec.flags, engine.flags, engine.pairs)),
        slot=slot,
        address=address,
        public_port=wanted.model.port,
        files=files.identity,
        weights=files.paths,
    )


def _startup(wanted: Instance | None, files: ObservedFiles) -> float:
    if wanted and wanted.model.probe.startup is not None:
        return wanted.model.probe.startup
    return max(STARTUP_S, files.size / READ_BYTES_PER_S)


def _file_drift(server: ObservedServer, files: ObservedFiles, model: Model) -> str:
    """A file of `source.path` that was replaced in place is reported, never acted upon."""
    if files.status is FileStatus.BAD:
        return f"{files.reason}; it runs on, but could not be started again"
    # Another copy of what is fetched has the same bytes.
    if (
        model.source.is_fetched
        or not server.files
        or not files.identity
        or server.files == files.identity
    ):
        return ""
    return "its weights on disk are not the ones it loaded; `restart` takes the new ones"


def _engine_drift(server: ObservedServer, observed: ObservedState) -> str:
    """Another build may behave differently: that is for people to decide (`engine.on_change`)."""
    changed = observed.outdated.get(server.ref, "")
    return f"{changed}; `restart` takes the new one" if changed else ""
