"""A verb at a terminal: what it writes is collected, answers are typed.

In: a lab and a verb's words. Out: its text, its exit code. Only the standard library's pty.
"""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import termios
import time
from types import TracebackType
from typing import Self

from waiting import PATIENCE_S

from e2e.lab import Lab

CTRL_C = "\x03"


class Terminal:
    """One verb with a terminal of its own."""

    def __init__(self, lab: Lab, *words: str, columns: int = 80, **environment: str) -> None:
        self._master, slave = pty.openpty()
        termios.tcsetwinsize(slave, (24, columns))
        self.text = ""
        self._child = lab.popen(
            *words,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={"TERM": "xterm", **environment},
            preexec_fn=take_terminal,
        )
        os.close(slave)
        self._lab = lab

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._master)

    @property
    def pid(self) -> int:
        return self._child.pid

    def _read(self, seconds: float) -> bool:
        """Collect what is there; False at the end."""
        if not select.select([self._master], [], [], seconds)[0]:
            return True
        with contextlib.suppress(OSError):
            part = os.read(self._master, 65536)
            self.text += part.decode(errors="replace")
            return bool(part)
        return False

    @property
    def lines(self) -> list[str]:
        """What stands on the screen, without colours."""
        return re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", self.text).replace("\r", "").splitlines()

    def until(self, words: str) -> None:
        """Wait for these words."""
        deadline = time.monotonic() + PATIENCE_S
        while words not in self.text:
            assert time.monotonic() < deadline, f"no {words!r} in:\n{self.text}"
            assert self._read(0.05) or words in self.text, f"ended without {words!r}:\n{self.text}"

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def end(self) -> int:
        """Wait for its end; the exit code."""
        deadline = time.monotonic() + PATIENCE_S
        while self._read(0.05):
            assert time.monotonic() < deadline, f"it does not end:\n{self.text}"
        return self._lab.end(self._child).code


def take_terminal() -> None:
    """Make stdin the controlling terminal, so that Ctrl-C reaches the child."""
    os.close(os.open(os.ttyname(0), os.O_RDWR))
