"""Failures in a row of one connection, and the pauses after them.

In: errors, as they come. Out: seconds to wait, or the error again when it was one too many.
Waiting itself is the caller's, who knows when it is over.
"""

from __future__ import annotations

import random

from reconciler.core.retries import pause, retry_after
from reconciler.drivers.clock import SystemClock
from reconciler.drivers.fetch.order import Limits
from reconciler.errors import HubError


class Retries:
    """How often it failed since the last byte came."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._failures = 0

    def progress(self) -> None:
        """Something came: the next failure is a first one again."""
        self._failures = 0

    def failed(self, error: HubError) -> float:
        """Seconds to wait now.

        Raises:
            HubError: this one, when it is final or one too many.
        """
        self._failures += 1
        if not error.retryable or self._failures >= self._limits.tries:
            raise error
        own = pause(
            self._failures,
            random.SystemRandom().random(),
            first=self._limits.first_pause_s,
            longest=self._limits.longest_pause_s,
        )
        asked = retry_after(error.asked_pause, SystemClock().now())
        return max(asked or 0.0, own)
