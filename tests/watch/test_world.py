"""A watch in a world where everything happens: edits, deaths, kills, operators, full disks.

A hypothesis state machine. After every step of the watch what must always hold is asked; when the
faults stop, all is as wanted in at most three rounds, and a hundred more do nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress

from fake_runtime import Behaviour
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from laws import Laws, wanted_names
from sim_hub import Weather
from sim_nginx import Fate
from watch_world import KilledError, World, models, port_of

from reconciler.core.backoff import LONGEST_S, RESET_AFTER_S, tried_again
from reconciler.core.observed import DOWN, PortHolder
from reconciler.core.words import ModelName
from reconciler.errors import StateFolderError
from reconciler.remember import resumed

NAMES = "abcdgh"
FIELDS = (
    "",
    "",
    ", params: {temp: 0.5}",
    ", rollout: surge",
    ", rollout: surge, params: {temp: 0.7}",
    ", replicas: 2",
    ", state: present",
    ", protect: true",
    ", protect: true, params: {temp: 0.9}",
)
FILES = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(FIELDS), min_size=2)
BROKEN = ("", "version: 1\nmodels: [", "version: 2\n", "version: 1\nmodels: {a: {quant: 1}}\n")
LIVES = (
    Behaviour(),
    Behaviour(loads_s=20.0),
    Behaviour(dies_after_s=5.0),
    Behaviour(dies_after_s=0.05),
    Behaviour(dies_after_s=1.0, says="error: invalid argument: --x"),
    Behaviour(loads_s=2000.0),
    Behaviour(ends_s=3.0),
    Behaviour(ignores_term=True),
)
NIGHT = bool(os.environ.get("LLM_RECONCILE_NIGHT"))
IDLE_ROUNDS = 100
SOME = st.sampled_from(NAMES)
GATEWAYS = ("{listen: 127.0.0.1:8888}", "{listen: 127.0.0.1:8888}", "false")
VERBS = st.sampled_from(["stop", "start", "restart", "apply", "down"])


class Months(RuleBasedStateMachine):
    """What may befall a watch."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.laws = Laws(self.world)
        self.gateway = GATEWAYS[0]

    @invariant()
    def all_is_lawful(self) -> None:
        self.laws.always()

    def _step(self) -> float:
        due = self.world.step()
        self.laws.always()
        return due

    # What happens

    @initialize(file=FILES, gateway=st.sampled_from(GATEWAYS))
    def first(self, file: dict[str, str], gateway: str) -> None:
        self.gateway = gateway
        self.edit(file)
        self.world.begin()
        self._step()

    @rule(file=FILES)
    def edit(self, file: dict[str, str]) -> None:
        if self.gateway == "false":
            # Where each has but its one port.
            file = {name: one for name, one in file.items() if one not in FIELDS[3:6]}
            file = {**file, "a": ""}
        self.world.text = models(self.gateway, **file)
        self.laws.ends_are_forgotten()

    @rule(name=SOME, field=st.sampled_from(FIELDS))
    def edit_one(self, name: str, field: str) -> None:
        last = self.world.candidate()
        if last is not None:
            self.edit({**dict.fromkeys(last.wanted.desired.models, ""), name: field})

    @rule(name=SOME)
    def protect_one(self, name: str) -> None:
        """From now on it is not to be touched, and then it is to be another one."""
        for field in FIELDS[-2:]:
            self.edit_one(name, field)
            self.pass_time(5.0)

    @rule(gateway=st.sampled_from(GATEWAYS))
    def edit_gateway(self, gateway: str) -> None:
        self.gateway = gateway
        self.edit_one("a", "")

    @rule(text=st.sampled_from(BROKEN))
    def break_it(self, text: str) -> None:
        self.world.text = text

    @rule(name=SOME)
    def die(self, name: str) -> None:
        if self.world.live(name):
            self.world.die(self.world.live(name)[0].launch.instance)

    @rule(name=SOME, how=st.sampled_from(LIVES))
    def behave(self, name: str, how: Behaviour) -> None:
        for instance in (name, f"{name}[1]"):
            self.world.runtime.behaviours[instance] = how
        self.die(name)
        self.pass_time(30.0)

    @rule(name=SOME)
    def wedge(self, name: str) -> None:
        for one in self.world.live(name)[:1]:
            self.world.wedged[one.ref] = "it is wedged"

    @precondition(lambda self: self.world.watch)
    @rule(step=st.integers(1, 150))
    def kill_the_watch_at(self, step: int) -> None:
        def kill() -> None:
            self.world.is_killed = True

        self.world.soon(step, kill)
        self.pass_time(1.0)
        self.laws.ends_are_forgotten()

    @precondition(lambda self: self.world.watch)
    @rule(step=st.integers(1, 100), verb=VERBS, name=SOME)
    def operate_at(self, step: int, verb: str, name: str) -> None:
        """Between two steps: an operator waits for the lock, and has his way."""
        self.world.soon(step, lambda: self.operate(verb, name))
        self.pass_time(1.0)

    @rule(verb=VERBS, name=SOME)
    def operate(self, verb: str, name: str) -> None:
        world = self.world
        self.laws.an_operator_spoke()
        if verb == "down":
            is_done = world.down()
            assert not (is_done and world.live())
        elif verb == "apply":
            world.apply()
        else:
            is_done = world.control(verb, name)
            assert not (is_done and verb == "stop" and world.live(name))
        is_down = world.state.read().wish == DOWN
        if verb == "down" or not is_down:
            self.laws.rests = is_down and world.watch is not None
        self.laws.an_operator_spoke()

    @rule(step=st.integers(1, 120), verb=VERBS, name=SOME)
    def operate_and_be_killed(self, step: int, verb: str, name: str) -> None:
        self.world.operator_dies_at = step
        self.operate(verb, name)
        self.world.operator_dies_at = float("inf")

    @rule()
    def reboot(self) -> None:
        self.world.reboot()
        self.world.watch = None

    @rule(name=SOME, stolen=st.booleans())
    def steal_a_port(self, *, name: str, stolen: bool) -> None:
        """A stranger listens there; his pid is that of a server of ours that has died."""
        world, port = self.world, port_of(name)
        world.ports.held.pop(port, None)
        nginx = world.nginx.held()
        if stolen and port not in (nginx[1] if nginx else ()):
            gone = [one.ref.pid for one in world.runtime.servers if one not in world.live()]
            stranger = world.pids.come("python -m http.server", gone[-1] if gone else None)
            world.ports.held[port] = PortHolder(port, stranger.pid, "python -m http.server")

    @rule(count=st.integers(1, 5))
    def strangers_come(self, count: int) -> None:
        for _ in range(count):
            self.world.pids.come("bash")

    @rule(full=st.booleans())
    def fill_the_disk(self, *, full: bool) -> None:
        world = self.world
        world.sim.is_full = full
        world.state.fault = StateFolderError("no space left") if full else None
        world.records.fault = OSError("no space left") if full else None
        world.generations.fault = OSError("no space left") if full else None
        self.laws.ends_are_forgotten()

    @rule(seconds=st.sampled_from([-90_000.0, -100.0, 100.0, 90_000.0]))
    def jump(self, seconds: float) -> None:
        self.world.wall.jump(seconds)
        self.laws.ends_are_forgotten()

    @rule(what=st.sampled_from(["start", "signal_stop", "kill", "route", "list"]))
    def fail_once(self, what: str) -> None:
        self.world.runtime.faults[what] = OSError(24, "Too many open files")

    @rule(weather=st.sampled_from(Weather))
    def hub(self, weather: Weather) -> None:
        self.world.hub.weather = weather

    @rule(name=SOME)
    def move_the_branch(self, name: str) -> None:
        newest = self.world.hub.newest
        newest[f"o/{name}"] = newest.get(f"o/{name}", 0) + 1

    @rule(fate=st.sampled_from(Fate))
    def nginx(self, fate: Fate) -> None:
        self.world.nginx.fate = fate

    @rule(whole=st.booleans())
    def nginx_dies(self, *, whole: bool) -> None:
        self.world.nginx.die(whole=whole)

    @rule(deaf=st.booleans())
    def nginx_goes_deaf(self, *, deaf: bool) -> None:
        self.world.nginx.is_deaf = deaf and self.world.nginx.running.master is not None

    @precondition(lambda self: self.world.watch)
    @rule(looks=st.integers(1, 3), file=FILES)
    def lanes_are_slow(self, looks: int, file: dict[str, str]) -> None:
        """It looks again, and the file is edited, before what it sent out has begun."""
        with suppress(KilledError):
            for _ in range(looks):
                self.world.look()
            self.edit(file)
            self.world.look()

    @rule(seconds=st.sampled_from([0.5, 5.0, 30.0, 400.0]))
    def pass_time(self, seconds: float) -> None:
        """Rounds, as they come due."""
        world = self.world
        if world.watch is None:
            world.begin()
            # Whoever starts a watch wants what the file says.
            self.laws.rests = False
        until = world.clock.now() + seconds
        while world.watch and world.clock.now() < until:
            world.sleep(max(0.5, self._step()))

    # When the faults stop

    def teardown(self) -> None:
        world = self.world
        if world.watch is None or world.is_killed:
            world.begin()
            self.laws.rests = False
        self._heal()
        for _ in range(3):
            world.clock.advance(self._step())
        forgotten = world.clock.now() + RESET_AFTER_S + 120.0
        self._is_as_wanted()
        world.did.clear()
        while world.clock.now() < forgotten:
            # Earlier ends are forgotten once all has been ready for so long: a word in the journal.
            world.clock.advance(max(world.step(), 60.0))
        writes = world.state.writes
        for _ in range(IDLE_ROUNDS):
            world.clock.advance(world.step())
        assert (world.did, world.state.writes) == ([], writes), world.said[-8:]
        self._is_as_wanted()

    def _heal(self) -> None:
        world = self.world
        world.at_call.clear()
        world.runtime.faults.clear()
        world.runtime.behaviours.clear()
        world.ports.held.clear()
        world.wedged.clear()
        self.fill_the_disk(full=False)
        self.hub(Weather.FAIR)
        self.nginx(Fate.WORKS)
        world.nginx.is_deaf = False
        for one in world.live():
            one.behaviour = Behaviour()
        if world.candidate() is None:
            world.text = models(self.gateway, a="", b="")
        # What nobody but an operator tries again, he does, once the lanes have let go of the lock;
        # what is tried later has its time.
        world.go()
        names = [ModelName(one) for one in NAMES]
        world.state.update(lambda known: tried_again(resumed(known, names), names))
        world.clock.advance(LONGEST_S)
        journal = world.state.read()
        self._step()
        assert world.watch
        waits = [one.reason for one in world.records.status().pending]
        if journal.wish == DOWN or any("held back" in one for one in waits):
            # It is there to be seen, and an operator lets it through.
            self.operate("apply", "")

    def _is_as_wanted(self) -> None:
        world, candidate = self.world, self.world.candidate()
        assert candidate
        desired = candidate.wanted.desired
        assert (world.names(), world.said[-8:]) == (sorted(wanted_names(desired)), world.said[-8:])
        nginx = world.nginx.running
        assert (nginx.master is not None, nginx.orphans) == (desired.gateway is not None, ())
        if desired.gateway:
            serving = {str(one.launch.instance): one.launch.address for one in world.live()}
            assert world.runtime.routes == serving


