"""Server processes and their probes in memory, on a clock that only moves when somebody waits.

In: launches, and how each instance shall behave (`Behaviour`). Out: what the real `Runtime` and
`Prober` would answer; tests/drivers/test_runtime_contract.py holds both runtimes to one contract.
Faults: `faults["start"] = OSError(...)` makes the next call of that name raise it.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from reconciler.core.causes import explain
from reconciler.core.launch import Launch
from reconciler.core.observed import LastExit, ObservedServer, ProcessRef
from reconciler.core.vitals import Answer
from reconciler.core.words import InstanceName, Phase, SpecHash
from reconciler.drivers.base import Cancel, Health
from reconciler.drivers.base_runtime import Exit
from reconciler.errors import EngineError


class FakeClock:
    """The time of a test. Waiting moves it; nothing really waits."""

    def __init__(self) -> None:
        self._time = 1000.0
        self._lock = threading.Lock()

    def now(self) -> float:
        return self._time

    def monotonic(self) -> float:
        return self._time

    def advance(self, seconds: float) -> None:
        with self._lock:
            self._time += seconds


class FakeCancel:
    """A cancel signal that comes at a given time of the clock (or by `set`)."""

    def __init__(self, clock: FakeClock, *, after: float = math.inf) -> None:
        self._clock = clock
        self._at = clock.monotonic() + after

    def set(self) -> None:
        self._at = -math.inf

    def is_set(self) -> bool:
        return self._clock.monotonic() >= self._at

    def wait(self, timeout: float) -> bool:
        self._clock.advance(timeout)
        return self.is_set()


@dataclass(frozen=True)
class Behaviour:
    """How the servers of an instance live. Seconds count from the start, or from TERM."""

    loads_s: float = 0.0
    dies_after_s: float = math.inf
    code: int = 1
    says: str = ""
    ends_s: float = 0.0
    ignores_term: bool = False
    survives_kill: bool = False
    silent: bool = False
    reads_s: float = 0.0
    """So long it reads its files, at 100 MB/s."""


@dataclass
class FakeServer:
    """One process."""

    ref: ProcessRef
    launch: Launch
    behaviour: Behaviour
    began: float
    terms: list[float] = field(default_factory=list)
    killed: bool = False
    killed_at: float | None = None

    def code(self, now: float) -> int | None:
        """How it ended; None while it lives."""
        how = self.behaviour
        if self.killed:
            return -9
        if now >= self.began + how.dies_after_s:
            return how.code
        if self.terms and not how.ignores_term and now >= self.terms[0] + how.ends_s:
            return 0
        return None

    def ended_at(self, now: float) -> float:
        """When it ended, as far as that is known."""
        how = self.behaviour
        known = [self.began + how.dies_after_s, *(one + how.ends_s for one in self.terms)]
        if self.killed_at is not None:
            known = [self.killed_at]
        return min([one for one in known if one <= now], default=now)


class FakeRuntime:
    """The `Runtime` of a test."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self.servers: list[FakeServer] = []
        self.behaviours: dict[str, Behaviour] = {}
        """By the hash of a launch, or else by instance."""
        self.routes: dict[str, str] = {}
        self.pid_files: dict[str, tuple[int, int | None]] = {}
        self.notes: dict[tuple[str, str], ProcessRef] = {}
        self.faults: dict[str, Exception] = {}
        self.calls: list[str] = []
        self.cpu: dict[ProcessRef, float] = {}
        self.cpu_a_look = 0.0
        """CPU seconds that a server has used more at each look."""
        self.unsettled_s = 0.0
        """How long from now on a child will still be before its exec."""
        self._settled_at: float | None = None

    def _called(self, what: str, instance: str = "") -> None:
        with self._lock:
            self.calls.append(f"{what} {instance}".strip())
            fault = self.faults.pop(what, None)
        if fault is not None:
            raise fault

    def _server(self, ref: ProcessRef) -> FakeServer | None:
        return next((one for one in self.servers if one.ref == ref and self._lives(one)), None)

    def _last(self, ref: ProcessRef) -> FakeServer | None:
        return next((one for one in reversed(self.servers) if one.ref == ref), None)

    def _lives(self, server: FakeServer) -> bool:
        return server.code(self._clock.now()) is None

    def list(self) -> tuple[ObservedServer, ...]:
        self._called("list")
        found = [self._observed(one) for one in self.servers if self._lives(one)]
        return tuple(sorted(found, key=lambda server: (server.instance, server.ref)))

    def _observed(self, server: FakeServer) -> ObservedServer:
        launch = server.launch
        stopping = self.notes.get((launch.instance, launch.slot)) == server.ref
        is_port = not launch.address.startswith("unix:")
        return ObservedServer(
            ref=server.ref,
            instance=launch.instance,
            spec=launch.spec_hash,
            phase=Phase.STOPPING if stopping else Phase.STARTING,
            slot=launch.slot,
            address=launch.address,
            routed=is_port or self.routes.get(launch.instance) == launch.address,
            argv=launch.argv,
            env=launch.env,
            files=launch.files,
            since=server.began,
        )

    def look(self) -> tuple[tuple[ObservedServer, ...], tuple[str, ...]]:
        return self.list(), ()

    def unsettled(self) -> bool:
        if self._settled_at is None:
            self._settled_at = self._clock.now() + self.unsettled_s
        return self._clock.now() < self._settled_at

    def start(self, launch: Launch) -> ProcessRef:
        self._called("start", launch.instance)
        with self._lock:
            for one in self.servers:
                same = (one.launch.instance, one.launch.slot) == (launch.instance, launch.slot)
                if same and self._lives(one):
                    pid = one.ref.pid
                    raise EngineError(f"a copy of {launch.instance} already runs (pid {pid})")
            ref = self._new_ref()
            how = self.behaviours.get(launch.instance, Behaviour())
            how = self.behaviours.get(launch.spec_hash, how)
            self.servers.append(FakeServer(ref, launch, how, self._clock.now()))
            self.notes.pop((launch.instance, launch.slot), None)
            self.pid_files[launch.instance] = (ref.pid, launch.public_port)
            if self.routes.get(launch.instance) == launch.address:
                del self.routes[launch.instance]
        return ref

    def _new_ref(self) -> ProcessRef:
        # As the kernel might: pids come again, start ticks do not.
        return ProcessRef(100 + len(self.servers) % 50, len(self.servers))

    def exited(self, server: ProcessRef, instance: InstanceName) -> Exit | None:
        found = self._server(server) or self._last(server)
        if found is None:
            return Exit(None, "")
        code = found.code(self._clock.now())
        return None if code is None else Exit(code, found.behaviour.says)

    def signal_stop(self, server: ProcessRef, instance: InstanceName, slot: str) -> None:
        self._called("signal_stop", instance)
        found = self._server(server)
        if found and self.notes.get((instance, slot)) != server:
            self.notes[instance, slot] = server
            found.terms.append(self._clock.now())

    def kill(self, server: ProcessRef) -> None:
        found = self._server(server)
        self._called("kill", found.launch.instance if found else "")
        if found and not found.behaviour.survives_kill:
            found.killed, found.killed_at = True, self._clock.now()

    def wait_gone(self, server: ProcessRef, timeout: float, cancel: Cancel) -> bool:
        deadline = self._clock.now() + timeout
        while self._server(server):
            if self._clock.now() >= deadline or cancel.is_set():
                return False
            self._clock.advance(min(0.1, deadline - self._clock.now()))
        return True

    def route(self, instance: InstanceName, address: str) -> None:
        self._called("route", instance)
        if address.startswith("unix:"):
            self.routes[instance] = address

    def unroute(self, instance: InstanceName, address: str) -> bool:
        self._called("unroute", instance)
        if self.routes.get(instance) != address:
            return False
        del self.routes[instance]
        return True

    def forget(self, server: ProcessRef, instance: InstanceName, address: str) -> None:
        self._called("forget", instance)
        if self.pid_files.get(instance, (0, None))[0] == server.pid:
            del self.pid_files[instance]
        if found := self._last(server):
            self.notes[instance, found.launch.slot] = server

    def trim_logs(self) -> None:
        self._called("trim_logs")

    def tidy(self, ports: Mapping[InstanceName, int | None]) -> None:
        self._called("tidy")
        live = {one.launch.instance: one.ref.pid for one in self.servers if self._lives(one)}
        for instance, port in ports.items():
            if instance in live:
                self.pid_files[instance] = (live[instance], port)
        self.pid_files = {name: one for name, one in self.pid_files.items() if name in live}
        self.routes = {name: one for name, one in self.routes.items() if name in live}

    def log_tail(self, instance: InstanceName, lines: int) -> str:
        said = [one.behaviour.says for one in self.servers if one.launch.instance == instance]
        return "\n".join("\n".join(said).splitlines()[-lines:])

    def cpu_seconds(self, server: ProcessRef) -> float:
        self.cpu[server] = self.cpu.get(server, 0.0) + self.cpu_a_look
        return self.cpu[server]

    def bytes_read(self, server: ProcessRef) -> int:
        found = self._server(server)
        if found is None:
            return 0
        return round(1e8 * min(self._clock.now() - found.began, found.behaviour.reads_s))

    def deaths(self, live: Iterable[ObservedServer]) -> Mapping[InstanceName, LastExit]:
        names = {server.instance for server in live}
        last = {one.launch.instance: one for one in self.servers}
        causes = {
            name: explain(one.code(self._clock.now()), one.behaviour.says)
            for name, one in last.items()
            if name not in names and (name, one.launch.slot) not in self.notes
        }
        now, spec = self._clock.now(), SpecHash("")
        at = {name: last[name].ended_at(now) for name in causes}
        return {
            name: LastExit(at[name], one.reason, spec, final=one.final, hint=one.hint)
            for name, one in causes.items()
        }


