"""The verbs of an operator: stop (a suspension that every plan shows), start (its end), restart.

In: names. Out: what was stopped or started. They touch the named models only; what else differs
from the desired file is left to apply.
"""

from __future__ import annotations

import contextlib
import datetime
import os
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Annotated

import typer

from reconciler.app import Workspace, open_root
from reconciler.cli.carry import Work, complete
from reconciler.cli.names import OptionalModel, known_model
from reconciler.cli.output import YELLOW, Output
from reconciler.cli.reading import read_or_nothing
from reconciler.cli.verbs import (
    AllOption,
    AllowProtectedOption,
    LockedOption,
    LockTimeoutOption,
    NoColorOption,
    OfflineOption,
    QuietOption,
    RootOption,
    VerboseOption,
    interruptible,
    make_output,
    verb,
)
from reconciler.core.backoff import tried_again
from reconciler.core.guards import Allowed, flags_of
from reconciler.core.observed import Journal
from reconciler.core.present import plan_text
from reconciler.core.resolve import instance_names, model_of
from reconciler.core.suspension import EXAMPLES, Suspension, moment_of
from reconciler.core.words import InstanceName, ModelName
from reconciler.drivers.base import Drivers
from reconciler.drivers.clock import SystemClock
from reconciler.errors import ExitCode, RefusedError, StateFolderError, UsageError
from reconciler.look import Scope, Wanted, look
from reconciler.observe import settle
from reconciler.remember import publish, resumed, suspended

_MANY = 2**31
"""Stopping is what was asked for: only `protect` still stands in its way."""


_UNASKED = Suspension(0.0)


class Verb(StrEnum):
    """What is asked for."""

    STOP = "stop"
    START = "start"
    RESTART = "restart"


@dataclass(frozen=True, slots=True)
class Request:
    """What an operator asked for."""

    wanted: Wanted
    name: str | None
    all_models: bool
    allowed: Allowed
    lock_timeout: float
    verb: Verb
    asked: Suspension = _UNASKED
    """What the operator said of a stop."""
    offline: bool = False


def register(app: typer.Typer) -> None:
    """Add these verbs to the app."""
    for function in (stop, start, restart):
        app.command()(function)


@verb
def stop(
    name: OptionalModel = None,
    all_models: AllOption = False,
    reason: Annotated[str, typer.Option("--reason", help="Why; plans and status show it.")] = "",
    until: Annotated[
        str | None,
        typer.Option(
            "--until",
            metavar="WHEN",
            help=f"End it then, or after so long: like {EXAMPLES}. A run after that starts it.",
        ),
    ] = None,
    root: RootOption = None,
    no_color: NoColorOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    allow_protected: AllowProtectedOption = None,
    lock_timeout: LockTimeoutOption = 10.0,
) -> ExitCode:
    """Stop a model until it is started again.

    An apply leaves it stopped, and every plan shows it, until `start` or the time ends it.
    """
    output = make_output(no_color=no_color, quiet=quiet, verbose=verbose)
    asked = _suspension(reason, until)
    workspace = open_root(root, os.environ)
    wanted = replace(read_or_nothing(workspace, output), stops=True)
    allowed = Allowed(_MANY, frozenset(allow_protected or ()), switch_file=True)
    request = Request(wanted, name, all_models, allowed, lock_timeout, Verb.STOP, asked)
    return _reconcile(workspace, request, output)


@verb
def start(
    name: OptionalModel = None,
    all_models: AllOption = False,
    root: RootOption = None,
    no_color: NoColorOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    lock_timeout: LockTimeoutOption = 10.0,
    locked: LockedOption = False,
    offline: OfflineOption = False,
) -> ExitCode:
    """Start a stopped model again.

    Ends what `stop` began, starts the servers now, and waits until they are ready.
    """
    output = make_output(no_color=no_color, quiet=quiet, verbose=verbose)
    workspace = open_root(root, os.environ)
    parsed = workspace.parse()
    wanted = Wanted(parsed.desired, parsed.marks, locked=locked)
    request = Request(
        wanted, name, all_models, Allowed(), lock_timeout, Verb.START, offline=offline
    )
    return _reconcile(workspace, request, output)


@verb
def restart(
    name: OptionalModel = None,
    all_models: AllOption = False,
    root: RootOption = None,
    no_color: NoColorOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    allow_protected: AllowProtectedOption = None,
    lock_timeout: LockTimeoutOption = 10.0,
    locked: LockedOption = False,
    offline: OfflineOption = False,
) -> ExitCode:
    """Replace a model's servers by new ones.

    By its `rollout`: stop first, or with `surge` the new one first. Waits until they are ready.
    """
    output = make_output(no_color=no_color, quiet=quiet, verbose=verbose)
    workspace = open_root(root, os.environ)
    parsed = workspace.parse()
    wanted = Wanted(parsed.desired, parsed.marks, locked=locked)
    allowed = Allowed(_MANY, frozenset(allow_protected or ()))
    request = Request(
        wanted, name, all_models, allowed, lock_timeout, Verb.RESTART, offline=offline
    )
    return _reconcile(workspace, request, output)


