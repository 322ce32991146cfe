"""One round for a verb, with drivers in memory: what is looked at, done and remembered."""

from __future__ import annotations

import errno
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from fake_drivers import FakeWorld
from fake_runtime import Behaviour
from launches import SITE

from reconciler.core.guards import Allowed
from reconciler.core.observed import (
    DOWN,
    Crashes,
    FileStatus,
    Journal,
    LastExit,
    ObservedFile,
    ObservedFiles,
)
from reconciler.core.parse import SourceText, parse_desired
from reconciler.core.plan import StartServer, StopServer
from reconciler.core.suspension import Suspension
from reconciler.core.words import InstanceName, ModelName, ModelState, SpecHash
from reconciler.drivers.base import Cancel
from reconciler.drivers.templates import load_templates
from reconciler.errors import EngineError, HubError, StateFolderError
from reconciler.execute import Outcome, Progress, StepResult
from reconciler.look import Round, Scope, Wanted, look, nothing_wanted
from reconciler.loop import ApplyReport, carry_out, rest_of
from reconciler.remember import remember_end, remember_file, resumed, suspended

A, B = ModelName("a"), ModelName("b")
MODELS = """
  a: {source: {path: a.gguf}, port: 8001}
  b: {source: {path: b.gguf}, port: 8002}
"""


def wanted(models: str = MODELS, more: str = "gateway: false") -> Wanted:
    text = f"version: 1\n{more}\nmodels:\n{models}"
    parsed = parse_desired((SourceText("desired/x.yaml", text.encode()),))
    return Wanted(parsed.desired, parsed.marks)


def fail(error: Exception) -> None:
    raise error


class Machine(FakeWorld):
    """A world with the verbs of the loop."""

    def look(self, what: Wanted, scope: Scope | None = None) -> Round:
        return look(what, SITE, self.drivers, Allowed(), scope)

    def apply(self, what: Wanted, cancel: Cancel | None = None) -> ApplyReport:
        seen = self.look(what)
        self.told: list[Progress | StepResult] = []
        return carry_out(what, seen, self.drivers, self.told.append, cancel or self.cancel())


@pytest.fixture
def world() -> Machine:
    return Machine()


def test_what_is_wanted_comes_to_run_and_stays(world: Machine) -> None:
    first = world.apply(wanted())
    assert first.converged
    assert first.started
    assert [one.instance for one in world.runtime.list()] == ["a", "b"]
    world.runtime.calls.clear()
    second = world.apply(wanted())
    assert second == ApplyReport((), ())
    assert second.converged
    assert not second.started
    assert world.runtime.calls == ["list", "tidy"]


def test_a_model_that_is_exchanged_has_gone_before_the_new_one_starts(world: Machine) -> None:
    world.runtime.behaviours["a"] = Behaviour(ends_s=4)
    world.apply(wanted("  a: {source: {path: a.gguf}, port: 8001}"))
    world.runtime.calls.clear()
    [a] = world.runtime.servers
    assert world.apply(wanted("  b: {source: {path: b.gguf}, port: 8002}")).converged
    [_, b] = world.runtime.servers
    assert a.code(b.began) is not None


def test_a_plan_without_steps_touches_nothing(world: Machine) -> None:
    world.apply(wanted())
    seen = world.look(wanted())
    assert seen.plan.is_noop
    world.gateway.published = None
    world.told.clear()
    writes = world.state.writes
    carry_out(wanted(), seen, world.drivers, world.told.append, world.cancel())
    assert world.gateway.published is None
    assert world.state.writes == writes
    assert world.told == []


@pytest.mark.parametrize("models", [MODELS, MODELS.replace("a.gguf", "c.gguf")])
def test_what_cannot_be_tidied_up_makes_no_run_fail(world: Machine, models: str) -> None:
    world.apply(wanted())
    world.runtime.faults["tidy"] = OSError(errno.EIO, "Input/output error")
    assert world.apply(wanted(models)).converged


def test_what_is_blocked_is_no_step_but_not_converged(world: Machine) -> None:
    world.files.found["a.gguf"] = ObservedFiles(FileStatus.BAD, reason="a.gguf is empty")
    report = world.apply(wanted())
    assert [change.name for change in report.blocked] == ["a"]
    assert not report.converged
    again = world.apply(wanted())
    assert (again.results, [one.name for one in again.blocked]) == ((), ["a"])
    assert not again.converged


