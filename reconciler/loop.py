"""The loop: observe -> plan -> guard -> execute, once for a verb.

In: a workspace's drivers, the desired state, what the operator allows. Out: a `Round` (what would
happen) and an `ApplyReport` (what did). It prints nothing and asks nobody; `cli` does.
A run that has to wait for files has two rounds: all else, and once they are here `rest_of` it.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from reconciler.core.desired import DesiredState
from reconciler.core.guards import Allowed, guard
from reconciler.core.lockfile import Lock
from reconciler.core.observed import Journal, LastExit, ObservedState, Suspension
from reconciler.core.obstacles import Marks
from reconciler.core.plan import (
    AwaitReady,
    Change,
    FileEffect,
    Guard,
    Plan,
    StartServer,
    Step,
    StopServer,
)
from reconciler.core.plan_files import plan_verification
from reconciler.core.plan_lock import refuse_changes
from reconciler.core.plan_parts import agreed, only_files, restrict, split
from reconciler.core.planner import make_plan
from reconciler.core.resolve import instance_names, model_of
from reconciler.core.site import Site
from reconciler.core.words import ModelName, ModelState, Phase
from reconciler.drivers.base import Cancel, Drivers
from reconciler.errors import Diagnostic, InvalidDesiredError, StateFolderError
from reconciler.execute import Outcome, Report, StepResult, execute
from reconciler.observe import observe, observe_downloads, observe_store

DOWN = "down"
"""The wish of `down`, in the journal."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """The desired state with the positions of its parts."""

    desired: DesiredState
    marks: Marks
    warnings: tuple[Diagnostic, ...] = ()
    stops: bool = False
    """All that is wanted is that servers stop: the lock file stays as it is, even a broken one."""
    locked: bool = False
    """The lock file must hold all of it."""
    moving: frozenset[ModelName] = frozenset()
    """Models whose pins move to what their revisions are now."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What a verb with names is about."""

    models: frozenset[ModelName]
    journal: Journal | None = None
    """The journal as it will be, instead of as it is."""
    restart: bool = False
    """Replace their servers though nothing about them changed."""
    gateway: bool = True
    """Start nginx too, where it does not run."""


@dataclass(frozen=True, slots=True)
class Round:
    """One look at the machine and what it leads to."""

    observed: ObservedState
    plan: Plan
    guards: tuple[Guard, ...]


@dataclass(frozen=True, slots=True)
class ApplyReport:
    """What a run did."""

    results: tuple[StepResult, ...]
    blocked: tuple[Change, ...]
    late: tuple[Step, ...] = ()
    """What waited for files, and is not done."""

    @property
    def failed(self) -> tuple[StepResult, ...]:
        """Steps that did not end well."""
        return tuple(one for one in self.results if one.outcome is not Outcome.DONE)

    @property
    def converged(self) -> bool:
        """Everything is as wanted."""
        return not self.failed and not self.blocked and not self.late

    @property
    def cancelled(self) -> bool:
        """It was interrupted before its end."""
        return any(one.outcome is Outcome.CANCELLED for one in self.results)

    @property
    def started(self) -> bool:
        """Some server was started or waited for."""
        return any(isinstance(one.step.effect, StartServer | AwaitReady) for one in self.results)


def look(
    wanted: Wanted,
    site: Site,
    drivers: Drivers,
    allowed: Allowed,
    scope: Scope | None = None,
) -> Round:
    """Observe, plan and guard. Changes nothing."""
    only, anew = (scope.models, scope.restart) if scope else (None, False)
    lock = _lock(wanted, site, drivers, only)
    if wanted.stops:
        # What is not looked at is neither fetched nor verified.
        only = frozenset()
    observed = observe(wanted.desired, drivers, only, lock, anew=anew, moving=wanted.moving)
    if wanted.stops:
        observed = replace(observed, lock=None)
    elif only is None:
        # Files may go: only where all models were looked at, it is known what the others need.
        observed = replace(observed, store=observe_store(wanted.desired, drivers, lock))
    if scope is None:
        plan = make_plan(wanted.desired, site, observed, wanted.marks)
    else:
        observed = replace(observed, journal=scope.journal or observed.journal)
        again = scope.models if scope.restart else frozenset()
        plan = make_plan(wanted.desired, site, observed, wanted.marks, again)
        plan = restrict(plan, scope.models, gateway=scope.gateway)
    return Round(observed, plan, guard(plan, wanted.desired, observed, allowed))