def _reconcile(workspace: Workspace, request: Request, output: Output) -> ExitCode:
    wanted = request.wanted
    drivers = workspace.drivers(wanted.desired, offline=request.offline)
    with (
        interruptible(output) as interrupt,
        drivers.state.run_lock(request.lock_timeout) as release,
    ):
        with interrupt.looking():
            settle(drivers, interrupt.event)
            live = {model_of(server.instance) for server in drivers.runtime.list()}
            models = _meant(request, live)
            journal = _journal(request, models, drivers)
            asked = request.verb
            scope = Scope(models, journal, asked is Verb.RESTART, gateway=asked is not Verb.STOP)
            seen = look(wanted, workspace.site, drivers, request.allowed, scope)
        if seen.guards:
            raise RefusedError(
                "; ".join(guard.message for guard in seen.guards),
                hint=_hint(request.verb, workspace.typed, flags_of(seen.guards)),
            )
        if not output.quiet:
            output.plan(plan_text(seen.plan))
        is_remembered = _remember(journal, request.verb, drivers, output)
        if seen.plan.is_noop:
            # No step of it will tell the gateway, though the reason may be another one.
            with contextlib.suppress(OSError, StateFolderError):
                publish(wanted.desired, seen.observed, drivers)
        work = Work(workspace, wanted, drivers, scope, request.verb)
        code = complete(work, seen, release, output, interrupt)
        if request.verb is Verb.STOP and code is ExitCode.OK and is_remembered:
            output.talk(_stopped(request))
        return code


def _stopped(request: Request) -> str:
    start = f"`llm-reconcile start {'--all' if request.all_models else request.name}`"
    if not request.asked.end:
        return f"Stopped until {start}."
    return f"Stopped until {request.asked.end}, or {start}. The first run after that starts it."


def _suspension(reason: str, until: str | None) -> Suspension:
    """What is asked of a stop.

    Raises:
        UsageError: `until` is no time, or none to come.
    """
    now = SystemClock().now()
    here = datetime.datetime.fromtimestamp(int(now), datetime.UTC).astimezone()
    if until is None:
        return Suspension(now, reason)
    try:
        # What has no zone is of the operator's: the machine knows its summer times.
        end = moment_of(until, here).astimezone()
    except (ValueError, OverflowError) as error:
        raise UsageError(
            f"--until {until}: {error}", hint=f"a duration, a time or a day: {EXAMPLES}"
        ) from error
    if end <= here:
        raise UsageError(
            f"--until {until} is over: it is {here:%Y-%m-%d %H:%M %Z} now",
            hint=f"name a moment to come: {EXAMPLES}",
        )
    ahead = end.utcoffset() or datetime.timedelta()
    return Suspension(now, reason, end.timestamp(), int(ahead.total_seconds()))


def _remember(journal: Journal, verb: Verb, drivers: Drivers, output: Output) -> bool:
    """Note the verb; a full disk must not keep anybody from stopping a server."""
    try:
        drivers.state.write(journal)
    except StateFolderError as error:
        if verb is not Verb.STOP:
            raise
        output.say(f"warning: {error.message}: the next apply will start it again", YELLOW)
        return False
    return True


def _hint(verb: Verb, desired: str, flags: str) -> str:
    if not flags:
        return ""
    if verb is Verb.START:
        return f"`llm-reconcile apply {desired} {flags}` lets it through, with all else in the file"
    return f"if that is what you want, add: {flags}"


def _journal(request: Request, models: frozenset[ModelName], drivers: Drivers) -> Journal:
    """The journal as the verb leaves it."""
    journal = drivers.state.read().at(drivers.clock.now())
    match request.verb:
        case Verb.STOP:
            return suspended(journal, models, request.asked, by_name=not request.all_models)
        case Verb.START:
            return tried_again(resumed(journal, models), models)
        case Verb.RESTART:
            stopped = sorted(models & journal.suspended.keys())
            if stopped and not request.all_models:
                hint = f"`llm-reconcile start {stopped[0]}` starts it again"
                raise UsageError(f"{stopped[0]} is stopped", hint=hint)
            return tried_again(journal, models)


def _meant(request: Request, live: set[ModelName]) -> frozenset[ModelName]:
    desired, name = request.wanted.desired, request.name
    if request.all_models == (name is not None):
        raise UsageError(
            "name a model, or say --all", hint=f"there are: {', '.join(desired.models)}"
        )
    if name is not None and name != model_of(InstanceName(name)):
        hint = f"name the model: {model_of(InstanceName(name))}"
        raise UsageError(
            f"{name} is one instance of a model; they stop and start together", hint=hint
        )
    runnable = {
        ModelName(key)
        for key, model in desired.models.items()
        if instance_names(ModelName(key), model)
    }
    if request.verb is Verb.STOP:
        # What runs can be stopped, whatever the file says of it.
        named = model_of(InstanceName(name)) if name else None
        everything = frozenset({*live, *(ModelName(key) for key in desired.models)})
        if named is None:
            return everything
        return frozenset({named if named in live else known_model(named, desired)})
    if name is None:
        return frozenset(runnable)
    model = known_model(name, desired)
    if model not in runnable:
        hint = "let the file say `state: running` and at least one replica, then apply"
        raise UsageError(f"the file does not want {model} to run", hint=hint)
    return frozenset({model})
