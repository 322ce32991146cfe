"""What all downloads of a run may take together: files at a time, bytes per second.

In: limits. Out: whose turn it is, how long to wait.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from reconciler.drivers.base import Cancel
from reconciler.drivers.fetch.order import Limits
from reconciler.drivers.fetch.partial import POLL_S
from reconciler.drivers.fetch.throttle import Throttle


class Allowance:
    """One for a run, whatever it downloads from."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.throttle = Throttle(limits.bytes_per_s)
        self._turns = threading.Semaphore(limits.files)

    @contextmanager
    def turn(self, stop: Cancel) -> Iterator[bool]:
        """Be one of the files on their way; False when we are to stop before it is our turn."""
        while not stop.is_set():
            if self._turns.acquire(timeout=POLL_S):
                try:
                    yield True
                finally:
                    self._turns.release()
                return
        yield False
