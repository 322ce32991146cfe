"""All bytes of one version of a file: several connections that write, and the hash that follows.

In: what is missing of a partial. Out: the hash of the whole file, or `Changed`. The hash follows
the written prefix, so that the end costs no second read; what an earlier run left is read once,
from disk (a hash's state cannot be kept). Whatever happens, the journal says what was written.
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from reconciler.core.ranges import MIB, Layout, Span, gaps, pieces
from reconciler.drivers.base import Cancel
from reconciler.drivers.fetch.connections import Connections
from reconciler.drivers.fetch.crew import Crew
from reconciler.drivers.fetch.order import Hash, Limits, Remote
from reconciler.drivers.fetch.partial import POLL_S, Partial, Writer
from reconciler.drivers.fetch.retries import Retries
from reconciler.drivers.fetch.throttle import Throttle
from reconciler.drivers.fetch.wire import DeniedError, Request
from reconciler.errors import HubError, InterruptedRunError


class Location(Protocol):
    """Where a file is."""

    def get(self) -> Remote:
        """Where it is now. Raises HubError."""
        ...

    def forget(self, stale: Remote) -> None:
        """It is not to be had there any more."""
        ...


@dataclass(frozen=True, slots=True)
class Means:
    """What all downloads of a run share."""

    limits: Limits
    layout: Layout
    throttle: Throttle
    context: Callable[[], ssl.SSLContext]
    """Made when it is needed: that takes 0.1 s."""


class Attempt:
    """Brings what a partial lacks. `run` it once."""

    def __init__(self, where: str, location: Location, partial: Partial, means: Means) -> None:
        self._where = where
        self._location = location
        self._partial = partial
        self._means = means
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._missing: Iterator[Span] = iter(())

    def run(self, plan: Layout, digest: Hash, stop: Cancel) -> str:
        """Get what is missing; the hash of the whole.

        Raises:
            Changed: it must start again.
            HubError: it cannot be had (now).
            InterruptedRunError: `stop` was set.
        """
        self._missing = pieces(gaps(self._partial.spans, self._partial.size), plan.chunk)
        crew = Crew()
        crew.start(lambda: self._follow(digest))
        for _ in range(plan.connections):
            crew.start(self._work)
        try:
            while not crew.wait(POLL_S):
                if stop.is_set():
                    raise InterruptedRunError("interrupted")
        finally:
            self._over.set()
            self._partial.close()
        return digest.hexdigest()

    def _follow(self, digest: Hash) -> None:
        """Hash what is written, from the start on."""
        buffer = memoryview(bytearray(MIB))
        at = 0
        while at < self._partial.size:
            end = self._partial.beyond(at)
            while at < end and (count := self._partial.read(buffer[: end - at], at)):
                digest.update(buffer[:count])
                at += count
            if at < end or end == 0:
                return

    def _work(self) -> None:
        """One connection: piece by piece until none is left."""
        with Connections(self._means.limits, self._means.context) as connections:
            while (span := self._next()) is not None:
                writer = self._partial.writer(span[0])
                self._bring(connections, writer, span[1])
                writer.finish()

    def _next(self) -> Span | None:
        with self._lock:
            return next(self._missing, None)

    def _bring(self, connections: Connections, writer: Writer, end: int) -> None:
        """Get one piece, however often its connection breaks."""
        retries = Retries(self._means.limits)
        while writer.at < end and not self._over.is_set():
            begin = writer.at
            try:
                self._ask(connections, writer, end)
            except HubError as error:
                if writer.at > begin:
                    retries.progress()
                self._over.wait(retries.failed(error))

    def _ask(self, connections: Connections, writer: Writer, end: int) -> None:
        """Send one request, and write what it brings."""
        remote = self._location.get()
        begin = writer.at
        request = Request(self._where, remote, (begin, end), self._partial.etag)
        try:
            for block in request.blocks(connections, self._partial.identify):
                if self._over.is_set() or not writer.write(block):
                    return
                pause = self._means.throttle.pause(len(block))
                if pause and self._over.wait(pause):
                    return
        except DeniedError:
            self._location.forget(remote)
            raise
        if writer.at == begin:
            raise HubError(f"{self._where} sent nothing", hint="try again later")
