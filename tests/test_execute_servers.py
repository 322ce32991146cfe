"""Starting, adopting and stopping servers in memory: what is done, in which order, how long."""

from __future__ import annotations

import errno

import pytest
from fake_runtime import Behaviour
from launches import make_launch, start_step, step, stop_step
from plan_run import Run

from reconciler.core.launch import Launch
from reconciler.core.plan import AwaitReady, Step
from reconciler.execute import Outcome


@pytest.fixture
def run() -> Run:
    return Run()


# ---- starting


def test_a_start_ends_when_it_is_ready_and_routed(run: Run) -> None:
    run.behave(Behaviour(loads_s=30))
    launch = make_launch("m")
    result = run.only(start_step(1, launch))
    assert result.outcome is Outcome.DONE
    assert 30 <= result.seconds < 31
    assert run.world.runtime.routes == {"m": launch.address}
    assert run.did() == ["start m", "route m"]
    assert run.texts()[0] == "starting"
    assert set(run.texts()[1:]) == {"loading"}
    assert 25 <= len(run.texts()) <= 32


def test_a_start_that_dies_says_why(run: Run) -> None:
    said = "error: invalid argument: --x"
    run.behave(Behaviour(loads_s=9, dies_after_s=2, says=said))
    result = run.only(start_step(1, make_launch("m")))
    assert result.outcome is Outcome.FAILED
    assert result.reason == "it died while loading: the engine rejects the flag --x"
    assert result.log_tail == said
    assert run.did() == ["start m", "forget m"]
    assert run.world.runtime.routes == {}


def test_an_answer_of_somebody_else_at_its_address_is_no_success(run: Run) -> None:
    address = "127.0.0.1:8001"
    run.world.runtime.start(make_launch("stranger", address=address))
    run.behave(Behaviour(dies_after_s=0, says="couldn't bind HTTP server socket"))
    result = run.only(start_step(1, make_launch("m", address=address)))
    assert result.reason == "it died while loading: its address is taken"


def test_a_start_that_takes_too_long_goes_on_alone(run: Run) -> None:
    run.behave(Behaviour(loads_s=100, says="still\nloading"))
    result = run.only(start_step(1, make_launch("m"), startup_s=20))
    assert result.outcome is Outcome.FAILED
    assert result.reason == "not ready after 20 s (probe.startup); it still runs"
    assert result.log_tail == "still\nloading"
    assert 20 < result.seconds < 21
    assert len(run.world.runtime.list()) == 1
    assert run.did() == ["start m"]


def test_a_late_copy_of_a_surge_is_ended(run: Run) -> None:
    old = run.begin()
    run.behave(Behaviour(loads_s=100))
    new = start_step(1, make_launch("m", "b"), startup_s=20, end_if_late=True)
    result, after = run.execute(new, stop_step(2, run.world.runtime, "m", 1))
    assert (result.outcome, after.outcome) == (Outcome.FAILED, Outcome.SKIPPED)
    assert result.reason == "not ready after 20 s (probe.startup); the old one stays"
    assert [(one.slot, one.routed) for one in run.world.runtime.list()] == [("a", True)]
    assert run.world.runtime.routes == {"m": old.address}
    assert run.did() == ["start m", "kill m", "forget m"]


def test_a_surges_copy_that_dies_leaves_nothing(run: Run) -> None:
    run.begin()
    run.behave(Behaviour(dies_after_s=0, code=3))
    result = run.only(start_step(1, make_launch("m", "b"), end_if_late=True))
    assert result.reason == "it died while loading: exit code 3; the old one stays"
    assert [one.slot for one in run.world.runtime.list()] == ["a"]


def test_a_silent_server_is_waited_for_and_named(run: Run) -> None:
    run.behave(Behaviour(silent=True))
    result = run.only(start_step(1, make_launch("m"), startup_s=3))
    assert result.outcome is Outcome.FAILED
    assert "waiting (silent)" in run.texts()


def test_a_start_is_interrupted_but_not_its_server(run: Run) -> None:
    run.behave(Behaviour(loads_s=100))
    steps = start_step(1, make_launch("m")), start_step(2, make_launch("next"), 1)
    results = run.execute(*steps, cancel=run.world.cancel(after=5))
    assert [(one.outcome, one.reason) for one in results] == [
        (Outcome.CANCELLED, "interrupted while it was waited for; it runs on"),
        (Outcome.CANCELLED, "interrupted before it began"),
    ]
    assert 5 <= results[0].seconds < 6
    assert len(run.world.runtime.list()) == 1
    assert run.did() == ["start m"]


