"""One file, from where it is to its place: located, locked, brought, verified, named.

In: an `Order`. Out: the verified file in its folder, or a `HubError`; what came stays for the next
run. A file that changes on its way starts again. Bytes that prove wrong are fetched once more from
the start: which of them are wrong nobody knows.
"""

from __future__ import annotations

import contextlib
import threading
import time
from pathlib import Path

from reconciler.core.ranges import Layout
from reconciler.drivers import effects
from reconciler.drivers.base import Cancel
from reconciler.drivers.fetch.attempt import Attempt, Means
from reconciler.drivers.fetch.order import Changed, Order, Remote
from reconciler.drivers.fetch.partial import (
    Partial,
    came,
    held,
    is_here,
    journal_of,
    partial_of,
)
from reconciler.drivers.fetch.retries import Retries
from reconciler.errors import HubError, InterruptedRunError

STARTS = 5
"""How often a file that changes on its way is begun, until that is an error."""
SELDOM_S = 1.0
"""How seldom another's journal is read, which has a line for each MiB."""


class Download:
    """Fetches one file."""

    def __init__(self, order: Order, means: Means, stop: Cancel) -> None:
        self._order = order
        self._means = means
        self._stop = stop
        self._partial: Partial | None = None
        self._target: Path | None = None
        self._seen, self._seen_at = 0, -SELDOM_S
        self._is_here = False

    @property
    def done(self) -> int:
        """Bytes that are here."""
        if self._is_here:
            return self._order.size
        return self._partial.done if self._partial else self._came()

    def _came(self) -> int:
        """Bytes that another process has, while it holds the file and we wait for it."""
        now = time.monotonic()
        if self._target and now - self._seen_at >= SELDOM_S:
            with contextlib.suppress(OSError):
                self._seen, self._seen_at = came(self._target, self._order.size)[0], now
        return self._seen

    @property
    def came(self) -> int:
        """Of these, the bytes that came in this run."""
        return self._partial.done - self._partial.found if self._partial else 0

    def run(self) -> None:
        """Fetch it.

        Raises:
            HubError: it cannot be had.
            InterruptedRunError: the run is to end.
            OSError: it cannot be stored.
        """
        location = _Location(self._order)
        remote = self._located(location)
        target = self._order.folder / remote.digest
        effects.make_folder(target.parent, mode=0o755)
        self._target = target
        with held(target, remote.size, self._stop) as descriptor:
            is_ours = descriptor is not None
            if descriptor is not None:
                effects.preallocate(descriptor, partial_of(target), remote.size)
                self._fill(location, remote, descriptor)
                effects.publish(descriptor, partial_of(target), target)
        if not is_here(target, remote.size):
            raise InterruptedRunError("interrupted while another process fetches")
        # The link comes last: who is killed before it comes here again and clears up.
        effects.unlink(journal_of(target))
        # Whom we waited for may have been killed while it wrote its journal anew.
        effects.sweep(target.parent, f".{journal_of(target).name}.*.tmp")
        self._order.arrived(target, remote.digest if is_ours else "")
        self._is_here = True

    def _located(self, location: _Location) -> Remote:
        retries = Retries(self._means.limits)
        while not self._stop.is_set():
            try:
                return location.get()
            except HubError as error:
                self._stop.wait(retries.failed(error))
        raise InterruptedRunError("interrupted before it began")

    def _fill(self, location: _Location, remote: Remote, descriptor: int) -> None:
        target = self._order.folder / remote.digest
        found = ""
        for _ in range(2):
            found = self._bytes(location, remote, descriptor)
            if found == remote.digest:
                return
            effects.unlink(journal_of(target))
        effects.unlink(partial_of(target))
        raise HubError(
            f"{self._order.where}: {self._order.name} came twice with wrong bytes: its "
            f"{remote.kind} is {found}, not {remote.digest}",
            hint=remote.hints.wrong,
        )

    def _bytes(self, location: _Location, remote: Remote, descriptor: int) -> str:
        """Get all bytes, from one version of the file; their hash."""
        target = self._order.folder / remote.digest
        plan = self._means.layout
        for _ in range(STARTS):
            self._partial = Partial(target, descriptor, remote.size)
            try:
                attempt = Attempt(self._order.where, location, self._partial, self._means)
                return attempt.run(plan, remote.new_hash(), self._stop)
            except Changed as changed:
                effects.unlink(journal_of(target))
                location.forget()
                if not changed.ranges:
                    plan = Layout(1, max(remote.size, 1))
        raise HubError(
            f"{self._order.where}: {self._order.name} changed {STARTS} times on its way",
            hint="try again later",
        )


class _Location:
    """Where the file is now, as all its connections know it."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._lock = threading.Lock()
        self._first: Remote | None = None
        self._now: Remote | None = None

    def get(self) -> Remote:
        """Where it is, asked for if it is not known."""
        with self._lock:
            if self._now is None:
                self._now = self._located()
            return self._now

    def forget(self, stale: Remote | None = None) -> None:
        """Locate it again next time, unless somebody already did."""
        with self._lock:
            if stale is None or self._now is stale:
                self._now = None

    def _located(self) -> Remote:
        found = self._order.locate()
        first = self._first = self._first or found
        if (found.size, found.digest) != (first.size, first.digest):
            raise HubError(
                f"{self._order.where}: {self._order.name} is another file now",
                hint="plan again",
                retryable=False,
            )
        return found
