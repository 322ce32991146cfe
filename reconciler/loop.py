"""The loop's second half: it carries out what a look leads to, once for a verb.

In: a `Round` of `look`. Out: an `ApplyReport` (what was done). It prints nothing and asks nobody;
`cli` does. A run that has to wait for files has two rounds: all else, and once they are here
`rest_of` it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace

from reconciler.core.plan import AwaitReady, Change, FileEffect, StartServer, Step
from reconciler.core.plan_parts import agreed, split
from reconciler.drivers.base import Cancel, Drivers
from reconciler.errors import StateFolderError
from reconciler.execute import Outcome, Report, StepResult, execute
from reconciler.look import Round, Wanted
from reconciler.remember import keep_lock, publish, remember_results, tidy


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
        StepResult(step, Outcome.SKIPPED, f"needs {address_of[need]}, which was not done")
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
