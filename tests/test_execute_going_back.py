"""Going back in memory: what served before a new version serves again where that one fails."""

from __future__ import annotations

import errno
from dataclasses import replace

import pytest
from fake_runtime import Behaviour
from launches import make_launch, start_step, step, stop_step
from plan_run import Run

from reconciler.core.launch import LastGood
from reconciler.core.plan import AwaitReady, StartServer, Step, StopServer
from reconciler.core.words import Phase
from reconciler.errors import EngineError, StateFolderError
from reconciler.execute import Outcome, StepResult


@pytest.fixture
def run() -> Run:
    return Run()


OLD, NEW = make_launch("m"), make_launch("m", env=(("NEW", "1"),))


def replacing(run: Run, new: Behaviour, old: Behaviour | None = None) -> Step:
    """The start of a version that behaves so, after which the old one would."""
    run.world.runtime.behaviours = {NEW.spec_hash: new, OLD.spec_hash: old or Behaviour()}
    return start_step(1, NEW, startup_s=20, end_if_late=True, fallback=OLD)


@pytest.mark.parametrize(
    ("new", "reason"),
    [
        (Behaviour(dies_after_s=0, code=3), "it died while loading: exit code 3"),
        (Behaviour(loads_s=100), "not ready after 20 s (probe.startup)"),
    ],
)
def test_the_old_one_serves_again(run: Run, new: Behaviour, reason: str) -> None:
    result = run.only(replacing(run, new, Behaviour(loads_s=15)))
    assert (result.outcome, result.reason) == (
        Outcome.FAILED,
        f"{reason}; the old one serves again",
    )
    [server] = run.world.runtime.list()
    assert (server.spec, server.env, server.routed) == (OLD.spec_hash, (), True)
    assert run.world.runtime.routes == {"m": OLD.address}
    assert run.world.state.read().last_good == {"m": LastGood(OLD, NEW.spec_hash, reason)}


NOTED = LastGood(OLD, NEW.spec_hash)


def stopped_for_a_new_one(run: Run) -> StepResult:
    stop = stop_step(1, run.world.runtime, "m")
    assert isinstance(stop.effect, StopServer)
    return run.only(replace(stop, effect=replace(stop.effect, last_good=NOTED)))


def test_what_can_be_gone_back_to_is_noted_until_the_new_one_is_ready(run: Run) -> None:
    run.begin()
    stopped_for_a_new_one(run)
    assert run.world.state.read().last_good == {"m": NOTED}
    run.only(replacing(run, Behaviour()))
    assert run.world.state.read().last_good == {}


def test_nobody_meets_a_new_version_before_it_is_noted_that_it_works(run: Run) -> None:
    """A run that was killed in between left a server at work whose end passed for a failed try."""
    run.begin()
    stopped_for_a_new_one(run)
    run.world.runtime.faults["route"] = OSError(errno.ENOSPC, "no space left")
    assert run.only(replacing(run, Behaviour())).outcome is Outcome.FAILED
    assert run.world.state.read().last_good == {}


def test_that_it_was_begun_is_noted_before_it_is(run: Run) -> None:
    """Until then a death is that of what served before: no version failed."""
    run.begin()
    stopped_for_a_new_one(run)
    [result] = run.execute(replacing(run, Behaviour(loads_s=15)), cancel=run.world.cancel(after=5))
    assert result.outcome is Outcome.CANCELLED
    assert run.world.state.read().last_good == {"m": replace(NOTED, began=True)}


def test_what_is_given_up_is_noted_before_the_old_one_starts(run: Run) -> None:
    noted = LastGood(OLD, NEW.spec_hash, "no memory")
    back = start_step(1, OLD)
    assert isinstance(back.effect, StartServer)
    run.behave(Behaviour(dies_after_s=0, code=3))
    run.only(replace(back, effect=replace(back.effect, given_up=noted)))
    assert run.world.state.read().last_good == {"m": noted}


