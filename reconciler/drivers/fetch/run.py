"""Several files at once: the way into fetching.

In: orders, limits, a cancel signal. Out: every file in its folder, or the first error; `progress`
is called some times a second by the caller's own thread. A cancelled run comes back within half a
second; connections that hang are left to end by themselves and can write nothing any more.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import httpx

from reconciler.core.ranges import Layout, layout
from reconciler.drivers.base import Cancel
from reconciler.drivers.fetch.attempt import Means
from reconciler.drivers.fetch.crew import Crew
from reconciler.drivers.fetch.download import Download
from reconciler.drivers.fetch.order import Limits, Order
from reconciler.drivers.fetch.partial import POLL_S
from reconciler.drivers.fetch.throttle import Throttle
from reconciler.errors import InterruptedRunError

REPORT_EVERY_S = 0.25
SETTLE_S = 0.3
"""How long a run that ends waits for its threads to note what they have."""


def all_files(
    orders: Sequence[Order],
    limits: Limits,
    progress: Callable[[int, int], None],
    cancel: Cancel,
) -> None:
    """Fetch them all. `progress` gets bytes done and bytes in all.

    Raises:
        HubError: one of them cannot be had; what came of the others stays for the next run.
        InterruptedRunError: the run is to end.
        OSError: they cannot be stored.
    """
    if not orders:
        return
    stop = threading.Event()
    total = sum(order.size for order in orders)
    at_once = min(limits.files, len(orders))
    plan = layout(total, at_once, limits.connections)
    if limits.chunk is not None:
        plan = Layout(limits.connections, limits.chunk)
    throttle = Throttle(limits.bytes_per_s)
    means = Means(limits, plan, throttle, httpx.create_ssl_context())
    downloads = [Download(order, means, stop) for order in orders]
    waiting = iter(downloads)
    turn = threading.Lock()

    def work() -> None:
        while not stop.is_set():
            with turn:
                one = next(waiting, None)
            if one is None:
                return
            one.run()

    crew = Crew()
    progress(0, total)
    for _ in range(at_once):
        crew.start(work)
    report_at = time.monotonic() + REPORT_EVERY_S
    try:
        while not crew.wait(POLL_S):
            if cancel.is_set():
                raise InterruptedRunError(f"interrupted while downloading from {orders[0].where}")
            if time.monotonic() >= report_at:
                progress(sum(one.done for one in downloads), total)
                report_at = time.monotonic() + REPORT_EVERY_S
    finally:
        stop.set()
        crew.settle(SETTLE_S)
    progress(total, total)
