"""The nginx of a simulated machine: it dies, leaves orphans, rejects, keeps what it has, goes deaf.

In: configurations. Out: what the real driver would see and raise, and the promise that it never
has two masters. `fate` is what becomes of the next changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from enum import StrEnum

from fake_drivers import FakeGateway
from sim_processes import Pids

from reconciler.core.observed import ObservedGateway, PortHolder, ProcessRef
from reconciler.core.plan import ApplyGateway, RenderedGateway, StopGateway
from reconciler.drivers.base import Cancel
from reconciler.errors import GatewayError


class Fate(StrEnum):
    """What becomes of a change of nginx."""

    WORKS = "works"
    REJECTED = "rejected"
    """`nginx -t` says no."""
    ROLLED_BACK = "rolled back"
    """The reload is not taken; what ran before runs on. Where none ran, none does."""
    UNCONFIRMED = "unconfirmed"
    """It was taken, and the answer came too late."""


class SimGateway(FakeGateway):
    """One nginx."""

    def __init__(self, pids: Pids, strangers: Mapping[int, PortHolder]) -> None:
        super().__init__()
        self._pids, self._strangers = pids, strangers
        self.fate = Fate.WORKS
        self.is_deaf = False
        """It lives, and does not answer for itself."""
        self.starts = 0

    def observe(self) -> ObservedGateway:
        found = self.running
        return replace(found, generation=None, outline=None) if self.is_deaf else found

    @property
    def pids(self) -> set[int]:
        """All that is ours."""
        master = (self.running.master,) if self.running.master else ()
        return {one.pid for one in (*master, *self.running.orphans)}

    def held(self) -> tuple[ProcessRef, set[int]] | None:
        """Who listens, and on which ports."""
        running = self.running
        listens = running.outline.listens if running.outline else ()
        ports = {int(one.rpartition(":")[2]) for one in listens}
        holders = [*((running.master,) if running.master else ()), *running.orphans]
        return (holders[0], ports) if holders else None

    def die(self, *, whole: bool) -> None:
        """Its master is killed; its workers serve on, or end with it."""
        if self.running.master is None:
            return
        orphans = () if whole else (self._pids.fork(), self._pids.fork())
        left = replace(self.running, master=None, orphans=orphans)
        self.running = left if orphans else ObservedGateway()
        self.is_deaf = False

    def apply(self, effect: ApplyGateway, cancel: Cancel) -> None:
        for one in (effect.master, *effect.orphans):
            if one:
                self._pids.signal(one)
        if self.fate is Fate.REJECTED:
            raise GatewayError("nginx rejected its configuration", retryable=False)
        self._require_free(effect.rendered)
        is_start = effect.master is None or effect.master != self.running.master
        # A plan names whom it ends: what it does not see keeps the lock.
        others = {self.running.master, *self.running.orphans} - {None, *effect.orphans}
        if is_start and others:
            raise GatewayError("the gateway lock is held by another process")
        if self.fate is Fate.ROLLED_BACK:
            if is_start:
                self.running = ObservedGateway()
            raise GatewayError("nginx did not take it")
        master = self.running.master
        if is_start or effect.restart_grace_s is not None:
            master, self.is_deaf = self._pids.fork(), False
            self.starts += 1
        else:
            self.reloads += 1
        rendered = effect.rendered
        self.running = ObservedGateway(master, (), rendered.generation, 1e9, rendered.outline)
        if self.fate is Fate.UNCONFIRMED:
            raise GatewayError("nginx did not confirm it in time")

    def _require_free(self, rendered: RenderedGateway) -> None:
        for listen in rendered.outline.listens:
            if int(listen.rpartition(":")[2]) in self._strangers:
                raise GatewayError(f"cannot listen on {listen}: address already in use")

    def stop(self, effect: StopGateway, cancel: Cancel) -> None:
        for one in (effect.master, *effect.orphans):
            if one:
                self._pids.signal(one)
        if self.fate is not Fate.WORKS:
            raise GatewayError("nginx does not end")
        self.running, self.is_deaf = ObservedGateway(), False