def test_only_some_models_can_be_looked_at(world: Machine) -> None:
    seen = world.look(wanted(), Scope(frozenset({B})))
    starts = [one.effect for one in seen.plan.steps if isinstance(one.effect, StartServer)]
    assert [one.launch.instance for one in starts] == ["b"]


def test_a_journal_to_be_is_planned_with(world: Machine) -> None:
    world.apply(wanted())
    to_be = suspended(world.state.read(), [A], Suspension(1.0, "by hand"))
    seen = world.look(wanted(), Scope(frozenset({A, B}), to_be))
    assert [one.address for one in seen.plan.steps] == ["instance.a"]
    assert world.state.read().suspended == {}


def test_a_restart_replaces_what_has_not_changed(world: Machine) -> None:
    world.apply(wanted())
    seen = world.look(wanted(), Scope(frozenset({B}), restart=True))
    assert [type(one.effect) for one in seen.plan.steps] == [StopServer, StartServer]
    assert {one.address for one in seen.plan.steps} == {"instance.b"}


def test_down_wants_nothing_but_keeps_how_to_stop(world: Machine) -> None:
    desired = wanted("  a: {source: {path: a.gguf}, port: 8001, drain: 7s}", "").desired
    nothing = nothing_wanted(desired)
    assert nothing.gateway is None
    assert {one.state for one in nothing.models.values()} == {ModelState.ABSENT}
    assert nothing.models["a"].drain == 7.0
    assert desired.models["a"].state is ModelState.RUNNING


# ---- what is remembered


def test_why_a_start_failed_is_remembered_until_it_is_stopped(world: Machine) -> None:
    world.runtime.behaviours["a"] = Behaviour(dies_after_s=0, code=3)
    report = world.apply(wanted())
    [failed] = report.failed
    assert not report.converged
    assert isinstance(failed.step.effect, StartServer)
    exits = world.state.read().last_exits
    assert exits == {
        "a": LastExit(
            world.clock.now(),
            "it died while loading: exit code 3",
            failed.step.effect.launch.spec_hash,
        )
    }
    world.runtime.behaviours["a"] = Behaviour()
    assert world.apply(wanted()).converged
    assert world.state.read().last_exits == exits
    assert world.apply(wanted("  {}")).converged
    assert world.state.read().last_exits == {}


def test_a_death_that_nobody_saw_is_remembered_when_it_is_started_again(world: Machine) -> None:
    world.runtime.behaviours["a"] = Behaviour(dies_after_s=100, says="failed to allocate")
    assert world.apply(wanted()).converged
    world.clock.advance(200)
    world.runtime.behaviours["a"] = Behaviour()
    assert world.apply(wanted()).converged
    assert world.state.read().last_exits[InstanceName("a")].reason == "not enough memory"


def test_a_start_that_never_began_is_remembered_too(world: Machine) -> None:
    world.runtime.faults["start"] = EngineError("a copy of a already runs (pid 7)")
    world.apply(wanted("  a: {source: {path: a.gguf}, port: 8001}"))
    assert "pid 7" in world.state.read().last_exits[InstanceName("a")].reason


def test_an_interrupted_start_is_no_exit(world: Machine) -> None:
    world.runtime.behaviours["a"] = Behaviour(loads_s=100)
    report = world.apply(wanted(), world.cancel(after=5))
    assert Outcome.CANCELLED in {one.outcome for one in report.failed}
    assert "a" not in world.state.read().last_exits


def test_exits_of_others_stay(world: Machine) -> None:
    old = LastExit(1.0, "it died", SpecHash("x"))
    world.state.write(Journal(last_exits={InstanceName("z"): old}))
    world.apply(wanted())
    assert world.state.read().last_exits == {"z": old}


