"""Telling what a run does while it does it, and how it ended.

In: the executor's events. Out: lines on stderr (one live line on a terminal), or JSON events.
It must not slow the run: it prints, and asks nothing.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping

from reconciler.cli.output import GREEN, RED, YELLOW, Output
from reconciler.core.plan import (
    ApplyGateway,
    AwaitReady,
    FetchFiles,
    StartServer,
    StepEffect,
    StopGateway,
    StopServer,
)
from reconciler.core.present import human_seconds
from reconciler.core.text import printable
from reconciler.execute import Outcome, Progress, StepResult
from reconciler.loop import ApplyReport

PLAIN_EVERY_S = 10.0
"""Without a live line, a long wait is told this often."""

_DONE_WORDS: Mapping[type[StepEffect], str] = {
    FetchFiles: "downloaded",
    StopServer: "stopped",
    StartServer: "ready",
    AwaitReady: "ready",
    ApplyGateway: "live",
    StopGateway: "stopped",
}


class Reporter:
    """Collects the events of one run and shows them."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._running: dict[int, Progress] = {}
        self._told: dict[int, float] = {}
        self._lock = threading.Lock()

    def __call__(self, event: Progress | StepResult) -> None:
        """Show one event; called from the steps' threads.

        A reader that has gone (`| head`) must not end a step in the middle of its effect.
        """
        with contextlib.suppress(OSError):
            self._show(event)

    def _show(self, event: Progress | StepResult) -> None:
        if self._output.json:
            self._json(event)
        elif isinstance(event, StepResult):
            with self._lock:
                self._running.pop(event.step.number, None)
            self._result(event)
            self._live_line()
        else:
            self._progress(event)

    def _progress(self, event: Progress) -> None:
        with self._lock:
            self._running[event.step.number] = event
            last = self._told.get(event.step.number, 0.0)
            due = event.seconds - last >= PLAIN_EVERY_S
            if due:
                self._told[event.step.number] = event.seconds
        if self._output.is_live:
            self._live_line()
        elif due:
            waited = human_seconds(event.seconds)
            self._output.talk(f"  {event.step.address}: {event.text} ({waited})")

    def _live_line(self) -> None:
        with self._lock:
            parts = [
                f"{one.step.address}: {one.text} {human_seconds(one.seconds)}"
                for _, one in sorted(self._running.items())
            ]
        if parts:
            self._output.progress("  " + " · ".join(parts))

    def _result(self, result: StepResult) -> None:
        address, took = result.step.address, f"{result.seconds:.1f} s"
        match result.outcome:
            case Outcome.DONE:
                word = _DONE_WORDS[type(result.step.effect)]
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
