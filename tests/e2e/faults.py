"""Running the real command with a fault in it: killed, or told an error, at a moment of its own.

In: a lab, the words of a verb, a `Fault`. Out: its result and the moments that it passed: `before`
and `after` each effect, `within` one before each call that it makes, `outside` of any. A verb that
lives on, as a watch does, can be told its next fault while it runs.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from waiting import PATIENCE_S

from e2e.lab import Lab, Result

PROGRAM = Path(__file__).with_name("launcher.py")
NIGHT = bool(os.environ.get("LLM_RECONCILE_NIGHT"))
"""Every moment, every errno, ten times the dice; otherwise what CI has time for."""
HINTS = {
    errno.ENOSPC: "make room",
    errno.EACCES: "let this user",
    errno.EIO: "dmesg",
    errno.EMFILE: "ulimit -n",
}
"""What people are told to do about an error."""
DEFECTS = ("Traceback", "Errno", "unexpected", "defect", "OSError")
"""Words that no error may be told in."""


@dataclass(frozen=True)
class Fault:
    """What happens to a run."""

    at: str = ""
    """The moment; none happens without one, and all are only noted."""
    errno: int | None = None
    """Fail with this error there; None kills the process."""
    limits: Mapping[str, int] = field(default_factory=dict)
    """What it has of a resource from the beginning on, by the resource's name."""
    lasts: bool = False
    """It happens each time that this moment comes round, until there is another fault."""


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
        self._next = folder / "next"
        self._marks = (0, 0)
        self._turn = 0
        self._lab: Lab | None = None
        self.pid = 0
        self._program = subprocess.Popen(
            [sys.executable, str(PROGRAM)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ if measured else os.environ | {"COVERAGE_PROCESS_START": ""},
            # Of two lines that come at once the second must stay where `select` sees it.
            bufsize=0,
            start_new_session=True,
        )

    def begin(
        self,
        lab: Lab,
        *words: str,
        fault: Fault | None = None,
        waits: Mapping[str, float] | None = None,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> int:
        """Start a verb; returns its pid.

        `waits`: constants of ours, `module:NAME`, that are to be shorter for it. `env`: further
        variables; `cwd`: its folder, if not the root.
        """
        if self.pid:
            self.kill()  # A test that failed has left it running.
        for path in (self._out, self._err, self._book):
            path.write_text("")
        self._marks = (0, 0)
        self._next.unlink(missing_ok=True)
        request = {
            "words": words,
            "cwd": str(cwd or lab.root),
            "env": lab.environment | dict(env or {}),
            "out": str(self._out),
            "err": str(self._err),
            "fault": asdict(fault) if fault else None,
            "book": str(self._book),
            "next": str(self._next),
            "waits": dict(waits or {}),
            "short": {str(lab.state): "state", f"{lab.root}/": "", f"{lab.folder}/": ""},
        }
        assert self._program.stdin is not None
        self._program.stdin.write(f"{json.dumps(request)}\n".encode())
        self.pid = self._number()
        return self.pid

    def arm(self, fault: Fault) -> None:
        """Let this happen to the verb that runs; its moments are counted anew."""
        self._marks = (len(self._book.read_text()), len(self._out.read_text()))
        self._turn += 1
        fresh = self._next.with_suffix(".new")
        # A link's text is read in one piece, and no audit hook hears of it.
        fresh.symlink_to(json.dumps({**asdict(fault), "turn": self._turn}))
        fresh.replace(self._next)

    @property
    def passed(self) -> tuple[str, ...]:
        """The moments since the last `arm`."""
        return tuple(self._book.read_text()[self._marks[0] :].splitlines())

    @property
    def said(self) -> str:
        """What came on stdout since then."""
        return self._out.read_text()[self._marks[1] :]

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
        if not select.select([self._program.stdout], [], [], PATIENCE_S * 4)[0]:
            with contextlib.suppress(ProcessLookupError):
                if self.pid:
                    os.kill(self.pid, signal.SIGKILL)
            self._program.kill()
            self.pid = 0
            said = f"{self._out.read_text()}\n{self._err.read_text()}"
            raise AssertionError(f"it did not end:\n{said}")
        line = self._program.stdout.readline()
        assert line, "the launcher has ended"
        return int(line)

    def close(self) -> None:
        if self.pid:
            self.kill()
        self._program.communicate()


class Quick:
    """Verbs that are run to their end: most of a process of its own would be its imports.

    In each there is one run at a time; there are as many as there are runs at once.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._all: list[Launcher] = []
        self._free: list[Launcher] = []

    def __call__(
        self, lab: Lab, *words: str, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> Result:
        """Run a verb."""
        try:
            one = self._free.pop()
        except IndexError:
            folder = self._folder / str(len(self._all))
            folder.mkdir()
            one = Launcher(folder)
            self._all.append(one)
        one.begin(lab, *words, env=env, cwd=cwd)
        result = one.end().result
        self._free.append(one)
        return result

    def close(self) -> None:
        for one in self._all:
            one.close()


@contextmanager
def launcher(folder: Path, *, measured: bool = True) -> Iterator[Launcher]:
    """A launcher that ends with the test; `measured` False keeps coverage out of its commands."""
    made = Launcher(folder, measured=measured)
    try:
        yield made
    finally:
        made.close()
