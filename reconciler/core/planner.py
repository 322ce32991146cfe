"""The planner: desired state + observed state -> plan. A pure function.

In: `DesiredState`, its marks, `Site`, `ObservedState`. Out: a `Plan`: changes and ordered steps.
It takes no callable and no clock, and never mutates its input; what it may not know it must not
need. The decision itself is `core.decide`; the order of steps is made here:
a start needs its files, its own stop and the stop of whoever holds its address; a stop for a
replacement needs the new files first; a surge stops the old copy after the new one is ready.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from reconciler.core import differences
from reconciler.core.decide import Decision, Wish, decide
from reconciler.core.desired import DesiredState, Model
from reconciler.core.draft import Draft
from reconciler.core.engine import owned_argv, user_argv
from reconciler.core.observed import FileStatus, ObservedFiles, ObservedServer, ObservedState
from reconciler.core.obstacles import Marks, obstacle
from reconciler.core.plan import (
    Action,
    AwaitReady,
    Change,
    Detail,
    FetchFiles,
    Impact,
    Launch,
    Plan,
    ResourceType,
    StartServer,
    StopServer,
)
from reconciler.core.plan_gateway import plan_gateway
from reconciler.core.resolve import Instance, instance_names, model_of, resolve
from reconciler.core.site import Site
from reconciler.core.words import InstanceName, ModelName, ModelState, Phase, Rollout

STARTUP_S = 600.0
READ_BYTES_PER_S = 50e6
"""`probe.startup: auto` is 10 min, or size / 50 MB/s if that is longer (DESIGN 3)."""

DEFAULT_DRAIN_S = 300.0
DEFAULT_GRACE_S = 30.0
"""For a server whose model is no longer in the file; the defaults of `Model`."""

_USEFULNESS = {Phase.READY: 0, Phase.UNHEALTHY: 1, Phase.STARTING: 2, Phase.STOPPING: 3}


@dataclass(frozen=True, slots=True)
class Case:
    """One instance before the planner: what is wanted of it, and the live copies of it."""

    name: InstanceName
    wanted: Instance | None
    keep: ObservedServer | None
    """The copy that serves, or would: of several the most useful one."""
    extras: tuple[ObservedServer, ...]
    """Further live copies: left by a surge or a run that was cut."""
    rest_reason: str
    """Why it should not run, when it should not."""

    @property
    def model_name(self) -> ModelName:
        """The model it belongs to."""
        return model_of(self.name)

    @property
    def decision(self) -> Decision:
        """The table's answer, with what a route adds to it."""
        wish = Wish.RUN if self.wanted else Wish.REST
        phase = self.keep.phase if self.keep else Phase.ABSENT
        same = bool(self.wanted and self.keep and self.keep.spec == self.wanted.spec.hash)
        found = decide(wish, phase, same_spec=same)
        if found is Decision.NOTHING and self.keep and not self.keep.routed:
            return Decision.AWAIT
        return found


def make_plan(
    desired: DesiredState, site: Site, observed: ObservedState, marks: Marks | None = None
) -> Plan:
    """Plan everything. Deterministic: equal input gives an equal plan."""
    draft = Draft()
    _plan_files(draft, desired, observed)
    cases = _cases(desired, observed)
    blocked = {case.name: _blocked(case, desired, observed, marks or {}) for case in cases}
    for case in cases:
        _plan_stops(draft, case, desired, blocked[case.name])
    gateway_port_stop = plan_gateway(draft, desired, site, observed)
    for case in cases:
        _plan_run(draft, case, site, observed, blocked[case.name], gateway_port_stop)
        _plan_stop_order(draft, case)
    changes = tuple(sorted(draft.changes, key=lambda change: (change.type, change.address)))
    return Plan(site.desired, changes, tuple(draft.steps))


def _cases(desired: DesiredState, observed: ObservedState) -> tuple[Case, ...]:
    wanted = {instance.name: instance for instance in resolve(desired, observed.files)}
    live: dict[InstanceName, list[ObservedServer]] = {}
    for server in observed.servers:
        live.setdefault(server.instance, []).append(server)
    cases = []
    for name in sorted(wanted.keys() | live.keys()):
        instance = wanted.get(name)
        reason = _rest_reason(name, desired, observed)
        if model_of(name) in observed.journal.suspended:
            instance = None
        copies = sorted(live.get(name, []), key=lambda one: _rank(one, instance))
        keep = copies[0] if copies else None
        cases.append(Case(name, instance, keep, tuple(copies[1:]), reason))
    return tuple(cases)


def _rank(server: ObservedServer, wanted: Instance | None) -> tuple[object, ...]:
    """The copy with the right spec first, then the one that serves; pid only to be definite."""
    same = wanted is not None and server.spec == wanted.spec.hash
    stopping = server.phase is Phase.STOPPING
    return (stopping, not same, _USEFULNESS.get(server.phase, 4), not server.routed, server.ref)


