"""Running the real command with a fault in it: killed, or told an error, at a moment of its own.

In: a lab, the words of a verb, a `Fault`. Out: its result and the moments that it passed: `before`
and `after` each effect, `within` one before each call that it makes, `outside` of any.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from e2e.lab import Lab, Result

PROGRAM = Path(__file__).with_name("launcher.py")
NIGHT = bool(os.environ.get("LLM_RECONCILE_NIGHT"))
"""Every moment, every errno, ten times the dice; otherwise what CI has time for."""


@dataclass(frozen=True)
class Fault:
    """What happens to a run."""

    at: str = ""
    """The moment; none happens without one, and all are only noted."""
    errno: int | None = None
    """Fail with this error there; None kills the process."""
    limits: Mapping[str, int] = field(default_factory=dict)
    """What it has of a resource from the beginning on, by the resource's name."""


@dataclass(frozen=True)
class Ended:
    """How a run ended, and what it passed."""

    result: Result
    moments: tuple[str, ...]

    @property
    def code(self) -> int:
        return self.result.code

    @property
    def was_killed(self) -> bool:
        return self.code == -signal.SIGKILL


class Launcher:
    """Starts the command, one run at a time."""

    def __init__(self, folder: Path, *, measured: bool = True) -> None:
        self._out, self._err, self._book = (folder / name for name in ("out", "err", "book"))
        self._lab: Lab | None = None
        self.pid = 0
        self._program = subprocess.Popen(
            [sys.executable, str(PROGRAM)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ if measured else os.environ | {"COVERAGE_PROCESS_START": ""},
            text=True,
            start_new_session=True,
        )

    def begin(self, lab: Lab, *words: str, fault: Fault | None = None) -> int:
        """Start a verb; returns its pid."""
        if self.pid:
            self.kill()  # A test that failed has left it running.
        for path in (self._out, self._err, self._book):
            path.write_text("")
        request = {
            "words": words,
            "cwd": str(lab.root),
            "env": lab.environment,
            "out": str(self._out),
            "err": str(self._err),
            "fault": asdict(fault) if fault else None,
            "book": str(self._book),
            "short": {str(lab.state): "state", f"{lab.root}/": "", f"{lab.folder}/": ""},
        }
        assert self._program.stdin is not None
        self._program.stdin.write(f"{json.dumps(request)}\n")
        self._program.stdin.flush()
        self.pid = self._number()
        return self.pid

    def end(self) -> Ended:
        """Wait for it."""
        code, self.pid = self._number(), 0
        result = Result(code, self._out.read_text(), self._err.read_text())
        return Ended(result, tuple(self._book.read_text().splitlines()))

    def run(self, lab: Lab, *words: str, fault: Fault | None = None) -> Ended:
        """Run a verb to its end."""
        self.begin(lab, *words, fault=fault)
        return self.end()

    def kill(self) -> Ended:
        """kill -9, if it has not ended meanwhile."""
        assert self.pid > 1
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        return self.end()

    def _number(self) -> int:
        assert self._program.stdout is not None
        line = self._program.stdout.readline()
        assert line, "the launcher has ended"
        return int(line)

    def close(self) -> None:
        if self.pid:
            self.kill()
        self._program.communicate()


@contextmanager
def launcher(folder: Path, *, measured: bool = True) -> Iterator[Launcher]:
    """A launcher that ends with the test; `measured` False keeps coverage out of its commands."""
    made = Launcher(folder, measured=measured)
    try:
        yield made
    finally:
        made.close()
