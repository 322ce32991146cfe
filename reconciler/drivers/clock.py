"""The only place that reads a clock.

In: nothing. Out: seconds since the epoch (for people) and monotonic seconds (for deadlines).
The linter forbids wall clocks elsewhere: a decision must never hang on one.
"""

import time


class SystemClock:
    """The real time."""

    def now(self) -> float:
        """Seconds since the epoch."""
        return time.time()  # noqa: TID251 - this is the clock

    def monotonic(self) -> float:
        """Seconds that only go forward."""
        return time.monotonic()
