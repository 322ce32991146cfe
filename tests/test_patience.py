"""How long a start is waited for: longer than `probe.startup` while it reads its files."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import pytest
from fake_runtime import Behaviour, FakeCancel
from launches import make_launch, plan_of, start_step, stop_step
from plan_run import Run

from reconciler.drivers.base import Cancel
from reconciler.execute import Outcome, Turns, execute
from reconciler.patience import ASK_LONGEST_S, Pace


@pytest.fixture
def run() -> Run:
    return Run()


def test_a_start_that_still_reads_its_files_is_waited_for(run: Run) -> None:
    run.behave(Behaviour(loads_s=1000, reads_s=990))
    result = run.only(start_step(1, make_launch("m"), startup_s=100))
    assert result.outcome is Outcome.DONE


def test_a_start_that_has_stopped_reading_is_not(run: Run) -> None:
    run.behave(Behaviour(loads_s=1000, reads_s=200))
    result = run.only(start_step(1, make_launch("m"), startup_s=100))
    assert result.reason.startswith(
        "not ready after 100 s (probe.startup), and for 60 s it has read nothing"
    )
    assert 260 < result.seconds < 263


def test_the_fewer_are_left_the_sooner_they_are_asked(run: Run) -> None:
    pace, cancel = Pace(), run.world.cancel()
    with contextlib.ExitStack() as others:
        for _ in range(19):
            others.enter_context(pace.loading())
        with pace.loading():
            of_many = pace.rest(ASK_LONGEST_S, 1.0, cancel)
            others.close()
            alone = pace.rest(ASK_LONGEST_S, 1.0, cancel)
    assert of_many == pytest.approx(ASK_LONGEST_S)
    assert alone == 0.02


def test_a_rest_ends_sooner_where_others_get_ready_meanwhile(run: Run) -> None:
    pace = Pace()
    with contextlib.ExitStack() as others:
        for _ in range(19):
            others.enter_context(pace.loading())

        class MeanwhileReady(FakeCancel):
            def wait(self, timeout: float) -> bool:
                others.close()
                return super().wait(timeout)

        with pace.loading():
            rested = pace.rest(ASK_LONGEST_S, 3.0, MeanwhileReady(run.world.clock))
    assert rested == pytest.approx(0.06)


def test_what_loads_for_long_is_asked_seldom_and_at_first_soon(run: Run) -> None:
    pace, cancel = Pace(), run.world.cancel()
    with pace.loading():
        assert pace.rest(ASK_LONGEST_S, 1000.0, cancel) == pytest.approx(ASK_LONGEST_S)
        assert pace.rest(0.01, 1000.0, cancel) == pytest.approx(0.015)
        assert pace.rest(0.0, 0.0, cancel) == 0.01


def test_a_server_counts_while_it_loads(run: Run) -> None:
    seen = set()

    class Watched(Pace):
        def rest(self, last_s: float, waited_s: float, cancel: Cancel) -> float:
            seen.add(self._loading)
            return super().rest(last_s, waited_s, cancel)

    pace = Watched()
    run.behave(Behaviour(loads_s=3))
    steps = plan_of(start_step(1, make_launch("m")))
    cancel = run.world.cancel()
    execute(steps, run.world.drivers, run.told.append, cancel, turns=Turns(pace))
    assert seen == {1}
    assert pace.rest(1.0, 0.0, cancel) == 0.01


@pytest.mark.parametrize(
    ("silent", "cpu", "looks"), [(True, 1.0, 10), (True, 0.0, 4), (False, 1.0, 4)]
)
def test_a_drain_waits_for_one_that_gives_no_answer_while_it_works(
    run: Run, silent: bool, cpu: float, looks: int
) -> None:
    """One that answers, and says nothing of requests, loads: it has none."""
    launch = run.begin()
    server = run.world.runtime.servers[0]
    server.behaviour = replace(server.behaviour, silent=silent)
    run.world.runtime.cpu_a_look = cpu
    run.world.prober.in_hand[launch.address] = [*[None] * 8, 0, 0, 9]
    run.only(stop_step(1, run.world.runtime, "m", drain_s=60))
    assert run.world.runtime.calls.count("in_flight") == looks
