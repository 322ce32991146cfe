"""The verbs that read the desired file: validate, plan, apply, down.

In: FILE and flags. Out: a plan on stdout, talk on stderr, an exit code. The order of things in an
apply: look under the run lock, show, ask (the lock is free meanwhile), look again, carry out
(`cli.carry`).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated

import typer

from reconciler.app import Workspace, check_file, open_file, open_root, plan_document
from reconciler.cli.carry import Work, complete, note_refusal
from reconciler.cli.output import Output, ask, can_ask
from reconciler.cli.verbs import (
    AllowProtectedOption,
    FileArgument,
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
    VerboseOption,
    YesOption,
    download_limits,
    interruptible,
    make_output,
    verb,
)
from reconciler.core.desired import DesiredState
from reconciler.core.guards import Allowed
from reconciler.core.plan_parts import with_reason
from reconciler.core.present import plan_text
from reconciler.errors import ExitCode, InvalidDesiredError, RefusedError, UsageError
from reconciler.loop import Round, Wanted, look, nothing_wanted, remember_end, remember_file
from reconciler.observe import settle

AllowDestroyOption = Annotated[
    int,
    typer.Option(
        "--allow-destroy", metavar="N", min=0, help="Let up to N running servers be stopped."
    ),
]
SwitchFileOption = Annotated[
    bool, typer.Option("--switch-file", help="Let this root follow another desired file.")
]


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


def register(app: typer.Typer) -> None:
    """Add these verbs to the app."""
    for function in (validate, plan, apply, down):
        app.command()(function)


@verb
def validate(
    file: FileArgument, root: RootOption = None, no_color: NoColorOption = False
) -> ExitCode:
    """Check a desired file; nothing on the machine is looked at."""
    output = make_output(no_color=no_color)
    name, parsed = check_file(file, root)
    for warning in parsed.warnings:
        output.talk(f"warning: {warning}")
    models = len(parsed.desired.models)
    gateway = (
        f"gateway on {parsed.desired.gateway.listen}" if parsed.desired.gateway else "no gateway"
    )
    plural = "" if models == 1 else "s"
    output.prose(f"{name} is valid: {models} model{plural}, {gateway}.")
    return ExitCode.OK


@verb
def plan(
    file: FileArgument,
    root: RootOption = None,
    json: JsonOption = False,
    no_color: NoColorOption = False,
    detailed_exitcode: Annotated[
        bool, typer.Option("--detailed-exitcode", help="Exit 2 when there are changes.")
    ] = False,
    allow_destroy: AllowDestroyOption = 0,
    allow_protected: AllowProtectedOption = None,
    switch_file: SwitchFileOption = False,
    locked: LockedOption = False,
    offline: OfflineOption = False,
) -> ExitCode:
    """Show what apply would do, and why. Changes nothing."""
    output = make_output(no_color=no_color, json=json)
    allowed = Allowed(allow_destroy, frozenset(allow_protected or ()), switch_file)
    workspace = open_file(file, root, os.environ)
    wanted = replace(read(workspace, output), locked=locked)
    drivers = workspace.drivers(wanted.desired, offline=offline)
    seen = look(wanted, workspace.site, drivers, allowed)
    if json:
        output.document(plan_document(seen, workspace, wanted.warnings))
    else:
        output.plan(plan_text(seen.plan, seen.guards))
    if seen.guards:
        return ExitCode.REFUSED
    changes = not seen.plan.is_noop or bool(seen.plan.blocked)
    return ExitCode.CHANGES if detailed_exitcode and changes else ExitCode.OK


@verb
def apply(
    file: FileArgument,
    yes: YesOption = False,
    root: RootOption = None,
    json: JsonOption = False,
    no_color: NoColorOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    allow_destroy: AllowDestroyOption = 0,
    allow_protected: AllowProtectedOption = None,
    switch_file: SwitchFileOption = False,
    lock_timeout: LockTimeoutOption = 0.0,
    parallelism: ParallelismOption = None,
    limit_rate: LimitRateOption = None,
    locked: LockedOption = False,
    offline: OfflineOption = False,
) -> ExitCode:
    """Make the machine match FILE.

    Shows the plan, asks, carries it out, and waits until all that is wanted is ready.
    """
    output = make_output(no_color=no_color, quiet=quiet, json=json, verbose=verbose)
    allowed = Allowed(allow_destroy, frozenset(allow_protected or ()), switch_file)
    workspace = open_file(file, root, os.environ)
    wanted = replace(read(workspace, output), locked=locked)
    limits = download_limits(parallelism, limit_rate)
    drivers = workspace.drivers(wanted.desired, limits, offline=offline)
    run = Run(workspace, wanted, drivers, allowed=allowed, yes=yes, lock_timeout=lock_timeout)
    return perform(run, output)


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
    wanted = read_or_nothing(workspace, output)
    drivers = workspace.drivers(wanted.desired)
    allowed = Allowed(sys.maxsize, frozenset(allow_protected or ()), switch_file=True)
    run = Run(
        workspace,
        replace(wanted, desired=nothing_wanted(wanted.desired), stops=True),
        drivers,
        allowed=allowed,
        yes=yes,
        lock_timeout=lock_timeout,
        verb="down",
        why="down",
        question="Do you want to stop all this? (yes/no)",
        nothing="Nothing of this root runs.",
    )
    return perform(run, output)


def read(workspace: Workspace, output: Output) -> Wanted:
    """The desired state, its warnings told.

    Raises:
        InvalidDesiredError: with every mistake in it.
    """
    parsed = workspace.parse()
    for warning in parsed.warnings:
        output.talk(f"warning: {warning}")
    return Wanted(parsed.desired, parsed.marks, parsed.warnings)


def read_or_nothing(workspace: Workspace, output: Output) -> Wanted:
    """The desired state; an empty one where the file is broken: stopping must always work."""
    try:
        return read(workspace, output)
    except InvalidDesiredError as error:
        output.talk(f"warning: {error.diagnostics[0]}")
        output.talk("warning: going on without the desired file, with default drain and grace")
        return Wanted(DesiredState(version=1), {}, stops=True)


def perform(run: Run, output: Output) -> ExitCode:
    """Look, show, ask, carry out."""
    with interruptible(output) as interrupt:
        with run.drivers.state.run_lock(run.lock_timeout) as release:
            with interrupt.looking():
                settle(run.drivers, interrupt.event)
                seen = _look(run)
            if not seen.guards and (seen.plan.is_noop or run.yes):
                _show(seen, run, output)
                return _carry_out(run, seen, release, output, interrupt)
            if seen.guards and run.yes and not run.why and not run.scope:
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
    """Whether the file is another one than was shown; `down` does not hang on it."""
    return not run.why and run.workspace.parse().desired != run.wanted.desired


def _look(run: Run) -> Round:
    seen = look(run.wanted, run.workspace.site, run.drivers, run.allowed, run.scope)
    return replace(seen, plan=with_reason(seen.plan, run.why)) if run.why else seen


def _show(seen: Round, run: Run, output: Output) -> None:
    if output.json:
        output.event(event="plan", **plan_document(seen, run.workspace, run.wanted.warnings))
    elif not output.quiet or not run.yes:
        text = plan_text(seen.plan, seen.guards, nothing=run.nothing, tell_guards=False)
        output.plan(text)


def _approval(run: Run, seen: Round) -> Allowed:
    """What the operator lets through; raises when nobody can be asked, or says no."""
    firm = [guard for guard in seen.guards if not guard.answer]
    if seen.guards and (firm or run.yes or not can_ask()):
        flags = " ".join(guard.flag for guard in seen.guards if guard.flag)
        hint = f"if that is what you want, add: {flags}" if flags and not firm else ""
        refused = "; ".join(guard.message for guard in seen.guards)
        raise RefusedError(f"{refused}; nothing was done", hint=hint)
    if not can_ask():
        raise UsageError("there is no terminal to ask on", hint="add -y to apply without asking")
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
    if run.why:
        remember_end(run.drivers)
    elif not run.scope and not seen.guards:
        remember_file(run.wanted, run.workspace.site, run.drivers)
    return complete(run, seen, release, output, interrupt)