def test_the_gateway_is_told_what_it_cannot_ask(world: Machine) -> None:
    world.apply(wanted())
    assert world.gateway.published is not None
    assert sorted(world.gateway.published) == ["a", "b"]
    ref = world.runtime.list()[0].ref
    assert world.gateway.published["a"] == {
        "pid": ref.pid,
        "start_ticks": ref.start_ticks,
        "since": 1000,
        "size_bytes": 0,
        "restarts": None,
        "reason": None,
        "start_s": 0.0,
    }
    world.apply(wanted("  b: {source: {path: b.gguf}, port: 8002}"))
    assert sorted(world.gateway.published) == ["b"]


def test_the_gateway_is_told_why_a_server_is_not_there(world: Machine) -> None:
    world.apply(wanted())
    world.state.write(suspended(world.state.read(), {A}, Suspension(1.0, "card is hot")))
    world.apply(wanted())
    note = {"phase": "suspended", "reason": "suspended by `stop`: card is hot", "until": None}
    assert world.gateway.published is not None
    assert world.gateway.published["a"] == note | {"start_s": 0.0}
    assert world.gateway.published["b"]["since"] == 1000
    world.runtime.behaviours["c"] = Behaviour(dies_after_s=0)
    report = world.apply(wanted(MODELS + "  c: {source: {path: c.gguf}, port: 8003}\n"))
    assert world.gateway.published["c"] == {"reason": report.failed[0].reason}


def test_the_followed_file_is_noted_once(world: Machine) -> None:
    what = wanted(
        "  a: {source: {path: a.gguf}, port: 8001, protect: true}\n"
        "  b: {source: {path: b.gguf}, port: 8002}"
    )
    for _ in range(2):
        remember_file(what.desired, SITE, world.drivers)
    first = world.state.read()
    assert (first.desired, first.protected) == ("desired/x.yaml", frozenset({A}))
    assert world.state.writes == 1
    remember_file(wanted().desired, SITE, world.drivers)
    assert world.state.read().protected == frozenset()
    assert world.state.writes == 2
    assert world.state.read().wish not in {"", DOWN, first.wish}
    crashed = {InstanceName("a"): Crashes("x", 2, 0, 1.0, "killed by SIGSEGV", 9e9)}
    world.state.write(replace(world.state.read(), crashes=crashed))
    remember_end(world.drivers)
    assert world.state.read().wish == DOWN
    assert world.state.read().crashes == {}
    world.state.fault = StateFolderError("no space left")
    remember_end(world.drivers)


def test_pid_files_follow_a_port_that_changes_without_a_restart(
    world: Machine, tmp_path: Path
) -> None:
    world.templates = load_templates(tmp_path)
    assert world.apply(wanted(more="")).converged
    pids = {str(one.instance): one.ref.pid for one in world.runtime.list()}
    assert world.runtime.pid_files == {"a": (pids[A], 8001), "b": (pids[B], 8002)}
    report = world.apply(wanted(MODELS.replace("8002", "8003"), more=""))
    assert report.converged
    assert not report.started
    assert world.runtime.pid_files == {"a": (pids[A], 8001), "b": (pids[B], 8003)}


def test_a_look_at_some_tidies_only_those(world: Machine) -> None:
    world.apply(wanted())
    world.runtime.pid_files.clear()
    seen = world.look(wanted(), Scope(frozenset({B})))
    carry_out(wanted(), seen, world.drivers, world.told.append, world.cancel())
    assert sorted(world.runtime.pid_files) == ["b"]


# ---- what waits for files

FAR = """
  a: {source: {path: a.gguf}, port: 8001}
  far: {source: {repo: org/far}, quant: Q4, port: 8002}
"""
MISSING = ObservedFiles(FileStatus.MISSING, files=(ObservedFile("far.gguf", 9),))


def test_the_lock_goes_when_only_files_are_left(world: Machine) -> None:
    world.files.found["org/far"] = MISSING
    released = threading.Event()

    def come(_: object) -> None:
        assert released.wait(10)
        assert [one.instance for one in world.runtime.list()] == ["a"]
        assert world.gateway.published is not None

    world.files.on_fetch = come
    seen, told = world.look(wanted(FAR)), list[object]()
    report = carry_out(wanted(FAR), seen, world.drivers, told.append, world.cancel(), released.set)
    assert not report.failed
    assert not report.converged
    assert {step.address for step in report.late} == {"instance.far"}
    rest, skipped = rest_of(seen, report, world.look(wanted(FAR)))
    assert skipped == ()
    assert carry_out(wanted(FAR), rest, world.drivers, told.append, world.cancel()).converged
    assert [one.instance for one in world.runtime.list()] == ["a", "far"]


