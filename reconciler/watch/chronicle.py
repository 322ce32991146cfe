"""The chronicle of a watch: all that it tells is written down too.

In: what a watch tells. Out: events in `logs/events.jsonl`, and the same to who else listens: people
at a terminal, and the command or URL that an operator has named, for what matters to him.
It decides nothing and holds nothing up: what cannot be written is not there afterwards.
"""

from __future__ import annotations

from reconciler.core.events import Event, EventKind
from reconciler.core.present import DONE_WORDS
from reconciler.core.text import with_hint
from reconciler.drivers.base import Clock
from reconciler.drivers.event_log import EventLog
from reconciler.drivers.heralds import NOBODY, Addressees, Herald
from reconciler.execute import Outcome, Progress, Report, StepResult
from reconciler.watch.telling import Telling

UNTOLD = {EventKind.EXITED}
"""What becomes of these is told, or nothing has to be done about them."""


class Chronicle:
    """A `Telling` that remembers."""

    def __init__(
        self, telling: Telling, log: EventLog, clock: Clock, to: Addressees = NOBODY
    ) -> None:
        self._telling, self._log, self._clock = telling, log, clock
        self._herald = None if to == NOBODY else Herald(to, self._heard)
        self._is_unheard = False

    def close(self) -> None:
        """Nothing more happens; what was not told yet is told now, if that can be."""
        if self._herald:
            self._herald.close()

    def say(self, event: Event) -> None:
        """Something happened."""
        self._log.add(event)
        self._telling.say(event)
        if self._herald and event.kind not in UNTOLD:
            self._herald.tell(event)

    def _heard(self, why: str) -> None:
        """Say once that nobody could be told, and that it is over."""
        if bool(why) != self._is_unheard:
            self._is_unheard = bool(why)
            kind = EventKind.TROUBLE if why else EventKind.OVER
            event = Event(self._clock.now(), kind, "notify", why or "it was told again")
            self._log.add(event)
            self._telling.say(event)

    def report(self) -> Report:
        """Hears of steps."""
        hear = self._telling.report()

        def both(event: Progress | StepResult) -> None:
            if isinstance(event, StepResult):
                self._ended(event)
            hear(event)

        return both

    def _ended(self, result: StepResult) -> None:
        if result.outcome is Outcome.DONE:
            text = f"{DONE_WORDS[type(result.step.effect)]} ({result.seconds:.1f} s)"
        elif result.outcome is Outcome.FAILED:
            text = with_hint(result.reason, result.hint)
        else:
            return
        self._log.add(Event(self._clock.now(), result.outcome, result.step.address, text))
