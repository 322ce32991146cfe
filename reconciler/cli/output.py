"""Writing for people: data on stdout, talk on stderr, colour only where it helps.

In: finished texts of the core. Out: the terminal. Colour goes by the sign at a line's start and
carries no meaning of its own; NO_COLOR, a pipe or a dumb terminal turn it off.
"""

from __future__ import annotations

import json
import os
import sys
import textwrap
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TextIO, TypedDict

from reconciler.core.columns import grid, row_lines
from reconciler.errors import Diagnostic, InvalidDesiredError, ReconcileError, Severity

RED, GREEN, YELLOW, CYAN, BOLD, DIM = "31", "32", "33", "36", "1", "2"
_SIGN_COLOURS = {
    "+": GREEN,
    "-": RED,
    "~": YELLOW,
    "-/+": YELLOW,
    "+/-": YELLOW,
    ">": CYAN,
    "!": RED,
}


class _Wrap(TypedDict):
    break_long_words: bool
    break_on_hyphens: bool
    replace_whitespace: bool


_WRAP = _Wrap(break_long_words=False, break_on_hyphens=False, replace_whitespace=False)
"""A path or a name stays whole, so that it can be copied."""


class _Screen:
    """The live lines at the bottom of a terminal, whoever writes to it."""

    def __init__(self) -> None:
        self.lines = 0
        self.lock = threading.RLock()

    def clear(self) -> None:
        """Take the live lines away; the caller holds the lock."""
        if self.lines:
            sys.stderr.write("\r\x1b[2K" + "\x1b[A\x1b[2K" * (self.lines - 1))
            sys.stderr.flush()
            self.lines = 0


_screen = _Screen()


