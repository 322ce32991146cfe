"""A simulated machine with a watch on it: virtual time, servers, nginx, a hub, an operator.

In: the text of a desired file, and what befalls the machine. Out: rounds of a real `Watch` on
simulated drivers, one thing after the other. All that the watch asks or does passes `touched`:
there it can be killed, at any step, or an operator has his way between two of them.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from functools import cache
from typing import Any, cast

from builders import TEMPLATES
from fake_drivers import FakeWorld
from fake_runtime import FakeProber, FakeServer
from launches import SITE
from sim_hub import SimFiles
from sim_nginx import SimGateway
from sim_processes import Pids, SimPorts, SimRuntime, WallClock

from reconciler.core.backoff import tried_again
from reconciler.core.desired import DesiredState
from reconciler.core.events import Event
from reconciler.core.guards import Allowed
from reconciler.core.observed import ObservedGateway, ProcessRef
from reconciler.core.parse import SourceText, parse_desired
from reconciler.core.resolve import model_of
from reconciler.core.selection import Selection
from reconciler.core.suspension import Suspension
from reconciler.core.words import ModelName
from reconciler.drivers.base import Drivers
from reconciler.errors import InvalidDesiredError, StateFolderError
from reconciler.execute import Progress, StepResult
from reconciler.look import Scope, Wanted, look, nothing_wanted
from reconciler.loop import carry_out
from reconciler.remember import (
    keep_generation,
    remember_end,
    remember_file,
    remember_part,
    resumed,
    suspended,
)
from reconciler.watch.following import Candidate
from reconciler.watch.watch import Watch

EFFECTS = {
    "runtime.start",
    "runtime.kill",
    "runtime.signal_stop",
    "runtime.route",
    "runtime.unroute",
    "runtime.forget",
    "files.fetch",
    "files.verify",
    "lock.write",
    "gateway.apply",
    "gateway.stop",
    "gateway.publish",
    "store.remove",
    "records.note",
    "records.publish",
    "generations.note",
    "renders.apply",
}
BOOT_S = 30.0
MOST_LOOKS = 20
TICK_S = 1e-6
LONG_S = 700.0
"""What takes longer is more than one thing: a server may load for ten minutes."""
ALL = Allowed(999, frozenset("abcdefgh"), switch_file=True)


class KilledError(Exception):
    """The watch is no more: whatever it does from here on does not happen."""


class _Touched:
    """A seam whose every call is announced first."""

    def __init__(self, name: str, real: object, touched: Callable[[str], None]) -> None:
        self._name, self._real, self._touched = name, real, touched

    def __getattr__(self, key: str) -> Any:
        found = getattr(self._real, key)
        if not callable(found):
            return found

        def call(*args: object, **more: object) -> object:
            self._touched(f"{self._name}.{key}", *args)
            return found(*args, **more)

        return call


class Mortal:
    """An operator's run, which is killed at one of its calls."""

    def __init__(self, world: World, dies_at: float) -> None:
        self._world, self._dies_at = world, dies_at
        self._calls = 0

    @property
    def is_dead(self) -> bool:
        return self._calls >= self._dies_at

    def touched(self, what: str, *args: object) -> None:
        self._calls += 1
        if self.is_dead:
            raise KilledError(what)
        for check in self._world.checks:
            check(what, args, False)


