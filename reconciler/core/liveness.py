"""Liveness: from what a server answered, look after look, whether it is wedged.

In: `Vitals`, one a look. Out: a `Pulse`, and in the end the reason to replace its server.
A wedged server's /health, /slots and /metrics live on: a token is the proof, or for one that has
requests in hand that it moves. What is not known is no failure, and three in a row it takes.
"""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.core.vitals import Verdict, Vitals

FAILURES = 3
_FAILED = {Verdict.SILENT, Verdict.STUCK}
_UNKNOWN = {Verdict.UNROUTED, Verdict.LOADING, Verdict.STOPPING, Verdict.DOWN}


@dataclass(frozen=True, slots=True)
class Pulse:
    """What is known of one server process."""

    failures: int = 0
    """In a row."""
    reason: str = ""
    """What was found at the last of them."""
    made: float | None = None
    """Tokens that it had made at the last look, by its own count."""

    @property
    def wedged(self) -> str:
        """Why it is to be replaced; empty while it is not."""
        if self.failures < FAILURES:
            return ""
        return f"it is wedged: {self.reason}, {self.failures} times in a row"


def failed(found: Vitals) -> bool:
    """Whether it did not do what a server that works does."""
    return found.verdict in _FAILED


def felt(known: Pulse, found: Vitals) -> Pulse:
    """What is known after another look."""
    made = found.counters.get("tokens_predicted_total", known.made)
    if failed(found):
        return Pulse(known.failures + 1, found.reason, made)
    if found.verdict in _UNKNOWN:
        return Pulse(known.failures, known.reason, made)
    return Pulse(made=made)
