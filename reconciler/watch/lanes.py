"""Lanes: parts of plans that are carried out at the same time, each in a thread.

In: parts that need nothing of each other. Out: what became of each, and a word to the loop.
What a lane has in hand, no other lane touches. It decides nothing, and plans nothing: what waits
for its files, or failed, is for a later round to see.
"""

from __future__ import annotations

import errno
import os
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from reconciler.core.desired import DesiredState
from reconciler.core.observed import ObservedState
from reconciler.core.plan_parts import Part, split
from reconciler.core.words import ModelName
from reconciler.drivers.base import Cancel, Drivers
from reconciler.execute import Report, StepResult, execute
from reconciler.recording import Recording
from reconciler.remember import remember_results
from reconciler.watch.turn import Share, Turn, Wishes

ENDED = "a lane ended"


class Recall:
    """A `Cancel` for one errand: its own, or that of the whole watch."""

    def __init__(self, whole: Cancel) -> None:
        self._whole, self._own = whole, threading.Event()

    def set(self) -> None:
        """Ask the errand to end."""
        self._own.set()

    def is_set(self) -> bool:
        """Whether it was asked to."""
        return self._own.is_set() or self._whole.is_set()

    def wait(self, timeout: float) -> bool:
        """Sleep; True as soon as it is to end."""
        return self._own.is_set() or self._whole.wait(timeout) or self._own.is_set()


@dataclass(frozen=True, slots=True)
class Errand:
    """A part to be carried out, and who hears of it."""

    part: Part
    desired: DesiredState
    """What it is to bring about."""
    observed: ObservedState
    drivers: Drivers
    report: Report
    recording: Recording


@dataclass(frozen=True, slots=True)
class Ended:
    """What became of it."""

    errand: Errand
    results: tuple[StepResult, ...]
    is_noted: bool
    """The journal knows of them; where there was no room for it, it does not."""


class Lanes:
    """All that is being done."""

    def __init__(
        self, turn: Turn, cancel: Cancel, wake: Callable[[str], None], wishes: Wishes
    ) -> None:
        self._turn, self._cancel, self._wake, self._wishes = turn, cancel, wake, wishes
        self.begin: Callable[[threading.Thread], None] = threading.Thread.start
        """What sets a lane going. A test that has its own time lets one go when it is to."""
        self._going: list[tuple[Errand, Recall, threading.Thread]] = []
        self._ended: deque[Ended] = deque()

    @property
    def models(self) -> frozenset[ModelName]:
        """What they have in hand."""
        return frozenset(name for errand, _, _ in self._going for name in errand.part.models)

    @property
    def are_idle(self) -> bool:
        """Whether nothing is on its way."""
        return not (self.models or self.gateway or self.renders)

    @property
    def gateway(self) -> bool:
        """Whether one of them has the gateway in hand."""
        return any(errand.part.gateway for errand, _, _ in self._going)

    @property
    def renders(self) -> frozenset[str]:
        """The addresses of the user's own files that they have in hand."""
        return frozenset(errand.part.render for errand, _, _ in self._going if errand.part.render)

    def recall(self, desired: DesiredState) -> None:
        """End those that are about something else than what is wanted now, as soon as can be."""
        for errand, recall, _ in self._going:
            names = errand.part.models
            before, now = errand.desired.models, desired.models
            if any(before.get(name) != now.get(name) for name in names):
                recall.set()

    def start(self, errand: Errand) -> None:
        """Begin. The caller has a share in the turn."""
        share = Share(self._turn, errand.drivers, self._wishes)
        name = ", ".join(sorted(errand.part.models)) or errand.part.render or "gateway"
        recall = Recall(self._cancel)
        work = (errand, share, recall)
        thread = threading.Thread(target=self._go, args=work, name=name, daemon=True)
        self._going.append((errand, recall, thread))
        try:
            self.begin(thread)
        except RuntimeError as error:
            # No thread is left; the next round tries again.
            self._going.pop()
            share.settle()
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN)) from error

    def _go(self, errand: Errand, share: Share, recall: Recall) -> None:
        part, _late = split(errand.part.plan)
        results: tuple[StepResult, ...] = ()
        is_noted = False

        def settle(so_far: tuple[StepResult, ...]) -> None:
            nonlocal is_noted
            try:
                is_noted = remember_results(errand.observed, so_far, errand.drivers)
                errand.recording.settle()
            finally:
                share.settle()

        try:
            report = errand.recording.hears(errand.report)
            results = execute(part, errand.drivers, report, recall, settle, share)
        finally:
            share.settle()
            errand.recording.end(interrupted=recall.is_set())
            self._ended.append(Ended(errand, results, is_noted))
            self._wake(ENDED)

    def collect(self) -> tuple[Ended, ...]:
        """Those that have ended since the last call; what they had in hand is free."""
        found = []
        while self._ended:
            found.append(self._ended.popleft())
        gone = {id(one.errand) for one in found}
        self._going = [one for one in self._going if id(one[0]) not in gone]
        return tuple(found)

    def join(self) -> None:
        """Wait for all of them: the watch is to end, and so they do as soon as they can."""
        for _, _, thread in self._going:
            # In slices: a second signal has to be heard.
            while thread.is_alive():
                thread.join(0.1)
