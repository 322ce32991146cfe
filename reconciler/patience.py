"""How long a server that loads is waited for, how often it is asked; and one that says nothing.

In: the runtime, a server, its budget; how many load at once. Out: whether its time is up (not while
it still reads its files), how that is said, and when to ask next; whether one that is silent works.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Iterator

from reconciler.core.observed import ProcessRef
from reconciler.drivers.base import Cancel
from reconciler.drivers.base_runtime import Runtime
from reconciler.errors import InterruptedRunError

LEAST_CPU_SHARE = 0.25
"""Of one core between two looks: so much proves work. Of a prompt's n_batch tokens nothing else
shows for 15 s (FACTS); answering our own questions takes a few per cent."""
STANDSTILL_S = 60.0
"""So long a server may read nothing before it is taken for one that will never be ready: a disk of
the network that has to be asked again takes that long (nfs(5): timeo)."""
LEAST_BYTES = 2**20
"""What a server reads besides its files is less."""
LOOK_EVERY_S = 1.0


class Effort:
    """Whether a server works, by its CPU time between two looks.

    One that says nothing may have its hands full: requests that wait for a slot hold a thread of
    its HTTP server each, /health and /metrics wait behind them, and it has few more than slots.
    """

    def __init__(self, runtime: Runtime, server: ProcessRef, now: float) -> None:
        self._runtime, self._server = runtime, server
        self._cpu_s, self._at = runtime.cpu_seconds(server), now

    def goes_on(self, now: float) -> bool:
        """Whether it has worked since the last look."""
        before_s, self._cpu_s = self._cpu_s, self._runtime.cpu_seconds(self._server)
        before, self._at = self._at, now
        spent_s = self._cpu_s - before_s
        return spent_s > 0 and spent_s >= LEAST_CPU_SHARE * (now - before)


class Reading:
    """Whether a server that is slow to load still reads its files: then it is waited for on."""

    def __init__(self, runtime: Runtime, server: ProcessRef, budget_s: float) -> None:
        self._runtime, self._server, self._budget_s = runtime, server, budget_s
        self._patience_s = min(STANDSTILL_S, budget_s)
        self._bytes = 0
        self._moved_at = self._looked_at = -math.inf

    def has_stopped(self, now: float) -> bool:
        """Whether its time is up, `now` seconds after its start, and it reads no more.

        Looked at only from when that can matter.
        """
        if now < self._budget_s - self._patience_s:
            return False
        if now - self._looked_at >= LOOK_EVERY_S:
            self._looked_at = now
            count = self._runtime.bytes_read(self._server)
            if count >= self._bytes + LEAST_BYTES:
                self._bytes, self._moved_at = count, now
        return now > max(self._budget_s, self._moved_at + self._patience_s)

    def told(self) -> str:
        """What is wrong with it, in words."""
        late = f"not ready after {self._budget_s:.0f} s (probe.startup)"
        on = self._moved_at + self._patience_s > self._budget_s
        return f"{late}, and for {self._patience_s:.0f} s it has read nothing" if on else late


ASK_FIRST_S, ASK_LONGEST_S = 0.01, 0.25
ASK_APART_S = 0.0125
"""Between two questions to any of those that load: to ask costs what they could load with."""
GROWTH = 1.5
LATE = 0.02
"""So much later than it is ready, in parts of its time to load, a lone one may be found to be."""
GLANCE_S = 0.05
"""So often whoever rests looks how many still load."""


class Pace:
    """When to ask next, of several that load at once: the fewer are left, the sooner."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loading = 0

    @contextlib.contextmanager
    def loading(self) -> Iterator[None]:
        """While this is open, one more does."""
        with self._lock:
            self._loading += 1
        try:
            yield
        finally:
            with self._lock:
                self._loading -= 1

    def rest(self, last_s: float, waited_s: float, cancel: Cancel) -> float:
        """Rest before the next question to one that has loaded for `waited_s`; how long it was.

        Not much longer than the last rest, of `last_s`. Those that get ready meanwhile shorten it:
        what was right for one of twenty would keep the last one waiting.

        Raises:
            InterruptedRunError: the run is to end.
        """
        rested, most_s = 0.0, max(ASK_FIRST_S, GROWTH * last_s)
        while (left := min(most_s, self._apart(waited_s)) - rested) > 0:
            glance = min(left, GLANCE_S)
            if cancel.wait(glance):
                raise InterruptedRunError("interrupted while it was waited for; it runs on")
            rested += glance
        return rested

    def _apart(self, waited_s: float) -> float:
        apart = max(ASK_FIRST_S, ASK_APART_S * self._loading, LATE * waited_s)
        return min(apart, ASK_LONGEST_S)
