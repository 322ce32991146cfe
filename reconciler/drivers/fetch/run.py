"""Several files at once: the way into fetching.

In: orders, an allowance, a cancel signal. Out: every file in its folder, or the first error;
`progress` is called some times a second by the caller's own thread. A cancelled run comes back
within half a second; connections that hang are left to end by themselves and can write nothing
any more.
"""

from __future__ import annotations

import contextlib
import functools
import ssl
import threading
import time
from collections.abc import Sequence
from queue import Empty, SimpleQueue

from reconciler.core.present import human_bytes
from reconciler.core.ranges import Layout, layout
from reconciler.core.transfers import FileProgress, total_of
from reconciler.drivers.base import Cancel, Told
from reconciler.drivers.fetch.allowance import Allowance
from reconciler.drivers.fetch.attempt import Means
from reconciler.drivers.fetch.crew import Crew
from reconciler.drivers.fetch.download import Download
from reconciler.drivers.fetch.order import Order
from reconciler.drivers.fetch.partial import POLL_S
from reconciler.errors import InterruptedRunError

REPORT_EVERY_S = 0.25
SETTLE_S = 0.3
"""How long a run that ends waits for its threads to note what they have."""


def all_files(
    orders: Sequence[Order],
    allowance: Allowance,
    progress: Told,
    cancel: Cancel,
) -> None:
    """Fetch them all. `progress` is told how each stands.

    Raises:
        HubError: one of them cannot be had; what came of the others stays for the next run.
        InterruptedRunError: the run is to end.
        OSError: they cannot be stored.
    """
    if not orders:
        return
    stop = threading.Event()
    limits = allowance.limits
    at_once = min(limits.files, len(orders))
    plan = layout(sum(order.size for order in orders), at_once, limits.connections)
    if limits.chunk is not None:
        plan = Layout(limits.connections, limits.chunk)
    means = Means(limits, plan, allowance.throttle, functools.cache(tls_context))
    downloads = [Download(order, means, stop) for order in orders]
    waiting: SimpleQueue[Download] = SimpleQueue()
    for one in downloads:
        waiting.put(one)
    crew = Crew()
    progress(_stand(orders, downloads))
    for _ in range(at_once):
        crew.start(lambda: _work(waiting, allowance, stop))
    report_at = time.monotonic() + REPORT_EVERY_S
    try:
        while not crew.wait(POLL_S):
            if cancel.is_set():
                raise InterruptedRunError(_interrupted(orders[0], _stand(orders, downloads)))
            if time.monotonic() >= report_at:
                progress(_stand(orders, downloads))
                report_at = time.monotonic() + REPORT_EVERY_S
    finally:
        stop.set()
        crew.settle(SETTLE_S)
    progress(_stand(orders, downloads))


def tls_context() -> ssl.SSLContext:
    """With the certificates of the environment, or else of httpx: as the hub's own client."""
    import httpx  # noqa: PLC0415 - 0.1 s that only https need pay

    return httpx.create_ssl_context()


def _work(waiting: SimpleQueue[Download], allowance: Allowance, stop: threading.Event) -> None:
    """One file after the other, until none is left."""
    while not (waiting.empty() or stop.is_set()):
        with allowance.turn(stop) as is_mine, contextlib.suppress(Empty):
            if is_mine:
                waiting.get_nowait().run()


def _stand(orders: Sequence[Order], downloads: Sequence[Download]) -> tuple[FileProgress, ...]:
    return tuple(
        FileProgress(order.name, one.done, order.size, one.came)
        for order, one in zip(orders, downloads, strict=True)
    )


def _interrupted(first: Order, files: tuple[FileProgress, ...]) -> str:
    here, total = total_of(files).done, total_of(files).size
    return (
        f"interrupted while downloading from {first.where}: {human_bytes(here)} of "
        f"{human_bytes(total)} are here, the next run goes on from there"
    )
