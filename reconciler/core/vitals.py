"""How a server is doing: what it answered when it was asked, and what it has counted.

In: the text of its /metrics, the outcome of a probe. Out: `Vitals`, rows and values for `health`
and `metrics`. /health says nothing of the queue behind it (it stays 200 when inference hangs), so
health is told by a token that was really made. Nothing here asks a server.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from reconciler.core.observed import ObservedServer
from reconciler.core.words import InstanceName, Phase

_SERIES = re.compile(r"^llamacpp:(\w+) (\S+)$", re.MULTILINE)


class Verdict(StrEnum):
    """What `health` says of one instance."""

    OK = "ok"
    """It made a token just now."""
    BUSY = "busy"
    """It has requests in hand; ours would only wait behind them."""
    STUCK = "stuck"
    """It has requests in hand and gets nowhere with them."""
    ASLEEP = "asleep"
    """It has put its weights away (`sleep-idle-seconds`); the next request wakes it."""
    UNROUTED = "unrouted"
    """It is ready, and the gateway does not lead to it: the run that started it was cut."""
    LOADING = "loading"
    STOPPING = "stopping"
    SILENT = "silent"
    """It lives, and does not answer or makes no token."""
    DOWN = "down"
    """No server of this instance lives."""

    @property
    def is_good(self) -> bool:
        """Whether requests to it are served."""
        return self in {Verdict.OK, Verdict.BUSY, Verdict.ASLEEP}


@dataclass(frozen=True, slots=True)
class Answer:
    """A server's answer to a request for one token."""

    seconds: float
    trouble: str = ""
    """What happened instead of a token, for people; empty when it made one."""


@dataclass(frozen=True, slots=True)
class Vitals:
    """What was found out about one instance by asking it."""

    instance: InstanceName
    verdict: Verdict
    seconds: float | None = None
    """How long one token took; None when none was asked for."""
    reason: str = ""
    counters: Mapping[str, float] = field(default_factory=dict)
    """Its own counters since its start, by llama.cpp's names without their prefix."""

    @property
    def running(self) -> int | None:
        """Requests that it works on; None when it did not say."""
        return self._count("requests_processing")

    @property
    def waiting(self) -> int | None:
        """Requests that wait for a free slot; None when it did not say."""
        return self._count("requests_deferred")

    @property
    def in_hand(self) -> int:
        """Both together."""
        return (self.running or 0) + (self.waiting or 0)

    def _count(self, name: str) -> int | None:
        value = self.counters.get(name)
        return None if value is None else int(value)


def parse_counters(text: str) -> dict[str, float]:
    """Read llama-server's /metrics: every `llamacpp:NAME VALUE`, without the prefix."""
    found: dict[str, float] = {}
    for name, value in _SERIES.findall(text):
        try:
            found[name] = float(value)
        except ValueError:
            continue
    return found


def down(instance: InstanceName, reason: str) -> Vitals:
    """The vitals of an instance that has no server."""
    return Vitals(instance, Verdict.DOWN, reason=reason)


def unasked(server: ObservedServer) -> Vitals | None:
    """The vitals of a server that is not to be asked for a token; None when it is."""
    known = {
        Phase.STARTING: (Verdict.LOADING, "its model is still loading"),
        Phase.STOPPING: (Verdict.STOPPING, "it was told to end"),
        Phase.UNHEALTHY: (Verdict.SILENT, "it takes connections, and does not answer /health"),
    }
    if server.phase is Phase.READY and not server.routed:
        reason = "no request reaches it yet: `llm-reconcile apply` puts it behind the gateway"
        return Vitals(server.instance, Verdict.UNROUTED, reason=reason)
    if server.phase not in known:
        return None
    verdict, reason = known[server.phase]
    return Vitals(server.instance, verdict, reason=reason)


def health_values(vitals: Iterable[Vitals]) -> list[dict[str, object]]:
    """`instances` of `health --json`."""
    return [
        {
            "name": one.instance,
            "health": one.verdict,
            "healthy": one.verdict.is_good,
            "token_seconds": None if one.seconds is None else round(one.seconds, 4),
            "running": one.running,
            "waiting": one.waiting,
            "reason": one.reason,
        }
        for one in vitals
    ]


@dataclass(frozen=True, slots=True)
class Usage:
    """What one instance has done since its start, and what it holds; for `metrics`."""

    name: str
    running: int | None = None
    waiting: int | None = None
    prompt_tokens: int | None = None
    generated_tokens: int | None = None
    prompt_tokens_per_second: float | None = None
    """Over all its prompts: tokens by the seconds spent on them, not by the clock."""
    generated_tokens_per_second: float | None = None
    memory_bytes: int | None = None
    gpu_memory_bytes: int | None = None
    """None: no GPU driver says it."""


def usage(server: ObservedServer, counters: Mapping[str, float], gpu_bytes: int | None) -> Usage:
    """Make a row of a server's counters. It uses the counters only.

    llama.cpp's gauges are averages since they were last read: two readers spoil each other's.
    """
    vitals = Vitals(server.instance, Verdict.OK, counters=counters)
    return Usage(
        name=server.instance,
        running=vitals.running,
        waiting=vitals.waiting,
        prompt_tokens=_whole(counters.get("prompt_tokens_total")),
        generated_tokens=_whole(counters.get("tokens_predicted_total")),
        prompt_tokens_per_second=_rate(counters, "prompt_tokens_total", "prompt_seconds_total"),
        generated_tokens_per_second=_rate(
            counters, "tokens_predicted_total", "tokens_predicted_seconds_total"
        ),
        memory_bytes=server.memory_bytes,
        gpu_memory_bytes=gpu_bytes,
    )


def total(rows: Sequence[Usage]) -> Usage:
    """All rows together; what nobody said stays unknown. Rates do not add up."""
    return Usage(
        name="",
        running=_sum(row.running for row in rows),
        waiting=_sum(row.waiting for row in rows),
        prompt_tokens=_sum(row.prompt_tokens for row in rows),
        generated_tokens=_sum(row.generated_tokens for row in rows),
        memory_bytes=_sum(row.memory_bytes for row in rows),
        gpu_memory_bytes=_sum(row.gpu_memory_bytes for row in rows),
    )


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)


def _rate(counters: Mapping[str, float], tokens: str, seconds: str) -> float | None:
    """Tokens a second; None until enough was measured for it to mean anything."""
    spent = counters.get(seconds, 0.0)
    return counters[tokens] / spent if spent >= _LEAST_SECONDS and tokens in counters else None


_LEAST_SECONDS = 0.001
"""A single token can be booked with a microsecond: that is no rate."""


def _sum(values: Iterable[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None
