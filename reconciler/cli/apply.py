"""The verbs that make the machine match the desired file: apply, down.

In: FILE and flags. Out: a plan on stdout, talk on stderr, an exit code. The order of things in an
apply: look under the run lock, show, ask (the lock is free meanwhile), look again, carry out
(`cli.carry`). A saved plan was reviewed: nobody is asked, and what it stands on must be as it was.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated

import typer

from reconciler.app import Workspace, open_file, open_root
from reconciler.cli.carry import Work, complete, note_refusal
from reconciler.cli.output import Output, ask, can_ask
from reconciler.cli.reading import NOTHING_RUNS, read, read_or_nothing
from reconciler.cli.selection import (
    ExcludeOption,
    ReplaceOption,
    TargetOption,
    selection_of,
    there_by,
)
from reconciler.cli.verbs import (
    AllowDestroyOption,
    AllowProtectedOption,
    AppliedArgument,
    Interrupt,
    JsonOption,
    LimitRateOption,
    LockedOption,
    LockTimeoutOption,
    NoColorOption,
    OfflineOption,
    ParallelismOption,
    QuietOption,
    RootOption,
    SwitchFileOption,
    VerboseOption,
    YesOption,
    download_limits,
    duration,
    interruptible,
    make_output,
    verb,
)
from reconciler.core.guards import Allowed, flags_of
from reconciler.core.plan_file import SavedPlan
from reconciler.core.plan_parts import with_reason
from reconciler.core.present import plan_text
from reconciler.drivers.base import Drivers
from reconciler.errors import ExitCode, RefusedError, UsageError
from reconciler.look import Round, look, nothing_wanted
from reconciler.observe import settle
from reconciler.remember import keep_generation, remember_end, remember_file, remember_part
from reconciler.saving import Standing, judge, meant, open_saved, plan_document, saved_at

_NO_ROOM = (
    "make room there (`llm-reconcile prune --dry-run` shows what nobody needs), "
    "or let `store` name a folder on another disk"
)

ApplyLockTimeoutOption = Annotated[
    float | None,
    typer.Option(
        "--lock-timeout",
        metavar="TIME",
        parser=duration,
        show_default=False,
        help="Wait so long for another run to end (default: 0s, beside a watch 10s).",
    ),
]
BESIDE_WATCH_S = 10.0


def waits_s(workspace: Workspace, asked: float | None) -> float:
    """How long another run is waited for, if nobody has said.

    Another apply is somebody else's work; a watch only looks, or comes to an end soon.
    """
    if asked is not None:
        return asked
    return BESIDE_WATCH_S if workspace.watch() else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Run(Work):
    """What one apply, update or down works with."""

    allowed: Allowed
    yes: bool
    lock_timeout: float
    why: str = ""
    """The reason of every removal, where it is not the file's."""
    question: str = "Do you want to make these changes? (yes/no)"
    nothing: str = ""
    """What is said of no changes."""
    prepare: Callable[[], Drivers] | None = None
    """What changes files, once all is agreed: the drivers from then on come from it."""
    saved: SavedPlan | None = None
    """The plan that was reviewed: this and nothing else is carried out."""

    @property
    def is_whole(self) -> bool:
        """Whether it is about all of the file."""
        return not self.scope and not self.wanted.selection.is_partial


def register(app: typer.Typer) -> None:
    """Add these verbs to the app."""
    for function in (apply, down):
        app.command()(function)


