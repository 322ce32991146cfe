"""Asking a program a short question: `--help`, `--version`, `nvidia-smi --query-...`.

In: a command line. Out: how it ended and what it said. It is for programs that only look; whatever
changes the machine is started by `effects`. One that does not answer in time is ended with all
that it started.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Answer:
    """What a program said; `code` as subprocess gives it (negative: the signal)."""

    code: int
    out: str
    talk: str


def ask(
    words: Sequence[str], *, timeout: float, environment: Mapping[str, str] | None = None
) -> Answer:
    """Run a program to its end; without an `environment` it gets ours.

    Raises:
        TimeoutError: it gave no answer within `timeout` seconds.
        OSError: it cannot be run.
    """
    process = subprocess.Popen(
        list(words),
        env=None if environment is None else dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    with process:
        try:
            out, talk = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired as error:
            # The whole group: a wrapper's child would keep the pipe, and us, waiting.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise TimeoutError(f"{words[0]} gave no answer within {timeout:g} s") from error
    return Answer(process.returncode, out.decode(errors="replace"), talk.decode(errors="replace"))
