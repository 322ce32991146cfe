"""A limit on bytes per second that all connections share.

In: how many bytes came. Out: how long to wait before the next are read.
"""

from __future__ import annotations

import threading
import time


class Throttle:
    """Lets so many bytes a second through; all of them without a limit."""

    def __init__(self, bytes_per_s: int | None) -> None:
        self._rate = bytes_per_s
        self._lock = threading.Lock()
        self._free_at = 0.0

    def pause(self, count: int) -> float:
        """Seconds to wait after so many bytes came."""
        if self._rate is None:
            return 0.0
        with self._lock:
            now = time.monotonic()
            self._free_at = max(self._free_at, now) + count / self._rate
            return self._free_at - now