def test_a_day_on_which_everything_happens() -> None:
    """Each thing once, in an order in which it matters: the dice may never roll it."""
    day = Months()
    plain = dict.fromkeys("abcdg", "")
    day.first(file=plain, gateway=GATEWAYS[0])
    everything: tuple[Callable[[], object], ...] = (
        lambda: day.die("a"),
        lambda: day.wedge("b"),
        lambda: day.nginx_dies(whole=False),
        lambda: day.nginx_dies(whole=True),
        lambda: day.nginx_goes_deaf(deaf=True),
        lambda: day.operate("stop", "a"),
        lambda: day.kill_the_watch_at(5),
        lambda: day.operate("start", "a"),
        lambda: day.operate("down", ""),
        lambda: day.die("c"),
        lambda: day.operate("apply", ""),
        # Two of five: more than 30 %.
        lambda: day.edit(dict.fromkeys("abc", "")),
        # Too much at once: it waits, and meanwhile something dies.
        lambda: day.edit({"a": ""}),
        lambda: day.die("d"),
        lambda: day.operate("apply", ""),
        lambda: day.edit({**plain, "b": ", rollout: surge", "c": ", replicas: 2"}),
        lambda: day.edit({**plain, "b": ", rollout: surge, params: {temp: 0.7}"}),
        lambda: day.edit(dict.fromkeys("abcdg", ", params: {temp: 0.5}")),
        lambda: day.operate("apply", ""),
        lambda: day.behave("c", LIVES[4]),
        lambda: day.kill_the_watch_at(40),
        lambda: day.behave("d", LIVES[3]),
        lambda: day.kill_the_watch_at(1),
        lambda: day.move_the_branch("g"),
        lambda: day.steal_a_port(name="a", stolen=True),
        lambda: day.die("a"),
        lambda: day.fill_the_disk(full=True),
        lambda: day.die("b"),
        lambda: day.fill_the_disk(full=False),
        day.reboot,
        lambda: day.lanes_are_slow(2, {**plain, "h": ""}),
        lambda: day.operate("apply", ""),
        lambda: day.protect_one("b"),
        lambda: day.edit(dict.fromkeys("acdgh", "")),
        lambda: day.nginx_dies(whole=False),
    )
    for happens in everything:
        happens()
        day.pass_time(30.0)
        day.all_is_lawful()
    day.teardown()


Months.TestCase.settings = settings(
    max_examples=1000 if NIGHT else 16,
    stateful_step_count=25,
    suppress_health_check=list(HealthCheck),
    deadline=None,
    # Explaining traces every line, which makes it ten times slower.
    phases=(Phase.explicit, Phase.generate),
    database=None,
    derandomize=not NIGHT,
)
TestMonths = Months.TestCase