def test_what_waits_for_files_that_did_not_come_is_skipped(world: Machine) -> None:
    world.files.found["org/far"] = MISSING
    world.files.on_fetch = lambda _: fail(HubError("no"))
    report = world.apply(wanted(FAR))
    ends = {one.step.address: one.outcome for one in report.results}
    assert ends["model_file.far"] is Outcome.FAILED
    assert ends["instance.far"] is Outcome.SKIPPED
    assert report.late == ()


def test_files_that_came_and_went_are_not_waited_for_again(world: Machine) -> None:
    world.files.found["org/far"] = MISSING
    seen = world.look(wanted(FAR))
    report = world.apply(wanted(FAR))
    world.files.found["org/far"] = MISSING
    rest, skipped = rest_of(seen, report, world.look(wanted(FAR)))
    assert {one.step.address for one in skipped} == {"model_file.far", "instance.far"}
    assert {one.reason for one in skipped} == {"its files are not here any more"}
    assert rest.plan.steps == ()


# ---- suspensions


def test_a_suspension_lasts_until_it_is_ended() -> None:
    journal = Journal(desired="desired/x.yaml", protected=frozenset({A}))
    stopped = suspended(journal, [A, B], Suspension(5.0, "by hand"))
    assert stopped.suspended == {A: Suspension(5.0, "by hand"), B: Suspension(5.0, "by hand")}
    assert (stopped.desired, stopped.protected) == (journal.desired, journal.protected)
    assert resumed(stopped, [A]).suspended == {B: Suspension(5.0, "by hand")}
    assert resumed(stopped, [A, B]) == journal
    assert resumed(journal, [A]) == journal


FIRST, SOON, LATER = (Suspension(1.0, "first", until) for until in (None, 50.0, 60.0))


@pytest.mark.parametrize(
    ("before", "until", "after"),
    [(FIRST, 50.0, FIRST), (SOON, 60.0, LATER), (LATER, 50.0, LATER), (SOON, None, FIRST)],
    ids=str,
)
def test_of_one_that_rests_already_the_first_reason_stands_and_the_longer_time(
    before: Suspension, until: float | None, after: Suspension
) -> None:
    asked = Suspension(2.0, "second", until)
    journal = suspended(Journal(suspended={A: before}), [A, B], asked)
    assert journal.suspended == {A: after, B: asked}


def test_of_one_that_is_named_again_the_last_word_counts() -> None:
    journal = Journal(suspended={A: SOON})
    again = suspended(journal, [A], Suspension(2.0, "second", 40.0, 3600), by_name=True)
    assert again.suspended == {A: Suspension(1.0, "second", 40.0, 3600)}
    assert suspended(journal, [A], Suspension(2.0), by_name=True).suspended == {A: FIRST}


def test_a_suspension_whose_time_is_over_is_none(world: Machine) -> None:
    """It is seen so at once, and the next run that writes forgets it."""
    world.apply(wanted())
    end = world.clock.now() + 60
    resting = suspended(world.state.read(), [A], Suspension(world.clock.now(), "", end))
    world.state.write(resting)
    world.apply(wanted())
    assert [one.instance for one in world.runtime.list()] == ["b"]
    assert world.look(wanted()).plan.is_noop
    world.clock.advance(60)
    assert [one.reason for one in world.look(wanted()).plan.steps] == ["not running"]
    assert world.state.read() == resting
    assert world.apply(wanted()).converged
    assert [one.instance for one in world.runtime.list()] == ["a", "b"]
    assert world.state.read().suspended == {}


def test_a_suspended_model_is_stopped_and_started_again(world: Machine) -> None:
    world.apply(wanted())
    world.state.write(suspended(world.state.read(), [A], Suspension(1.0, "by hand")))
    world.apply(wanted())
    assert [one.instance for one in world.runtime.list()] == ["b"]
    world.state.write(resumed(world.state.read(), [A]))
    assert world.apply(wanted()).converged
    assert [one.instance for one in world.runtime.list()] == ["a", "b"]
