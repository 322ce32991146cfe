"""Questions to a running server over HTTP: is it ready, what has it in hand, does it make tokens.

In: an address, `unix:/path.sock` or `host:port`. Out: a `Health`, counts, an `Answer`, or None.
Every question has a time-out; no answer is an answer here, never an exception.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus

from reconciler.core.vitals import Answer, parse_counters
from reconciler.drivers.base import Health
from reconciler.drivers.local_http import NotReachedError, ask

PARALLEL_PROBES = 16
QUESTION_S = 2.0
"""For questions that llama-server answers beside its work: at most 0.09 s late in a decode."""
_NOT_SUPPORTED = (
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.NOT_IMPLEMENTED,
    # "the current context does not support logits computation" (b11434).
    HTTPStatus.INTERNAL_SERVER_ERROR,
)


class HttpProber:
    """The real `Prober` of `drivers.base`."""

    def health(self, address: str, timeout: float = 2.0) -> Health:
        """Ask /health once. llama-server answers 503 while it loads, 200 when it is ready."""
        try:
            status = ask(address, "/health", timeout).status
        except NotReachedError:
            return Health.REFUSED
        except OSError:
            return Health.SILENT
        if status == HTTPStatus.SERVICE_UNAVAILABLE:
            return Health.LOADING
        return Health.READY if status == HTTPStatus.OK else Health.SILENT

    def health_all(self, addresses: Iterable[str]) -> Mapping[str, Health]:
        """Ask many at once."""
        wanted = list(addresses)
        if not wanted:
            return {}
        with ThreadPoolExecutor(min(PARALLEL_PROBES, len(wanted))) as pool:
            return dict(zip(wanted, pool.map(self.health, wanted), strict=True))

    def in_flight(self, address: str) -> int | None:
        """Requests processing and deferred, from /metrics (answered also during a decode)."""
        counters = self.counters(address) or {}
        names = ("requests_processing", "requests_deferred")
        counts = [int(counters[name]) for name in names if name in counters]
        return sum(counts) if counts else None

    def counters(self, address: str) -> Mapping[str, float] | None:
        """All that /metrics counts; it does not wake a server that sleeps."""
        try:
            return parse_counters(ask(address, "/metrics", QUESTION_S).text)
        except OSError:
            return None

    def progress(self, address: str) -> int | None:
        """Tokens of prompts and answers that its slots are through with; wakes one that sleeps."""
        try:
            slots = json.loads(ask(address, "/slots", QUESTION_S).body)
            return sum(_tokens(slot) for slot in slots)
        except (OSError, ValueError, TypeError, AttributeError):
            return None

    def is_sleeping(self, address: str) -> bool:
        """Whether it has put its weights away until the next request."""
        try:
            props = json.loads(ask(address, "/props", QUESTION_S).body)
            return props.get("is_sleeping") is True
        except (OSError, ValueError, AttributeError):
            return False

    def make_token(self, address: str, timeout: float) -> Answer:
        """Let it make one token: the only proof that its queue moves.

        A model that only embeds refuses to complete; it is asked for an embedding then, by the path
        that takes every way of pooling.
        """
        began = time.monotonic()
        body = {"prompt": "a", "n_predict": 1}
        try:
            status = ask(address, "/completion", timeout, body).status
            good = status == HTTPStatus.OK
            if status in _NOT_SUPPORTED:
                embedded = ask(address, "/embedding", timeout, {"content": "a"})
                good = embedded.status == HTTPStatus.OK
        except TimeoutError:
            return Answer(timeout, f"it made no token in {timeout:g} s")
        except OSError as error:
            said = f"it broke off while it made a token ({error.strerror or error})"
            return Answer(time.monotonic() - began, said)
        said = "" if good else f"it answered HTTP {status} when asked for a token"
        return Answer(time.monotonic() - began, said)


def _tokens(slot: Mapping[str, object]) -> int:
    """How far one slot of /slots is: prompt tokens read, and tokens made for the next answer."""
    after = slot.get("next_token")
    made = [one.get("n_decoded", 0) for one in after] if isinstance(after, list) else []
    read = slot.get("n_prompt_tokens_processed", 0)
    return sum(count for count in (read, *made) if isinstance(count, int))
