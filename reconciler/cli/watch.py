"""The verb that keeps the machine as the file says: watch.

In: FILE and flags. Out: a line for all that happens (or, with --json, an event), for months.
Ctrl-C and TERM end it, and leave the servers running; HUP lets it look at once.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from types import FrameType
from typing import Annotated

import typer

from reconciler.app import Workspace, open_file
from reconciler.cli.apply import stop_all
from reconciler.cli.events import EVENT_COLOURS
from reconciler.cli.output import DIM, GREEN, RED, YELLOW, Output
from reconciler.cli.reporting import PLAIN_EVERY_S
from reconciler.cli.verbs import (
    FileArgument,
    Flag,
    JsonOption,
    LimitRateOption,
    NoColorOption,
    ParallelismOption,
    QuietOption,
    RootOption,
    VerboseOption,
    download_limits,
    duration,
    make_output,
    verb,
)
from reconciler.core.events import Event, EventKind
from reconciler.core.present import DONE_WORDS, human_bytes
from reconciler.core.text import printable, with_hint
from reconciler.core.transfers import total_of
from reconciler.drivers.clock import SystemClock
from reconciler.drivers.event_log import EventLog
from reconciler.drivers.git_branch import GitBranch
from reconciler.drivers.heralds import Addressees
from reconciler.drivers.wake import Wake
from reconciler.errors import ExitCode, UsageError
from reconciler.execute import Outcome, Progress, Report, StepResult
from reconciler.watch.chronicle import Chronicle
from reconciler.watch.running import ASKED, FETCH_EVERY_S, Git, Running


def register(app: typer.Typer) -> None:
    """Add this verb to the app."""
    app.command()(watch)


@verb
def watch(
    file: FileArgument,
    root: RootOption = None,
    stop_servers: Annotated[
        bool, typer.Option("--stop-servers", help="When it ends, stop all servers and nginx too.")
    ] = False,
    git: Annotated[
        str | None,
        typer.Option(
            "--git", metavar="REMOTE/BRANCH", help="Follow FILE as a branch has it, not as it is."
        ),
    ] = None,
    interval: Annotated[
        float | None,
        typer.Option(
            "--interval",
            metavar="TIME",
            parser=duration,
            show_default=False,
            help="With --git: fetch so often (default: 60s).",
        ),
    ] = None,
    require_signature: Annotated[
        bool,
        typer.Option("--require-signature", help="With --git: follow trusted signed commits only."),
    ] = False,
    notify_command: Annotated[
        str | None,
        typer.Option(
            "--notify-command", metavar="CMD", help="Run this for each outcome: JSON on its stdin."
        ),
    ] = None,
    notify_url: Annotated[
        str | None,
        typer.Option(
            "--notify-url",
            metavar="URL",
            envvar="LLM_RECONCILE_NOTIFY_URL",
            help="POST each outcome as JSON to this http or https URL.",
        ),
    ] = None,
    json: JsonOption = False,
    no_color: NoColorOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    parallelism: ParallelismOption = None,
    limit_rate: LimitRateOption = None,
) -> ExitCode:
    """Keep the machine as FILE says, until it is told to end.

    Follows the file, starts again what ended, replaces what is wedged. Ctrl-C ends it;
    the servers go on.
    """
    output = make_output(no_color=no_color, quiet=quiet, json=json, verbose=verbose)
    workspace = open_file(file, root, os.environ)
    limits = download_limits(parallelism, limit_rate)
    to, log = Addressees.of(notify_command, notify_url), EventLog(workspace.site.event_log)
    cancel, wake = Flag(), Wake()
    with (
        _signals(cancel, wake, output),
        closing(Chronicle(Narrator(output), log, SystemClock(), to)) as telling,
    ):
        follows = _git(workspace, git, interval, needs_signature=require_signature)
        running = Running(workspace, limits, cancel, wake, telling, follows)
        what = f"{git} for {workspace.typed}" if git else workspace.typed
        said = f"Watching {what}. Ctrl-C ends this; the servers go on."
        running.run(lambda: output.talk(said, DIM))
    if stop_servers:
        return _stop(workspace, output)
    output.talk("The watch has ended; the servers go on.")
    return ExitCode.OK


def _git(
    workspace: Workspace, git: str | None, every_s: float | None, *, needs_signature: bool
) -> Git | None:
    if git is None:
        given = {"--interval": every_s is not None, "--require-signature": needs_signature}
        if alone := [flag for flag, is_given in given.items() if is_given]:
            raise UsageError(
                f"{alone[0]} needs --git REMOTE/BRANCH", hint="add it, or leave the other out"
            )
        return None
    branch = GitBranch(workspace.site, workspace.desired_path, git, needs_signature=needs_signature)
    return Git(branch, FETCH_EVERY_S if every_s is None else every_s)


def _stop(workspace: Workspace, output: Output) -> ExitCode:
    output.talk("The watch has ended; now the servers.")
    return stop_all(workspace, output, protected=frozenset(workspace.parse().desired.models))


@contextmanager
def _signals(cancel: Flag, wake: Wake, output: Output) -> Iterator[None]:
    """The first INT or TERM asks it to end, the second ends it; HUP lets it look."""

    def end(_number: int, _frame: FrameType | None) -> None:
        if cancel.is_set():
            os._exit(ExitCode.INTERRUPTED)
        cancel.set()
        wake.set("a signal")
        output.urgent("Ending: what was begun is finished first. Once more ends it at once.")

    def look(_number: int, _frame: FrameType | None) -> None:
        wake.set(ASKED)

    handlers = {signal.SIGINT: end, signal.SIGTERM: end, signal.SIGHUP: look}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Narrator:
    """Tells people, or as JSON whoever reads, what happens."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._told: dict[str, float] = {}
        self._mutex = threading.Lock()

    def say(self, event: Event) -> None:
        """One line, or one event."""
        end = {"count": event.count, "next_start": event.next_start}
        self._say(event.kind, event.about, event.text, **({} if event.count is None else end))

    def _say(self, kind: str, about: str, text: str, **more: object) -> None:
        # A reader that has gone must not end the watch.
        with suppress(OSError):
            if self._output.json:
                self._output.event(event=kind, about=about, text=printable(text), **more)
            else:
                word = "" if kind in {EventKind.TROUBLE, EventKind.OVER} else f"{kind}: "
                self._line(f"{about}: {word}{printable(text)}", EVENT_COLOURS.get(kind, ""))

    def report(self) -> Report:
        """Tells of steps."""
        return self._hear

    def _hear(self, event: Progress | StepResult) -> None:
        address = event.step.address
        if isinstance(event, Progress):
            if event.files and self._is_due(address):
                total = total_of(event.files)
                done = f"{human_bytes(total.done)} of {human_bytes(total.size)}"
                self._say("progress", address, done)
            return
        with suppress(OSError):
            self._ended(event, address)

    def _ended(self, result: StepResult, address: str) -> None:
        if self._output.json:
            more = {"hint": result.hint} if result.hint else {}
            self._output.event(
                event="step",
                address=address,
                outcome=result.outcome,
                seconds=round(result.seconds, 3),
                reason=result.reason or None,
                **more,
            )
        elif result.outcome is Outcome.DONE:
            word = DONE_WORDS[type(result.step.effect)]
            self._line(f"{address}: {word} ({result.seconds:.1f} s)", GREEN)
        elif result.outcome is Outcome.FAILED:
            self._line(f"{address}: failed: {with_hint(result.reason, result.hint)}", RED)
        else:
            self._line(f"{address}: {result.outcome}: {result.reason}", YELLOW)

    def _line(self, text: str, colour: str) -> None:
        self._output.talk(f"{time.strftime('%H:%M:%S')} {text}", colour)

    def _is_due(self, address: str) -> bool:
        now = time.monotonic()
        with self._mutex:
            is_due = now - self._told.get(address, now - PLAIN_EVERY_S) >= PLAIN_EVERY_S
            if is_due:
                self._told[address] = now
            return is_due
