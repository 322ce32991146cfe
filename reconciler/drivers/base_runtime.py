"""What the layers above may ask of the processes of servers.

In: launches and the identities of processes. Out: what lives, how what died ended, or an error of
`reconciler.errors`. The fake is tests/fakes/fake_runtime.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from reconciler.core.launch import Launch
from reconciler.core.observed import LastExit, ObservedServer, ProcessRef
from reconciler.core.words import InstanceName

if TYPE_CHECKING:
    from reconciler.drivers.base import Cancel


@dataclass(frozen=True, slots=True)
class Exit:
    """How a child ended: `code` as subprocess gives it (negative: the signal), None if unknown."""

    code: int | None
    log_tail: str
    out_of_memory: bool | None = None
    """The kernel killed something of its cgroup for lack of memory since its start, if known."""


class Runtime(Protocol):
    """The server processes of one root."""

    def list(self) -> tuple[ObservedServer, ...]:
        """All live processes that carry our labels; their phase is still unknown (STARTING).

        Raises:
            StateFolderError: one of them lives in another state folder than ours.
        """
        ...

    def look(self) -> tuple[tuple[ObservedServer, ...], tuple[str, ...]]:
        """What `list` finds, and other roots whose folder is gone, though servers of theirs run."""
        ...

    def unsettled(self) -> bool:
        """Whether a slot is held by a process that carries no label yet."""
        ...

    def start(self, launch: Launch) -> ProcessRef:
        """Start a process that holds the launch's slot.

        Raises:
            EngineError: the slot is held, or the command cannot be executed.
        """
        ...

    def exited(self, server: ProcessRef, instance: InstanceName) -> Exit | None:
        """How it ended; None while it lives."""
        ...

    def signal_stop(self, server: ProcessRef, instance: InstanceName, slot: str) -> None:
        """Send TERM, once, to the process itself, and note on its slot that it was sent."""
        ...

    def kill(self, server: ProcessRef) -> None:
        """Send KILL to its process group, if it is still this very process."""
        ...

    def wait_gone(self, server: ProcessRef, timeout: float, cancel: Cancel) -> bool:
        """Wait until it is gone; False when it still lives after `timeout` seconds."""
        ...

    def route(self, instance: InstanceName, address: str) -> None:
        """Point the instance's stable socket name at `address` (atomic)."""
        ...

    def unroute(self, instance: InstanceName, address: str) -> bool:
        """Take the stable name away if it points at `address`; True if it did."""
        ...

    def forget(self, server: ProcessRef, instance: InstanceName, address: str) -> None:
        """Remove what a gone server left: its socket, its pid file, processes with its labels.

        Notes on its slot that its end is known.
        """
        ...

    def tidy(self, ports: Mapping[InstanceName, int | None]) -> None:
        """Make what lies beside the servers agree with what lives.

        Pid files of live ones as they should be (`ports`: their public ports); no sockets, routes
        and pid files of dead ones; of logs no more than is kept. The caller holds the run lock.
        """
        ...

    def trim_logs(self) -> None:
        """Set aside what is too much of the logs of servers that run, without losing a line.

        To be called about once a minute. The caller holds the run lock.
        """
        ...

    def log_tail(self, instance: InstanceName, lines: int) -> str:
        """The last lines of the instance's log."""
        ...

    def cpu_seconds(self, server: ProcessRef) -> float:
        """CPU time that it has used so far; 0 when it is gone."""
        ...

    def bytes_read(self, server: ProcessRef) -> int:
        """A number that grows while it reads its files, in bytes; 0 when it is gone."""
        ...

    def deaths(self, live: Iterable[ObservedServer]) -> Mapping[InstanceName, LastExit]:
        """How the last copy of each instance ended that neither lives nor was stopped by us."""
        ...
