"""A machine in memory that plans are carried out on, one small effect after the other.

In: a plan, and a `Luck` that chooses the order, the failures and the moment of a kill. Out: what
`observe` would see afterwards. Steps are interleaved as the executor's threads would, in any order
that their needs allow. Every effect asserts what must never be (`ViolationError`): two servers on
one slot, address or port, a stranger touched, a start without its files, a gap in a surge.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from builders import ENGINE, TEMPLATES, launched, ports_in
from world_files import Shelf, StepFailedError, key_of, loaded, require

from reconciler.core.desired import DesiredState
from reconciler.core.gguf import Facts
from reconciler.core.launch import Launch
from reconciler.core.lockfile import Pin
from reconciler.core.observed import (
    FileStatus,
    Journal,
    ObservedGateway,
    ObservedServer,
    ObservedState,
    PortHolder,
    ProcessRef,
)
from reconciler.core.outline import stuck_addresses
from reconciler.core.plan import (
    Action,
    ApplyGateway,
    AwaitReady,
    FetchFiles,
    Plan,
    RemoveFiles,
    RemoveRender,
    StartServer,
    Step,
    StopGateway,
    StopServer,
    VerifyFiles,
    WritePins,
    WriteRender,
)
from reconciler.core.resolve import instance_names, model_of, tcp_port
from reconciler.core.stored import ObservedStore
from reconciler.core.words import Generation, InstanceName, ModelName, Phase, Rollout

NO_GATEWAY = ObservedGateway()
NO_JOURNAL = Journal()


class Luck:
    """All choices of a run, read from a tape of bytes (hypothesis shrinks it towards zeros)."""

    def __init__(self, tape: bytes, *, faults: bool = False) -> None:
        self._tape = itertools.cycle(tape or b"\0")
        self.faults = faults

    def pick(self, count: int) -> int:
        """A number below `count`; a tape of zeros always takes the first."""
        return next(self._tape) % count

    def strikes(self, one_in: int) -> bool:
        """Whether something goes wrong now."""
        return self.faults and self.pick(one_in) == 1

    def may_fail(self, one_in: int) -> None:
        """Fail the step that is at it, perhaps."""
        if self.strikes(one_in):
            raise StepFailedError


@dataclass
class World(Shelf):
    """The machine."""

    servers: dict[ProcessRef, ObservedServer] = field(default_factory=dict)
    routes: dict[InstanceName, str] = field(default_factory=dict)
    gateway: ObservedGateway = NO_GATEWAY
    gateway_ports: set[int] = field(default_factory=set)
    strangers: set[int] = field(default_factory=set)
    nginx: tuple[str, ...] = ("/bin/nginx",)
    journal: Journal = NO_JOURNAL
    pins: dict[ModelName, Pin] = field(default_factory=dict)
    started: int = 0
    stopped: int = 0
    _desired: DesiredState = field(default_factory=lambda: DesiredState(version=1))
    _actions: dict[str, Action] = field(default_factory=dict)
    _doomed: set[ProcessRef] = field(default_factory=set)
    _pids: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def new_ref(self) -> ProcessRef:
        """A process that was never there before."""
        return ProcessRef(next(self._pids), 7)

    # ---- looking

    def observe(self, desired: DesiredState) -> ObservedState:
        """What the drivers would see."""
        return ObservedState(
            servers=tuple(
                replace(one, routed=self.is_routed(one)) for one in self.servers.values()
            ),
            gateway=self.gateway,
            nginx=self.nginx,
            nginx_reason="" if self.nginx else "no nginx",
            ports={port: one for port in _ports(desired) if (one := self._holder(port))},
            files=self.inspect_all(desired, self.pins),
            store=ObservedStore(self.stored(desired), open=loaded(self.servers.values())),
            engine=ENGINE,
            journal=self.journal,
            templates=TEMPLATES,
            lock=dict(self.pins),
            hashes=dict(self.hashes),
        )

    def is_routed(self, server: ObservedServer) -> bool:
        """Whether requests reach this copy."""
        port = tcp_port(server.address)
        return port is not None or self.routes.get(server.instance) == server.address

    def copies(self, instance: InstanceName) -> list[ObservedServer]:
        """The live copies of an instance."""
        return [one for one in self.servers.values() if one.instance == instance]

    def _holder(self, port: int) -> PortHolder | None:
        if port in self.strangers:
            return PortHolder(port, 77, "sleep 1")
        if port in self.gateway_ports:
            return PortHolder(port, 50, "nginx", "gateway")
        owners = [one for one in self.servers.values() if tcp_port(one.address) == port]
        return PortHolder(port, owners[0].ref.pid, "engine", owners[0].instance) if owners else None

    # ---- acting

    def run(self, plan: Plan, desired: DesiredState, luck: Luck) -> bool:
        """Carry out a plan; whether all of it was done. A kill leaves everything as it stands."""
        self._desired = desired
        self._actions = {change.address: change.action for change in plan.changes}
        self._doomed = {
            step.effect.server for step in plan.steps if isinstance(step.effect, StopServer)
        }
        waiting = {step.number: step for step in plan.steps}
        require(len(waiting) == len(plan.steps), "two steps have one number")
        done: set[int] = set()
        failed: set[int] = set()
        running: dict[int, Iterator[None]] = {}
        while moves := [*running, *_ready(waiting, done)]:
            if luck.strikes(60):
                return False
            number = moves[luck.pick(len(moves))]
            if number in waiting:
                running[number] = self._perform(waiting.pop(number), luck)
            try:
                luck.may_fail(20)
                next(running[number])
            except StopIteration:
                del running[number]
                done.add(number)
            except StepFailedError:
                del running[number]
                failed.add(number)
        _require_skipped(waiting, failed)
        return not failed

    def _perform(self, step: Step, luck: Luck) -> Iterator[None]:
        effect = step.effect
        # Nobody looks at renders here: see test_plan_renders.py.
        assert not isinstance(effect, WriteRender | RemoveRender)
        match effect:
            case WritePins():
                yield
                self._write(effect)
            case FetchFiles():
                is_pinned = effect.model in self.pins or effect.source.url
                require(is_pinned, f"{effect.model}: fetched before it is pinned")
                yield
                self.fetch(key_of(effect.source))
            case VerifyFiles():
                yield
                self.verify(effect)
            case RemoveFiles():
                yield
                self.remove(effect, self._desired, self.servers.values())
            case StopServer():
                yield from self._stop(effect, luck)
            case StartServer():
                yield from self._start(effect, step.address, luck)
            case AwaitReady():
                yield from self._await(effect, luck)
            case ApplyGateway():
                yield from self._apply_gateway(effect)
            case StopGateway():
                yield from self._stop_gateway(effect, luck)

    def _write(self, effect: WritePins) -> None:
        for name, pin in effect.pins:
            if pin is None:
                del self.pins[name]
                continue
            require(effect.learn == (pin.facts is None), f"{name}: its header is not read")
            self.pins[name] = replace(pin, facts=pin.facts or Facts())

    def _start(self, effect: StartServer, address: str, luck: Luck) -> Iterator[None]:
        launch, name = effect.launch, effect.launch.instance
        model = self._desired.models[model_of(name)]
        others, port = self.copies(name), tcp_port(launch.address)
        most = 1 if self._actions[address] is Action.SURGE else 0
        require(self.inspect(model).status is FileStatus.PRESENT, f"{name}: files are missing")
        self.require_verified(model)
        require(launch.slot not in {one.slot for one in others}, f"{name}: slot is taken")
        require(len(others) <= most, f"{name}: {len(others) + 1} live copies")
        require(port is None or self._holder(port) is None, f"{name}: port {port} is taken")
        every = {one.address for one in self.servers.values()}
        require(launch.address not in every, f"{name}: address is taken")
        ref = self.new_ref()
        self.started += 1
        self.servers[ref] = launched(ref, launch, Phase.STARTING)
        yield
        if luck.strikes(6):
            if effect.fallback and luck.pick(2):
                self._fall_back(ref, effect.fallback)
            self._go_wrong(ref, luck, gone=effect.end_if_late)
        self._set(ref, Phase.READY)
        yield
        self._route(name, launch.address)

    def _fall_back(self, failed: ProcessRef, launch: Launch) -> None:
        """What served before takes the place of what did not get ready."""
        del self.servers[failed]
        ref = self.new_ref()
        self.servers[ref] = launched(ref, launch, Phase.READY)
        self._route(launch.instance, launch.address)
        raise StepFailedError

    def _await(self, effect: AwaitReady, luck: Luck) -> Iterator[None]:
        require(effect.server in self.servers, f"{effect.instance}: waits for nobody")
        yield
        if luck.strikes(6):
            self._go_wrong(effect.server, luck, gone=False)
        self._set(effect.server, Phase.READY)
        yield
        self._route(effect.instance, effect.address)

    def _go_wrong(self, ref: ProcessRef, luck: Luck, *, gone: bool) -> None:
        """A server does not get ready: it dies, loads on for ever, or does not answer."""
        fate = luck.pick(3)
        if fate == 0 or gone:
            del self.servers[ref]
        elif fate == 1:
            self._set(ref, Phase.UNHEALTHY)
        raise StepFailedError

    def _stop(self, effect: StopServer, luck: Luck) -> Iterator[None]:
        server, name = self.servers.get(effect.server), effect.instance
        require(server is not None, f"{name}: stops a process that is not ours")
        if server is None:
            return
        require(server.instance == name, f"{name}: stops a server of {server.instance}")
        require((server.slot, server.address) == (effect.slot, effect.address), f"{name}: mixed up")
        self._require_no_gap(server)
        routed = self.routes.get(name) == effect.address
        if effect.unroute and routed:
            del self.routes[name]
            yield
        if luck.strikes(10):
            if effect.unroute and routed:
                self.routes[name] = effect.address
            raise StepFailedError
        self._require_no_gap(server)
        self._set(effect.server, Phase.STOPPING)
        yield
        luck.may_fail(10)
        del self.servers[effect.server]
        self.stopped += 1

    def _require_no_gap(self, server: ObservedServer) -> None:
        """What serves is stopped for a replacement only when the new one can come, or is there."""
        name, model = server.instance, self._desired.models.get(model_of(server.instance))
        if model is None or name not in instance_names(model_of(name), model):
            return
        if model_of(name) in self.journal.suspended or server.phase is not Phase.READY:
            return
        if not self.is_routed(server):
            return
        others = [one for one in self.copies(name) if one is not server]
        here = self.inspect(model).status is FileStatus.PRESENT
        require(here or others, f"{name}: stopped before its new files are there")
        stays = any(one.phase is Phase.READY and self.is_routed(one) for one in others)
        replaced = self._actions[f"instance.{name}"] is Action.REPLACE
        gap = replaced and model.rollout is Rollout.RECREATE
        socket = tcp_port(server.address) is None and self._desired.gateway is not None
        require(stays or gap or not socket, f"{name}: nobody serves while the new one loads")

    def _apply_gateway(self, effect: ApplyGateway) -> Iterator[None]:
        require(effect.nginx, "no nginx")
        require(effect.master in {None, self.gateway.master}, "reloads a process that is not ours")
        require({*effect.orphans} <= {*self.gateway.orphans}, "ends processes that are not ours")
        ports, rendered = ports_in(effect.rendered), effect.rendered
        live: dict[str, Any] = {"generation": rendered.generation, "outline": rendered.outline}
        if effect.master is not None and effect.restart_grace_s is None:
            old = self.gateway.outline
            stuck = stuck_addresses(old.listens, rendered.outline.listens) if old else []
            require(not stuck, f"nginx: a reload cannot take {stuck}")
            yield
            self._require_free(ports)
            self.gateway = replace(self.gateway, **live)
            self.gateway_ports = ports
            return
        require(effect.master or self.gateway.master is None, "two nginx masters")
        self.gateway, self.gateway_ports = NO_GATEWAY, set()
        yield
        self._require_free(ports)
        self.gateway, self.gateway_ports = ObservedGateway(self.new_ref()), ports
        yield
        self.gateway = replace(self.gateway, **live)

    def _require_free(self, ports: set[int]) -> None:
        taken = {tcp_port(one.address) for one in self.servers.values()} | self.strangers
        require(not ports & taken, f"nginx: ports {ports & taken} are taken")

    def _stop_gateway(self, effect: StopGateway, luck: Luck) -> Iterator[None]:
        require(effect.master == self.gateway.master, "stops a process that is not ours")
        require(effect.orphans == self.gateway.orphans, "stops processes that are not ours")
        draining = [one for one in self.servers.values() if one.ref in self._doomed]
        leaving = self._actions["gateway"] is Action.DELETE
        require(not (leaving and draining), "nginx stops before its servers have drained")
        yield
        if luck.strikes(4):
            self.lose_master()
            raise StepFailedError
        self.gateway, self.gateway_ports = NO_GATEWAY, set()

    def _route(self, name: InstanceName, address: str) -> None:
        if tcp_port(address) is None:
            self.routes[name] = address

    def _set(self, ref: ProcessRef, phase: Phase) -> None:
        self.servers[ref] = replace(self.servers[ref], phase=phase)

    # ---- what happens by itself

    def lose_master(self) -> None:
        """Somebody kills nginx's master: its workers serve on."""
        if self.gateway.master is not None:
            orphans = (self.new_ref(), self.new_ref())
            self.gateway = replace(self.gateway, master=None, orphans=orphans)

    def weather(self, luck: Luck) -> None:
        """Between two runs: servers die, hang, get ready or end; nginx and routes get lost."""
        for ref, server in list(self.servers.items()):
            fate = luck.pick(8)
            if fate == 1:
                del self.servers[ref]
            elif fate in {2, 3} and server.phase is not Phase.STOPPING:
                self._set(ref, Phase.READY if fate == 2 else Phase.UNHEALTHY)
        for repo, status in self.files.items():
            fate = luck.pick(8)
            if status is FileStatus.PRESENT and fate in {1, 2}:
                self.replace_file(repo, wrong=fate == 2)
        fate = luck.pick(8)
        if fate == 1:
            self.lose_master()
        elif fate in {2, 3} and self.gateway.master:
            answer = None if fate == 2 else Generation("0" * 12)
            self.gateway = replace(self.gateway, generation=answer)
        elif fate == 4:
            self.gateway, self.gateway_ports = NO_GATEWAY, set()
        elif fate == 5:
            self.routes.clear()


def _ready(waiting: dict[int, Step], done: set[int]) -> list[int]:
    return [number for number, step in waiting.items() if done.issuperset(step.needs)]


def _require_skipped(waiting: dict[int, Step], failed: set[int]) -> None:
    """What never ran has a failed step behind it; else the plan has a circle or a loose end."""
    lost = set(failed)
    while more := {number for number, step in waiting.items() if lost & {*step.needs}} - lost:
        lost |= more
    require(waiting.keys() <= lost, f"steps {waiting.keys() - lost} can never run")


def _ports(desired: DesiredState) -> list[int]:
    """The ports that `observe` asks about."""
    named = [
        model.port
        for name, model in desired.models.items()
        if model.port is not None and instance_names(ModelName(name), model)
    ]
    return [*named, desired.gateway.port] if desired.gateway else named