class FakeProber:
    """The `Prober` of a test: health follows the runtime's servers; requests are scripted."""

    def __init__(self, runtime: FakeRuntime, clock: FakeClock) -> None:
        self._runtime = runtime
        self._clock = clock
        self.in_hand: dict[str, list[int | None]] = {}
        """Address -> what the next looks find; the last one stays."""
        self.asked: list[str] = []
        self.tokens: dict[str, list[int | None]] = {}
        """Address -> what the next looks at its progress find; the last one stays."""
        self.asleep: set[str] = set()
        self.answers: dict[str, Answer] = {}
        self.says: dict[str, Mapping[str, float] | None] = {}
        """Address -> further counters; None: it does not answer."""

    def health(self, address: str, timeout: float = 2.0) -> Health:
        self.asked.append(address)
        for one in self._runtime.servers:
            now = self._clock.now()
            if one.launch.address == address and one.code(now) is None:
                if one.behaviour.silent:
                    return Health.SILENT
                loaded = now >= one.began + one.behaviour.loads_s
                return Health.READY if loaded else Health.LOADING
        return Health.REFUSED

    def health_all(self, addresses: Iterable[str]) -> Mapping[str, Health]:
        return {address: self.health(address) for address in addresses}

    def in_flight(self, address: str) -> int | None:
        self._runtime.calls.append("in_flight")
        counts = self.in_hand.get(address, [0])
        return counts.pop(0) if len(counts) > 1 else counts[0]

    def counters(self, address: str) -> Mapping[str, float] | None:
        more = self.says.get(address, {})
        running = self.in_flight(address)
        return None if more is None else {"requests_processing": float(running or 0), **more}

    def progress(self, address: str) -> int | None:
        seen = self.tokens.get(address, [0])
        return seen.pop(0) if len(seen) > 1 else seen[0]

    def is_sleeping(self, address: str) -> bool:
        return address in self.asleep

    def make_token(self, address: str, timeout: float) -> Answer:
        return self.answers.get(address, Answer(0.03))
