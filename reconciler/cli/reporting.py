"""Telling what a run does while it does it, and how it ended.

In: the executor's events. Out: lines on stderr (live ones on a terminal), or JSON events.
It must not slow the run: it prints, and asks nothing.
"""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import asdict

from reconciler.cli.output import GREEN, RED, YELLOW, Output
from reconciler.core.present import DONE_WORDS, human_seconds
from reconciler.core.text import printable
from reconciler.core.transfers import Transfer, bars
from reconciler.execute import Outcome, Progress, StepResult
from reconciler.loop import ApplyReport

PLAIN_EVERY_S = 10.0
"""Without live lines, a long wait is told this often."""
JSON_EVERY_S = 1.0
"""A download's events, at most."""
LIVE_EVERY_S = 0.2


class Reporter:
    """Collects the events of one run and shows them."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._running: dict[int, Progress] = {}
        self._told: dict[int, float] = {}
        self._transfers: dict[int, Transfer] = {}
        self._drawn_at = 0.0
        self._lock = threading.Lock()

    def __call__(self, event: Progress | StepResult) -> None:
        """Show one event; called from the steps' threads.

        A reader that has gone (`| head`) must not end a step in the middle of its effect.
        """
        with contextlib.suppress(OSError):
            self._show(event)

    def _show(self, event: Progress | StepResult) -> None:
        number = event.step.number
        with self._lock:
            if isinstance(event, StepResult):
                self._running.pop(number, None)
                self._end(event)
            else:
                self._running[number] = event
                if event.files:
                    transfer = self._transfers.setdefault(number, Transfer())
                    transfer.tell(event.files, time.monotonic())
        if self._output.json:
            self._json(event)
        elif isinstance(event, StepResult):
            self._result(event)
            self._live_lines(at_once=True)
        elif self._output.is_live:
            self._live_lines(at_once=not event.files)
        elif self._is_due(event, PLAIN_EVERY_S):
            self._output.talk(f"  {event.step.address}: {self._said(event)}")

    def _end(self, result: StepResult) -> None:
        if transfer := self._transfers.get(result.step.number):
            transfer.end()
            if result.outcome is not Outcome.DONE:
                del self._transfers[result.step.number]

    def _is_due(self, event: Progress, every_s: float) -> bool:
        with self._lock:
            is_due = event.seconds - self._told.get(event.step.number, 0.0) >= every_s
            if is_due:
                self._told[event.step.number] = event.seconds
        return is_due

    def _said(self, event: Progress) -> str:
        if event.files:
            word = DONE_WORDS[type(event.step.effect)]
            with self._lock:
                return self._transfers[event.step.number].sentence(word)
        return f"{event.text} ({human_seconds(event.seconds)})"

    def _live_lines(self, *, at_once: bool) -> None:
        """A bar for each file that comes, then what else is going on, in one line."""
        now = time.monotonic()
        with self._lock:
            if not at_once and now - self._drawn_at < LIVE_EVERY_S:
                return
            self._drawn_at = now
            running = [one for _, one in sorted(self._running.items())]
            lines = []
            if any(one.files for one in running) and self._output.is_live:
                transfers = [one for _, one in sorted(self._transfers.items())]
                lines = bars(transfers, self._output.live_width)
        parts = [
            f"{one.step.address}: {one.text} {human_seconds(one.seconds)}"
            for one in running
            if not one.files
        ]
        if parts:
            lines.append("  " + " · ".join(parts))
        if lines:
            self._output.progress(*lines)

    def _result(self, result: StepResult) -> None:
        address, took = result.step.address, f"{result.seconds:.1f} s"
        match result.outcome:
            case Outcome.DONE:
                word = DONE_WORDS[type(result.step.effect)]
                self._output.talk(f"  {address}: {word} ({took})", GREEN)
            case Outcome.FAILED:
                self._output.talk(f"  {address}: failed: {result.reason}", RED)
            case Outcome.SKIPPED | Outcome.CANCELLED:
                self._output.talk(f"  {address}: {result.outcome}: {result.reason}", YELLOW)

    def _json(self, event: Progress | StepResult) -> None:
        values: dict[str, object] = {
            "step": event.step.number,
            "address": event.step.address,
            "seconds": round(event.seconds, 3),
        }
        if isinstance(event, Progress):
            if event.files:
                is_whole = all(one.done == one.size for one in event.files)
                if not self._is_due(event, JSON_EVERY_S) and not is_whole:
                    return
                with self._lock:
                    values["bytes_per_s"] = round(self._transfers[event.step.number].speed)
                values["files"] = [asdict(one) for one in event.files]
            self._output.event(event="progress", **values, text=event.text)
        else:
            reason = event.reason or None
            self._output.event(event="step", **values, outcome=event.outcome, reason=reason)


def tell_end(report: ApplyReport, output: Output) -> None:
    """Say how a run ended: what is not as wanted, why, and the end of its log."""
    for result in report.failed:
        if result.outcome is not Outcome.FAILED:
            continue
        output.say(f"\n{result.step.address}: {result.reason}", RED)
        if result.hint:
            output.say(f"  {result.hint}")
        for line in result.log_tail.splitlines()[-10:]:
            output.say(f"  | {printable(line)}")
    for change in report.blocked:
        if len(change.obstacles) == 1:
            output.say(f"\n{change.address} is blocked: {change.blocked}", RED)
            continue
        output.say(f"\n{change.address} is blocked for {len(change.obstacles)} reasons:", RED)
        for reason in change.obstacles:
            output.say(f"  - {reason}")