def _lock(wanted: Wanted, site: Site, drivers: Drivers, only: frozenset[ModelName] | None) -> Lock:
    try:
        lock = drivers.lock.read()
    except InvalidDesiredError:
        if wanted.stops:
            return {}
        raise
    if wanted.locked:
        refuse_changes(wanted.desired, lock, wanted.marks, site.lock, only)
    return lock


def look_at_files(
    wanted: Wanted, site: Site, drivers: Drivers, models: frozenset[ModelName]
) -> Round:
    """What a download of these models' files would be. Of the rest nothing is looked at."""
    lock = _lock(wanted, site, drivers, models)
    observed = observe_downloads(wanted.desired, drivers, models, lock)
    plan = only_files(make_plan(wanted.desired, site, observed, wanted.marks), models)
    return Round(observed, plan, guard(plan, wanted.desired, observed, Allowed()))


def look_to_verify(
    wanted: Wanted, site: Site, drivers: Drivers, models: frozenset[ModelName]
) -> Round:
    """What reading all files of these models again would be."""
    lock = _lock(wanted, site, drivers, models)
    observed = observe_downloads(wanted.desired, drivers, models, lock)
    return Round(observed, plan_verification(site.desired, observed.files), ())


def execute_files(seen: Round, drivers: Drivers, report: Report, cancel: Cancel) -> ApplyReport:
    """Execute a round that concerns files alone: no server does, and no run lock is needed."""
    return ApplyReport(execute(seen.plan, drivers, report, cancel), seen.plan.blocked)


def carry_out(
    wanted: Wanted,
    seen: Round,
    drivers: Drivers,
    report: Report,
    cancel: Cancel,
    release: Callable[[], None] | None = None,
) -> ApplyReport:
    """Execute a round's plan and note what must be remembered. The caller holds the run lock.

    A download of hours must keep nobody from stopping a server: once only files are still on their
    way the lock goes (`release`). What waits for them is left to a round of its own: `rest_of`.
    """
    if seen.plan.is_noop:
        with contextlib.suppress(OSError):
            _tidy(wanted, seen, drivers)
        return ApplyReport((), seen.plan.blocked)

    def settle(results: tuple[StepResult, ...]) -> None:
        # What is only for people must not turn a run that worked into one that failed.
        with contextlib.suppress(OSError, StateFolderError):
            _tidy(wanted, seen, drivers)
            journal = _with_exits(drivers.state.read(), seen.observed, results, drivers.clock.now())
            drivers.state.write(journal)
            _publish(wanted, seen, journal, drivers)
        if release:
            release()

    part, late = split(seen.plan)
    results = execute(part, drivers, report, cancel, settle)
    skipped = _skipped(late, results)
    for one in skipped:
        report(one)
    left = tuple(step for step in late if step not in {one.step for one in skipped})
    return ApplyReport((*results, *skipped), seen.plan.blocked, left)


def _skipped(late: tuple[Step, ...], results: tuple[StepResult, ...]) -> tuple[StepResult, ...]:
    """What waits for steps that did not end well, directly or not."""
    address_of = {one.step.number: one.step.address for one in results}
    failed = {one.step.number: one for one in results if one.outcome is not Outcome.DONE}
    found: list[StepResult] = []
    while more := [
        StepResult(step, Outcome.SKIPPED, f"needs #{need} ({address_of[need]})")
        for step in late
        if step.number not in failed and (need := next(iter(failed.keys() & step.needs), 0))
    ]:
        found += more
        address_of |= {one.step.number: one.step.address for one in more}
        failed |= {one.step.number: one for one in more}
    return tuple(found)


def rest_of(first: Round, so_far: ApplyReport, seen: Round) -> tuple[Round, tuple[StepResult, ...]]:
    """What waited for files: of a new round, `seen`, what the first one said too.

    Nothing is fetched any more: what lacks files by now is skipped, and comes second.
    """
    plan = agreed(seen.plan, first.plan)
    part, late = split(plan)
    lacking = tuple(step for step in part.steps if isinstance(step.effect, FileEffect))
    ready = tuple(step for step in part.steps if step not in lacking)
    told = {one.step.address for one in so_far.failed}
    skipped = tuple(
        StepResult(step, Outcome.SKIPPED, "its files are not here any more")
        for step in (*lacking, *late)
        if step.address not in told
    )
    return replace(seen, plan=replace(plan, steps=ready)), skipped


