"""What becomes of the desired state that a watch accepted last: told once, and one record of it.

In: what the loop accepted, plans, and in the end finds. Out: an event and a record in the history,
which is there from the beginning on: one that a watch did not live to end is seen to be that by
its process. What is done later on by itself has records of its own. It decides nothing.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from reconciler.core.events import EventKind
from reconciler.core.history import Ending, Record
from reconciler.core.plan import Plan
from reconciler.drivers.base import Drivers
from reconciler.recording import About, first_record
from reconciler.watch.telling import Voice


@dataclass(slots=True)
class _Open:
    """One whose outcome is not known yet."""

    drivers: Drivers
    since: float
    """By the monotonic clock."""
    record: Record | None = None
    """None: nothing of it belongs into the history so far."""


class Accepted:
    """The desired state that was accepted last."""

    def __init__(self, voice: Voice, file: str) -> None:
        self._voice, self._file = voice, file
        self._open: _Open | None = None

    @property
    def is_open(self) -> bool:
        """Whether what becomes of it was not told yet."""
        return self._open is not None

    def begin(self, plan: Plan, drivers: Drivers) -> None:
        """It is accepted, and this is what has to be done for it."""
        self.leave(Ending.SUPERSEDED)
        counts = plan.summary
        changes = counts.add + counts.change + counts.replace + counts.remove
        text = f"{changes} to change, {counts.unchanged} unchanged"
        self._voice.say(EventKind.ACCEPTED, self._file, text)
        self._open = _Open(drivers, drivers.clock.monotonic())

    def note(self, plan: Plan) -> None:
        """This is about to be done for it, and belongs into the history."""
        at = self._open
        if at and at.record is None and not plan.is_noop:
            self._write(at, first_record(About("watch", self._file), plan, at.drivers))

    def end(self, ending: Ending, text: str) -> None:
        """That is its outcome, if it was not told before."""
        if self._open:
            self._voice.say(ending, self._file, text or "all is as wanted")
            self.leave(ending, text)

    def leave(self, ending: Ending, text: str = "") -> None:
        """Nothing more is to be told of it."""
        at, self._open = self._open, None
        if at and at.record:
            seconds = at.drivers.clock.monotonic() - at.since
            self._write(at, at.record.ended(ending, seconds, text))

    @staticmethod
    def _write(at: _Open, record: Record) -> None:
        at.record = record
        # A record that cannot be written changes no outcome.
        with contextlib.suppress(OSError):
            at.record = at.drivers.records.note(record)
