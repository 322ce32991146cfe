"""What all verbs share: their common options, the error boundary, signals.

In: a verb's function. Out: the same with its errors turned into messages and exit codes.
The one place where any exception at all is caught for the user.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Annotated, ParamSpec

import typer

from reconciler.cli.output import DIM, Output
from reconciler.core.fields import parse_duration, parse_size
from reconciler.core.os_errors import explain_os
from reconciler.drivers import effects
from reconciler.drivers.fetch.order import Limits
from reconciler.errors import ExitCode, InterruptedRunError, ReconcileError, UsageError


def duration(value: object) -> float:
    """A time as the desired file writes it; a bare number is seconds.

    Raises:
        typer.BadParameter: it is none.
    """
    is_number = isinstance(value, str) and value.replace(".", "", 1).isdecimal()
    try:
        return parse_duration(float(str(value)) if is_number else value)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def rate(value: object) -> int:
    """Bytes a second: a size as the desired file writes it, or as curl does (`500k`, `10M`).

    Raises:
        typer.BadParameter: it is none.
    """
    text = str(value).strip().removesuffix("/s")
    # curl's letters are powers of 1024 (curl(1), --limit-rate).
    binary = {"k": "KiB", "m": "MiB", "g": "GiB"}.get(text[-1:].lower())
    try:
        found = (
            int(text) if text.isdecimal() else parse_size(text[:-1] + binary if binary else text)
        )
    except ValueError as error:
        raise typer.BadParameter("expected bytes a second, like 50MB/s, 500k or 10M") from error
    if found < 1:
        raise typer.BadParameter("it must be more than nothing")
    return found


RootOption = Annotated[
    Path | None,
    typer.Option("--root", help="The folder that relative paths start from (default: found)."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON on stdout instead of text.")]
NoColorOption = Annotated[
    bool, typer.Option("--no-color", help="No colour (also: NO_COLOR in the environment).")
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Only data and errors.")]
VerboseOption = Annotated[
    bool, typer.Option("--verbose", "-v", help="Tell every change of the machine as it happens.")
]
AllOption = Annotated[bool, typer.Option("--all", help="All models.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
FileArgument = Annotated[
    Path, typer.Argument(metavar="FILE", help="The desired file, or a directory of them.")
]
AppliedArgument = Annotated[
    Path,
    typer.Argument(metavar="FILE", help="The desired file, a directory of them, or a saved plan."),
]
LockTimeoutOption = Annotated[
    float,
    typer.Option(
        "--lock-timeout",
        metavar="TIME",
        parser=duration,
        show_default=False,
        help="Wait so long for another run to end (default: 10s).",
    ),
]
LockedOption = Annotated[
    bool, typer.Option("--locked", help="Fail where the lock file would have to change.")
]
OfflineOption = Annotated[
    bool, typer.Option("--offline", help="Ask no hub and no URL: go by what is locked and on disk.")
]
ParallelismOption = Annotated[
    int | None,
    typer.Option(
        "--parallelism", metavar="N", min=1, max=64, help="Download N files at once (default: 2)."
    ),
]
LimitRateOption = Annotated[
    int | None,
    typer.Option(
        "--limit-rate",
        metavar="RATE",
        parser=rate,
        help="Download so fast at most, all files together, like 50MB/s.",
    ),
]
TimeoutOption = Annotated[
    float | None,
    typer.Option(
        "--timeout",
        metavar="TIME",
        parser=duration,
        help="Give up after this time, like 30s or 5m.",
    ),
]
AllowDestroyOption = Annotated[
    int,
    typer.Option(
        "--allow-destroy", metavar="N", min=0, help="Let up to N running servers be stopped."
    ),
]
SwitchFileOption = Annotated[
    bool, typer.Option("--switch-file", help="Let this root follow another desired file.")
]
AllowProtectedOption = Annotated[
    list[str] | None,
    typer.Option("--allow-protected", metavar="NAME", help="Let this protected model be touched."),
]


def download_limits(parallelism: int | None, limit_rate: int | None) -> Limits:
    """How gently to download, as the options say."""
    usual = Limits()
    return replace(usual, files=parallelism or usual.files, bytes_per_s=limit_rate)


LEAVING = "Interrupted: finishing what has begun. Once more to leave at once."

P = ParamSpec("P")


def make_output(
    *, no_color: bool = False, quiet: bool = False, json: bool = False, verbose: bool = False
) -> Output:
    """The output that the common options ask for.

    Raises:
        UsageError: they contradict each other.
    """
    if quiet and verbose:
        raise UsageError(
            "--quiet and --verbose contradict each other", hint="leave one of them out"
        )
    dumb = os.environ.get("TERM") == "dumb"
    colour = not (no_color or dumb or os.environ.get("NO_COLOR"))
    output = Output(colour=colour, quiet=quiet, json=json)
    if verbose:
        _tell_effects(output)
    return output


def _tell_effects(output: Output) -> None:
    """From now on, say each change of the machine just before it is made."""
    known = effects.hook

    def tell(what: str) -> None:
        known(what)
        moment, _, effect = what.partition(" ")
        if moment != "before":
            return
        # A reader that has gone must not end a step in the middle of its effects.
        with suppress(OSError):
            if output.json:
                output.event(event="effect", text=effect)
            else:
                output.talk(f"  {effect}", DIM)

    effects.hook = tell


def verb(function: Callable[P, ExitCode]) -> Callable[P, None]:
    """Make a function a verb: it returns its exit code, or raises a `ReconcileError`."""

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        output = make_output(no_color=bool(kwargs.get("no_color")))
        try:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            code = function(*args, **kwargs)
        except KeyboardInterrupt:
            # Only a verb that looks gets here: what changes things has a handler of its own.
            output.talk("Interrupted.")
            code = ExitCode.INTERRUPTED
        except ReconcileError as error:
            output.error(error)
            code = error.exit_code
        except OSError as error:
            if not isinstance(error, BrokenPipeError):
                message, hint = explain_os(error)
                output.error(ReconcileError(message, hint=hint))
            # The reader has gone (`| head`), or its disk is full: let no flush at exit complain.
            with suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = ExitCode.ERROR
        except Exception as error:
            if os.environ.get("LLM_RECONCILE_DEBUG"):
                raise
            message = f"unexpected {type(error).__name__}: {error}"
            hint = "this is a defect; LLM_RECONCILE_DEBUG=1 shows the traceback for a report"
            output.error(ReconcileError(message, hint=hint))
            code = ExitCode.ERROR
        raise SystemExit(code)

    return run


class Flag:
    """A `Cancel` that a signal handler may set: unlike an Event it has no lock to deadlock on."""

    def __init__(self) -> None:
        self._is_set = False

    def set(self) -> None:
        """Ask the run to end."""
        self._is_set = True

    def is_set(self) -> bool:
        """Whether it was asked to."""
        return self._is_set

    def wait(self, timeout: float) -> bool:
        """Sleep in short slices; True as soon as the run is to end."""
        deadline = time.monotonic() + timeout
        while not self._is_set and (left := deadline - time.monotonic()) > 0:
            time.sleep(min(left, 0.05))
        return self._is_set


class Interrupt:
    """A run's cancel signal, and which exit code it means."""

    def __init__(self) -> None:
        self.event = Flag()
        self.code = ExitCode.INTERRUPTED
        self.is_asking = False
        self.is_looking = False

    @contextmanager
    def looking(self) -> Iterator[None]:
        """While it lasts, nothing was done yet: a signal ends the process, whoever it waits for."""
        self.is_looking = True
        try:
            yield
        finally:
            self.is_looking = False

    @contextmanager
    def asking(self) -> Iterator[None]:
        """While it lasts, a question stands and nothing runs: a signal ends the verb at once."""
        self.is_asking = True
        try:
            yield
        finally:
            self.is_asking = False


