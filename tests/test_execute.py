"""Walking a plan's graph with drivers in memory: order, failures, interruption."""

from __future__ import annotations

import errno
import threading
from dataclasses import replace

import pytest
from fake_runtime import Behaviour
from hypothesis import given
from hypothesis import strategies as st
from launches import make_launch, start_step, step, stop_step
from plan_run import Run

from reconciler.core.desired import Source
from reconciler.core.observed import FileStatus, ObservedFile
from reconciler.core.plan import ApplyGateway, FetchFiles, RenderedGateway, StopGateway
from reconciler.core.words import Generation, ModelName
from reconciler.errors import GatewayError, HubError, InterruptedRunError
from reconciler.execute import Outcome, StepResult

FETCH = FetchFiles(ModelName("m"), Source(repo="org/m"), "c" * 40, (ObservedFile("m.gguf", 2**30),))
GATEWAY = ApplyGateway(
    RenderedGateway(Generation("0" * 12), {"nginx.conf": "x"}), ("nginx",), None, ()
)


def fail_if(bad: bool, why: str = "no") -> None:
    if bad:
        raise HubError(why, hint="wait")


def interrupt(_: object) -> None:
    raise InterruptedRunError("interrupted while downloading")


@pytest.fixture
def run() -> Run:
    return Run()


# ---- the graph


def test_an_empty_plan_is_done(run: Run) -> None:
    assert run.execute() == []
    assert run.told == []


def test_a_step_begins_after_all_it_needs(run: Run) -> None:
    for name in ("a", "b", "c"):
        run.world.runtime.behaviours[name] = Behaviour(loads_s=3)
    steps = [
        start_step(1, make_launch("a"), 2),
        start_step(2, make_launch("b"), 3),
        start_step(3, make_launch("c")),
    ]
    assert {one.outcome for one in run.execute(*steps)} == {Outcome.DONE}
    assert run.did() == ["start c", "route c", "start b", "route b", "start a", "route a"]


def test_a_step_waits_for_the_end_of_others_and_not_for_their_success(run: Run) -> None:
    run.world.runtime.behaviours["a"] = Behaviour(loads_s=3, dies_after_s=2)
    first, second = (
        replace(start_step(2, make_launch("b")), after=(1, 7)),
        start_step(1, make_launch("a")),
    )
    outcomes = [one.outcome for one in run.execute(first, second)]
    assert outcomes == [Outcome.DONE, Outcome.FAILED]
    assert [one for one in run.did() if "start" in one] == ["start a", "start b"]


def test_steps_that_need_nothing_run_at_once(run: Run) -> None:
    # Both downloads wait for each other: one after the other they would never end.
    meeting = threading.Barrier(2, timeout=20)
    run.world.files.on_fetch = lambda _: meeting.wait()
    results = run.execute(step(1, FETCH), step(2, FETCH))
    assert [one.outcome for one in results] == [Outcome.DONE, Outcome.DONE]


def test_a_failure_skips_what_needs_it_and_nothing_else(run: Run) -> None:
    run.world.files.on_fetch = lambda _: fail_if(True, "the hub is gone")
    results = run.execute(
        step(1, FETCH),
        start_step(2, make_launch("m"), 1),
        step(3, GATEWAY, 2),
        start_step(4, make_launch("other")),
    )
    assert [(one.outcome, one.reason, one.hint) for one in results] == [
        (Outcome.FAILED, "the hub is gone", "wait"),
        (Outcome.SKIPPED, "needs step.1, which was not done", ""),
        (Outcome.SKIPPED, "needs instance.m, which was not done", ""),
        (Outcome.DONE, "", ""),
    ]
    assert [one.instance for one in run.world.runtime.list()] == ["other"]


def test_each_result_is_reported_once(run: Run) -> None:
    run.world.files.on_fetch = lambda _: fail_if(True)
    results = run.execute(step(1, FETCH), step(2, GATEWAY, 1), step(3, GATEWAY))
    reported = [one for one in run.told if isinstance(one, StepResult)]
    assert sorted(one.step.number for one in reported) == [1, 2, 3]
    assert set(reported) == set(results)


