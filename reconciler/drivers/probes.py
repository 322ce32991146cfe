"""Questions to a running server over HTTP: is it ready, how much has it in hand.

In: an address, `unix:/path.sock` or `host:port`. Out: a `Health`, a count, or None.
Every question has a time-out; no answer is an answer here, never an exception.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor

import httpx

from reconciler.drivers.base import Health

PARALLEL_PROBES = 16
_IN_FLIGHT = re.compile(r"^llamacpp:requests_(?:processing|deferred) (\d+)", re.MULTILINE)


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
        try:
            text = _get(address, "/metrics", 2.0).text
        except httpx.HTTPError:
            return None
        counts = _IN_FLIGHT.findall(text)
        return sum(int(count) for count in counts) if counts else None


def _is_full(error: BaseException | None) -> bool:
    """Whether somebody listens, but has long not taken a connection (EAGAIN of a unix socket)."""
    while error is not None and not isinstance(error, BlockingIOError):
        error = error.__cause__ or error.__context__
    return error is not None


def _get(address: str, path: str, timeout: float) -> httpx.Response:
    socket = address.removeprefix("unix:") if address.startswith("unix:") else None
    # verify=False: plain http on this machine; loading the CA bundle costs 20 ms a client.
    transport = httpx.HTTPTransport(uds=socket, verify=False)
    host = "localhost" if socket else address
    with httpx.Client(transport=transport, timeout=timeout, trust_env=False) as client:
        return client.get(f"http://{host}{path}")
