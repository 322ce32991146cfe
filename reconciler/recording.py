"""Recording: what a run does and leaves undone, written down for people while it is carried out.

In: the plan, and the executor's events. Out: the records of `drivers.records`. It hears everything
and decides nothing; a record that cannot be written changes no outcome.
"""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass, replace

from reconciler.core.history import Ending, Record, begun
from reconciler.core.pending import Coming, Noted, Status, changed, merged, pending_of
from reconciler.core.plan import Action, Change, FetchFiles, Plan
from reconciler.core.words import RENDER_ADDRESS, ModelName
from reconciler.drivers.base import Drivers
from reconciler.execute import Outcome, Progress, Report, StepResult

SHOW_EVERY_S = 2.0
"""How files on their way stand; what is fetched in less time is not shown at all."""
ON_ITS_WAY = "files are on their way"
AT_WORK = "its commands are at work"
NOT_REACHED = "the run ended before it"


@dataclass(frozen=True, slots=True)
class About:
    """Which run it is."""

    verb: str
    file: str
    """The desired file, as people know it."""
    models: frozenset[ModelName] | None = None
    """What alone it looks at; None: all of the file."""
    is_kept: bool = True
    """It belongs into the history."""


class Recording:
    """One run, as far as it is known."""

    def __init__(self, about: About, drivers: Drivers) -> None:
        self._about, self._drivers = about, drivers
        self._changes: dict[str, Change] = {}
        self._blocked: dict[str, str] = {}
        self._open: dict[int, str] = {}
        """The addresses of the steps that have not ended."""
        self._failed: dict[str, str] = {}
        self._record: Record | None = None
        """None: it has nothing to do."""
        self._began = drivers.clock.monotonic()
        self._coming: dict[int, tuple[Coming, ...]] = {}
        """By the steps that fetch them."""
        self._shown_at: float | None = None
        self._is_shown = False
        self._lock = threading.Lock()
        self.is_superseded = False
        """Somebody wants something else by now."""
        self._said: tuple[Noted, ...] | None = None
        """What this run said last of its own changes."""
        self._published: Status | None = None
        """What the records said after it; another run may have had its own word since."""

    def begin(self, plan: Plan) -> None:
        """This is to be carried out; the caller holds the run lock."""
        self._changes |= {one.address: one for one in plan.changes}
        self._blocked = {one.address: one.blocked for one in plan.blocked}
        self._open = {one.number: one.address for one in plan.steps}
        if plan.is_noop:
            self.settle()
        elif self._record is None and self._about.is_kept:
            self._note(first_record(self._about, plan, self._drivers))

    def _note(self, record: Record) -> None:
        self._record = record
        with contextlib.suppress(OSError):
            self._record = self._drivers.records.note(record)

    def refuse(self, plan: Plan, why: str) -> None:
        """None of this is carried out until an operator allows it."""
        self._changes = {one.address: one for one in plan.changes}
        self._blocked = {one.address: one.blocked for one in plan.blocked}
        self._failed = {one.address: why for one in plan.changes if one.action is not Action.NO_OP}
        self.settle()

    def hears(self, report: Report) -> Report:
        """The same report, of which the records hear too."""

        def both(event: Progress | StepResult) -> None:
            self._hear(event)
            report(event)

        return both

    def _hear(self, event: Progress | StepResult) -> None:
        if isinstance(event.step.effect, FetchFiles):
            with self._lock:
                self._fetch(event, event.step.effect.model)
        if isinstance(event, StepResult):
            self._open.pop(event.step.number, None)
            if event.outcome is not Outcome.DONE:
                # The first one is the cause: others of the same resource needed it.
                self._failed.setdefault(event.step.address, event.reason)

    def _fetch(self, event: Progress | StepResult, model: ModelName) -> None:
        files = () if isinstance(event, StepResult) else event.files
        self._coming[event.step.number] = tuple(
            Coming(model, one.name, one.done, one.size) for one in files if one.done < one.size
        )
        now = self._drivers.clock.monotonic()
        self._shown_at = now if self._shown_at is None else self._shown_at
        coming = [one for of_step in self._coming.values() for one in of_step]
        if (coming and now - self._shown_at >= SHOW_EVERY_S) or (self._is_shown and not coming):
            self._shown_at, self._is_shown = now, bool(coming)
            with contextlib.suppress(OSError):
                self._drivers.records.show(coming, self._drivers.clock.now())

    def settle(self) -> None:
        """Nothing but files and renders is on its way; the caller holds the run lock."""
        self._publish(self._status(ON_ITS_WAY, AT_WORK))

    def end(self, *, interrupted: bool = False) -> None:
        """All is said. The run lock may be another's by now, who then knows better."""
        if self._record:
            seconds = self._drivers.clock.monotonic() - self._began
            reasons = {**self._failed, **self._blocked}
            message = next((f"{where}: {why}" for where, why in reasons.items()), "")
            self._note(self._record.ended(self._ending(interrupted=interrupted), seconds, message))
        status = self._status(NOT_REACHED)
        if status.pending != self._said and self._drivers.records.status() == self._published:
            self._publish(status)

    def _ending(self, *, interrupted: bool) -> Ending:
        if interrupted:
            return Ending.INTERRUPTED
        if self.is_superseded:
            return Ending.SUPERSEDED
        if self._failed or self._open:
            return Ending.FAILED
        return Ending.BLOCKED if self._blocked else Ending.APPLIED

    def _status(self, why: str, why_render: str = "") -> Status:
        still = {
            at: (why_render if at.startswith(RENDER_ADDRESS) else "") or why
            for at in self._open.values()
        }
        left = {**still, **self._failed, **self._blocked}
        changes = [
            one for one in self._changes.values() if one.action is not Action.NO_OP or one.blocked
        ]
        now = self._drivers.clock.now()
        return Status(now, self._about.file, pending_of(changes, left))

    def _publish(self, status: Status) -> None:
        records, self._said = self._drivers.records, status.pending
        old = records.status()
        if self._about.models is not None:
            status = merged(old, status, self._changes.values(), self._about.models)
        is_news = old.pending != status.pending or (old.at is not None and old.file != status.file)
        if self._record or is_news:
            with contextlib.suppress(OSError):
                records.publish(status)
                self._published = status


def first_record(about: About, plan: Plan, drivers: Drivers) -> Record:
    """What the history says of a run that begins to carry out this plan."""
    origin, kept = drivers.records.origin(), drivers.generations.newest()
    number = kept.number if kept and kept.spec == origin.spec else None
    changes = changed(plan.changes)
    record = begun(drivers.clock.now(), about.verb, about.file, origin, changes)
    return replace(record, generation=number)
