"""What every `Runtime` does, the real one and the fake."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fake_runtime import Behaviour, FakeClock, FakeRuntime
from launches import make_launch
from process_rig import NEVER, ProcessRig, process_rig
from waiting import PATIENCE_S, eventually

from reconciler.core.launch import Launch
from reconciler.core.observed import ObservedServer, ProcessRef
from reconciler.core.words import InstanceName, Phase
from reconciler.drivers import processes
from reconciler.drivers.base_runtime import Runtime
from reconciler.errors import EngineError

M = InstanceName("m")


class World(ABC):
    """A runtime, and how to start servers that behave in a certain way."""

    runtime: Runtime

    @abstractmethod
    def launch(self, instance: str, slot: str, *, port: int | None = None) -> Launch: ...

    @abstractmethod
    def start(self, instance: str = "m", slot: str = "a") -> ProcessRef:
        """A server that ends by TERM."""

    @abstractmethod
    def start_stubborn(self) -> ProcessRef:
        """A server `m` that ignores TERM."""

    @abstractmethod
    def run_failing(self) -> ProcessRef:
        """A server `m` that says `first`, `second` and ends with code 3."""

    @abstractmethod
    def terms(self) -> int:
        """How many TERMs the server `m` got."""

    @abstractmethod
    def noted(self, instance: str) -> tuple[int, int | None] | None:
        """Pid and public port in the instance's pid file."""


class RealWorld(World):
    def __init__(self, rig: ProcessRig) -> None:
        self._rig = rig
        self.runtime = rig.runtime

    def launch(self, instance: str, slot: str, *, port: int | None = None) -> Launch:
        address = f"127.0.0.1:{port}" if port else None
        return self._rig.launch(instance, slot, port=port, address=address)

    def start(self, instance: str = "m", slot: str = "a") -> ProcessRef:
        return self._rig.start(instance, slot)

    def start_stubborn(self) -> ProcessRef:
        return self._rig.start("m", "a", "--ignore-term")

    def run_failing(self) -> ProcessRef:
        return self._rig.run("m", "--say", "first\nsecond", "--exit", "3")

    def terms(self) -> int:
        eventually(lambda: "TERM" in self._rig.log(), "a TERM")
        return self._rig.log().count("TERM")

    def noted(self, instance: str) -> tuple[int, int | None] | None:
        path = Path(self._rig.site.pid_file(InstanceName(instance)))
        if not path.exists():
            return None
        pid, port = path.read_text(encoding="ascii").splitlines()
        return int(pid), int(port) if port else None


class FakeWorld(World):
    def __init__(self) -> None:
        self.runtime = self._fake = FakeRuntime(FakeClock())

    def launch(self, instance: str, slot: str, *, port: int | None = None) -> Launch:
        address = f"127.0.0.1:{port}" if port else None
        return make_launch(instance, slot, port=port, address=address)

    def start(self, instance: str = "m", slot: str = "a") -> ProcessRef:
        return self._fake.start(self.launch(instance, slot))

    def start_stubborn(self) -> ProcessRef:
        self._fake.behaviours["m"] = Behaviour(ignores_term=True)
        return self.start()

    def run_failing(self) -> ProcessRef:
        self._fake.behaviours["m"] = Behaviour(dies_after_s=0, code=3, says="first\nsecond")
        return self.start()

    def terms(self) -> int:
        return sum(len(one.terms) for one in self._fake.servers)

    def noted(self, instance: str) -> tuple[int, int | None] | None:
        return self._fake.pid_files.get(instance)


