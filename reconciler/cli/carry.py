"""From an agreed plan to its end: carry it out, wait for files, carry on, and say how it ended.

In: the round that was agreed to, under the run lock. Out: lines on the way, an exit code.
While nothing but files is on its way the run lock is free: `stop`, `down` or another `apply` may
come between, so that the machine is looked at anew before the rest. It never asks again.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from reconciler.app import Workspace
from reconciler.cli.output import Output
from reconciler.cli.reporting import Reporter, tell_end
from reconciler.cli.verbs import Interrupt
from reconciler.core.guards import Allowed
from reconciler.core.observed import DOWN, Journal
from reconciler.core.resolve import model_of
from reconciler.core.words import InstanceName
from reconciler.drivers.base import Cancel, Drivers
from reconciler.errors import ExitCode, InterruptedRunError
from reconciler.look import Round, Scope, Wanted, look
from reconciler.loop import ApplyReport, carry_out, rest_of
from reconciler.observe import settle
from reconciler.recording import About, Recording
from reconciler.remember import wish_of
from reconciler.saving import plan_document


@dataclass(frozen=True, slots=True)
class Work:
    """What a run is about."""

    workspace: Workspace
    wanted: Wanted
    drivers: Drivers
    scope: Scope | None = None
    """What alone it is about, of the whole file."""
    verb: str = "apply"


@dataclass(frozen=True, slots=True)
class Course:
    """Whom a run tells what, and how it may end."""

    output: Output
    cancel: Cancel
    recording: Recording
    began: Journal
    """What this root was to be when it began."""
    wish: str
    """A digest of what the run is to bring about."""

    def is_superseded(self, journal: Journal) -> bool:
        """Whether somebody wants something else by now, as a whole or in part."""
        parts = journal.parts.items()
        return journal.wish != self.began.wish or any(
            one not in parts or one[1] != self.wish for one in parts ^ self.began.parts.items()
        )


def complete(
    work: Work, seen: Round, release: Callable[[], None], output: Output, interrupt: Interrupt
) -> ExitCode:
    """Carry out a round to its end. The caller holds the run lock; `release` lets it go."""
    cancel, began = interrupt.event, work.drivers.state.read()
    selected = work.wanted.selection.models(work.wanted.desired.models)
    models = work.scope.models if work.scope else selected
    recording = Recording(About(work.verb, work.workspace.site.desired, models), work.drivers)
    course = Course(output, cancel, recording, began, wish_of(work.wanted.desired))
    recording.begin(seen.plan)

    def settled() -> None:
        recording.settle()
        release()

    tell = recording.hears(Reporter(output))
    report = carry_out(work.wanted, seen, work.drivers, tell, cancel, settled)
    if report.late and not cancel.is_set():
        report = _go_on(work, seen, report, course)
    recording.end(interrupted=cancel.is_set())
    return _finish(work, report, output, interrupt)


def note_refusal(work: Work, seen: Round) -> None:
    """Let people see what waits for an operator. The caller holds the run lock."""
    site = work.workspace.site
    # Of another file than the one that this root follows, nothing is to be done here.
    if seen.observed.journal.desired in {None, site.desired}:
        why = "; ".join(guard.message for guard in seen.guards)
        Recording(About(work.verb, site.desired), work.drivers).refuse(seen.plan, f"refused: {why}")


def _go_on(work: Work, first: Round, report: ApplyReport, course: Course) -> ApplyReport:
    """The rest, once the files are here: unless somebody wants something else by now.

    What was agreed to passed the guards as a whole: its rest is not held against them again.
    """
    state, output, cancel = work.drivers.state, course.output, course.cancel
    if holder := state.run_holder():
        output.talk(f"The files are here. Waiting for {holder}.")
    try:
        with state.run_lock(math.inf, cancel):
            settle(work.drivers, cancel)
            journal = state.read()
            if course.is_superseded(journal):
                other = "`down`" if journal.wish == DOWN else "another `apply`"
                course.recording.is_superseded = True
                output.say(f"\n{other} came while files were on their way: no more was done.")
                return report
            seen = _look_again(work, report)
            if output.json:
                plan = plan_document(seen, work.workspace, work.wanted)
                output.event(event="plan", **plan)
            rest, skipped = rest_of(first, report, seen)
            tell = course.recording.hears(Reporter(output))
            course.recording.begin(rest.plan)
            for one in skipped:
                tell(one)
            settled = course.recording.settle
            done = carry_out(work.wanted, rest, work.drivers, tell, cancel, settled)
            return ApplyReport((*report.results, *skipped, *done.results), done.blocked)
    except InterruptedRunError:
        return report


def _look_again(work: Work, report: ApplyReport) -> Round:
    """A round with all that was agreed to; pins have moved by now, and restarts were made."""
    scope, selection = work.scope, work.wanted.selection
    late = (step.address.partition(".")[2] for step in report.late)
    models = frozenset(model_of(InstanceName(name)) for name in late if name)
    if scope:
        scope = replace(scope, models=models & scope.models, journal=None)
    selection = replace(selection, replacing=models & selection.replacing)
    wanted = replace(work.wanted, moving=frozenset(), selection=selection)
    return look(wanted, work.workspace.site, work.drivers, Allowed(), scope)


def _finish(work: Work, report: ApplyReport, output: Output, interrupt: Interrupt) -> ExitCode:
    """Say how it ended, and with which code."""
    if output.json:
        output.event(event="done", converged=report.converged)
    else:
        tell_end(report, output)
    if interrupt.event.is_set():
        output.talk("Interrupted. The next apply completes what is left.")
        return interrupt.code
    if not report.converged:
        output.say("\nNot all is as wanted. Mend the above, then do it again.")
        return ExitCode.NOT_CONVERGED
    if report.started and not output.json:
        if gateway := work.wanted.desired.gateway:
            output.talk(f"Ready. Gateway: {gateway.url}")
        if not work.workspace.watch():
            hint = f"`llm-reconcile watch {work.workspace.typed}` does"
            output.talk(f"Nothing watches over this, and starts again what dies: {hint}.")
    return ExitCode.OK
