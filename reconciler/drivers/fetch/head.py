"""The header of a GGUF file on a hub, read before the file is fetched.

In: an `Order`. Out: its header. What that takes of the file, some MiB, goes into the partial that
a download of it goes on with, so that no byte is fetched twice. Where a server knows no ranges
there is no header to be had that way, and nothing is fetched for it.
"""

from __future__ import annotations

import os
from contextlib import suppress

from reconciler.core.gguf import CutOffError, GgufError, Header, read_header
from reconciler.core.ranges import MIB, gaps
from reconciler.drivers import effects
from reconciler.drivers.base import Cancel
from reconciler.drivers.fetch.allowance import Allowance
from reconciler.drivers.fetch.connections import Connections
from reconciler.drivers.fetch.order import Changed, Order, Remote
from reconciler.drivers.fetch.partial import Partial, held, journal_of
from reconciler.drivers.fetch.retries import Retries
from reconciler.drivers.fetch.run import tls_context
from reconciler.drivers.fetch.wire import Request
from reconciler.errors import HubError, InterruptedRunError

FIRST = MIB
GROWTH = 4
LONGEST = 256 * MIB
"""Headers of models with large vocabularies take some 20 MB; more than this is no header."""
STARTS = 3


def read_head(order: Order, allowance: Allowance, cancel: Cancel) -> Header | None:
    """The header; None where its server knows no ranges.

    Raises:
        HubError: it cannot be had, or is none.
        InterruptedRunError: the run is to end.
        OSError: it cannot be stored.
    """
    remote = order.locate()
    target = order.folder / remote.digest
    effects.make_folder(target.parent, mode=0o755)
    with held(target, remote.size, cancel) as descriptor:
        if descriptor is None and cancel.is_set():
            raise InterruptedRunError("interrupted while a header was read")
        try:
            if descriptor is None:
                with target.open("rb") as whole:
                    return read_header(whole.read(LONGEST))
            for _ in range(STARTS):
                partial = Partial(target, descriptor, remote.size)
                try:
                    return _Head(order, remote, partial, allowance, cancel).read(descriptor)
                except Changed as changed:
                    effects.unlink(journal_of(target))
                    if not changed.ranges:
                        return None
                finally:
                    partial.close()
        except GgufError as error:
            raise HubError(
                f"{order.where}: {order.name}: {error}", hint="check `quant`", retryable=False
            ) from error
    raise HubError(f"{order.where}: {order.name} changes all the time", hint="try again later")


class _Head:
    """Brings as much of a file's beginning as its header takes."""

    def __init__(
        self, order: Order, remote: Remote, partial: Partial, allowance: Allowance, cancel: Cancel
    ) -> None:
        self._order = order
        self._remote = remote
        self._partial = partial
        self._limits = allowance.limits
        self._throttle = allowance.throttle
        self._cancel = cancel

    def read(self, descriptor: int) -> Header:
        most = min(self._remote.size, LONGEST)
        count = min(FIRST, most)
        with Connections(self._limits, tls_context) as connections:
            while True:
                self._bring(connections, count)
                try:
                    return read_header(os.pread(descriptor, count, 0))
                except CutOffError:
                    if count == most:
                        raise
                    count = min(count * GROWTH, most)

    def _bring(self, connections: Connections, count: int) -> None:
        retries = Retries(self._limits)
        while missing := [span for span in gaps(self._partial.spans, count) if span[0] < count]:
            if self._cancel.is_set():
                raise InterruptedRunError("interrupted while a header was read")
            begin, end = missing[0][0], min(missing[0][1], count)
            done = self._partial.done
            try:
                self._ask(connections, begin, end)
            except HubError as error:
                if self._partial.done > done:
                    retries.progress()
                self._cancel.wait(retries.failed(error))
                # Its URL may be stale by now.
                with suppress(HubError):
                    self._remote = self._order.locate()

    def _ask(self, connections: Connections, begin: int, end: int) -> None:
        writer = self._partial.writer(begin)
        request = Request(self._order.where, self._remote, (begin, end), self._partial.etag)
        try:
            for block in request.blocks(connections, self._partial.identify):
                writer.write(block)
                if self._cancel.wait(self._throttle.pause(len(block))):
                    return
        finally:
            writer.finish()
        if writer.at == begin:
            raise HubError(f"{self._order.where} sent nothing", hint="try again later")