def _rest_reason(name: InstanceName, desired: DesiredState, observed: ObservedState) -> str:
    model = desired.models.get(model_of(name))
    suspension = observed.journal.suspended.get(model_of(name))
    if model is None:
        return "no longer in the file"
    if model.state is not ModelState.RUNNING:
        return f"state: {model.state}"
    if name not in instance_names(model_of(name), model):
        return f"replicas: {model.replicas}"
    if suspension is not None:
        return f"suspended by `stop`{': ' + suspension.reason if suspension.reason else ''}"
    return ""


def _plan_files(draft: Draft, desired: DesiredState, observed: ObservedState) -> None:
    for key in sorted(desired.models):
        name, model = ModelName(key), desired.models[key]
        files = observed.files.get(name)
        if files is None or model.state is ModelState.ABSENT:
            continue
        address = f"model_file.{name}"
        change = Change(address, ResourceType.MODEL_FILE, name, Action.NO_OP, "on disk")
        if files.status is FileStatus.MISSING and model.source.repo is not None:
            missing = tuple(file for file in files.files if not file.identity)
            effect = FetchFiles(
                name, model.source.repo, model.source.revision, files.commit, missing
            )
            draft.fetches[name] = draft.step(address, effect, "not on disk", set())
            change = replace(
                change,
                action=Action.CREATE,
                reason="not on disk",
                details=(Detail("commit", None, files.commit), Detail("path", None, files.path)),
                impact=Impact(download_bytes=files.missing_bytes),
            )
        elif files.status is not FileStatus.PRESENT:
            # A model with instances says it there; twice would only be noise.
            blocked = "" if instance_names(name, model) else files.reason
            change = replace(change, reason=files.reason, blocked=blocked)
        draft.changes.append(change)


def _blocked(case: Case, desired: DesiredState, observed: ObservedState, marks: Marks) -> str:
    """Why a needed start cannot be; empty when it can, or when none is needed."""
    if case.wanted is None or case.decision not in {Decision.START, Decision.REPLACE}:
        return ""
    return obstacle(case.wanted, desired, observed, marks)


def _times(case: Case, desired: DesiredState) -> tuple[float, float]:
    model = desired.models.get(case.model_name)
    return (model.drain, model.grace) if model else (DEFAULT_DRAIN_S, DEFAULT_GRACE_S)


def _plan_stops(draft: Draft, case: Case, desired: DesiredState, blocked: str) -> None:
    """Stops of this instance's copies; those of a replacement are ordered in `_plan_stop_order`."""
    stopping = list(case.extras)
    if case.keep and not blocked and case.decision in {Decision.STOP, Decision.REPLACE}:
        stopping.insert(0, case.keep)
    drain_s, grace_s = _times(case, desired)
    for server in stopping:
        reason = case.rest_reason if not case.wanted else "to be replaced"
        if server is not case.keep:
            reason = "a second copy of the instance"
        effect = StopServer(
            instance=case.name,
            server=server.ref,
            slot=server.slot,
            address=server.address,
            drain_s=0.0 if server.phase is Phase.STOPPING else drain_s,
            grace_s=grace_s,
            unroute=server.address.startswith("unix:"),
        )
        needs = {draft.fetches[case.model_name]} if case.model_name in draft.fetches else set()
        number = draft.step(
            f"instance.{case.name}", effect, reason, needs if case.wanted else set()
        )
        draft.stops.setdefault(case.name, []).append(number)
        if not server.address.startswith("unix:"):
            draft.port_stops[int(server.address.rpartition(":")[2])] = number


def _surges(case: Case) -> bool:
    """Whether the new copy starts before the old one stops; two cannot share a TCP port."""
    wanted = case.wanted
    return bool(
        wanted
        and wanted.model.rollout is Rollout.SURGE
        and wanted.address == "socket"
        and case.keep
        and case.keep.address.startswith("unix:")
        and case.keep.phase is not Phase.STOPPING
        and not case.extras
    )


def _plan_run(
    draft: Draft,
    case: Case,
    site: Site,
    observed: ObservedState,
    blocked: str,
    gateway_stop: int | None,
) -> None:
    """The start (or the wait for readiness) of one instance, and what a person reads about it."""
    address = f"instance.{case.name}"
    change = Change(address, ResourceType.INSTANCE, case.name, Action.NO_OP, "ready")
    files = observed.files.get(case.model_name, ObservedFiles(FileStatus.UNKNOWN))
    wanted, keep, decision = case.wanted, case.keep, case.decision
    if blocked:
        change = replace(change, blocked=blocked, reason="keeps running" if keep else "not running")
    elif wanted is None:
        action = Action.DELETE if decision is Decision.STOP else Action.NO_OP
        change = replace(change, action=action, reason=case.rest_reason)
    elif decision is Decision.AWAIT and keep is not None:
        effect = AwaitReady(case.name, keep.ref, keep.address, _startup(wanted.model, files))
        reason = "still loading" if keep.phase is Phase.STARTING else "does not answer /health"
        reason = "not routed" if keep.phase is Phase.READY else reason
        draft.step(address, effect, reason, set())
        change = replace(change, action=Action.ADOPT, reason=reason)
    elif decision in {Decision.START, Decision.REPLACE}:
        change = _plan_start(draft, case, site, observed, gateway_stop)
    if keep and wanted and decision in {Decision.NOTHING, Decision.AWAIT}:
        change = replace(change, drift=_file_drift(keep, files))
    draft.changes.append(change)


