"""The run lock among the threads of one watch, and how each lane lets it go while servers load.

In: the root's run lock. Out: `Turn`, held while any thread has work that needs it; `Share`, what
one lane has of it. Whoever comes back after having let it go sees whether others had their way.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable, Iterator

from reconciler.core.observed import ProcessRef
from reconciler.core.resolve import model_of
from reconciler.core.words import InstanceName
from reconciler.drivers.base import Cancel, Drivers, State
from reconciler.errors import InterruptedRunError, LockHeldError
from reconciler.execute import Turns
from reconciler.patience import Pace

Wishes = Callable[[], frozenset[str]]
"""The wishes that are the watch's own: one, or two while it notes the second."""
POLL_S = 0.1


class Turn:
    """The run lock, counted: the first one takes it, the last one gives it back."""

    def __init__(self, state: State, cancel: Cancel) -> None:
        self.pace = Pace()
        """Of all lanes: their servers load at the same time."""
        self._state, self._cancel = state, cancel
        self._count = 0
        self._held = contextlib.ExitStack()
        self._mutex = threading.Lock()

    def take(self, timeout: float = math.inf) -> None:
        """Have a share in it.

        Raises:
            LockHeldError: another process has it. InterruptedRunError: the watch is to end.
        """
        waited = 0.0
        while not self._try(final=waited >= timeout):
            if self._cancel.wait(POLL_S):
                raise InterruptedRunError("interrupted while another run was waited for")
            waited += POLL_S

    def _try(self, *, final: bool) -> bool:
        with self._mutex:
            if not self._count:
                try:
                    self._held.enter_context(self._state.run_lock(0.0))
                except LockHeldError:
                    if final:
                        raise
                    return False
            self._count += 1
            return True

    def give(self) -> None:
        """Have no share any more."""
        with self._mutex:
            self._count -= 1
            if not self._count:
                self._held.close()

    @contextlib.contextmanager
    def taken(self, timeout: float) -> Iterator[None]:
        """Have a share meanwhile. Raises as `take`."""
        self.take(timeout)
        try:
            yield
        finally:
            self.give()


class Share(Turns):
    """What one lane has of the turn: nothing while all that it does is to wait for servers."""

    def __init__(self, turn: Turn, drivers: Drivers, wishes: Wishes) -> None:
        """`wishes`: what this root is to be, as far as the watch has a say in it."""
        super().__init__(turn.pace)
        self._turn, self._drivers, self._wishes = turn, drivers, wishes
        self._running = self._waiting = 0
        self._mutex = threading.RLock()
        turn.take(0.0)
        self._has = True

    def begins(self) -> None:
        """A step that needs it is about to run."""
        with self._mutex:
            self._running += 1

    def ends(self) -> None:
        """One has run."""
        with self._mutex:
            self._running -= 1
            self._give_if_idle()

    @contextlib.contextmanager
    def away(self, name: InstanceName, server: ProcessRef, address: str) -> Iterator[None]:
        """Let it go, if no other step of this lane needs it, and have it again afterwards."""
        with self._mutex:
            self._waiting += 1
            self._give_if_idle()
        try:
            yield
        finally:
            with self._mutex:
                self._waiting -= 1
                if not self._has:
                    self._turn.take()
                    self._has = True
            self._refuse_superseded(name, server, address)

    def settle(self) -> bool:
        """The lane needs it no more; whether it had it until now."""
        with self._mutex:
            had, self._has = self._has, False
            if had:
                self._turn.give()
            return had

    def _give_if_idle(self) -> None:
        if self._has and self._running and self._running == self._waiting:
            self._has = False
            self._turn.give()

    def _refuse_superseded(self, name: InstanceName, server: ProcessRef, address: str) -> None:
        """What was done by others meanwhile is not to be undone, nor their server to be ended."""
        wishes = self._wishes()
        journal = self._drivers.state.read()
        # The watch may have noted a newer one of its own meanwhile.
        wishes |= self._wishes()
        stopped = journal.suspended.get(model_of(name))
        others = (one for one in self._drivers.runtime.list() if one.ref != server)
        if (
            journal.wish not in wishes
            or (stopped and not stopped.is_over(self._drivers.clock.now()))
            or any((one.instance, one.address) == (name, address) for one in others)
        ):
            raise InterruptedRunError("another run had its way with it meanwhile")