class RuntimeContract:
    """The contract; the subclasses give the world."""

    def only(self, world: World) -> ObservedServer:
        [server] = world.runtime.list()
        return server

    def end(self, world: World, ref: ProcessRef) -> None:
        world.runtime.kill(ref)
        assert world.runtime.wait_gone(ref, PATIENCE_S, NEVER)

    def test_nothing_runs_at_first(self, world: World) -> None:
        assert world.runtime.list() == ()
        assert not world.runtime.unsettled()
        assert world.runtime.log_tail(M, 10) == ""

    def test_what_was_started_is_listed_as_it_was_launched(self, world: World) -> None:
        launch, ref = world.launch("m", "b"), world.start("m", "b")
        seen = self.only(world)
        assert (seen.ref, seen.instance, seen.slot) == (ref, M, "b")
        assert (seen.spec, seen.address, seen.argv) == (
            launch.spec_hash,
            launch.address,
            launch.argv,
        )
        assert (seen.files, seen.phase, seen.routed) == (launch.files, Phase.STARTING, False)

    def test_the_list_is_sorted_by_instance(self, world: World) -> None:
        for name in ("m[1]", "b", "m", "a"):
            world.start(name)
        assert [one.instance for one in world.runtime.list()] == ["a", "b", "m", "m[1]"]
        servers, lost_roots = world.runtime.look()
        assert [one.instance for one in servers] == ["a", "b", "m", "m[1]"]
        assert lost_roots == ()

    def test_a_slot_has_one_copy(self, world: World) -> None:
        ref = world.start("m", "a")
        with pytest.raises(EngineError, match=rf"m already runs \(pid {ref.pid}\)"):
            world.runtime.start(world.launch("m", "a"))
        assert self.only(world).ref == ref

    def test_the_other_slot_is_free(self, world: World) -> None:
        refs = {world.start("m", "a"), world.start("m", "b")}
        assert {one.ref for one in world.runtime.list()} == refs

    def test_a_slot_is_free_again_after_the_end(self, world: World) -> None:
        first = world.start()
        self.end(world, first)
        assert world.runtime.list() == ()
        assert world.start() != first

    def test_a_route_points_at_one_copy(self, world: World) -> None:
        world.start("m", "a")
        world.start("m", "b")
        for slot in ("a", "b"):
            world.runtime.route(M, world.launch("m", slot).address)
            assert [one.slot for one in world.runtime.list() if one.routed] == [slot]

    def test_unroute_takes_only_its_own_route(self, world: World) -> None:
        world.start("m", "a")
        world.runtime.route(M, world.launch("m", "a").address)
        world.runtime.unroute(M, world.launch("m", "b").address)
        assert self.only(world).routed
        world.runtime.unroute(M, world.launch("m", "a").address)
        assert not self.only(world).routed
        world.runtime.unroute(M, world.launch("m", "a").address)

    def test_a_start_takes_the_route_of_the_dead_before_it(self, world: World) -> None:
        ref = world.start("m", "a")
        world.runtime.route(M, world.launch("m", "a").address)
        self.end(world, ref)
        world.start("m", "a")
        assert not self.only(world).routed

    def test_a_server_on_a_port_is_always_routed(self, world: World) -> None:
        launch = world.launch("m", "a", port=8001)
        world.runtime.start(launch)
        world.runtime.unroute(M, launch.address)
        assert self.only(world).routed
        assert self.only(world).address == "127.0.0.1:8001"

    def test_term_ends_it(self, world: World) -> None:
        ref = world.start()
        assert world.runtime.exited(ref, M) is None
        world.runtime.signal_stop(ref, M, "a")
        assert world.runtime.wait_gone(ref, PATIENCE_S, NEVER)
        ended = world.runtime.exited(ref, M)
        assert ended is not None
        assert ended.code == 0

    def test_term_is_sent_once_and_shows(self, world: World) -> None:
        ref = world.start_stubborn()
        for _ in range(3):
            world.runtime.signal_stop(ref, M, "a")
            assert self.only(world).phase is Phase.STOPPING
        assert world.terms() == 1

    def test_waiting_for_the_end_has_an_end(self, world: World) -> None:
        ref = world.start_stubborn()
        world.runtime.signal_stop(ref, M, "a")
        assert not world.runtime.wait_gone(ref, 0.05, NEVER)

    def test_kill_ends_what_ignores_term(self, world: World) -> None:
        ref = world.start_stubborn()
        world.runtime.signal_stop(ref, M, "a")
        self.end(world, ref)
        ended = world.runtime.exited(ref, M)
        assert ended is not None
        assert ended.code == -9

    def test_a_new_copy_is_not_stopping_although_the_old_one_was(self, world: World) -> None:
        old = world.start()
        world.runtime.signal_stop(old, M, "a")
        assert world.runtime.wait_gone(old, PATIENCE_S, NEVER)
        world.start()
        assert self.only(world).phase is Phase.STARTING

    def test_how_it_ended_comes_with_the_end_of_its_log(self, world: World) -> None:
        ended = world.runtime.exited(world.run_failing(), M)
        assert ended is not None
        assert (ended.code, ended.log_tail) == (3, "first\nsecond")
        assert world.runtime.log_tail(M, 1) == "second"

    def test_what_is_gone_reads_nothing(self, world: World) -> None:
        ref = world.start()
        assert world.runtime.bytes_read(ref) >= 0
        self.end(world, ref)
        assert world.runtime.bytes_read(ref) == 0

    def test_another_process_of_that_pid_is_never_touched(self, world: World) -> None:
        ref = world.start()
        before = replace(ref, start_ticks=ref.start_ticks + 1)
        world.runtime.signal_stop(before, M, "a")
        world.runtime.kill(before)
        assert world.runtime.wait_gone(before, PATIENCE_S, NEVER)
        assert world.runtime.exited(before, M) is not None
        assert self.only(world).phase is Phase.STARTING
        assert world.runtime.exited(ref, M) is None

    def test_signals_to_the_dead_are_nothing(self, world: World) -> None:
        ref = world.start()
        self.end(world, ref)
        world.runtime.signal_stop(ref, M, "a")
        world.runtime.kill(ref)
        world.runtime.forget(ref, M, world.launch("m", "a").address)
        world.runtime.forget(ref, M, world.launch("m", "a").address)
        assert world.runtime.list() == ()

    def test_a_server_is_noted_until_it_is_forgotten(self, world: World) -> None:
        launch = world.launch("m", "a")
        old = world.start("m", "a")
        assert world.noted("m") == (old.pid, None)
        new = world.start("m", "b")
        world.runtime.forget(old, M, launch.address)
        assert world.noted("m") == (new.pid, None)
        world.runtime.forget(new, M, launch.address)
        assert world.noted("m") is None

    def test_tidying_corrects_the_ports_of_what_lives(self, world: World) -> None:
        m, other = world.start("m"), world.start("other")
        world.runtime.tidy({M: 8001, InstanceName("gone"): 8002})
        assert world.noted("m") == (m.pid, 8001)
        assert world.noted("other") == (other.pid, None)
        assert world.noted("gone") is None
        world.runtime.tidy({M: None})
        assert world.noted("m") == (m.pid, None)

    def test_tidying_removes_what_the_dead_left(self, world: World) -> None:
        dead, live = world.start("m"), world.start("other")
        for name in ("m", "other"):
            instance = InstanceName(name)
            world.runtime.route(instance, world.launch(name, "a").address)
        self.end(world, dead)
        world.runtime.tidy({})
        assert world.noted("m") is None
        assert world.noted("other") == (live.pid, None)
        assert self.only(world).routed
        world.start("m")
        assert [one.instance for one in world.runtime.list() if one.routed] == ["other"]

    def test_tidying_disturbs_nobody(self, world: World) -> None:
        world.start("m", "a")
        world.start("m", "b")
        world.runtime.route(M, world.launch("m", "b").address)
        before = [(one.ref, one.phase, one.routed) for one in world.runtime.list()]
        world.runtime.tidy({M: None})
        assert [(one.ref, one.phase, one.routed) for one in world.runtime.list()] == before
        with pytest.raises(EngineError, match="already runs"):
            world.runtime.start(world.launch("m", "b"))


class TestServerProcesses(RuntimeContract):
    @pytest.fixture
    def world(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
        monkeypatch.setattr(processes, "SLOT_WAIT_S", 0.05)
        with process_rig() as rig:
            yield RealWorld(rig)


class TestFakeRuntime(RuntimeContract):
    @pytest.fixture
    def world(self) -> World:
        return FakeWorld()
