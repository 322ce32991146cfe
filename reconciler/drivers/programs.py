"""Asking a program a short question: `--help`, `--version`, `nvidia-smi --query-...`.

In: a command line. Out: how it ended and what it said. It is for programs that only look, and for
an operator's own that is to be told of something; whatever changes the machine for us is started by
`effects`. One that does not answer in time is ended with all that it started.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reconciler.drivers.base import Cancel
from reconciler.errors import InterruptedRunError

_POLL_S = 0.02
_MOST_OUTPUT = 2**20


@dataclass(frozen=True, slots=True)
class Answer:
    """What a program said; `code` as subprocess gives it (negative: the signal)."""

    code: int
    out: str
    talk: str
    raw: bytes = b""
    """`out` as it came."""


def ask(
    words: Sequence[str],
    *,
    timeout: float,
    environment: Mapping[str, str] | None = None,
    given: str | None = None,
) -> Answer:
    """Run a program to its end; without an `environment` it gets ours. `given` is its stdin.

    Raises:
        TimeoutError: it gave no answer within `timeout` seconds.
        OSError: it cannot be run.
    """
    process = subprocess.Popen(
        list(words),
        env=None if environment is None else dict(environment),
        stdin=subprocess.DEVNULL if given is None else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    with process:
        try:
            out, talk = process.communicate(None if given is None else given.encode(), timeout)
        except subprocess.TimeoutExpired as error:
            # The whole group: a wrapper's child would keep the pipe, and us, waiting.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise TimeoutError(f"{words[0]} gave no answer within {timeout:g} s") from error
    text = out.decode(errors="replace")
    return Answer(process.returncode, text, talk.decode(errors="replace"), out)


def run_command(words: Sequence[str], *, cwd: str, timeout: float, cancel: Cancel) -> Answer:
    """Run an operator's own command to its end, in our environment; both its outputs are `out`.

    What it starts may go on, and keep its output open: nobody waits for that.

    Raises:
        TimeoutError: it did not end within `timeout` seconds.
        InterruptedRunError: the run is to end.
        OSError: it cannot be run.
    """
    with os.fdopen(os.memfd_create("output"), "rb") as output:
        process = subprocess.Popen(
            list(words),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=output.fileno(),
            stderr=output.fileno(),
            start_new_session=True,
        )
        deadline, pause = time.monotonic() + timeout, _POLL_S
        while process.poll() is None:
            is_late = time.monotonic() >= deadline
            if is_late or cancel.wait(pause):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                if is_late:
                    raise TimeoutError(f"{words[0]} did not end within {timeout:g} s")
                raise InterruptedRunError(f"interrupted while {words[0]} ran")
            pause = min(pause * 1.5, 10 * _POLL_S)
        output.seek(max(0, os.fstat(output.fileno()).st_size - _MOST_OUTPUT))
        raw = output.read()
    return Answer(process.returncode, raw.decode(errors="replace"), "", raw)
