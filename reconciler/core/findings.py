"""What was found wrong while reading the desired file: collected, never stopping at the first.

In: mistakes with their positions, from any step of the reading. Out: one sorted tuple, each
mistake once (what `defaults` gets wrong shows up again below every model, at the same place).
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from reconciler.errors import Diagnostic, InvalidDesiredError, Position, Severity

_NOWHERE = Position("", 0, 0)


class Findings:
    """A growing set of diagnostics."""

    def __init__(self) -> None:
        self._found: dict[Diagnostic, None] = {}
        self._settled: frozenset[Position | None] = frozenset()

    def add(self, diagnostics: Iterable[Diagnostic]) -> None:
        """Take over diagnostics; what is there already is not repeated."""
        self._found |= dict.fromkeys(d for d in diagnostics if d.position not in self._settled)

    def error(self, where: Position | None, summary: str, hint: str = "") -> None:
        """Note a mistake."""
        self.add([Diagnostic(Severity.ERROR, summary, where, hint)])

    def warn(self, where: Position, summary: str, hint: str = "") -> None:
        """Note something that is allowed but hardly meant."""
        self.add([Diagnostic(Severity.WARNING, summary, where, hint)])

    def settle(self) -> None:
        """What was said so far about a place is enough: later steps add nothing there."""
        self._settled = frozenset(d.position for d in self._found)

    def stop(self) -> None:
        """End the reading if a mistake was found."""
        if errors := self._sorted(Severity.ERROR):
            raise InvalidDesiredError(errors)

    def warnings(self) -> tuple[Diagnostic, ...]:
        """All warnings, by position."""
        return self._sorted(Severity.WARNING)

    def _sorted(self, severity: Severity) -> tuple[Diagnostic, ...]:
        chosen = [d for d in self._found if d.severity is severity]
        return tuple(sorted(chosen, key=lambda d: (d.position or _NOWHERE, d.summary)))


def nearest(word: str, known: Iterable[str]) -> str:
    """`; did you mean X?` for the known word nearest to `word`, or nothing."""
    near = get_close_matches(word.lower(), list(known), n=1)
    return f"; did you mean `{near[0]}`?" if near else ""
