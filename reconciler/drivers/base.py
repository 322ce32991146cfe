"""What the layers above may ask of the outside: one Protocol a seam, and the values they exchange.

In: frozen values of the core. Out: the same, an error of `reconciler.errors`, or an OSError.
Every Protocol has a fake in tests/fakes that passes the same contract tests as the real driver.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from reconciler.core.desired import Gateway, Model
from reconciler.core.lockfile import Lock, Pin
from reconciler.core.observed import (
    GatewaySecrets,
    Journal,
    LastExit,
    ObservedDisk,
    ObservedEngine,
    ObservedFiles,
    ObservedGateway,
    ObservedGpu,
    ObservedMemory,
    ObservedServer,
    PortHolder,
    ProcessRef,
)
from reconciler.core.plan import ApplyGateway, FetchFiles, Launch, StopGateway, VerifyFiles
from reconciler.core.transfers import FileProgress
from reconciler.core.vitals import Answer
from reconciler.core.words import InstanceName, ModelName
from reconciler.drivers.base_records import Records
from reconciler.drivers.base_store import Store


class Health(StrEnum):
    """What a server's /health says."""

    READY = "ready"
    LOADING = "loading"
    """It answers 503."""
    REFUSED = "refused"
    """Nobody listens (yet, or any more)."""
    SILENT = "silent"
    """It took the connection and did not answer in time, or answered nonsense."""


Told = Callable[[tuple[FileProgress, ...]], None]
"""Whom a download tells how its files stand."""
Held = AbstractContextManager[Callable[[], None]]


class Cancel(Protocol):
    """Whether the run is asked to end. Every wait goes through here (`threading.Event` fits)."""

    def wait(self, timeout: float) -> bool:
        """Sleep; True as soon as the run is to end."""
        ...

    def is_set(self) -> bool:
        """Whether the run is to end."""
        ...


class Clock(Protocol):
    """The time."""

    def now(self) -> float:
        """Seconds since the epoch, for people."""
        ...

    def monotonic(self) -> float:
        """Seconds that only go forward, for deadlines."""
        ...


@dataclass(frozen=True, slots=True)
class Exit:
    """How a child ended: `code` as subprocess gives it (negative: the signal), None if unknown."""

    code: int | None
    log_tail: str


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
        and pid files of dead ones. The caller holds the run lock.
        """
        ...

    def log_tail(self, instance: InstanceName, lines: int) -> str:
        """The last lines of the instance's log."""
        ...

    def cpu_seconds(self, server: ProcessRef) -> float:
        """CPU time that it has used so far; 0 when it is gone."""
        ...

    def deaths(self, live: Iterable[ObservedServer]) -> Mapping[InstanceName, LastExit]:
        """How the last copy of each instance ended that neither lives nor was stopped by us."""
        ...


class Prober(Protocol):
    """Questions to a server over HTTP."""

    def health(self, address: str, timeout: float = 2.0) -> Health:
        """Ask /health once."""
        ...

    def health_all(self, addresses: Iterable[str]) -> Mapping[str, Health]:
        """Ask many at once."""
        ...

    def in_flight(self, address: str) -> int | None:
        """Requests processing and deferred; None when it cannot be asked."""
        ...

    def counters(self, address: str) -> Mapping[str, float] | None:
        """What it counts of itself, by llama.cpp's names; None when it cannot be asked."""
        ...

    def progress(self, address: str) -> int | None:
        """Tokens that it is through with in its current requests; None when it cannot be asked."""
        ...

    def is_sleeping(self, address: str) -> bool:
        """Whether it has put its weights away until the next request."""
        ...

    def make_token(self, address: str, timeout: float) -> Answer:
        """Let it make one token."""
        ...


class Machine(Protocol):
    """The computer itself."""

    def memory(self) -> ObservedMemory:
        """How much memory it has, without its graphics cards."""
        ...


class Gpus(Protocol):
    """The memory of graphics cards."""

    def cards(self) -> tuple[ObservedGpu, ...]:
        """The cards that an engine could compute on."""
        ...

    def memory_by_pid(self) -> Mapping[int, int]:
        """Bytes on all cards of each process that has some, as far as the drivers tell."""
        ...


