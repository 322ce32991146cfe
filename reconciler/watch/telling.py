"""Telling: what a watch says of what happens, each thing once, and who hears of it.

In: what the loop has seen and decided, in its own terms. Out: events, to whoever listens. The words
are for people: nothing hangs on them.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from reconciler.core.accounting import Ended
from reconciler.core.backoff import FATAL_TIMES
from reconciler.core.events import Event, EventKind
from reconciler.core.observed import Journal
from reconciler.drivers.base import Clock
from reconciler.execute import Report


class Telling(Protocol):
    """Who is told what happens."""

    def say(self, event: Event) -> None:
        """Something happened."""
        ...

    def report(self) -> Report:
        """Who hears of an errand's steps."""
        ...


class Voice:
    """What the loop of a watch has to say."""

    def __init__(self, telling: Telling, clock: Clock) -> None:
        self._telling, self._clock = telling, clock
        self._troubles: dict[str, str] = {}
        """What is the matter, and was told, of each thing."""

    def say(
        self,
        kind: str,
        about: str,
        text: str,
        count: int | None = None,
        next_start: float | None = None,
    ) -> None:
        """Something happened (`Event` says what each of these is)."""
        self._telling.say(Event(self._clock.now(), kind, about, text, count, next_start))

    def trouble(self, about: str, text: str, over: str) -> None:
        """Say what is the matter when it begins (`text`), and that it is `over` (no `text`)."""
        if text != self._troubles.get(about, ""):
            self._troubles[about] = text
            self.say(EventKind.TROUBLE if text else EventKind.OVER, about, text or over)

    def ends(self, kind: str, ended: Collection[Ended], journal: Journal) -> None:
        """These servers have ended, or are to; what `journal` counts of it is what follows."""
        for one in ended:
            about, crashes = f"instance.{one.wanted.name}", journal.crashes[one.wanted.name]
            is_last = crashes.fatal >= FATAL_TIMES
            next_start = None if is_last else max(crashes.next_at, one.end.at)
            self.say(kind, about, one.end.reason, crashes.count, next_start)
            if is_last:
                why = f"{crashes.fatal} times in a row {crashes.reason}"
                hint = f"`llm-reconcile restart {one.wanted.name}` tries again"
                self.say(EventKind.GIVEN_UP, about, f"{why}; {hint}", crashes.count)

    def report(self) -> Report:
        """Who hears of an errand's steps."""
        return self._telling.report()
