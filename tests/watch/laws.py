"""What must hold in the simulated world at every single step, whatever befalls it.

In: a `World` and what is about to be done in it. Out: nothing, or an AssertionError. It judges by
what the machine is really like and by what the desired file says, and by none of the watch's plans.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import cast

from fake_runtime import FakeServer
from watch_world import World

from reconciler.core.desired import DesiredState
from reconciler.core.launch import Launch
from reconciler.core.lockfile import Pin
from reconciler.core.observed import ProcessRef
from reconciler.core.plan import ApplyGateway
from reconciler.core.resolve import instance_names, model_of, resolve, tcp_port
from reconciler.core.words import InstanceName, ModelName, ModelState, Rollout
from reconciler.watch.following import Candidate

SHARE_PERCENT = 30
QUICK_S = 8.0
"""After its second end in a row a server waits 9 s at least."""
QUICK_STARTS = 2
FATAL_STARTS = 4
"""Three, and one that a run could not note any more."""


def wanted_names(desired: DesiredState) -> set[str]:
    return {
        str(one)
        for key, model in desired.models.items()
        if model.state is ModelState.RUNNING
        for one in instance_names(ModelName(key), model)
    }


class Laws:
    """What is watched over, and what has to be known for it."""

    def __init__(self, world: World) -> None:
        self.world = world
        world.checks.append(self.check)
        world.before_look, world.after_look = self._looks, self._has_looked
        self.broken: list[str] = []
        """Said again by `always`: what is raised in the thread of a step is that step's failure."""
        self.rests = False
        """All is down, and nobody has asked for anything since."""
        self._by_word: set[int] = set()
        """The processes that may go, as an operator said so."""
        self._let_through: set[int] = set()
        """Those that may, as the guards let it through."""
        self._told: list[FakeServer] = []
        """Those that the watch has told to end since its last look."""
        self._running: list[FakeServer] = []
        self._in_force: Candidate | None = None
        self._is_by_itself = False
        """Something came into force at the last look, and no operator had a word in it."""
        self._wedged: set[ProcessRef] = set()
        self._protected: set[ModelName] = set()
        """By what was in force before the last look: what is gone from the file stays protected."""
        self._wish = ""
        self._starts: dict[tuple[str, str], list[float]] = {}
        self._since = 0.0
        """When it was forgotten last what ended by itself."""

    # What is said from outside

    def an_operator_spoke(self) -> None:
        """What runs now may go, and what ended may be tried at once."""
        self._by_word |= {id(one) for one in self.world.live()}
        self.ends_are_forgotten()

    def ends_are_forgotten(self) -> None:
        self._starts.clear()
        self._since = self.world.clock.now()

    # Every single step

    def check(self, what: str, args: tuple[object, ...], by_watch: bool) -> None:
        try:
            self._check(what, args, by_watch)
        except AssertionError as error:
            self.broken.append(f"{what}: {error}")
            raise

    def _check(self, what: str, args: tuple[object, ...], by_watch: bool) -> None:
        self.always()
        match what:
            case "runtime.start":
                self._starting(cast("Launch", args[0]), by_watch)
            case "runtime.signal_stop" | "runtime.kill" if by_watch:
                self._ending(cast("ProcessRef", args[0]))
            case "lock.write":
                self._pinning(cast("Mapping[ModelName, Pin | None]", args[0]))
            case "gateway.apply":
                self._serving(cast("ApplyGateway", args[0]))
            case _:
                pass

    def always(self) -> None:
        """At most one of each; two while one takes over from the other. No stranger is touched."""
        live = [(one.launch.instance, one.launch.slot) for one in self.world.live()]
        assert len(set(live)) == len(live), live
        assert not self.world.pids.wronged
        assert not self.broken, self.broken[0]

    def _starting(self, launch: Launch, by_watch: bool) -> None:
        world, name = self.world, launch.instance
        others = [one for one in world.live() if one.launch.instance == name]
        is_surge = len(others) == 1 and self._may_surge(name)
        assert not others or (is_surge and tcp_port(launch.address) is None), f"two of {name}"
        assert all("/models/" not in one or self._is_here(one) for one in launch.weights)
        if not by_watch:
            return
        known = world.state.read().at(world.wall.now())
        assert model_of(name) not in known.suspended, f"{name} is stopped by an operator"
        assert not self.rests, "all is down"
        self._not_too_soon(launch)

    def _is_here(self, path: str) -> bool:
        return path.partition("/models/")[2].rpartition("/")[0] in self.world.hub.here

    def _may_surge(self, instance: InstanceName) -> bool:
        watch, file = self.world.watch, self.world.candidate()
        current = watch.force.current if watch else None
        every = [one.wanted.desired for one in (current, file) if one]
        models = (one.models.get(model_of(instance)) for one in every)
        return any(one is not None and one.rollout is Rollout.SURGE for one in models)

    def _not_too_soon(self, launch: Launch) -> None:
        """Back-off is kept, and what is final is given up."""
        now = self.world.clock.now()
        known = self._starts.setdefault((launch.instance, launch.spec_hash), [])
        quick = [one for one in known if one > now - QUICK_S]
        assert len(quick) < QUICK_STARTS, f"{launch.instance} is started again and again"
        known.append(now)
        mine = [
            one
            for one in self.world.runtime.servers
            if (one.launch.instance, one.launch.spec_hash) == (launch.instance, launch.spec_hash)
            if one.began > self._since
        ]
        final = [one for one in mine[-FATAL_STARTS:] if one.behaviour.says and not one.killed]
        assert len(final) < FATAL_STARTS, f"{launch.instance} ends the same way each time"

    def _ending(self, ref: ProcessRef) -> None:
        """One that serves as it should is left alone."""
        world = self.world
        found = next((one for one in world.live() if one.ref == ref), None)
        watch = world.watch
        if found is None or watch is None:
            return
        self._told.append(found)
        name, current = found.launch.instance, watch.force.current
        copies = [one for one in world.live() if one.launch.instance == name]
        if len(copies) > 1 or found.terms or current is None or watch.observed is None:
            return
        model = current.wanted.desired.models.get(model_of(name))
        is_protected = model.protect if model else model_of(name) in self._protected
        assert not is_protected or id(found) in self._by_word, f"{name} is protected"
        if ref in self._wedged or ref in watch._late:
            return
        if model_of(name) in world.state.read().at(world.wall.now()).suspended:
            return
        wanted = resolve(current.wanted.desired, watch.observed.files)
        same = any((one.name, one.spec.hash) == (name, found.launch.spec_hash) for one in wanted)
        assert not same, f"{name} serves as it should, and is stopped"

    def _pinning(self, pins: Mapping[ModelName, Pin | None]) -> None:
        """A branch that was moved moves no pin."""
        file = self.world.candidate()
        for name, pin in pins.items():
            old = self.world.lock.pins.get(name)
            model = file and file.wanted.desired.models.get(name)
            if pin and old and model and old.covers(model):
                assert pin.commit == old.commit, f"{name} is moved to another commit"

    def _serving(self, effect: ApplyGateway) -> None:
        """What nginx serves already is not given to it again."""
        running = self.world.nginx.running
        if running.master and not self.world.nginx.is_deaf:
            assert running.generation != effect.rendered.generation

    # Looks of the watch: what came into force by itself is within the guards of DESIGN 5

    def _looks(self) -> None:
        self._count_told()
        watch = self.world.watch
        self._running = [one for one in self.world.live() if not one.terms]
        self._in_force = watch.force.current if watch else None
        self._wish = self.world.state.read().wish
        self._wedged |= self.world.wedged.keys()
        models = self._in_force.wanted.desired.models if self._in_force else {}
        self._protected = {ModelName(name) for name, one in models.items() if one.protect}

    def _has_looked(self) -> None:
        watch = self.world.watch
        was, now = self._in_force, watch.force.current if watch else None
        if now is None or (was and was.wish == now.wish):
            return
        self._is_by_itself = was is not None and self._wish != now.wish
        if self._is_by_itself:
            self._within(now.wanted.desired)
            self._by_word.clear()
        self._let_through |= {id(one) for one in self._running}

    def _count_told(self) -> None:
        """What was told to end since the last look, and nobody has agreed to."""
        watch, told = self.world.watch, list(self._told)
        self._told.clear()
        current = watch.force.current if watch else None
        if current is None:
            return
        free = self.world.state.read().at(self.world.wall.now()).suspended
        # What is blocked at first is not replaced with the rest: what is told to end counts.
        agreed = self._by_word if self._is_by_itself else self._let_through | self._by_word
        self._is_by_itself = False
        gone = {
            str(one.launch.instance)
            for one in told
            if id(one) not in agreed and model_of(one.launch.instance) not in free
        }
        self._few(gone, {str(one.launch.instance) for one in self._running}, current.wanted.desired)

    def _within(self, desired: DesiredState) -> None:
        free = self.world.state.read().suspended
        wanted = wanted_names(desired)
        before = self._running
        running = {str(one.launch.instance) for one in before}
        gone = {
            str(one.launch.instance)
            for one in before
            if one.launch.instance not in wanted and model_of(one.launch.instance) not in free
        }
        self._few(gone, running, desired)
        is_empty = bool(gone) and gone == running and not wanted
        assert not is_empty, "nothing is left running"

    def _few(self, gone: Iterable[str], running: set[str], desired: DesiredState) -> None:
        wanted = wanted_names(desired)
        stopped = {one for one in gone if one not in wanted}
        replaced = {one for one in gone if one in wanted}
        share = len(running) * SHARE_PERCENT
        assert len(stopped) < 2 or len(stopped) * 100 <= share, (stopped, running)
        assert len(replaced) < 3 or len(replaced) * 100 <= share, (replaced, running)