def _plan_start(
    draft: Draft, case: Case, site: Site, observed: ObservedState, gateway_stop: int | None
) -> Change:
    wanted = case.wanted
    assert wanted is not None  # noqa: S101 - decided by the caller; only the type checker asks
    files = observed.files[wanted.model_name]
    surge = case.decision is Decision.REPLACE and _surges(case)
    stops = set() if surge else set(draft.stops.get(case.name, []))
    slot = "b" if surge and case.keep and case.keep.slot == "a" else "a"
    launch = _launch(wanted, site, observed, slot)
    needs = {*stops, *_address_stops(draft, wanted, gateway_stop)}
    if case.model_name in draft.fetches:
        needs.add(draft.fetches[case.model_name])
    last_exit = observed.journal.last_exits.get(case.name)
    reason = f"exited: {last_exit.reason}" if last_exit else "not running"
    details = differences.creation(wanted.model, wanted.spec, files.path)
    action = Action.CREATE
    if case.decision is Decision.REPLACE and case.keep is not None:
        action = Action.SURGE if surge else Action.REPLACE
        reason = "its launch changed"
        details = differences.replacement(case.keep, wanted.model, wanted.spec, files.path)
        if case.keep.phase is Phase.STOPPING:
            reason, details = "it is stopping", ()
    effect = StartServer(launch, _startup(wanted.model, files), end_if_late=surge)
    draft.step(f"instance.{case.name}", effect, reason, needs)
    address = f"instance.{case.name}"
    return Change(address, ResourceType.INSTANCE, case.name, action, reason, details)


def _address_stops(draft: Draft, wanted: Instance, gateway_stop: int | None) -> set[int]:
    """The steps that free the address that a new server will listen on."""
    if wanted.address == "socket":
        return set()
    port = int(wanted.address.rpartition(":")[2])
    found = {draft.port_stops[port]} if port in draft.port_stops else set()
    return found | ({gateway_stop} if gateway_stop else set())


def _plan_stop_order(draft: Draft, case: Case) -> None:
    """A surge stops the old copies only after the new one is ready."""
    if not case.wanted or case.wanted.model.rollout is not Rollout.SURGE:
        return
    stops = set(draft.stops.get(case.name, []))
    for step in draft.steps:
        ready_first = isinstance(step.effect, StartServer | AwaitReady)
        if step.address == f"instance.{case.name}" and ready_first and not stops & {*step.needs}:
            for number in stops:
                draft.also_needs(number, {step.number})


def _launch(wanted: Instance, site: Site, observed: ObservedState, slot: str) -> Launch:
    files, engine = observed.files[wanted.model_name], observed.engine
    socket = wanted.address == "socket"
    address = f"unix:{site.socket(wanted.name, slot)}" if socket else wanted.address
    argv = owned_argv(wanted.model_name, files.path, address, engine.flags)
    return Launch(
        instance=wanted.name,
        spec=wanted.spec,
        spec_hash=wanted.spec.hash,
        command=engine.command,
        argv=(*argv, *user_argv(wanted.spec.flags, engine.flags)),
        slot=slot,
        address=address,
        public_port=wanted.model.port,
        files=files.identity,
    )


def _startup(model: Model, files: ObservedFiles) -> float:
    if model.probe.startup is not None:
        return model.probe.startup
    return max(STARTUP_S, files.size / READ_BYTES_PER_S)


def _file_drift(server: ObservedServer, files: ObservedFiles) -> str:
    """A file of `source.path` that was replaced in place is reported, never acted upon."""
    if not server.files or not files.identity or server.files == files.identity:
        return ""
    return "its weights on disk are no longer the ones it loaded; `restart` takes the new ones"


def restrict(plan: Plan, models: frozenset[ModelName]) -> Plan:
    """The part of a plan that concerns some models, and the gateway only if it does not run."""
    kept = tuple(change for change in plan.changes if _concerns(change, models))
    addresses = {change.address for change in kept}
    steps = [step for step in plan.steps if step.address in addresses]
    numbers = {step.number for step in steps}
    needed = [tuple(need for need in step.needs if need in numbers) for step in steps]
    return Plan(
        plan.desired,
        kept,
        tuple(replace(step, needs=needs) for step, needs in zip(steps, needed, strict=True)),
    )


def _concerns(change: Change, models: frozenset[ModelName]) -> bool:
    if change.type is ResourceType.GATEWAY:
        return change.action is Action.CREATE
    return model_of(InstanceName(change.name)) in models


def with_reason(plan: Plan, reason: str) -> Plan:
    """The same plan, with another reason for all that is removed."""
    changes = (
        replace(change, reason=reason) if change.action is Action.DELETE else change
        for change in plan.changes
    )
    return replace(plan, changes=tuple(changes))
