"""How long a server will not be there: by how long its last good start took.

In: the bytes that it is to load, the last starts. Out: seconds, or None where nobody can know.
It is for people and for clients that ask when to come again; no decision hangs on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from reconciler.core.words import InstanceName

STOP_S = 0.15
"""From the moment that a server without requests gets no new one until it is gone: two looks at
what it has in hand, and the 16 to 64 ms that llama-server takes to end (measured, b11434)."""
MOST_TIMES_THE_BYTES = 10
"""Between the smallest and the largest quant of a model; beyond that it is another model."""


@dataclass(frozen=True, slots=True)
class LastStart:
    """How long the last good start of an instance took."""

    seconds: float
    """From the moment that its process was made until it was ready."""
    weights_bytes: int
    """What it had to load; 0 where that is not known."""


def start_s(
    instance: InstanceName, weights_bytes: int, starts: Mapping[InstanceName, LastStart]
) -> float | None:
    """How long a start on so many bytes should take: loading grows with them."""
    last = starts.get(instance)
    if last is None:
        return None
    before, now = last.weights_bytes, weights_bytes
    if before == now:
        return last.seconds
    if not before or not now or max(before, now) > MOST_TIMES_THE_BYTES * min(before, now):
        return None
    return last.seconds * now / before


def replacement_s(
    instance: InstanceName, weights_bytes: int, starts: Mapping[InstanceName, LastStart]
) -> float | None:
    """How long nobody answers while an idle server is stopped and another one is started."""
    start = start_s(instance, weights_bytes, starts)
    return None if start is None else round(STOP_S + start, 2)
