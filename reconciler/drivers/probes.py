"""Questions to a running server over HTTP: is it ready, what has it in hand, does it make tokens.

In: an address, `unix:/path.sock` or `host:port`. Out: a `Health`, counts, an `Answer`, or None.
Every question has a time-out; no answer is an answer here, never an exception.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor

import httpx

from reconciler.core.vitals import Answer, parse_counters
from reconciler.drivers.base import Health

PARALLEL_PROBES = 16
QUESTION_S = 2.0
"""For questions that llama-server answers beside its work: at most 0.09 s late in a decode."""
_NOT_SUPPORTED = (httpx.codes.BAD_REQUEST, httpx.codes.NOT_IMPLEMENTED)


class HttpProber:
    """The real `Prober` of `drivers.base`."""

    def health(self, address: str, timeout: float = 2.0) -> Health:
        """Ask /health once. llama-server answers 503 while it loads, 200 when it is ready."""
        try:
            status = _get(address, "/health", timeout).status_code
        except httpx.ConnectError as error:
            return Health.SILENT if _is_full(error) else Health.REFUSED
        except httpx.HTTPError:
            return Health.SILENT
        if status == httpx.codes.SERVICE_UNAVAILABLE:
            return Health.LOADING
        return Health.READY if status == httpx.codes.OK else Health.SILENT

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
            return parse_counters(_get(address, "/metrics", QUESTION_S).text)
        except httpx.HTTPError:
            return None

    def progress(self, address: str) -> int | None:
        """Tokens of prompts and answers that its slots are through with; wakes one that sleeps."""
        try:
            slots = _get(address, "/slots", QUESTION_S).json()
            return sum(_tokens(slot) for slot in slots)
        except (httpx.HTTPError, ValueError, TypeError, AttributeError):
            return None

    def is_sleeping(self, address: str) -> bool:
        """Whether it has put its weights away until the next request."""
        try:
            return _get(address, "/props", QUESTION_S).json().get("is_sleeping") is True
        except (httpx.HTTPError, ValueError, AttributeError):
            return False

    def make_token(self, address: str, timeout: float) -> Answer:
        """Let it make one token: the only proof that its queue moves.

        A model that only embeds refuses to complete; it is asked for an embedding then.
        """
        began = time.monotonic()
        body = {"prompt": "a", "n_predict": 1}
        try:
            answer = _post(address, "/completion", body, timeout)
            if answer.status_code in _NOT_SUPPORTED:
                answer = _post(address, "/v1/embeddings", {"input": "a"}, timeout)
        except httpx.TimeoutException:
            return Answer(timeout, f"it made no token in {timeout:g} s")
        except httpx.HTTPError as error:
            said = f"it broke off while it made a token ({type(error).__name__})"
            return Answer(time.monotonic() - began, said)
        good = answer.status_code == httpx.codes.OK
        said = "" if good else f"it answered HTTP {answer.status_code} when asked for a token"
        return Answer(time.monotonic() - began, said)


def _tokens(slot: Mapping[str, object]) -> int:
    """How far one slot of /slots is: prompt tokens read, and tokens made for the next answer."""
    after = slot.get("next_token")
    made = [one.get("n_decoded", 0) for one in after] if isinstance(after, list) else []
    read = slot.get("n_prompt_tokens_processed", 0)
    return sum(count for count in (read, *made) if isinstance(count, int))


def _is_full(error: BaseException | None) -> bool:
    """Whether somebody listens, but has long not taken a connection (EAGAIN of a unix socket)."""
    while error is not None and not isinstance(error, BlockingIOError):
        error = error.__cause__ or error.__context__
    return error is not None


def _get(address: str, path: str, timeout: float) -> httpx.Response:
    with _client(address, timeout) as client:
        return client.get(path)


def _post(address: str, path: str, body: Mapping[str, object], timeout: float) -> httpx.Response:
    with _client(address, timeout) as client:
        return client.post(path, json=body)


def _client(address: str, timeout: float) -> httpx.Client:
    socket = address.removeprefix("unix:") if address.startswith("unix:") else None
    # verify=False: plain http on this machine; loading the CA bundle costs 20 ms a client.
    transport = httpx.HTTPTransport(uds=socket, verify=False)
    base = f"http://{'localhost' if socket else address}"
    return httpx.Client(base_url=base, transport=transport, timeout=timeout, trust_env=False)