@verb
def apply(
    file: AppliedArgument,
    yes: YesOption = False,
    root: RootOption = None,
    json: JsonOption = False,
    no_color: NoColorOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    allow_destroy: AllowDestroyOption = 0,
    allow_protected: AllowProtectedOption = None,
    switch_file: SwitchFileOption = False,
    lock_timeout: ApplyLockTimeoutOption = None,
    parallelism: ParallelismOption = None,
    limit_rate: LimitRateOption = None,
    locked: LockedOption = False,
    offline: OfflineOption = False,
    target: TargetOption = None,
    exclude: ExcludeOption = None,
    replaced: ReplaceOption = None,
) -> ExitCode:
    """Make the machine match FILE, or carry out a plan that `plan --out` saved.

    Shows the plan, asks, carries it out, and waits until all that is wanted is ready. Of a saved
    plan nobody is asked; it is refused where anything that it stands on has changed.
    """
    output = make_output(no_color=no_color, quiet=quiet, json=json, verbose=verbose)
    allowed = Allowed(allow_destroy, frozenset(allow_protected or ()), switch_file)
    saved = saved_at(file)
    if saved and (target or exclude or replaced):
        raise UsageError(f"{file} says already what it is about", hint="plan anew with these flags")
    workspace = open_saved(saved, root, os.environ) if saved else open_file(file, root, os.environ)
    wanted = replace(read(workspace, output), locked=locked)
    limits = download_limits(parallelism, limit_rate)
    drivers = workspace.drivers(wanted.desired, limits, offline=offline)
    chosen = selection_of(
        target, exclude, replaced, wanted.desired, there_by(drivers, wanted.desired)
    )
    wanted = meant(saved.options, wanted) if saved else replace(wanted, selection=chosen)
    waits = waits_s(workspace, lock_timeout)
    run = Run(workspace, wanted, drivers, allowed=allowed, yes=yes, lock_timeout=waits)
    return perform(_of_saved(run, saved) if saved else run, output)


def _of_saved(run: Run, saved: SavedPlan) -> Run:
    """The same run, of a plan that was reviewed."""
    run = replace(run, saved=saved, allowed=saved.options.allowed(run.allowed), yes=True)
    return _of_down(run) if saved.options.destroy else run


def _of_down(run: Run) -> Run:
    return replace(run, verb="down", why="down", nothing=NOTHING_RUNS)


@verb
def down(
    yes: YesOption = False,
    root: RootOption = None,
    json: JsonOption = False,
    no_color: NoColorOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    allow_protected: AllowProtectedOption = None,
    lock_timeout: LockTimeoutOption = 10.0,
) -> ExitCode:
    """Stop all servers and nginx of this root. Files stay; `apply` brings all back."""
    output = make_output(no_color=no_color, quiet=quiet, json=json, verbose=verbose)
    workspace = open_root(root, os.environ)
    protected = frozenset(allow_protected or ())
    return stop_all(workspace, output, protected, yes=yes, lock_timeout=lock_timeout)


def stop_all(
    workspace: Workspace,
    output: Output,
    protected: frozenset[str],
    *,
    yes: bool = True,
    lock_timeout: float = 10.0,
) -> ExitCode:
    """Stop all that runs of a root; `protected`: those that may be stopped all the same."""
    wanted = read_or_nothing(workspace, output)
    drivers = workspace.drivers(wanted.desired)
    allowed = Allowed(sys.maxsize, protected, switch_file=True)
    run = Run(
        workspace,
        replace(wanted, desired=nothing_wanted(wanted.desired), stops=True),
        drivers,
        allowed=allowed,
        yes=yes,
        lock_timeout=lock_timeout,
        question="Do you want to stop all this? (yes/no)",
    )
    return perform(_of_down(run), output)