def _tidy(wanted: Wanted, seen: Round, drivers: Drivers) -> None:
    """Pid files say where each server is reached; a port may have changed without a restart."""
    concerned = {change.name for change in seen.plan.changes}
    drivers.runtime.tidy(
        {
            instance: model.port
            for key, model in wanted.desired.models.items()
            for instance in instance_names(ModelName(key), model)
            if instance in concerned
        }
    )


def remember_file(wanted: Wanted, site: Site, drivers: Drivers) -> None:
    """Note which file this root follows, what it says, and what it protects.

    Raises:
        StateFolderError: that cannot be written. What it says alone is not worth an error: a full
            disk must not keep what needs no room from being done.
    """
    journal, models = drivers.state.read(), wanted.desired.models
    protected = frozenset(ModelName(name) for name, model in models.items() if model.protect)
    exits = {name: one for name, one in journal.last_exits.items() if model_of(name) in models}
    noted = replace(journal, desired=site.desired, protected=protected, last_exits=exits)
    wish = hashlib.sha256(wanted.desired.model_dump_json().encode()).hexdigest()[:12]
    try:
        drivers.state.write(replace(noted, wish=wish))
    except StateFolderError:
        if noted != journal:
            raise


def suspended(journal: Journal, models: Iterable[ModelName], since: float, reason: str) -> Journal:
    """Note that an operator stopped these models; every plan shows it until `resumed`."""
    new = {name: Suspension(since, reason) for name in models}
    return replace(journal, suspended={**new, **journal.suspended})


def resumed(journal: Journal, models: Iterable[ModelName]) -> Journal:
    """End the suspension of these models."""
    ended = set(models)
    kept = {name: one for name, one in journal.suspended.items() if name not in ended}
    return replace(journal, suspended=kept)


def remember_end(drivers: Drivers) -> None:
    """Note that nothing of this root is to run, whatever is under way.

    A full disk must not keep anybody from stopping servers.
    """
    with contextlib.suppress(StateFolderError):
        drivers.state.write(replace(drivers.state.read(), wish=DOWN))


def nothing_wanted(desired: DesiredState) -> DesiredState:
    """The desired state of `down`: no server, no nginx; drain and grace of each still count."""
    models = {
        name: model.model_copy(update={"state": ModelState.ABSENT})
        for name, model in desired.models.items()
    }
    return desired.model_copy(update={"models": models, "gateway": None})


def _with_exits(
    journal: Journal, observed: ObservedState, results: tuple[StepResult, ...], now: float
) -> Journal:
    """Remember how servers ended by themselves; a stop that was asked for ends that memory."""
    exits = dict(journal.last_exits)
    for result in results:
        match result.step.effect:
            case StartServer(launch=launch) if result.outcome is Outcome.FAILED:
                exits[launch.instance] = LastExit(
                    now, result.reason, launch.spec_hash, began=result.began
                )
            case StartServer(launch=launch) if result.outcome is Outcome.DONE:
                # The new copy took over the slot, where the death of the old one was to be seen.
                if ended := observed.last_exit(launch.instance):
                    exits[launch.instance] = ended
            case StopServer(instance=instance) if result.outcome is Outcome.DONE:
                exits.pop(instance, None)
            case _:
                pass
    return replace(journal, last_exits=exits)


def _publish(wanted: Wanted, seen: Round, journal: Journal, drivers: Drivers) -> None:
    """Tell the gateway's /api/models what it cannot ask the servers: also why one is not there."""
    sizes = {name: files.size for name, files in seen.observed.files.items()}
    notes: dict[str, Mapping[str, object]] = {
        instance: {"reason": one.reason} for instance, one in journal.last_exits.items()
    }
    for key, model in wanted.desired.models.items():
        if suspension := journal.suspended.get(ModelName(key)):
            note: Mapping[str, object] = {"phase": Phase.SUSPENDED, "reason": str(suspension)}
            notes |= dict.fromkeys(instance_names(ModelName(key), model), note)
    for server in drivers.runtime.list():
        # Where a wrapper was started, its process says nothing of the engine's memory.
        process = None if server.helpers else server.ref
        notes[server.instance] = {
            "pid": process and process.pid,
            "start_ticks": process and process.start_ticks,
            "since": round(server.since),
            "size_bytes": sizes.get(model_of(server.instance)),
            "restarts": None,
            "reason": None,
        }
    drivers.gateway.publish(notes)
