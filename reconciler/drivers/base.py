"""What the layers above may ask of the outside: one Protocol a seam, and the values they exchange.

In: frozen values of the core. Out: the same, an error of `reconciler.errors`, or an OSError.
Every Protocol has a fake in tests/fakes that passes the same contract tests as the real driver.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from reconciler.core.desired import Gateway, Model
from reconciler.core.lockfile import Lock, Pin
from reconciler.core.observed import (
    GatewaySecrets,
    Journal,
    ObservedFiles,
    ObservedGateway,
    ObservedServer,
    PortHolder,
    ProcessRef,
)
from reconciler.core.observed_engine import ObservedEngine
from reconciler.core.plan import ApplyGateway, FetchFiles, StopGateway, VerifyFiles
from reconciler.core.resources import ObservedDisk, ObservedGpu, ObservedMemory
from reconciler.core.transfers import FileProgress
from reconciler.core.vitals import Answer
from reconciler.core.words import ModelName
from reconciler.drivers.base_generations import Generations
from reconciler.drivers.base_records import Records
from reconciler.drivers.base_renders import Renders
from reconciler.drivers.base_runtime import Runtime
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
    """Graphics cards, as far as their drivers tell."""

    def cards(self) -> tuple[ObservedGpu, ...]:
        """The cards that an engine could compute on."""
        ...

    def memory_by_pid(self) -> Mapping[int, int]:
        """Bytes on all cards of each process that has some."""
        ...

    def are_busy(self, pids: Collection[int]) -> bool:
        """Whether one of these processes keeps a card busy."""
        ...


class Files(Protocol):
    """Model files on disk, on the hub, at URLs."""

    def inspect(self, model: Model, pin: Pin | None = None, *, deep: bool) -> ObservedFiles:
        """How its files stand, and what its pin is or should be; `deep` reads their headers."""
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

    def text(self) -> str | None:
        """All that it says, as it is written; None where there is no such file.

        Raises:
            OSError: it cannot be read.
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

    def turn_logs(self) -> None:
        """Set its full logs aside, and let it open new ones."""
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

    def outdated(
        self, engine: ObservedEngine, servers: Iterable[ObservedServer]
    ) -> Mapping[ProcessRef, str]:
        """Servers that run on another program than this engine's is now -> how they differ."""
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

    def update(self, change: Callable[[Journal], Journal]) -> Journal:
        """Read, change, write: as a whole among threads (the run lock is what processes have)."""
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
    generations: Generations
    clock: Clock
    machine: Machine
    gpus: Gpus
    renders: Renders
    templates: Mapping[str, str]