def perform(run: Run, output: Output) -> ExitCode:
    """Look, show, ask, carry out."""
    with interruptible(output) as interrupt:
        with run.drivers.state.run_lock(run.lock_timeout) as release:
            with interrupt.looking():
                settle(run.drivers, interrupt.event)
                seen = _as_saved(run, _look(run))
            is_agreed = run.yes or (seen.plan.is_noop and not run.prepare)
            if is_agreed and not seen.guards:
                _show(seen, run, output)
                return _carry_out(run, seen, release, output, interrupt)
            if seen.guards and run.yes and not run.why and run.is_whole:
                note_refusal(run, seen)
        _show(seen, run, output)
        with interrupt.asking():
            allowed = _approval(run, seen)
        with run.drivers.state.run_lock(run.lock_timeout) as release:
            with interrupt.looking():
                settle(run.drivers, interrupt.event)
                again = _look(replace(run, allowed=allowed))
            # The steps are what was agreed to; how much disk is free meanwhile is not.
            if again.plan.steps != seen.plan.steps or again.guards or _has_changed(run):
                raise RefusedError(
                    "the machine or the file changed while the question stood; nothing was done",
                    hint="run it again to see the new plan",
                )
            return _carry_out(run, again, release, output, interrupt)


def _has_changed(run: Run) -> bool:
    """Whether the file is another one than was shown; `down` and `rollback` do not hang on it."""
    if run.why or run.prepare:
        return False
    return run.workspace.parse().desired != run.wanted.desired


def _look(run: Run) -> Round:
    seen = look(run.wanted, run.workspace.site, run.drivers, run.allowed, run.scope)
    return replace(seen, plan=with_reason(seen.plan, run.why)) if run.why else seen


def _as_saved(run: Run, seen: Round) -> Round:
    """What there is to do of the plan that was reviewed; without one, what was seen.

    Raises:
        RefusedError: something that it stands on has changed.
    """
    if not run.saved:
        return seen
    verdict = judge(run.saved, run.wanted, run.workspace, seen, run.allowed)
    if verdict.standing is Standing.STALE or not verdict.seen:
        what = "".join(f"\n  - {reason}" for reason in verdict.reasons)
        raise RefusedError(
            f"the plan is stale; nothing was done. Since it was made:{what}",
            hint="plan anew, and have a look at what it says now",
        )
    return verdict.seen


def _show(seen: Round, run: Run, output: Output) -> None:
    if output.json:
        plan = plan_document(seen, run.workspace, run.wanted)
        output.event(event="plan", **plan)
    elif not output.quiet or not run.yes:
        text = plan_text(seen.plan, seen.guards, nothing=run.nothing, tell_guards=False)
        output.plan(text)


def _approval(run: Run, seen: Round) -> Allowed:
    """What the operator lets through; raises when nobody can be asked, or says no."""
    firm = [guard for guard in seen.guards if not guard.answer]
    if seen.guards and (firm or run.yes or not can_ask()):
        hint = _NO_ROOM if firm else f"if that is what you want, add: {flags_of(seen.guards)}"
        refused = "; ".join(guard.message for guard in seen.guards)
        raise RefusedError(f"{refused}; nothing was done", hint=hint)
    if not can_ask():
        raise UsageError("there is no terminal to ask on", hint="add -y to go on without asking")
    for guard in seen.guards:
        if ask(f"{guard.message}.\nType {guard.answer} to go on:") != guard.answer:
            raise RefusedError("not confirmed; nothing was done")
    if not seen.guards and ask(run.question) not in {"yes", "y"}:
        raise RefusedError("not confirmed; nothing was done")
    everything = {*run.wanted.desired.models, *seen.observed.journal.protected}
    return Allowed(sys.maxsize, frozenset(everything), switch_file=True)


def _carry_out(
    run: Run, seen: Round, release: Callable[[], None], output: Output, interrupt: Interrupt
) -> ExitCode:
    if run.prepare:
        run = replace(run, drivers=run.prepare(), prepare=None)
    if run.why:
        remember_end(run.drivers)
    elif not seen.guards and run.is_whole:
        remember_file(run.wanted.desired, run.workspace.site, run.drivers)
        keep_generation(run.wanted.sources, run.workspace.site.desired, run.drivers)
    elif not seen.guards and not run.scope:
        selection = run.wanted.selection
        remember_part(run.wanted.desired, selection, run.workspace.site, run.drivers)
    return complete(run, seen, release, output, interrupt)