# ---- adopting


def awaiting(run: Run, launch: Launch, startup_s: float = 60, *, end: bool = False) -> Step:
    [server] = [one for one in run.world.runtime.list() if one.address == launch.address]
    return step(1, AwaitReady(launch.instance, server.ref, launch.address, startup_s, end))


def test_an_adopted_server_is_waited_for_and_routed(run: Run) -> None:
    launch = run.begin(Behaviour(loads_s=10))
    run.world.runtime.routes.clear()
    assert run.only(awaiting(run, launch)).outcome is Outcome.DONE
    assert run.world.runtime.routes == {"m": launch.address}
    assert run.did() == ["route m"]


def test_an_adopted_server_may_die_too(run: Run) -> None:
    launch = run.begin(Behaviour(loads_s=10, dies_after_s=5, code=-9))
    result = run.only(awaiting(run, launch))
    assert result.outcome is Outcome.FAILED
    assert "killed by SIGKILL" in result.reason
    assert run.did() == ["forget m"]


def test_an_adopted_server_that_is_late_is_left_alone(run: Run) -> None:
    launch = run.begin(Behaviour(loads_s=100))
    result = run.only(awaiting(run, launch, startup_s=5))
    assert "it still runs" in result.reason
    assert run.did() == []


def test_an_adopted_copy_that_is_late_is_ended_where_another_one_serves(run: Run) -> None:
    old = run.begin()
    run.behave(Behaviour(loads_s=100))
    late = make_launch("m", "b")
    run.world.runtime.start(late)
    result = run.only(awaiting(run, late, startup_s=5, end=True))
    assert result.reason == "not ready after 5 s (probe.startup); the old one stays"
    assert run.world.runtime.routes == {"m": old.address}
    assert [one.slot for one in run.world.runtime.list()] == ["a"]


# ---- stopping


def test_a_stop_goes_out_of_nginx_drains_terms_and_tidies(run: Run) -> None:
    run.begin(Behaviour(ends_s=2))
    result = run.only(stop_step(1, run.world.runtime, "m"))
    assert result.outcome is Outcome.DONE
    assert run.did() == ["unroute m", "signal_stop m", "forget m"]
    calls = run.world.runtime.calls
    assert calls.index("unroute m") < calls.index("in_flight") < calls.index("signal_stop m")
    assert run.texts() == ["stopping"]
    assert run.world.runtime.list() == ()


def test_a_stop_that_keeps_the_route_touches_none(run: Run) -> None:
    launch = run.begin()
    run.only(stop_step(1, run.world.runtime, "m", unroute=False))
    assert run.world.runtime.routes == {"m": launch.address}
    assert run.did() == ["signal_stop m", "forget m"]


def test_what_ignores_term_is_killed_after_its_grace(run: Run) -> None:
    run.begin(Behaviour(ignores_term=True))
    result = run.only(stop_step(1, run.world.runtime, "m", grace_s=7))
    assert result.outcome is Outcome.DONE
    assert run.did() == ["unroute m", "signal_stop m", "kill m", "forget m"]
    assert 7 <= result.seconds < 8
    assert run.texts() == ["stopping", "still there after 7 s: killing"]


def test_what_survives_kill_is_a_failure(run: Run) -> None:
    run.begin(Behaviour(ignores_term=True, survives_kill=True))
    pid = run.world.runtime.list()[0].ref.pid
    stopping = stop_step(1, run.world.runtime, "m")
    result, next_one = run.execute(stopping, start_step(2, make_launch("m"), 1))
    assert result.reason == f"pid {pid} did not end, not even by KILL"
    assert next_one.outcome is Outcome.SKIPPED
    assert "forget m" not in run.did()


def test_a_drain_ends_after_two_looks_that_find_nothing(run: Run) -> None:
    launch = run.begin()
    run.world.prober.in_hand[launch.address] = [2, 0, 1, 0, 0, 9]
    run.only(stop_step(1, run.world.runtime, "m"))
    assert run.world.runtime.calls.count("in_flight") == 5
    assert run.world.prober.in_hand[launch.address] == [9]