@pytest.mark.parametrize("was_left", ["nothing ran", "loading"])
@pytest.mark.parametrize("is_back", [False, True], ids=["what is wanted", "what served before"])
def test_what_was_noted_long_ago_goes_with_whatever_is_wanted_and_ready(
    run: Run, was_left: str, *, is_back: bool
) -> None:
    """Else the next death is that of a version that was tried in vain, or an old one comes back."""
    run.world.state.update(lambda journal: journal.keeping(OLD.instance, NOTED))
    if was_left == "loading":
        run.begin()
        [server] = run.world.runtime.list()
        run.only(step(1, AwaitReady(OLD.instance, server.ref, server.address, 20, is_back=is_back)))
    else:
        start = start_step(1, OLD)
        assert isinstance(start.effect, StartServer)
        given_up = NOTED if is_back else None
        run.only(replace(start, effect=replace(start.effect, given_up=given_up)))
    assert run.world.state.read().last_good == ({"m": NOTED} if is_back else {})


def test_what_cannot_be_noted_is_not_stopped(run: Run) -> None:
    run.begin()
    run.world.state.fault = StateFolderError("no space left")
    result = stopped_for_a_new_one(run)
    assert (result.outcome, result.reason) == (Outcome.FAILED, "no space left")
    [server] = run.world.runtime.list()
    assert (server.phase, server.routed) == (Phase.STARTING, True)


def test_a_full_disk_keeps_nobody_from_going_back(run: Run) -> None:
    run.world.state.fault = StateFolderError("no space left")
    result = run.only(replacing(run, Behaviour(dies_after_s=0, code=3)))
    assert result.reason == "it died while loading: exit code 3; the old one serves again"


def test_one_that_could_not_be_started_at_all_may_be_tried_again(run: Run) -> None:
    run.world.runtime.faults["start"] = EngineError("a copy of m already runs (pid 7)")
    result = run.only(replacing(run, Behaviour()))
    assert "already runs (pid 7); the old one " in result.reason
    assert run.world.state.read().last_good == {}


def test_one_that_could_not_be_started_has_no_part_in_the_end_of_the_old_one(run: Run) -> None:
    run.world.runtime.faults["start"] = EngineError("a copy of m already runs (pid 7)")
    run.only(replacing(run, Behaviour(), Behaviour(dies_after_s=0, code=3)))
    assert run.world.state.read().last_good == {"m": NOTED}


def test_one_that_was_left_loading_is_gone_back_from(run: Run) -> None:
    run.begin(Behaviour(loads_s=100))
    [server] = run.world.runtime.list()
    run.world.runtime.behaviours = {OLD.spec_hash: Behaviour()}
    back = LastGood(OLD, NEW.spec_hash)
    wait = AwaitReady(server.instance, server.ref, server.address, 20, True, back)
    result = run.only(step(1, wait))
    assert result.reason == "not ready after 20 s (probe.startup); the old one serves again"
    assert server.ref not in {one.ref for one in run.world.runtime.list()}
    noted = replace(back, failed="not ready after 20 s (probe.startup)")
    assert run.world.state.read().last_good == {"m": noted}


def test_the_old_one_does_not_come_up_either(run: Run) -> None:
    result = run.only(
        replacing(
            run, Behaviour(dies_after_s=0, code=3), Behaviour(loads_s=9, dies_after_s=1, code=4)
        )
    )
    assert result.reason == (
        "it died while loading: exit code 3; the old one could not be started again: "
        "it died while loading: exit code 4"
    )
    assert run.world.runtime.list() == ()


def test_an_old_one_that_takes_too_long_goes_on_alone(run: Run) -> None:
    result = run.only(replacing(run, Behaviour(dies_after_s=0, code=3), Behaviour(loads_s=90)))
    assert result.reason.endswith("not ready after 20 s (probe.startup); it still runs")
    assert len(run.world.runtime.list()) == 1


def test_an_interrupted_return_of_the_old_one_says_what_failed(run: Run) -> None:
    step = replacing(run, Behaviour(dies_after_s=0, code=3), Behaviour(loads_s=15))
    [result] = run.execute(step, cancel=run.world.cancel(after=5))
    assert result.outcome is Outcome.FAILED
    assert result.reason.endswith("exit code 3; the old one was started again, and loads")
