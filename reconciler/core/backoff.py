"""Back-off: when an instance that ended by itself is started again, or that it never is.

In: what is known of its earlier ends, the newest one, the time. Out: `Crashes` to be remembered,
and the reason not to start it now. It reads no clock: who waits brings the time.
The first end costs no wait; then 10 s, doubling to 300 s, and back to none after 600 s ready. The
same final cause three times in a row: given up, until what is launched changes or an operator asks.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from reconciler.core.observed import Crashes, Journal, LastExit
from reconciler.core.present import human_seconds
from reconciler.core.resolve import model_of
from reconciler.core.words import InstanceName, ModelName

FIRST_S, LONGEST_S = 10.0, 300.0
RESET_AFTER_S = 600.0
"""So long a server has to be ready for its earlier ends to be forgotten."""
FATAL_TIMES = 3
JITTER = 0.1
"""Servers that died together come back at moments that differ by so much of their wait."""


@dataclass(frozen=True, slots=True)
class Hold:
    """Why an instance is not started now."""

    reason: str
    until: float | None
    """When it is, in seconds since the epoch; None: not by itself."""


def after_end(
    name: InstanceName, known: Crashes | None, end: LastExit, launch: str, now: float
) -> Crashes:
    """What is known after an instance ended by itself; `launch` says what was to run.

    A launch that differs from the one that failed before begins anew.
    """
    same = known if known and known.launch == launch else Crashes(launch=launch)
    fatal = same.fatal + 1 if end.final and end.reason == same.reason else int(end.final)
    count = same.count + 1
    return Crashes(launch, count, fatal, end.at, end.reason, now + wait_s(name, count))


def wait_s(name: InstanceName, count: int) -> float:
    """Seconds before the start after the end number `count` in a row."""
    if count <= 1:
        return 0.0
    wait = min(FIRST_S * 2.0 ** min(count - 2, 10), LONGEST_S)
    spread = zlib.crc32(f"{name} {count}".encode()) / 2**32
    return wait * (1 - JITTER * spread)


def hold(crashes: Crashes | None, launch: str, now: float | None) -> Hold | None:
    """Why it is not started now; None when it is. `now` None: an operator asks, and waits not."""
    if now is None or not crashes or crashes.launch != launch:
        return None
    if crashes.fatal >= FATAL_TIMES:
        return Hold(f"given up: {crashes.fatal} times in a row {crashes.reason}", None)
    # A clock that was set back must not hold it longer than the longest wait.
    if not now < crashes.next_at <= now + LONGEST_S:
        return None
    times = f"ended {crashes.count} times" if crashes.count > 1 else "ended"
    wait = human_seconds(max(1.0, crashes.next_at - now))
    return Hold(f"{times}, last: {crashes.reason}; next start in {wait}", crashes.next_at)


def forgotten(journal: Journal, ready_s: Mapping[InstanceName, float]) -> Journal:
    """The journal, given how long each instance has been ready: no row of ends lasts for ever.

    When the last one was stays: it must not be counted again.
    """
    crashes = {
        name: replace(one, count=0, fatal=0, next_at=0.0)
        if ready_s.get(name, 0.0) >= RESET_AFTER_S
        else one
        for name, one in journal.crashes.items()
    }
    return replace(journal, crashes=crashes)


def tried_again(journal: Journal, models: Iterable[ModelName]) -> Journal:
    """Let no earlier end of these models' servers keep a watch from starting them."""
    meant = set(models)
    crashes = {name: one for name, one in journal.crashes.items() if model_of(name) not in meant}
    return replace(journal, crashes=crashes)
