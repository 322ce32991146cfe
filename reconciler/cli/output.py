"""Writing for people: data on stdout, talk on stderr, colour only where it helps.

In: finished texts of the core. Out: the terminal. Colour goes by the sign at a line's start and
carries no meaning of its own; NO_COLOR, a pipe or a dumb terminal turn it off.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from reconciler.errors import InvalidDesiredError, ReconcileError, Severity

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


@dataclass
class Output:
    """One run's stdout and stderr."""

    colour: bool = True
    quiet: bool = False
    json: bool = False
    _line: str = ""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def data(self, text: str) -> None:
        """Write to stdout as it is."""
        sys.stdout.write(text if text.endswith("\n") else f"{text}\n")
        sys.stdout.flush()

    def document(self, value: object) -> None:
        """Write one JSON document."""
        self.data(json.dumps(value, indent=2, ensure_ascii=False))

    def event(self, **values: object) -> None:
        """Write one JSON event a line."""
        with self._lock:
            self.data(json.dumps(values, ensure_ascii=False))

    def talk(self, text: str, colour: str = "") -> None:
        """Write a line to stderr, unless it is to be quiet."""
        if not self.quiet:
            self.say(text, colour)

    def say(self, text: str, colour: str = "") -> None:
        """Write a line to stderr, above the progress line if there is one."""
        with self._lock:
            self._clear()
            sys.stderr.write(f"{self.paint(text, colour, terminal=sys.stderr.isatty())}\n")
            sys.stderr.flush()

    def urgent(self, text: str) -> None:
        """Write a line to stderr from a signal handler, in the middle of anything at all.

        Straight to the descriptor: the stream, or our lock, may be in use by what it interrupted.
        """
        if not self.quiet:
            below = "\n" if self._line else ""
            os.write(sys.stderr.fileno(), f"{below}{text}\n".encode())

    def progress(self, text: str) -> None:
        """Replace the one live line at the bottom of a terminal; nothing elsewhere."""
        if self.quiet or not self.is_live:
            return
        with self._lock:
            self._clear()
            width = os.get_terminal_size(sys.stderr.fileno()).columns
            self._line = text[: width - 1]
            sys.stderr.write(self._line)
            sys.stderr.flush()

    @property
    def is_live(self) -> bool:
        """Whether stderr is a terminal that can redraw a line."""
        return sys.stderr.isatty() and os.environ.get("TERM") != "dumb" and not self.json

    def _clear(self) -> None:
        if self._line:
            sys.stderr.write("\r\x1b[2K")
            self._line = ""

    def paint(self, text: str, colour: str, *, terminal: bool) -> str:
        """The text in a colour, if colour is wanted and seen."""
        if not colour or not self.colour or not terminal:
            return text
        return f"\x1b[{colour}m{text}\x1b[0m"

    def coloured_table(
        self,
        header: Sequence[str],
        rows: Sequence[Sequence[str]],
        column: int,
        colours: Sequence[str],
    ) -> str:
        """A table with a bold header and the cells of one column in colours of their own."""
        terminal = sys.stdout.isatty()
        first, *lines = table(header, rows).splitlines()
        start = sum(max(len(row[c]) for row in [header, *rows]) + 2 for c in range(column))
        painted = [
            line[:start]
            + self.paint(row[column], colour, terminal=terminal)
            + line[start + len(row[column]) :]
            for line, row, colour in zip(lines, rows, colours, strict=True)
        ]
        return "\n".join([self.paint(first, BOLD, terminal=terminal), *painted])

    def plan(self, text: str) -> None:
        """Write a plan's text, coloured by its signs, to stdout."""
        terminal = sys.stdout.isatty()
        lines = []
        for line in text.splitlines():
            sign = line[:4].strip()
            is_headline = line[:3].strip() in _SIGN_COLOURS and line[4:5].strip()
            colour = _SIGN_COLOURS.get(sign, "") if is_headline else ""
            colour = BOLD if line.startswith(("Plan:", "No changes.")) else colour
            colour = RED if line.startswith("Refused:") else colour
            lines.append(self.paint(line, colour, terminal=terminal))
        self.data("\n".join(lines))

    def error(self, error: ReconcileError) -> None:
        """Write an error and what to do about it."""
        terminal = sys.stderr.isatty()
        with self._lock:
            self._clear()
            if isinstance(error, InvalidDesiredError):
                for diagnostic in error.diagnostics:
                    sys.stderr.write(
                        f"{self._severity(diagnostic.severity, terminal=terminal)}{diagnostic}\n"
                    )
            else:
                label = self._severity(Severity.ERROR, terminal=terminal)
                sys.stderr.write(f"{label}{error.message}\n")
                if error.hint:
                    sys.stderr.write(f"  {error.hint}\n")
            sys.stderr.flush()

    def _severity(self, severity: Severity, *, terminal: bool) -> str:
        colour = RED if severity is Severity.ERROR else YELLOW
        return self.paint(f"{severity}: ", colour, terminal=terminal)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Aligned columns; the last one may be as long as it likes."""
    cells = [list(header), *[list(row) for row in rows]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    )


def ask(question: str) -> str:
    """Ask on stderr, read a line from stdin; empty at its end."""
    sys.stderr.write(f"{question} ")
    sys.stderr.flush()
    return sys.stdin.readline().strip()


def can_ask() -> bool:
    """Whether somebody is there to answer."""
    return sys.stdin.isatty() and sys.stderr.isatty()
