"""One picture of the machine: what every driver is asked, and what becomes of its answers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from fake_drivers import FakeGateway, FakeWorld
from fake_runtime import Behaviour
from launches import make_launch

from reconciler.core.desired import DesiredState
from reconciler.core.observed import (
    FileStatus,
    Journal,
    ObservedFile,
    ObservedFiles,
    ObservedGateway,
    PortHolder,
    ProcessRef,
)
from reconciler.core.resolve import resolve
from reconciler.core.resources import ObservedGpu, ObservedMemory
from reconciler.core.vitals import Answer, Verdict, Vitals
from reconciler.core.words import Generation, InstanceName, ModelName, Phase
from reconciler.observe import SETTLE_S, examine_all, observe, observe_servers, settle


def desired(models: dict[str, Any], **rest: Any) -> DesiredState:
    whole = {name: {"source": {"path": f"{name}.gguf"}, **each} for name, each in models.items()}
    return DesiredState.model_validate({"version": 1, "models": whole, **rest})


@pytest.fixture
def world() -> FakeWorld:
    return FakeWorld()


def start(world: FakeWorld, instance: str, how: Behaviour | None = None) -> ProcessRef:
    world.runtime.behaviours[instance] = how or Behaviour()
    return world.runtime.start(make_launch(instance))


# ---- phases


@pytest.mark.parametrize(
    ("how", "phase"),
    [
        (Behaviour(), Phase.READY),
        (Behaviour(loads_s=60), Phase.STARTING),
        (Behaviour(silent=True), Phase.UNHEALTHY),
    ],
)
def test_a_phase_is_what_health_says(world: FakeWorld, how: Behaviour, phase: Phase) -> None:
    start(world, "m", how)
    assert [one.phase for one in observe_servers(world.drivers)] == [phase]


def test_who_lives_but_does_not_listen_yet_is_starting(
    world: FakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(world, "m")
    monkeypatch.setattr(world.prober, "_runtime", FakeWorld().runtime)
    assert [one.phase for one in observe_servers(world.drivers)] == [Phase.STARTING]


def test_a_stopping_server_is_not_asked(world: FakeWorld) -> None:
    ref = start(world, "m", Behaviour(ends_s=60))
    other = start(world, "other")
    world.runtime.signal_stop(ref, InstanceName("m"), "a")
    phases = {one.ref: one.phase for one in observe_servers(world.drivers)}
    assert phases == {ref: Phase.STOPPING, other: Phase.READY}
    assert world.prober.asked == [make_launch("other").address]


def test_nothing_runs(world: FakeWorld) -> None:
    assert observe_servers(world.drivers) == ()


# ---- the machine


LARGE = {"far": {"source": {"repo": "org/far"}, "quant": "Q4", "quants": {"Q4": "100GiB"}}}


def test_cards_are_asked_for_where_the_ram_cannot_hold_what_starts(world: FakeWorld) -> None:
    world.gpus.found = (ObservedGpu("H100", 80),)
    seen = observe(desired(LARGE), world.drivers)
    assert seen.memory == ObservedMemory(2**36, 2**35, gpus=(ObservedGpu("H100", 80),))


@pytest.mark.parametrize("models", [{}, {"small": {}}, {"far": {**LARGE["far"], "replicas": 0}}])
def test_elsewhere_cards_matter_to_nobody(world: FakeWorld, models: dict[str, Any]) -> None:
    """A driver may be broken, and hang whoever asks it: a stop must not."""
    world.gpus.found = (ObservedGpu("H100", 80),)
    assert observe(desired(models), world.drivers).memory == ObservedMemory(2**36, 2**35)


def test_what_runs_as_wanted_needs_no_card_until_it_is_started_anew(world: FakeWorld) -> None:
    world.gpus.found = (ObservedGpu("H100", 80),)
    state = desired(LARGE)
    (wanted,) = resolve(state, observe(state, world.drivers).files)
    world.runtime.start(replace(make_launch("far"), spec_hash=wanted.spec.hash))
    assert observe(state, world.drivers).memory.gpus is None
    assert observe(state, world.drivers, anew=True).memory.gpus == world.gpus.found


def test_what_is_stopping_will_be_started_anew(world: FakeWorld) -> None:
    world.gpus.found = (ObservedGpu("H100", 80),)
    state = desired(LARGE)
    (wanted,) = resolve(state, observe(state, world.drivers).files)
    world.runtime.behaviours["far"] = Behaviour(ends_s=60)
    ref = world.runtime.start(replace(make_launch("far"), spec_hash=wanted.spec.hash))
    world.runtime.signal_stop(ref, InstanceName("far"), "a")
    assert observe(state, world.drivers).memory.gpus == world.gpus.found


def test_a_cgroup_that_cannot_hold_it_asks_for_the_cards_too(world: FakeWorld) -> None:
    world.gpus.found = (ObservedGpu("H100", 80),)
    world.machine.found = ObservedMemory(ram_bytes=2**60, limit_bytes=2**30)
    assert observe(desired(LARGE), world.drivers).memory.gpus == world.gpus.found


def test_of_other_models_nothing_is_looked_at(world: FakeWorld) -> None:
    seen = observe(desired({"a": {}, "b": {}}), world.drivers, frozenset({ModelName("a")}))
    assert set(seen.files) == {"a"}
    assert {name for name, _ in world.files.inspected} == {"a.gguf"}


# ---- files


def present(identity: str) -> ObservedFiles:
    return ObservedFiles(FileStatus.PRESENT, files=(ObservedFile("x.gguf", 1, identity),))


def test_only_files_that_no_server_has_loaded_are_looked_into(world: FakeWorld) -> None:
    start(world, "runs[1]")
    start(world, "replaced")
    start(world, "removed")
    loaded = make_launch("runs").files
    world.files.found = {
        "runs.gguf": present(loaded),
        "replaced.gguf": present("another"),
        "rests.gguf": present(loaded),
    }
    models = {"runs": {"replicas": 2}, "replaced": {}, "rests": {"state": "present"}}
    seen = observe(desired(models), world.drivers)
    deep = {name for name, deep in world.files.inspected if deep}
    assert deep == {"replaced.gguf", "rests.gguf"}
    assert sorted(seen.files) == ["replaced", "rests", "runs"]


@pytest.mark.parametrize("status", [FileStatus.MISSING, FileStatus.BAD, FileStatus.UNKNOWN])
def test_what_is_not_here_is_asked_for_once(world: FakeWorld, status: FileStatus) -> None:
    world.files.found["m.gguf"] = ObservedFiles(status)
    observe(desired({"m": {}}), world.drivers)
    assert world.files.inspected == [("m.gguf", False)]


def test_an_absent_models_files_are_nobodys_business(world: FakeWorld) -> None:
    seen = observe(desired({"m": {"state": "absent"}}), world.drivers)
    assert seen.files == {}
    assert world.files.inspected == []


def test_each_model_gets_its_own_files(world: FakeWorld) -> None:
    names = [f"m{number}" for number in range(30)]
    for name in names:
        world.files.found[f"{name}.gguf"] = ObservedFiles(FileStatus.BAD, reason=name)
    seen = observe(desired({name: {} for name in names}), world.drivers)
    assert {name: files.reason for name, files in seen.files.items()} == dict(
        zip(names, names, strict=True)
    )


# ---- ports


def test_ports_are_asked_for_with_the_host_that_listens(world: FakeWorld) -> None:
    models = {
        "a": {"port": 8001},
        "none": {},
        "off": {"port": 8002, "state": "present"},
        "zero": {"port": 8003, "replicas": 0},
    }
    observe(desired(models, gateway={"listen": "10.0.0.1:9000"}), world.drivers)
    assert world.ports.asked == {8001: "10.0.0.1", 9000: "10.0.0.1"}
    observe(desired(models, gateway=None), world.drivers)
    assert world.ports.asked == {8001: "127.0.0.1"}


def test_our_own_holders_are_told_from_strangers(world: FakeWorld) -> None:
    ref = start(world, "a")
    master, orphan = ProcessRef(50, 1), ProcessRef(51, 2)
    world.gateway.running = ObservedGateway(master, (orphan,), Generation("0" * 12))
    for port, pid in ((8001, ref.pid), (8002, 50), (8003, 51), (8004, 999), (8888, None)):
        world.ports.held[port] = PortHolder(port, pid)
    models = {f"m{port}": {"port": port} for port in (8001, 8002, 8003, 8004)}
    seen = observe(desired(models), world.drivers)
    assert {port: holder.owner for port, holder in seen.ports.items()} == {
        8001: "a",
        8002: "gateway",
        8003: "gateway",
        8004: None,
        8888: None,
    }


def test_orphans_are_ours_without_a_master(world: FakeWorld) -> None:
    world.gateway.running = ObservedGateway(None, (ProcessRef(51, 2),))
    observe(desired({}), world.drivers)
    assert world.ports.ours == {51: "gateway"}


def test_a_gateway_that_has_just_begun_is_no_stranger(world: FakeWorld) -> None:
    """A run killed as it started nginx: that bears its title a moment later than it listens."""

    class Late(FakeGateway):
        def observe(self) -> ObservedGateway:
            before, self.running = self.running, ObservedGateway(master=ProcessRef(50, 1))
            return before

    world.ports.held[9000] = PortHolder(9000, 50, "nginx")
    state = desired({}, gateway={"listen": "127.0.0.1:9000"})
    seen = observe(state, replace(world.drivers, gateway=Late()))
    assert seen.gateway.master == ProcessRef(50, 1)
    assert seen.ports[9000].owner == "gateway"


# ---- the rest


def test_the_picture_holds_what_each_driver_said(world: FakeWorld) -> None:
    world.state.write(Journal(desired="desired/x.yaml"))
    world.gateway.running = ObservedGateway(ProcessRef(50, 1))
    world.templates = {"nginx.conf.j2": "text"}
    start(world, "m")
    start(world, "dead", Behaviour(dies_after_s=0, says="failed to allocate"))
    seen = observe(desired({"m": {}}), world.drivers)
    assert [one.instance for one in seen.servers] == ["m"]
    assert {name: one.reason for name, one in seen.deaths.items()} == {"dead": "not enough memory"}
    assert seen.gateway is world.gateway.running
    assert (seen.nginx, seen.nginx_reason) == (("/usr/sbin/nginx",), "")
    assert seen.engine is world.engines.engine
    assert seen.journal == Journal(desired="desired/x.yaml")
    assert (seen.boot_id, seen.disks) == ("boot", {})
    assert seen.templates == {"nginx.conf.j2": "text"}


def test_the_wanted_nginx_is_the_one_looked_for(world: FakeWorld) -> None:
    seen = observe(desired({}, gateway={"nginx": "my-nginx"}), world.drivers)
    assert (seen.nginx, seen.nginx_reason) == ((), "there is no program 'my-nginx'")
    # Without a gateway one may still run and have to be stopped.
    assert observe(desired({}, gateway=None), world.drivers).nginx == ("/usr/sbin/nginx",)


def test_looking_changes_nothing(world: FakeWorld) -> None:
    start(world, "m")
    world.runtime.calls.clear()
    observe(desired({"m": {}}), world.drivers)
    assert world.runtime.calls == ["list"]
    assert world.state.writes == 0
    assert world.gateway.published is None


# ---- settling


def test_a_machine_at_rest_is_not_waited_for(world: FakeWorld) -> None:
    began = world.clock.now()
    settle(world.drivers, world.cancel())
    assert world.clock.now() == began


def test_a_child_before_its_exec_is_waited_for(world: FakeWorld) -> None:
    began, world.runtime.unsettled_s = world.clock.now(), 1.0
    settle(world.drivers, world.cancel())
    assert 1.0 <= world.clock.now() - began < 1.1


def test_settling_has_an_end(world: FakeWorld) -> None:
    began, world.runtime.unsettled_s = world.clock.now(), 1000.0
    settle(world.drivers, world.cancel())
    assert SETTLE_S <= world.clock.now() - began < SETTLE_S + 0.1


def test_settling_can_be_interrupted(world: FakeWorld) -> None:
    began, world.runtime.unsettled_s = world.clock.now(), 1000.0
    settle(world.drivers, world.cancel(after=2))
    assert 2 <= world.clock.now() - began < 2.1


# ---- health


def examined(world: FakeWorld) -> Vitals:
    for one in world.runtime.servers:
        world.runtime.route(one.launch.instance, one.launch.address)
    servers = observe_servers(world.drivers)
    (found,) = examine_all(servers, world.drivers, 30.0, world.cancel())
    return found


def address_of(world: FakeWorld) -> str:
    return world.runtime.servers[-1].launch.address


def test_an_idle_server_makes_a_token(world: FakeWorld) -> None:
    start(world, "m")
    found = examined(world)
    assert (found.verdict, found.seconds, found.reason) == (Verdict.OK, 0.03, "")
    assert found.counters == {"requests_processing": 0.0}


def test_who_is_not_ready_is_not_asked_for_one(world: FakeWorld) -> None:
    start(world, "m", Behaviour(loads_s=60))
    assert examined(world).verdict is Verdict.LOADING
    assert "in_flight" not in world.runtime.calls


def test_who_does_not_count_is_silent(world: FakeWorld) -> None:
    start(world, "m")
    world.prober.says[address_of(world)] = None
    assert examined(world).verdict is Verdict.SILENT


@pytest.mark.parametrize("says", ["nothing of itself", "nothing at all"])
def test_who_is_silent_with_its_hands_full_is_busy(world: FakeWorld, says: str) -> None:
    start(world, "m", Behaviour(silent=says == "nothing at all"))
    address = address_of(world)
    world.prober.says[address], world.prober.tokens[address] = None, [None]
    world.runtime.cpu_a_look = 0.4
    assert examined(world).verdict is Verdict.BUSY
    world.runtime.cpu_a_look = 0.0
    assert examined(world).verdict is Verdict.SILENT


def test_who_sleeps_is_left_asleep(world: FakeWorld) -> None:
    start(world, "m")
    world.prober.asleep.add(address_of(world))
    world.prober.answers[address_of(world)] = Answer(1.0, "it was woken")
    assert examined(world).verdict is Verdict.ASLEEP


def test_who_makes_no_token_is_silent(world: FakeWorld) -> None:
    start(world, "m")
    world.prober.answers[address_of(world)] = Answer(30.0, "it made no token in 30 s")
    found = examined(world)
    assert (found.verdict, found.reason) == (Verdict.SILENT, "it made no token in 30 s")


@pytest.mark.parametrize(
    ("tokens", "cpu", "verdict"),
    [
        ([5, 5, 5, 6], 0.0, Verdict.BUSY),
        ([None, 5, None, 6], 0.0, Verdict.BUSY),
        ([5], 0.2, Verdict.BUSY),
        ([5], 0.01, Verdict.STUCK),
        ([5, None], 0.0, Verdict.STUCK),
        ([5, 4, 3, 2], 0.0, Verdict.STUCK),
        ([None, 5], 0.0, Verdict.STUCK),
    ],
)
def test_who_is_busy_shows_it_by_tokens_or_cpu_time(
    world: FakeWorld, tokens: list[int | None], cpu: float, verdict: Verdict
) -> None:
    start(world, "m")
    address = address_of(world)
    world.prober.in_hand[address] = [2]
    world.prober.tokens[address] = tokens
    world.prober.answers[address] = Answer(1.0, "it must not be asked")
    world.runtime.cpu_a_look = cpu
    began = world.clock.now()
    found = examined(world)
    assert (found.verdict, found.running) == (verdict, 2)
    assert world.clock.now() - began <= 30.5


def test_a_card_that_works_is_the_last_witness(world: FakeWorld) -> None:
    start(world, "m")
    address = address_of(world)
    world.prober.in_hand[address], world.prober.tokens[address] = [2], [5]
    assert examined(world).verdict is Verdict.STUCK
    world.gpus.busy = {world.runtime.list()[0].ref.pid}
    assert examined(world).verdict is Verdict.BUSY


def test_a_token_behind_the_requests_of_others_proves_nothing(world: FakeWorld) -> None:
    start(world, "m")
    world.prober.in_hand[address_of(world)] = [0, 3]
    world.prober.answers[address_of(world)] = Answer(30.0, "it made no token in 30 s")
    world.runtime.cpu_a_look = 1.0
    assert examined(world).verdict is Verdict.BUSY


def test_nobody_to_examine(world: FakeWorld) -> None:
    assert examine_all((), world.drivers, 1.0, world.cancel()) == ()