@contextmanager
def leaving_at_once(output: Output) -> Iterator[None]:
    """While it lasts, Ctrl-C or TERM ends the process: it only looks, and may wait for answers."""

    def on_signal(number: int, _frame: FrameType | None) -> None:
        output.urgent("Interrupted.")
        os._exit(ExitCode.TERMINATED if number == signal.SIGTERM else ExitCode.INTERRUPTED)

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, on_signal) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def interruptible(output: Output, say: str = LEAVING) -> Iterator[Interrupt]:
    """While it lasts, Ctrl-C or TERM asks the run to end; the second time it ends at once."""
    interrupt = Interrupt()

    def on_signal(number: int, _frame: FrameType | None) -> None:
        terminated = number == signal.SIGTERM
        interrupt.code = ExitCode.TERMINATED if terminated else ExitCode.INTERRUPTED
        if interrupt.is_looking:
            output.urgent("Interrupted; nothing was done.")
            os._exit(interrupt.code)
        if interrupt.is_asking:
            output.urgent("")
            raise InterruptedRunError("interrupted; nothing was done", exit_code=interrupt.code)
        if interrupt.event.is_set():
            # Threads may be in the middle of anything; the next apply completes what is left.
            os._exit(interrupt.code)
        interrupt.event.set()
        if say:
            output.urgent(say)

    before = {
        number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield interrupt
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
