"""The loop: observe -> plan -> guard -> execute, once for a verb.

In: a workspace's drivers, the desired state, what the operator allows. Out: a `Round` (what would
happen) and an `ApplyReport` (what did). It prints nothing and asks nobody; `cli` does.
A run that has to wait for files has two rounds: all else, and once they are here `rest_of` it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from reconciler.core.desired import DesiredState
from reconciler.core.guards import Allowed, guard
from reconciler.core.lockfile import Lock
from reconciler.core.observed import Journal, ObservedState, ProcessRef
from reconciler.core.obstacles import Marks
from reconciler.core.parse import SourceText
from reconciler.core.plan import (
    AwaitReady,
    Change,
    FileEffect,
    Guard,
    Plan,
    StartServer,
    Step,
)
from reconciler.core.plan_files import plan_verification
from reconciler.core.plan_lock import refuse_changes
from reconciler.core.plan_parts import agreed, only_files, restrict, split
from reconciler.core.planner import make_plan
from reconciler.core.selection import Selection, select
from reconciler.core.site import Site
from reconciler.core.words import ModelName, ModelState
from reconciler.drivers.base import Cancel, Drivers
from reconciler.errors import Diagnostic, InvalidDesiredError, StateFolderError
from reconciler.execute import Outcome, Report, StepResult, execute
from reconciler.observe import observe, observe_downloads, observe_store
from reconciler.remember import keep_lock, publish, remember_results, tidy


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
    selection: Selection = field(default_factory=Selection)
    """What of it alone is wanted."""
    sources: tuple[SourceText, ...] = ()
    """What it was read from, to be kept as a generation; nothing: it is not kept."""


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
class Keeping:
    """What a watch knows beside what it sees."""

    wedged: Mapping[ProcessRef, str] = field(default_factory=dict)
    """Servers that live and do no work -> how that was found out."""
    pins: Lock | None = None
    """What the lock file said, where it cannot be read any more."""


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
    keeping: Keeping | None = None,
) -> Round:
    """Observe, plan and guard. Changes nothing."""
    only, anew = (scope.models, scope.restart) if scope else (None, False)
    anew = anew or bool(wanted.selection.replacing)
    known = keeping.pins if keeping else None
    lock = _lock(wanted, site, drivers, only) if known is None else known
    if wanted.stops:
        # What is not looked at is neither fetched nor verified.
        only = frozenset()
    observed = observe(wanted.desired, drivers, only, lock, anew=anew, moving=wanted.moving)
    if wanted.stops:
        observed = replace(observed, lock=None)
    elif only is None:
        # Files may go: only where all models were looked at, it is known what the others need.
        store = observe_store(wanted.desired, drivers, lock)
        renders = drivers.renders.observe(wanted.desired.renders)
        observed = replace(observed, store=store, renders=renders)
    if keeping:
        # By the clock after the look: what ended while it lasted must not seem to be still to come.
        observed = replace(observed, now=drivers.clock.now(), wedged=keeping.wedged)
    if scope is None:
        return replan(wanted, site, observed, allowed)
    observed = replace(observed, journal=scope.journal or observed.journal)
    again = scope.models if scope.restart else frozenset()
    plan = make_plan(wanted.desired, site, observed, wanted.marks, again)
    plan = restrict(plan, scope.models, gateway=scope.gateway)
    return Round(observed, plan, guard(plan, wanted.desired, observed, allowed))


def replan(wanted: Wanted, site: Site, observed: ObservedState, allowed: Allowed) -> Round:
    """Plan and guard all of it, of what was seen."""
    selection = wanted.selection
    plan = make_plan(wanted.desired, site, observed, wanted.marks, selection.replacing)
    plan = select(plan, selection)
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
            tidy(wanted.desired, seen.plan, drivers)
            _keep_lock(wanted, drivers)
        return ApplyReport((), seen.plan.blocked)

    def settle(results: tuple[StepResult, ...]) -> None:
        remember_results(seen.observed, results, drivers)
        # What is only for people must not turn a run that worked into one that failed.
        with contextlib.suppress(OSError, StateFolderError):
            tidy(wanted.desired, seen.plan, drivers)
            publish(wanted.desired, seen.observed, drivers)
        with contextlib.suppress(OSError):
            _keep_lock(wanted, drivers)
        if release:
            release()

    part, late = split(seen.plan)
    results = execute(part, drivers, report, cancel, settle)
    skipped = _skipped(late, results)
    for one in skipped:
        report(one)
    left = tuple(step for step in late if step not in {one.step for one in skipped})
    return ApplyReport((*results, *skipped), seen.plan.blocked, left)


def _keep_lock(wanted: Wanted, drivers: Drivers) -> None:
    if not wanted.stops:
        keep_lock(wanted.sources, drivers, is_moved=bool(wanted.moving))


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


def nothing_wanted(desired: DesiredState) -> DesiredState:
    """The desired state of `down`: no server, no nginx; drain and grace of each still count."""
    models = {
        name: model.model_copy(update={"state": ModelState.ABSENT})
        for name, model in desired.models.items()
    }
    return desired.model_copy(update={"models": models, "gateway": None})