@dataclass
class World(FakeWorld):
    """The machine, its desired file and its watch."""

    text: str = "version: 1\ngateway: false\nmodels: {}\n"
    said: list[tuple[str, str, str]] = field(default_factory=list)
    did: list[str] = field(default_factory=list)
    """The effects of the watch."""
    waiting: list[threading.Thread] = field(default_factory=list)
    """Lanes that were started and have not begun yet."""
    wedged: dict[ProcessRef, str] = field(default_factory=dict)
    at_call: dict[int, Callable[[], None]] = field(default_factory=dict)
    """What happens just before the watch's call so many from now."""
    calls: int = 0
    is_killed: bool = False
    checks: list[Callable[[str, tuple[object, ...], bool], None]] = field(default_factory=list)
    """Told of each step before it is done, and whether it is the watch's."""
    before_look: Callable[[], None] = lambda: None
    after_look: Callable[[], None] = lambda: None
    watch: Watch | None = None
    trouble: str = ""
    operator_dies_at: float = math.inf
    """The call of an operator's run at which somebody kills it."""

    def __post_init__(self) -> None:
        self.templates = TEMPLATES
        self.wall = WallClock(self.clock)
        self.pids = Pids(self.clock)
        self.runtime = self.sim = SimRuntime(self.clock, self.wall, self.pids)
        self.prober = FakeProber(self.sim, self.clock)
        self.files = self.hub = SimFiles()
        self.ports = ports = SimPorts(self.sim)
        self.gateway = self.nginx = SimGateway(self.pids, ports.held)
        ports.of_nginx = self.nginx.held
        self.pids.taken = lambda: {one.ref.pid for one in self.sim.lives()} | self.nginx.pids
        self.stopping = self.cancel()

    # What the watch sees.

    @property
    def own(self) -> Drivers:
        """The seams as an operator's verbs have them."""
        return replace(self.drivers, clock=self.wall)

    def touchable(self, touched: Callable[..., None]) -> Drivers:
        """The same, each of whose calls is announced first."""
        own = self.own
        seams = {
            one.name: cast("Any", _Touched(one.name, getattr(own, one.name), touched))
            for one in fields(own)
            if one.name not in {"clock", "templates"}
        }
        return replace(own, **seams)

    def touched(self, what: str, *args: object) -> None:
        self.calls += 1
        # No two things happen at the same time: an end is told from the one before by that.
        self.clock.advance(TICK_S)
        if act := self.at_call.pop(self.calls, None):
            act()
        if self.is_killed:
            raise KilledError(what)
        # What is there already is not written again.
        is_known = what == "gateway.publish" and args[0] == self.gateway.published
        if what in EFFECTS and not is_known:
            self.did.append(what)
        for check in self.checks:
            check(what, args, True)

    def soon(self, steps: int, act: Callable[[], None]) -> None:
        """Let this happen within the watch's next steps."""
        self.at_call[self.calls + steps] = act

    def say(self, event: Event) -> None:
        assert event.count is None or event.count > 0
        assert event.next_start is None or event.next_start > 0
        self.said.append((event.kind, event.about, event.text))

    def report(self) -> Callable[[Progress | StepResult], None]:
        return lambda _event: None

    def heard(self, kind: str) -> list[str]:
        return [f"{about}: {text}" for one, about, text in self.said if one == kind]

    # The watch.

    def begin(self) -> Watch:
        """A watch begins; the one before it has gone, wherever it stood."""
        self.waiting.clear()
        self.at_call.clear()
        self.is_killed = False
        self.state.holder = ""
        self.stopping = self.cancel()
        newest = self.generations.newest()
        kept = _candidate(newest.sources) if newest else None
        drivers = self.touchable(self.touched)
        self.watch = Watch(SITE, drivers, self.stopping, lambda _word: None, self, kept)
        self.watch.lanes.begin = self.waiting.append
        return self.watch

    def candidate(self) -> Candidate | None:
        try:
            return _candidate((SourceText("desired/x.yaml", self.text.encode()),))
        except InvalidDesiredError as error:
            self.trouble = str(error.diagnostics[0])
            return None

    def look(self) -> float:
        """One round. Lanes stay where they are."""
        assert self.watch
        self.trouble = ""
        candidate = self.candidate()
        live = {one.ref for one in self.live()}
        self.wedged = {ref: why for ref, why in self.wedged.items() if ref in live}
        self.before_look()
        due = self.watch.round(candidate, self.trouble, dict(self.wedged))
        self.after_look()
        return due

    def go(self) -> None:
        """Each lane to its end."""
        while self.waiting:
            self.waiting.pop(0).run()

    def step(self) -> float:
        """A round, its lanes, and the look that their end leads to; when the next one is due."""
        until = self.clock.now() + LONG_S
        try:
            due = self.look()
            for _ in range(MOST_LOOKS):
                if not self.waiting or self.clock.now() > until:
                    break
                self.go()
                due = self.look()
            else:
                raise AssertionError("one thing leads to another without end")
        except KilledError:
            self.watch = None
            return 0.0
        if self.is_killed:
            self.watch = None
        return due

    def sleep(self, seconds: float) -> None:
        """Until it is due, or the end of a server wakes the watch."""
        now = self.clock.now()
        ends = (one.began + one.behaviour.dies_after_s - now for one in self.live())
        self.clock.advance(max(min(seconds, *ends, math.inf), 0.01))

    def live(self, model: str = "") -> list[FakeServer]:
        every = self.sim.lives()
        return [one for one in every if not model or model_of(one.launch.instance) == model]

    def names(self) -> list[str]:
        return sorted(str(one.launch.instance) for one in self.live())

    def server(self, name: str) -> FakeServer:
        """The process of an instance that was started last."""
        return [one for one in self.runtime.servers if one.launch.instance == name][-1]

    def die(self, name: str) -> None:
        """Its newest process is killed by somebody."""
        found = self.server(name)
        if found.code(self.clock.now()) is None:
            found.killed, found.killed_at = True, self.clock.now()

    def reboot(self) -> None:
        """All processes end, those of the watch too; notes on disk stay."""
        gone = [one.ref for one in self.sim.lives()]
        self.sim.reboot()
        self.nginx.die(whole=True)
        self.nginx.running = ObservedGateway()
        self.pids.reboot()
        for ref in gone[:2]:
            self.pids.pretend(ref)
        self.clock.advance(BOOT_S)
        self.is_killed = True

    # The operator: each verb as cli does it, with the run lock that it waits for.

    def operate(
        self,
        wanted: Wanted,
        note: Callable[[Drivers], None],
        scope: Scope | None = None,
        allowed: Allowed = ALL,
    ) -> bool:
        """Carry it out; whether the operator has come to its end."""
        if self.state.holder:
            return False
        mortal = Mortal(self, self.operator_dies_at)
        own = self.touchable(mortal.touched)
        with suppress(StateFolderError, OSError, KilledError), own.state.run_lock(0.0):
            seen = look(wanted, SITE, own, allowed, scope)
            if seen.guards:
                return False
            note(own)
            done = carry_out(wanted, seen, own, lambda _event: None, self.cancel())
            return not mortal.is_dead and not done.failed
        return False

    def apply(self) -> bool:
        candidate = self.candidate()
        if candidate is None:
            return False
        wanted = candidate.wanted

        def note(own: Drivers) -> None:
            remember_file(wanted.desired, SITE, own)
            keep_generation(wanted.sources, SITE.desired, own)

        return self.operate(wanted, note)

    def apply_part(self, *targets: str) -> bool:
        """`apply --target`: whatever its guards would ask, the operator says yes."""
        candidate = self.candidate()
        assert candidate
        part = Selection(frozenset(targets))
        wanted = replace(candidate.wanted, selection=part)
        return self.operate(wanted, lambda own: remember_part(wanted.desired, part, SITE, own))

    def down(self) -> bool:
        file = self.candidate()
        desired = file.wanted.desired if file else DesiredState(version=1)
        nothing = Wanted(nothing_wanted(desired), {}, stops=True)
        return self.operate(nothing, remember_end)

    def control(self, verb: str, model: str) -> bool:
        file, name = self.candidate(), ModelName(model)
        wanted = file.wanted if file else Wanted(DesiredState(version=1), {})
        if verb != "stop" and not wanted.desired.models.get(model):
            return False
        journal = self.state.read().at(self.wall.now())
        if verb == "restart" and name in journal.suspended:
            return False
        if verb == "stop":
            asked = Suspension(self.wall.now(), "for a test")
            journal = suspended(journal, [name], asked, by_name=True)
        else:
            journal = tried_again(resumed(journal, [name]), [name])
        scope = Scope(frozenset({name}), journal, verb == "restart", gateway=verb != "stop")
        plain = replace(wanted, stops=verb == "stop", sources=())
        allowed = Allowed() if verb == "start" else ALL
        return self.operate(plain, lambda own: own.state.write(journal), scope, allowed)


@cache
def _candidate(sources: tuple[SourceText, ...]) -> Candidate:
    parsed = parse_desired(sources)
    return Candidate(Wanted(parsed.desired, parsed.marks, parsed.warnings, sources=sources))


def models(gateway: str = "false", /, **each: str) -> str:
    """A desired file; each model's further fields in flow style. `g` and `h` are the hub's."""
    lines = [f"  {name}: {{{_source(name)}{more}}}" for name, more in each.items()]
    body = "models:\n" + "\n".join(lines) if lines else "models: {}"
    return f"version: 1\ngateway: {gateway}\n{body}\n"


def _source(name: str) -> str:
    place = f"repo: o/{name}}}, quant: Q4" if name in "gh" else f"path: {name}.gguf}}"
    return f"source: {{{place}, port: {port_of(name)}"


def port_of(name: str) -> int:
    return 8001 + ord(name) - ord("a")