class Files(Protocol):
    """Model files on disk, on the hub, at URLs."""

    def inspect(self, model: Model, pin: Pin | None = None, *, deep: bool) -> ObservedFiles:
        """How the files of a model stand, and what its pin is or should be.

        `deep` also reads GGUF headers, to find truncation.
        """
        ...

    def latest(self, model: Model, pin: Pin | None) -> ObservedFiles:
        """The same by what the model's revision is on the hub now.

        A pin whose files are still the same ones, and here, stays as it is.
        """
        ...

    def learn(self, pin: Pin, cancel: Cancel) -> Pin:
        """The same pin with what the headers of its files say of the model. Raises as `fetch`.

        What that takes of files that are not here is kept, and not fetched again.
        """
        ...

    def fetch(self, fetch: FetchFiles, progress: Told, cancel: Cancel) -> None:
        """Download. `progress` is told some times a second how each file stands.

        Raises:
            HubError: refused, not found, or unreachable.
            InterruptedRunError: the run is to end; what is complete stays.
        """
        ...

    def verify(self, effect: VerifyFiles, progress: Told, cancel: Cancel) -> None:
        """Read files whole and remember which bytes they have. Raises as `fetch`, or StepError."""
        ...

    def identity(self, paths: Iterable[str]) -> str:
        """What `ObservedFiles.identity` is of files that are here now; empty where one is not."""
        ...

    def hashes(self) -> Mapping[str, str]:
        """Identity of a file -> the hash that its bytes were once found to have."""
        ...

    def disk(self, model: Model) -> ObservedDisk:
        """The disk that a model's files are downloaded to."""
        ...


class LockFile(Protocol):
    """The lock file beside the desired file."""

    def read(self) -> Lock:
        """Its pins; none where there is no such file.

        Raises:
            InvalidDesiredError: it cannot be read, or not be understood.
        """
        ...

    def write(self, pins: Mapping[ModelName, Pin | None]) -> None:
        """Put these pins in, or (None) take them out; the others stay as they are.

        Raises:
            InvalidDesiredError: what is there now cannot be understood.
            OSError: it cannot be written.
        """
        ...


class GatewayDriver(Protocol):
    """The nginx of one root."""

    def locate(self, wanted: str) -> tuple[tuple[str, ...], str]:
        """Find nginx: how it is started, or () and what was tried."""
        ...

    def observe(self) -> ObservedGateway:
        """Who holds the gateway lock, and what the running nginx answers for itself."""
        ...

    def apply(self, effect: ApplyGateway, cancel: Cancel) -> None:
        """Test, swap, start or reload, confirm; on failure the last good one serves on.

        Raises:
            GatewayError: nginx rejected the configuration or did not take it.
        """
        ...

    def stop(self, effect: StopGateway, cancel: Cancel) -> None:
        """End master and workers."""
        ...

    def publish(self, instances: Mapping[str, Mapping[str, object]]) -> None:
        """Write what /api/models adds to the live phases: since, size, reason by instance.

        A size that is None was not looked at this time: the last one stays.
        """
        ...


class Secrets(Protocol):
    """The files of keys and certificates that the desired state names."""

    def read(self, gateway: Gateway) -> GatewaySecrets:
        """What they hold, without the secrets themselves, or what is wrong with them."""
        ...


class Ports(Protocol):
    """Who listens on this machine's TCP ports."""

    def holders(
        self, wanted: Mapping[int, str], ours: Mapping[int, str]
    ) -> Mapping[int, PortHolder]:
        """The holders of the ports in `wanted` (port -> host that we would listen on).

        `ours` maps our own pids to instance names or `gateway`.
        """
        ...

    def has_address(self, host: str) -> bool:
        """Whether this machine has that address to listen on; of a name it is not asked."""
        ...


class Engines(Protocol):
    """Finding the engine and reading its help."""

    def find(self, kind: str, command: str) -> ObservedEngine:
        """The engine that new servers would start with."""
        ...


class State(Protocol):
    """The state folder: the journal and the locks."""

    def boot_id(self) -> str:
        """The kernel's identity of this boot."""
        ...

    def read(self) -> Journal:
        """The journal; empty when there is none."""
        ...

    def write(self, journal: Journal) -> None:
        """Replace the journal, atomically, if it differs."""
        ...

    def run_holder(self) -> str:
        """Who holds the run lock, for people; empty when nobody does."""
        ...

    def run_lock(self, timeout: float, cancel: Cancel | None = None) -> Held:
        """Hold the run lock until the end, or until what it gives is called.

        Raises:
            LockHeldError: another run, which it names, has it. InterruptedRunError: by `cancel`.
        """
        ...


@dataclass(frozen=True, slots=True)
class Drivers:
    """All seams of one root, put together by `app`."""

    runtime: Runtime
    prober: Prober
    files: Files
    store: Store
    lock: LockFile
    gateway: GatewayDriver
    secrets: Secrets
    ports: Ports
    engines: Engines
    state: State
    records: Records
    clock: Clock
    machine: Machine
    gpus: Gpus
    templates: Mapping[str, str]