@given(st.data())
def test_any_graph_ends_with_every_step_decided(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 10))
    steps = []
    for number in range(1, size + 1):
        needs = data.draw(st.sets(st.integers(1, number - 1), max_size=3)) if number > 1 else set()
        steps.append(step(number, replace(FETCH, model=ModelName(str(number))), *sorted(needs)))
    bad = data.draw(st.sets(st.integers(1, size)))
    run = Run()
    run.world.files.on_fetch = lambda fetch: fail_if(int(fetch.model) in bad)
    results = run.execute(*data.draw(st.permutations(steps)))
    done = {one.step.number for one in results if one.outcome is Outcome.DONE}
    for one in results:
        possible = set(one.step.needs) <= done
        assert (one.outcome is Outcome.SKIPPED) is not possible
        assert (one.outcome is Outcome.FAILED) is (possible and one.step.number in bad)


def test_an_unexpected_error_is_one_failed_step(run: Run) -> None:
    run.world.runtime.faults["start"] = ZeroDivisionError("division by zero")
    first, second = run.execute(start_step(1, make_launch("m")), step(2, GATEWAY))
    assert first.outcome is Outcome.FAILED
    assert first.reason == "ZeroDivisionError: division by zero"
    assert second.outcome is Outcome.DONE


def test_what_the_machine_refuses_is_said_with_what_to_do(run: Run) -> None:
    full = OSError(errno.ENOSPC, "No space left on device", "/x/route")
    run.world.runtime.faults["route"] = full
    (result,) = run.execute(start_step(1, make_launch("m")))
    assert (result.outcome, result.reason) == (
        Outcome.FAILED,
        "/x/route: No space left on device",
    )
    assert "make room" in result.hint


def test_nothing_begins_in_a_cancelled_run(run: Run) -> None:
    launch = run.begin()
    cancel = run.world.cancel()
    cancel.set()
    results = run.execute(
        stop_step(1, run.world.runtime, "m"), step(2, FETCH), step(3, GATEWAY, 1), cancel=cancel
    )
    assert {(one.outcome, one.reason) for one in results} == {
        (Outcome.CANCELLED, "interrupted before it began")
    }
    assert run.did() == []
    assert run.world.runtime.routes == {"m": launch.address}


# ---- files and the gateway


def test_a_download_tells_how_far_it_is(run: Run) -> None:
    assert run.only(step(1, FETCH)).outcome is Outcome.DONE
    assert run.texts() == [
        "downloading from org/m@main",
        "downloaded 0 B of 1.0 GiB",
        "downloaded 1.0 GiB of 1.0 GiB",
    ]
    assert run.world.files.found["org/m"].status is FileStatus.PRESENT


def test_an_interrupted_download_is_not_a_failure(run: Run) -> None:
    run.world.files.on_fetch = interrupt
    result = run.only(step(1, FETCH))
    assert (result.outcome, result.reason) == (Outcome.CANCELLED, "interrupted while downloading")


def test_the_gateway_is_applied_and_stopped(run: Run) -> None:
    assert run.only(step(1, GATEWAY)).outcome is Outcome.DONE
    assert run.world.gateway.running.generation == "0" * 12
    stopping = StopGateway(run.world.gateway.running.master, (), 1.0)
    assert run.only(step(1, stopping)).outcome is Outcome.DONE
    assert run.world.gateway.running.master is None
    assert run.texts() == ["stopping nginx"]


def test_a_rejected_gateway_is_a_failed_step(run: Run) -> None:
    run.world.gateway.fault = GatewayError("nginx rejects it", hint="look at the log")
    result = run.only(step(1, GATEWAY))
    assert (result.outcome, result.reason, result.hint) == (
        Outcome.FAILED,
        "nginx rejects it",
        "look at the log",
    )
