"""Threads that work on one thing together, and hand their first error to whoever waits for them.

In: functions. Out: whether all have ended, or the error of the one that failed first.
The threads are daemons: one that hangs on a dead connection must not hold up the end of a run. So
what they share refuses them once the work is over (`Partial`); nobody joins them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable


class Crew:
    """Some threads at one task."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._busy = 0
        self._error: BaseException | None = None

    def start(self, work: Callable[[], None]) -> None:
        """Let one more thread do this."""
        with self._changed:
            self._busy += 1
        threading.Thread(target=self._run, args=(work,), daemon=True).start()

    def wait(self, timeout: float) -> bool:
        """Whether all have ended, after so many seconds at most.

        Raises:
            BaseException: what one of them raised.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._busy == 0 or self._error is not None, timeout)
            if self._error is not None:
                raise self._error
            return self._busy == 0

    def settle(self, timeout: float) -> None:
        """Wait for all to end, after so many seconds at most, whatever they raised."""
        with self._changed:
            self._changed.wait_for(lambda: self._busy == 0, timeout)

    def _run(self, work: Callable[[], None]) -> None:
        with self:
            work()

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> bool:
        """Keep what a thread raised: it is raised again where somebody waits."""
        with self._changed:
            self._busy -= 1
            self._error = self._error or error
            self._changed.notify_all()
        return True
