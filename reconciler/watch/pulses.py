"""Pulses: which servers are wedged, found out by asking them in a thread of its own.

In: the servers that are ready, and how often each wants to be asked. Out: a `Pulse` of each, and
a word to the loop when one is found wedged. A server that works proves it by its own count; an
idle one is asked for a token, seldom, and never one that puts its weights away when idle.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import pairwise

from reconciler.core.liveness import Pulse, failed, felt
from reconciler.core.observed import ObservedServer, ProcessRef
from reconciler.core.vitals import Verdict, Vitals
from reconciler.core.words import Phase
from reconciler.drivers.base import Cancel, Drivers, Health
from reconciler.errors import ReconcileError
from reconciler.observe import PARALLEL_LOOKS, examine

WEDGED = "a server is wedged"
TOKEN_S = 10.0
"""A token of an idle server that works takes less, whatever the model."""
LEAST_TOKEN_S = 2.0
"""Who wants to be asked more often than each `TOKEN_S` (`probe.liveness`) has as long as until the
next time, and so long at least. That one with requests in hand moves is waited for `TOKEN_S`."""
PROOF_S = 60.0
"""An idle server that has made a token is asked for the next one after so long: each one costs
somebody's prompt cache a slot. With three failures in a row a wedged one is found in 120 s."""
LEAST_PAUSE_S = 1.0


@dataclass(frozen=True, slots=True)
class _Patient:
    """A server that is asked, and how it stands."""

    server: ObservedServer
    every_s: float
    due: float
    pulse: Pulse = field(default_factory=Pulse)
    proven: float = float("-inf")
    """When it was last seen to work, by the monotonic clock."""


class Pulses:
    """The pulses of all servers that are ready."""

    def __init__(self, drivers: Drivers, cancel: Cancel, wake: Callable[[str], None]) -> None:
        self._drivers, self._cancel, self._wake = drivers, cancel, wake
        self._patients: dict[ProcessRef, _Patient] = {}
        self._mutex = threading.Lock()
        self._news = threading.Event()
        self._pool = ThreadPoolExecutor(PARALLEL_LOOKS, thread_name_prefix="pulse")

    def start(self) -> None:
        """Begin to ask, until the watch ends."""
        threading.Thread(target=self._run, name="pulses", daemon=True).start()

    def follow(self, servers: Iterable[ObservedServer], every: Mapping[str, float]) -> None:
        """From now on ask these, each so often (seconds, by the names of instances)."""
        now = self._drivers.clock.monotonic()
        wanted = {one.ref: one for one in servers if one.phase in {Phase.READY, Phase.UNHEALTHY}}
        with self._mutex:
            before = self._patients
            self._patients = {
                ref: replace(before[ref], server=one, every_s=every[one.instance])
                if ref in before
                else _Patient(one, every[one.instance], now + every[one.instance])
                for ref, one in wanted.items()
                if every.get(one.instance)
            }
            is_news = self._patients.keys() != before.keys()
        if is_news:
            self._news.set()

    def wedged(self) -> dict[ProcessRef, str]:
        """The servers that are to be replaced -> why."""
        with self._mutex:
            return {
                ref: one.pulse.wedged for ref, one in self._patients.items() if one.pulse.wedged
            }

    def _run(self) -> None:
        while not self._cancel.is_set():
            self._news.clear()
            pause = LEAST_PAUSE_S
            # Whatever goes wrong once, it must be asked again.
            with suppress(OSError, ReconcileError, RuntimeError):
                pause = self.round()
            self._news.wait(pause)

    def round(self) -> float:
        """Ask those that are due; returns in how many seconds the next one is."""
        now = self._drivers.clock.monotonic()
        with self._mutex:
            # Those that are nearly due come along: one waking for many.
            due = [one for one in self._patients.values() if one.due <= now + LEAST_PAUSE_S]
        for asked, found in zip(due, self._pool.map(self._ask, due), strict=True):
            self._note(asked, found)
        with self._mutex:
            coming = [one.due for one in self._patients.values()]
        later = min(coming, default=now + 3600.0) - self._drivers.clock.monotonic()
        return max(later, LEAST_PAUSE_S)

    def _note(self, asked: _Patient, found: Vitals | None) -> None:
        """`found` None: nothing is wrong, and nothing was proven."""
        now = self._drivers.clock.monotonic()
        pulse = felt(asked.pulse, found) if found else asked.pulse
        works = found is not None and found.verdict in {Verdict.OK, Verdict.BUSY}
        # A look that fails takes long enough by itself.
        share = 0.5 if pulse.failures else 1.0
        with self._mutex:
            # What is known of it by now: a round may have seen it anew while it was asked.
            if known := self._patients.get(asked.server.ref):
                proven = now if works else known.proven
                later = replace(known, pulse=pulse, due=now + known.every_s * share, proven=proven)
                self._patients[asked.server.ref] = later
        if pulse.wedged:
            self._wake(WEDGED)

    def _ask(self, one: _Patient) -> Vitals | None:
        try:
            return self._asked(one)
        except OSError:
            # That we cannot ask (no descriptor is left) says nothing of the server.
            return None

    def _asked(self, one: _Patient) -> Vitals | None:
        server, prober, pulse = one.server, self._drivers.prober, one.pulse
        if server.phase is Phase.UNHEALTHY and prober.health(server.address) is Health.READY:
            server = replace(server, phase=Phase.READY)
        if server.phase is Phase.READY and not pulse.failures:
            counters = prober.counters(server.address) or {}
            known = Vitals(server.instance, Verdict.OK, counters=counters)
            made = counters.get("tokens_predicted_total")
            if made is not None and not known.in_hand:
                if pulse.made is not None and made > pulse.made:
                    return known
                is_proven = self._drivers.clock.monotonic() - one.proven < PROOF_S
                if is_proven or _sleeps(server):
                    return None
        token_s = min(TOKEN_S, max(LEAST_TOKEN_S, one.every_s))

        def look() -> Vitals:
            return examine(server, self._drivers, token_s, self._cancel, busy_timeout=TOKEN_S)

        found = look()
        # Of looks that fail by chance, one in twenty, three in a row would come every few days.
        return look() if failed(found) and not self._cancel.is_set() else found


def _sleeps(server: ObservedServer) -> bool:
    """Whether it puts its weights away when it is idle: being asked would keep it awake."""
    seconds = dict(pairwise(server.argv)).get("--sleep-idle-seconds", "-1")
    return not seconds.startswith("-")
