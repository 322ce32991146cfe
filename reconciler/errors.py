"""All errors of llm-reconcile, and the diagnostics that point into a user's file.

Every error has a message (what is wrong) and a hint (what to do next); only `cli` prints them.
The tree of errors stands in the docstring of `ReconcileError`. Nothing here decides or prints.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum


class ExitCode(IntEnum):
    """Exit codes of every verb; docs/reference/exit-codes.md is made of this."""

    OK = 0
    """Fine; `plan`: also with changes."""
    ERROR = 1
    """An error: bad usage, a file that does not parse or validate. Nothing was done."""
    CHANGES = 2
    """Only `plan` and `drift` with `--detailed-exitcode`: there are changes."""
    NOT_CONVERGED = 3
    """It ran, but not all that is wanted is ready: blocked, failed, down, rolled back."""
    REFUSED = 4
    """Refused by a guard, nothing was done (`plan` too, when `apply` would be refused)."""
    LOCKED = 5
    """Another run holds the lock of this root; it is named."""
    INTERRUPTED = 130
    """Interrupted by Ctrl-C."""
    TERMINATED = 143
    """Ended by TERM."""


class Severity(StrEnum):
    """How much a diagnostic weighs: an error stops the verb, a warning does not."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A place in a file, line and column counted from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One thing wrong with (or worth saying about) a user's file."""

    severity: Severity
    summary: str
    position: Position | None = None
    hint: str = ""

    def __str__(self) -> str:
        where = f"{self.position}: " if self.position else ""
        hint = f"\n  {self.hint}" if self.hint else ""
        return f"{where}{self.summary}{hint}"

    @property
    def line(self) -> str:
        """All of it where there is one line for it: in events, logs and notices."""
        head, *hint = str(self).split("\n  ", 1)
        return "; ".join((head, *hint))


class ReconcileError(Exception):
    """The root of all errors that a user may see.

    ReconcileError                exit 1
    ├── InvalidDesiredError       exit 1  the desired file, each mistake at file:line:col
    ├── UsageError                exit 1  wrong names, flags that do not go together
    ├── StateFolderError          exit 1  the state folder cannot be used
    ├── RefusedError              exit 4  a plan guard says no; nothing was done
    ├── LockHeldError             exit 5  another run holds the lock
    ├── GitError                  exit 1  git or a remote gives no answer
    ├── StepError                 exit 3  one step of a plan failed; carries `retryable`
    │   ├── EngineError                   the engine is missing, or its server died
    │   ├── HubError                      the hub or a URL said no or cannot be reached
    │   └── GatewayError                  nginx rejected or did not take its configuration
    └── InterruptedRunError       exit 130, or 143 by TERM
    """

    exit_code = ExitCode.ERROR

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class InvalidDesiredError(ReconcileError):
    """The desired file does not parse or validate."""

    def __init__(self, diagnostics: tuple[Diagnostic, ...]) -> None:
        super().__init__("\n".join(str(d) for d in diagnostics))
        self.diagnostics = diagnostics


class UsageError(ReconcileError):
    """A verb was called in a way that cannot be meant."""


class StateFolderError(ReconcileError):
    """The state folder is missing rights, belongs to somebody else, or its path is too long."""


class RefusedError(ReconcileError):
    """A plan guard refused the whole plan; nothing was done."""

    exit_code = ExitCode.REFUSED


class LockHeldError(ReconcileError):
    """Another run holds a lock of this root."""

    exit_code = ExitCode.LOCKED


class StepError(ReconcileError):
    """A step of a plan failed; the steps that need it are skipped."""

    exit_code = ExitCode.NOT_CONVERGED

    def __init__(self, message: str, *, hint: str = "", retryable: bool = True) -> None:
        super().__init__(message, hint=hint)
        self.retryable = retryable


class EngineError(StepError):
    """The engine is missing, or the server that it started died."""


class HubError(StepError):
    """The model hub, or a URL's server, refused or could not be reached.

    `asked_pause` is what it said in `Retry-After`, in its own words.
    """

    def __init__(
        self, message: str, *, hint: str = "", retryable: bool = True, asked_pause: str = ""
    ) -> None:
        super().__init__(message, hint=hint, retryable=retryable)
        self.asked_pause = asked_pause


class GatewayError(StepError):
    """nginx is missing, rejected its configuration, or did not take it."""


class GitError(ReconcileError):
    """git, or the remote that it asks, gives no answer."""


class InterruptedRunError(ReconcileError):
    """The user or a signal asked the run to end."""

    def __init__(self, message: str, *, exit_code: ExitCode = ExitCode.INTERRUPTED) -> None:
        super().__init__(message)
        self.exit_code = exit_code
