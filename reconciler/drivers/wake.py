"""Sleeping until something happens: a process ends, a thread or a signal says so, time is up.

In: the processes to follow, words from threads and signal handlers. Out: the words that came.
A word only wakes: what it says is never what is decided by. Deaths are known at once, by pidfds,
also of processes that somebody else started.
"""

from __future__ import annotations

import math
import os
import select
from collections import deque
from collections.abc import Iterable

from reconciler.core.observed import ProcessRef
from reconciler.drivers import proc

ENDED = "a process ended"
_LONGEST_S = 3600.0


class Wake:
    """One sleeper, woken by many."""

    def __init__(self) -> None:
        self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._words: deque[str] = deque()
        # Not select(): that takes no descriptor above 1023.
        self._poll = select.poll()
        self._poll.register(self._event, select.POLLIN)
        self._followed: dict[ProcessRef, int] = {}
        self._told: set[ProcessRef] = set()
        """Those whose end was told."""

    def set(self, word: str) -> None:
        """Wake the sleeper. Any thread may call it, and a signal handler."""
        self._words.append(word)
        os.eventfd_write(self._event, 1)

    def follow(self, processes: Iterable[ProcessRef]) -> None:
        """From now on be woken by the end of these processes, and of no others.

        Each end wakes once: who cannot act on it yet names the process again and again.
        """
        wanted = set(processes)
        for gone in self._followed.keys() - wanted:
            self._drop(gone)
        self._told &= wanted
        for ref in wanted - self._followed.keys() - self._told:
            try:
                descriptor = _opened(ref)
            except OSError:
                # No descriptor is left: the next call tries again.
                continue
            if descriptor is None:
                self._told.add(ref)
                self.set(ENDED)
                continue
            self._followed[ref] = descriptor
            self._poll.register(descriptor, select.POLLIN)

    def wait(self, seconds: float = math.inf) -> frozenset[str]:
        """Sleep until a word comes or the time is up; returns the words since the last call."""
        timeout = max(0.0, min(seconds, _LONGEST_S))
        found = {descriptor for descriptor, _ in self._poll.poll(math.ceil(timeout * 1000))}
        if self._event in found:
            os.eventfd_read(self._event)
        for ref, descriptor in tuple(self._followed.items()):
            if descriptor in found:
                self._drop(ref)
                self._told.add(ref)
                self._words.append(ENDED)
        words = set()
        while self._words:
            words.add(self._words.popleft())
        return frozenset(words)

    def close(self) -> None:
        """Let all go."""
        self.follow(())
        os.close(self._event)

    def _drop(self, ref: ProcessRef) -> None:
        descriptor = self._followed.pop(ref)
        self._poll.unregister(descriptor)
        os.close(descriptor)


def _opened(ref: ProcessRef) -> int | None:
    """A descriptor that becomes readable at its end; None where it has ended."""
    try:
        descriptor = os.pidfd_open(ref.pid)
    except ProcessLookupError:
        return None
    if proc.lives(ref):
        return descriptor
    os.close(descriptor)
    return None