@dataclass
class Output:
    """One run's stdout and stderr."""

    colour: bool = True
    quiet: bool = False
    json: bool = False

    def data(self, text: str) -> None:
        """Write to stdout as it is."""
        with _screen.lock:
            _screen.clear()
            sys.stdout.write(text if text.endswith("\n") else f"{text}\n")
            sys.stdout.flush()

    def prose(self, text: str) -> None:
        """Write sentences to stdout; on a terminal, wrapped between words."""
        self.data(_wrapped(text, self._width(sys.stdout)))

    def document(self, value: object) -> None:
        """Write one JSON document."""
        self.data(json.dumps(value, indent=2, ensure_ascii=False))

    def event(self, **values: object) -> None:
        """Write one JSON event a line."""
        with _screen.lock:
            self.data(json.dumps(values, ensure_ascii=False))

    def talk(self, text: str, colour: str = "") -> None:
        """Write a line to stderr, unless it is to be quiet."""
        if not self.quiet:
            self.say(text, colour)

    def say(self, text: str, colour: str = "") -> None:
        """Write a line to stderr, above the progress line if there is one."""
        with _screen.lock:
            _screen.clear()
            text = _wrapped(text, self._width(sys.stderr))
            sys.stderr.write(f"{self.paint(text, colour, terminal=sys.stderr.isatty())}\n")
            sys.stderr.flush()

    def urgent(self, text: str) -> None:
        """Write a line to stderr from a signal handler, in the middle of anything at all.

        Straight to the descriptor: the stream, or our lock, may be in use by what it interrupted.
        """
        if not self.quiet:
            below = "\n" if _screen.lines else ""
            # They stay where they are: what is written next must not go up over this text.
            _screen.lines = 0
            os.write(sys.stderr.fileno(), f"{below}{text}\n".encode())

    def progress(self, *lines: str) -> None:
        """Replace the live lines at the bottom of a terminal; nothing elsewhere."""
        if self.quiet or not self.is_live:
            return
        with _screen.lock:
            width, rows = os.get_terminal_size(sys.stderr.fileno())
            # What has scrolled away cannot be replaced any more.
            shown = [line[: width - 1] for line in lines[-max(rows - 1, 1) :]]
            _screen.clear()
            sys.stderr.write("\n".join(shown))
            sys.stderr.flush()
            _screen.lines = len(shown)

    @property
    def live_width(self) -> int:
        """Columns of the live lines."""
        return os.get_terminal_size(sys.stderr.fileno()).columns - 1

    @property
    def is_live(self) -> bool:
        """Whether stderr is a terminal that can redraw a line."""
        return sys.stderr.isatty() and os.environ.get("TERM") != "dumb" and not self.json

    def paint(self, text: str, colour: str, *, terminal: bool) -> str:
        """The text in a colour, if colour is wanted and seen."""
        if not colour or not self.colour or not terminal:
            return text
        return f"\x1b[{colour}m{text}\x1b[0m"

    def table(
        self,
        header: Sequence[str],
        rows: Sequence[Sequence[str]],
        column: int = 0,
        colours: Sequence[str] = (),
    ) -> None:
        """Write aligned columns, with the cells of one column in colours of their own.

        On a terminal names give way and long texts go on below; elsewhere all is as it is.
        """
        width = self._width(sys.stdout)
        fitted = grid((header, *rows), width)
        terminal = sys.stdout.isatty()
        painted = [
            self.paint(one, BOLD, terminal=terminal) for one in row_lines(header, fitted, width)
        ]
        start = fitted.start(column)
        for number, row in enumerate(rows):
            line, *more = row_lines(row, fitted, width)
            end = start + len(row[column])
            colour = colours[number] if colours else ""
            cell = self.paint(line[start:end], colour, terminal=terminal)
            painted += [line[:start] + cell + line[end:], *more]
        self.data("\n".join(painted))

    @staticmethod
    def _width(stream: TextIO) -> int:
        """Columns of the terminal behind a stream; without one there is no limit."""
        if not stream.isatty():
            return sys.maxsize
        return os.get_terminal_size(stream.fileno()).columns or sys.maxsize

    def plan(self, text: str) -> None:
        """Write a plan's text, coloured by its signs, to stdout."""
        terminal, width = sys.stdout.isatty(), self._width(sys.stdout)
        lines = []
        for line in text.splitlines():
            sign = line[:4].strip()
            is_headline = line[:3].strip() in _SIGN_COLOURS and line[4:5].strip()
            colour = _SIGN_COLOURS.get(sign, "") if is_headline else ""
            colour = BOLD if line.startswith(("Plan:", "No changes.")) else colour
            colour = RED if line.startswith("Refused:") else colour
            lines.append(self.paint(_wrapped(line, width), colour, terminal=terminal))
        self.data("\n".join(lines))

    def error(self, error: ReconcileError) -> None:
        """Write an error and what to do about it."""
        found = (
            error.diagnostics
            if isinstance(error, InvalidDesiredError)
            else (Diagnostic(Severity.ERROR, error.message, hint=error.hint),)
        )
        terminal, width = sys.stderr.isatty(), self._width(sys.stderr)
        with _screen.lock:
            _screen.clear()
            for one in found:
                first, *rest = _wrapped(f"{one.severity}: {one}", width).splitlines()
                word = self._severity(one.severity, terminal=terminal)
                lines = [word + first.removeprefix(f"{one.severity}: "), *rest]
                sys.stderr.write("".join(f"{line}\n" for line in lines))
            sys.stderr.flush()

    def _severity(self, severity: Severity, *, terminal: bool) -> str:
        colour = RED if severity is Severity.ERROR else YELLOW
        return self.paint(f"{severity}: ", colour, terminal=terminal)


def _wrapped(text: str, width: int) -> str:
    """Lines that fit, broken between words; what goes on is indented below its beginning."""
    lines: list[str] = []
    for line in text.splitlines():
        indent = " " * (len(line) - len(line.lstrip()) + 4)
        fits = len(line) <= width
        lines += [line] if fits else textwrap.wrap(line, width, subsequent_indent=indent, **_WRAP)
    return "\n".join(lines)


def ask(question: str) -> str:
    """Ask on stderr, read a line from stdin; empty at its end."""
    sys.stderr.write(f"{question} ")
    sys.stderr.flush()
    return sys.stdin.readline().strip()


def can_ask() -> bool:
    """Whether somebody is there to answer."""
    return sys.stdin.isatty() and sys.stderr.isatty()
