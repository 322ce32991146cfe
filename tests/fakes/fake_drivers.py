"""All seams of a root in memory: what `drivers.base` names, made to fail on demand.

In: nothing but what a test sets on the fakes. Out: `FakeWorld`, its `drivers` for `loop`,
`observe` and `execute`. The runtime and its probes are in fake_runtime.py. A fake and the real
driver pass the same contract tests where the fake decides anything.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from fake_generations import FakeGenerations
from fake_records import FakeRecords
from fake_renders import FakeRenders
from fake_runtime import FakeCancel, FakeClock, FakeProber, FakeRuntime

from reconciler.core.desired import Gateway, Model, Source
from reconciler.core.gguf import Facts
from reconciler.core.lockfile import Lock, Pin, render_lock
from reconciler.core.observed import (
    FileStatus,
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
from reconciler.core.stored import Inode, Needed, Removal, StoredRepo
from reconciler.core.transfers import FileProgress
from reconciler.core.words import EngineKind, ModelName
from reconciler.drivers.base import Cancel, Drivers, Told
from reconciler.errors import GatewayError, InvalidDesiredError, LockHeldError, StepError


def key_of(source: Source) -> str:
    """What a source is known by."""
    return source.path or source.repo or source.url or ""


class FakeFiles:
    """The `Files` of a test: every source is there, unless `found` says otherwise."""

    def __init__(self) -> None:
        self.found: dict[str, ObservedFiles] = {}
        """By `source.path`, `source.repo` or `source.url`."""
        self.inspected: list[tuple[str, bool]] = []
        self.asked_anew: list[str] = []
        self.fetched: list[FetchFiles] = []
        self.known: dict[str, str] = {}
        self.content: dict[str, str] = {}
        """Name of a file -> the hash that its bytes have; what is not named here is right."""
        self.on_fetch: Callable[[FetchFiles], object] | None = None
        """Called in the middle of a download; what it raises ends the download."""

    def inspect(self, model: Model, pin: Pin | None = None, *, deep: bool) -> ObservedFiles:
        key = key_of(model.source)
        self.inspected.append((key, deep))
        found = self.found.get(key, ObservedFiles(FileStatus.PRESENT, f"/{key}", key))
        return replace(found, pin=pin) if pin and pin.covers(model) else found

    def latest(self, model: Model, pin: Pin | None) -> ObservedFiles:
        self.asked_anew.append(model.source.repo or "")
        return self.inspect(model, pin, deep=False)

    def learn(self, pin: Pin, cancel: Cancel) -> Pin:
        return replace(pin, facts=Facts("fake"))

    def verify(self, effect: VerifyFiles, progress: Told, cancel: Cancel) -> None:
        for file in effect.files:
            progress((FileProgress(file.name, file.size, file.size),))
            self.known[file.identity] = self.content.get(file.name, file.digest)
            if self.known[file.identity] != file.digest:
                raise StepError(f"{file.name} has wrong bytes", retryable=False)

    def identity(self, paths: Iterable[str]) -> str:
        return ",".join(f"now:{path}" for path in paths)

    def hashes(self) -> Mapping[str, str]:
        return dict(self.known)

    def fetch(self, fetch: FetchFiles, progress: Told, cancel: Cancel) -> None:
        progress(tuple(FileProgress(file.name, 0, file.size) for file in fetch.files))
        if self.on_fetch:
            self.on_fetch(fetch)
        self.fetched.append(fetch)
        key = key_of(fetch.source)
        here = self.found.get(key, ObservedFiles(FileStatus.PRESENT))
        self.found[key] = replace(here, status=FileStatus.PRESENT)
        progress(tuple(FileProgress(file.name, file.size, file.size) for file in fetch.files))

    def disk(self, model: Model) -> ObservedDisk:
        return ObservedDisk(1, f"/store/{model.source.repo}", 2**40, 2**41)


class FakeStore:
    """The `Store` of a test: nothing lies there, unless `found` says otherwise."""

    def __init__(self) -> None:
        self.found: dict[str, StoredRepo] = {}
        self.users: dict[Inode, frozenset[int]] = {}
        self.others: dict[str, Needed] = {}
        self.broken: InvalidDesiredError | None = None
        self.removed: list[Removal] = []

    def repos(self, folders: Iterable[str]) -> Mapping[str, StoredRepo]:
        return {name: self.found[name] for name in folders if name in self.found}

    def open_files(self) -> Mapping[Inode, frozenset[int]]:
        return self.users

    def elsewhere(self) -> Mapping[str, Needed]:
        if self.broken:
            raise self.broken
        return self.others

    def remove(self, removals: Iterable[Removal]) -> int:
        removals = tuple(removals)
        self.removed += removals
        return sum(one.count for one in removals)


class FakeLockFile:
    """The `LockFile` of a test: what it holds is `pins`; `broken` is raised instead."""

    def __init__(self) -> None:
        self.pins: dict[ModelName, Pin] = {}
        self.broken: InvalidDesiredError | None = None
        self.writes = 0

    def read(self) -> Lock:
        if self.broken:
            raise self.broken
        return dict(self.pins)

    def text(self) -> str | None:
        return render_lock(self.read()) if self.pins else None

    def write(self, pins: Mapping[ModelName, Pin | None]) -> None:
        self.writes += 1
        whole = {**self.read(), **pins}
        self.pins = {name: pin for name, pin in whole.items() if pin is not None}


class FakeGateway:
    """The `GatewayDriver` of a test: one nginx that takes every text but one that begins `bad;`."""

    def __init__(self) -> None:
        self.running = ObservedGateway()
        self.reloads = 0
        self.published: Mapping[str, Mapping[str, object]] | None = None
        self.fault: Exception | None = None

    def locate(self, wanted: str) -> tuple[tuple[str, ...], str]:
        if wanted in {"auto", "nginx"}:
            return ("/usr/sbin/nginx",), ""
        return (), f"there is no program '{wanted}'"

    def observe(self) -> ObservedGateway:
        return self.running

    def apply(self, effect: ApplyGateway, cancel: Cancel) -> None:
        if self.fault:
            raise self.fault
        if any(text.startswith("bad;") for text in effect.rendered.files.values()):
            raise GatewayError("nginx rejects its configuration")
        if self.running.generation != effect.rendered.generation:
            self.reloads += self.running.master is not None
        master = self.running.master or ProcessRef(50, 1)
        if effect.restart_grace_s is not None:
            master = ProcessRef(master.pid + 1, 1)
        rendered = effect.rendered
        self.running = ObservedGateway(master, (), rendered.generation, 1000.0, rendered.outline)

    def stop(self, effect: StopGateway, cancel: Cancel) -> None:
        if self.fault:
            raise self.fault
        self.running = ObservedGateway()

    def publish(self, instances: Mapping[str, Mapping[str, object]]) -> None:
        self.published = instances

    def turn_logs(self) -> None:
        pass


class FakeMachine:
    """The `Machine` of a test: 64 GiB."""

    def __init__(self) -> None:
        self.found = ObservedMemory(ram_bytes=2**36, available_bytes=2**35)

    def memory(self) -> ObservedMemory:
        return self.found


class FakeGpus:
    """The `Gpus` of a test."""

    def __init__(self) -> None:
        self.memory: dict[int, int] = {}
        self.found: tuple[ObservedGpu, ...] = ()
        self.busy: set[int] = set()

    def are_busy(self, pids: Collection[int]) -> bool:
        return not self.busy.isdisjoint(pids)

    def cards(self) -> tuple[ObservedGpu, ...]:
        return self.found

    def memory_by_pid(self) -> Mapping[int, int]:
        return self.memory


class FakeSecrets:
    """The `Secrets` of a test."""

    def __init__(self) -> None:
        self.found = GatewaySecrets()

    def read(self, gateway: Gateway) -> GatewaySecrets:
        return self.found


class FakePorts:
    """The `Ports` of a test."""

    def __init__(self) -> None:
        self.held: dict[int, PortHolder] = {}
        self.asked: Mapping[int, str] = {}
        self.ours: Mapping[int, str] = {}
        self.missing_address = ""

    def holders(
        self, wanted: Mapping[int, str], ours: Mapping[int, str]
    ) -> Mapping[int, PortHolder]:
        self.asked, self.ours = wanted, ours
        return {
            port: replace(holder, owner=ours.get(holder.pid or 0))
            for port, holder in self.held.items()
            if port in wanted
        }

    def has_address(self, host: str) -> bool:
        return host != self.missing_address


class FakeEngines:
    """The `Engines` of a test: llama-server with a few flags."""

    def __init__(self) -> None:
        self.changed = ""
        """How the program of those that run differs from what it is now."""
        flags = {name: f"--{name}" for name in ("ctx-size", "temp", "metrics", "slots")}
        self.engine = ObservedEngine(EngineKind.LLAMA_SERVER, ("/usr/bin/llama-server",), flags)

    def find(self, kind: str, command: str) -> ObservedEngine:
        return self.engine

    def outdated(
        self, engine: ObservedEngine, servers: Iterable[ObservedServer]
    ) -> Mapping[ProcessRef, str]:
        return {one.ref: self.changed for one in servers if self.changed}


class FakeState:
    """The `State` of a test."""

    def __init__(self) -> None:
        self._journal = Journal()
        self.writes = 0
        """How often the journal really changed."""
        self.holder = ""
        """Who else holds the run lock."""
        self.fault: Exception | None = None
        """What becomes of a write."""

    def boot_id(self) -> str:
        return "boot"

    def read(self) -> Journal:
        return self._journal

    def write(self, journal: Journal) -> None:
        if self.fault:
            raise self.fault
        if journal != self._journal:
            self._journal = journal
            self.writes += 1

    def update(self, change: Callable[[Journal], Journal]) -> Journal:
        self.write(change(self.read()))
        return self._journal

    def run_holder(self) -> str:
        return self.holder

    @contextlib.contextmanager
    def run_lock(
        self, timeout: float, cancel: Cancel | None = None
    ) -> Iterator[Callable[[], None]]:
        if self.holder:
            raise LockHeldError(f"another run is at work on this root: {self.holder}")
        self.holder = "pid 1 (llm-reconcile apply)"
        try:
            yield self._release
        finally:
            self._release()

    def _release(self) -> None:
        self.holder = ""


@dataclass
class FakeWorld:
    """A machine in memory."""

    clock: FakeClock = field(default_factory=FakeClock)
    files: FakeFiles = field(default_factory=FakeFiles)
    store: FakeStore = field(default_factory=FakeStore)
    lock: FakeLockFile = field(default_factory=FakeLockFile)
    gateway: FakeGateway = field(default_factory=FakeGateway)
    secrets: FakeSecrets = field(default_factory=FakeSecrets)
    ports: FakePorts = field(default_factory=FakePorts)
    engines: FakeEngines = field(default_factory=FakeEngines)
    state: FakeState = field(default_factory=FakeState)
    records: FakeRecords = field(default_factory=FakeRecords)
    generations: FakeGenerations = field(default_factory=FakeGenerations)
    machine: FakeMachine = field(default_factory=FakeMachine)
    gpus: FakeGpus = field(default_factory=FakeGpus)
    renders: FakeRenders = field(default_factory=FakeRenders)
    templates: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.runtime = FakeRuntime(self.clock)
        self.prober = FakeProber(self.runtime, self.clock)

    @property
    def drivers(self) -> Drivers:
        """The seams, as the layers above get them."""
        return Drivers(
            runtime=self.runtime,
            prober=self.prober,
            files=self.files,
            store=self.store,
            lock=self.lock,
            gateway=self.gateway,
            secrets=self.secrets,
            ports=self.ports,
            engines=self.engines,
            state=self.state,
            records=self.records,
            generations=self.generations,
            clock=self.clock,
            machine=self.machine,
            gpus=self.gpus,
            renders=self.renders,
            templates=self.templates,
        )

    def cancel(self, *, after: float | None = None) -> FakeCancel:
        """A cancel signal that comes so many seconds from now, or never."""
        return FakeCancel(self.clock) if after is None else FakeCancel(self.clock, after=after)