def test_who_cannot_be_asked_is_not_waited_for(run: Run) -> None:
    launch = run.begin()
    run.world.prober.in_hand[launch.address] = [None] * 4 + [9]
    run.only(stop_step(1, run.world.runtime, "m"))
    assert run.world.runtime.calls.count("in_flight") == 4


def test_who_was_only_slow_to_say_is_waited_for(run: Run) -> None:
    launch = run.begin()
    run.world.prober.in_hand[launch.address] = [None, None, 1, None, 0, 0, 9]
    run.only(stop_step(1, run.world.runtime, "m"))
    assert run.world.runtime.calls.count("in_flight") == 6


def test_a_drain_has_an_end(run: Run) -> None:
    launch = run.begin()
    run.world.prober.in_hand[launch.address] = [3]
    result = run.only(stop_step(1, run.world.runtime, "m", drain_s=30))
    assert result.outcome is Outcome.DONE
    assert 30 <= result.seconds < 31
    assert set(run.texts()) == {"draining, 3 running", "stopping"}
    assert 25 <= len(run.texts()) <= 32


def test_no_drain_asks_nobody(run: Run) -> None:
    run.begin()
    run.only(stop_step(1, run.world.runtime, "m", drain_s=0))
    assert run.world.runtime.calls.count("in_flight") == 0


@pytest.mark.parametrize("unroute", [True, False])
def test_an_interrupted_drain_leaves_the_server_as_it_was(run: Run, unroute: bool) -> None:
    launch = run.begin()
    run.world.prober.in_hand[launch.address] = [1]
    stopping = stop_step(1, run.world.runtime, "m", drain_s=60, unroute=unroute)
    result = run.only(stopping, cancel=run.world.cancel(after=5))
    assert (result.outcome, result.reason) == (
        Outcome.CANCELLED,
        "interrupted while draining; it serves on",
    )
    assert run.world.runtime.routes == {"m": launch.address}
    assert run.did() == (["unroute m", "route m"] if unroute else [])
    assert len(run.world.runtime.list()) == 1


def test_a_server_that_cannot_be_told_to_end_serves_on(run: Run) -> None:
    launch = run.begin()
    run.world.runtime.faults["signal_stop"] = OSError(errno.EMFILE, "Too many open files")
    result = run.only(stop_step(1, run.world.runtime, "m"))
    assert (result.outcome, result.reason) == (Outcome.FAILED, "Too many open files")
    assert run.world.runtime.routes == {"m": launch.address}
    assert run.did() == ["unroute m", "signal_stop m", "route m"]


def test_an_interrupted_drain_of_a_surges_old_copy_leaves_the_route_to_the_new_one(
    run: Run,
) -> None:
    old = run.begin()
    run.world.runtime.routes["m"] = make_launch("m", "b").address
    run.world.prober.in_hand[old.address] = [1]
    run.only(stop_step(1, run.world.runtime, "m", drain_s=60), cancel=run.world.cancel(after=5))
    assert run.world.runtime.routes == {"m": make_launch("m", "b").address}


def test_a_stop_that_was_signalled_is_brought_to_its_end(run: Run) -> None:
    run.begin(Behaviour(ends_s=20))
    stopping = stop_step(1, run.world.runtime, "m", grace_s=60)
    result = run.only(stopping, cancel=run.world.cancel(after=10))
    assert result.outcome is Outcome.DONE
    assert run.world.runtime.list() == ()
    assert run.did() == ["unroute m", "signal_stop m", "forget m"]


def test_who_is_gone_already_is_tidied_up(run: Run) -> None:
    run.begin()
    stopping = stop_step(1, run.world.runtime, "m")
    run.world.runtime.servers[0].killed = True
    assert run.only(stopping).outcome is Outcome.DONE
    assert run.did()[-1] == "forget m"


def test_a_replacement_stops_first_and_then_takes_the_slot(run: Run) -> None:
    run.begin(Behaviour(ends_s=3))
    results = run.execute(
        stop_step(1, run.world.runtime, "m"), start_step(2, make_launch("m", "a"), 1)
    )
    assert {one.outcome for one in results} == {Outcome.DONE}
    assert run.did() == ["unroute m", "signal_stop m", "forget m", "start m", "route m"]
