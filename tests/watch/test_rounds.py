"""Rounds of a watch in a simulated world: what is in force, held back, retried, left alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fake_runtime import Behaviour
from watch_world import World, models

from reconciler.core.observed import FileStatus, ObservedFiles
from reconciler.errors import (
    Diagnostic,
    InvalidDesiredError,
    Severity,
    StateFolderError,
)
from reconciler.watch.watch import FAILED_EVERY_S, LOCK_EVERY_S, LOOK_EVERY_S

FOUR = models(a="", b="", c="", d="")


@pytest.fixture
def four() -> World:
    """Four servers, and a watch that has nothing to do."""
    world = World(text=FOUR)
    world.begin()
    world.step()
    assert world.names() == ["a", "b", "c", "d"]
    world.did.clear()
    return world


# What is in force, and what waits


def test_nothing_is_done_where_all_is_as_wanted(four: World) -> None:
    writes = four.state.writes
    for _ in range(100):
        four.clock.advance(four.look())
    assert (four.did, four.waiting, four.state.writes) == ([], [], writes)


def test_a_held_candidate_waits_and_what_crashed_is_started_all_the_same(four: World) -> None:
    four.text = models(a="")
    four.step()
    assert four.watch
    assert four.watch.force.held
    assert "3 of 4 running instances would be stopped" in four.watch.force.held.reason
    assert "--allow-destroy 3` lets it through" in four.heard("trouble")[-1]
    four.die("d")
    four.step()
    assert four.names() == ["a", "b", "c", "d"]
    assert "runtime.signal_stop" not in four.did


def test_an_operators_apply_lets_it_through(four: World) -> None:
    four.text = models(a="")
    four.step()
    assert four.apply()
    four.step()
    assert four.names() == ["a"]
    assert four.watch
    assert not four.watch.force.held
    assert four.watch.force.current
    assert list(four.watch.force.current.wanted.desired.models) == ["a"]
    assert "desired/x.yaml: nothing is held back any more" in four.heard("over")


def test_an_apply_that_was_cut_short_lets_the_watch_complete_it(four: World) -> None:
    """The operator let it through; then he was killed before anything was stopped."""
    four.text = models(a="")
    four.step()
    held = four.watch and four.watch.force.held
    assert held
    wish = held.candidate.wish
    four.state.update(lambda journal: replace(journal, wish=wish))
    four.step()
    assert four.names() == ["a"]


def test_an_apply_of_something_else_lets_nothing_through(four: World) -> None:
    four.text = models(a="")
    four.step()
    four.text = models(a="", b="")
    four.step()
    assert four.watch
    assert four.watch.force.held
    assert "2 of 4" in four.watch.force.held.reason
    assert four.names() == ["a", "b", "c", "d"]


def test_what_was_applied_before_it_was_held_is_no_consent(four: World) -> None:
    """It was applied once, and what runs has been another state since."""
    smaller = models(a="", b="")
    wanted = four.candidate()
    four.text = smaller
    old = four.candidate()
    assert old
    assert wanted
    four.state.update(lambda journal: replace(journal, wish=old.wish))
    four.step()
    assert four.names() == ["a", "b", "c", "d"]


def test_an_edit_back_ends_what_was_held(four: World) -> None:
    four.text = models(a="")
    four.step()
    four.text = FOUR
    four.step()
    assert four.watch
    assert four.watch.force.held is None
    assert four.names() == ["a", "b", "c", "d"]
    assert "runtime.signal_stop" not in four.did


def test_a_change_that_came_into_force_is_not_guarded_again_while_it_is_made(four: World) -> None:
    """One goes of four; its stop is cut, and by then it would be one of one."""
    four.text = models(b="", c="", d="")
    assert four.watch
    four.look()
    four.waiting.clear()
    four.watch.lanes.collect()
    # The lane came to nothing: as if its step had failed.
    four.watch.lanes._going.clear()
    for name in ("b", "c", "d"):
        four.runtime.behaviours[name] = Behaviour(dies_after_s=0.0)
        four.die(name)
    four.look()
    four.go()
    assert "a" not in four.names()


def test_a_guard_met_under_what_is_in_force_stops_nothing(four: World) -> None:
    """Their files were replaced on disk, all at once: nobody agreed to that."""
    for name in "abcd":
        path = f"{name}.gguf"
        four.files.found[path] = ObservedFiles(FileStatus.PRESENT, f"/{path}", "others")
    four.die("a")
    four.step()
    assert four.names() == ["a", "b", "c", "d"]
    assert four.did.count("runtime.start") == 1
    assert "runtime.signal_stop" not in four.did


def test_another_file_of_this_root_is_not_fought(four: World) -> None:
    four.state.update(lambda journal: replace(journal, desired="desired/y.yaml"))
    four.die("a")
    four.step()
    assert four.names() == ["b", "c", "d"]
    assert set(four.did) <= {"gateway.publish"}


def test_a_broken_file_keeps_the_last_good_one(four: World) -> None:
    four.text = "version: 1\nmodels: [\n"
    four.die("c")
    four.step()
    assert four.names() == ["a", "b", "c", "d"]
    assert four.heard("trouble")[-1].startswith("file: desired/x.yaml:")
    four.text = FOUR
    four.step()
    assert four.heard("over") == ["file: the file can be followed again"]


def test_an_empty_file_stops_nothing(four: World) -> None:
    four.text = ""
    four.step()
    four.text = "version: 1\ngateway: false\nmodels: {}\n"
    four.step()
    assert four.names() == ["a", "b", "c", "d"]


# What an operator does


def test_after_down_it_rests_until_the_next_apply(four: World) -> None:
    assert four.down()
    four.did.clear()
    assert four.step() == LOOK_EVERY_S
    assert (four.did, four.names()) == ([], [])
    assert four.apply()
    four.step()
    assert four.names() == ["a", "b", "c", "d"]


def test_a_watch_that_began_after_down_rests_after_the_next_one() -> None:
    """Its first round could not be had: another run held the lock."""
    world = World(text=FOUR)
    assert world.apply()
    assert world.down()
    world.begin()
    world.state.holder = "somebody"
    assert world.look() == LOCK_EVERY_S
    world.state.holder = ""
    world.step()
    assert world.names() == ["a", "b", "c", "d"]
    assert world.down()
    world.step()
    assert world.names() == []


def test_a_stopped_model_stays_stopped_until_its_time_is_over(four: World) -> None:
    assert four.control("stop", "b")
    four.did.clear()
    four.step()
    assert four.names() == ["a", "c", "d"]
    assert set(four.did) <= {"gateway.publish"}
    assert four.control("start", "b")
    assert four.names() == ["a", "b", "c", "d"]


def test_a_model_that_is_stopped_while_it_loads_is_not_routed() -> None:
    """The lane let the lock go meanwhile; what it comes back to is another world."""
    world = World(text=models(a=""))
    world.runtime.behaviours["a"] = Behaviour(loads_s=30.0)
    world.begin()
    world.look()
    done: list[bool] = []
    world.soon(60, lambda: done.append(world.control("stop", "a")))
    world.go()
    assert done == [True]
    world.step()
    assert world.names() == []
    assert "runtime.route" not in world.did


def test_an_operators_older_wish_does_not_stand_in_the_way_for_ever(four: World) -> None:
    """Somebody applied another content than the file has by now: lanes go by the journal."""
    four.state.update(lambda journal: replace(journal, wish="another"))
    four.die("a")
    four.step()
    assert four.names() == ["a", "b", "c", "d"]
    assert four.state.read().wish != "another"


# What cannot be done now


def test_a_broken_lock_file_keeps_what_is_in_force(four: World) -> None:
    four.lock.broken = InvalidDesiredError((Diagnostic(Severity.ERROR, "conflict marks"),))
    four.die("a")
    four.step()
    assert four.names() == ["a", "b", "c", "d"]
    assert four.heard("trouble") == ["lock: conflict marks"]
    # What is new waits, and that is no reason to look after nothing.
    four.text = models(a="", b="", c="", d="", e="")
    four.die("b")
    four.step()
    assert four.names() == ["a", "b", "c", "d"]
    four.lock.broken = None
    four.step()
    assert four.names() == ["a", "b", "c", "d", "e"]
    assert "lock: the lock file can be read again" in four.heard("over")


def test_a_watch_that_finds_a_broken_lock_file_waits_for_it() -> None:
    world = World(text=FOUR)
    world.lock.broken = InvalidDesiredError((Diagnostic(Severity.ERROR, "conflict marks"),))
    world.begin()
    assert world.step() == FAILED_EVERY_S or world.names() == []
    world.lock.broken = None
    world.step()
    assert world.names() == ["a", "b", "c", "d"]


def test_a_full_disk_does_not_end_it(four: World) -> None:
    four.state.fault = StateFolderError("no space left")
    four.die("a")
    assert four.step() == FAILED_EVERY_S
    assert four.heard("trouble")[-1] == "watch: nothing could be done: no space left"
    four.state.fault = None
    four.step()
    assert four.names() == ["a", "b", "c", "d"]
    assert four.heard("over")[-1] == "watch: it goes on"


def test_what_was_accepted_while_the_disk_was_full_is_served_all_the_same(four: World) -> None:
    four.state.fault = StateFolderError("no space left")
    four.text = models(a="", b="", c="", d="", e="")
    four.step()
    four.step()
    assert four.names() == ["a", "b", "c", "d", "e"]
    four.state.fault = None
    four.step()
    assert four.watch
    assert four.watch.force.current
    assert four.state.read().wish == four.watch.force.current.wish


def test_another_run_that_holds_the_lock_is_waited_for(four: World) -> None:
    four.die("a")
    four.state.holder = "pid 1"
    assert four.step() == LOCK_EVERY_S
    assert four.names() == ["b", "c", "d"]


# What is in hand


def test_a_lane_is_recalled_where_its_model_is_to_be_another_one() -> None:
    world = World(text=models(a="", b=""))
    world.runtime.behaviours["a"] = Behaviour(loads_s=10_000.0)
    world.begin()
    world.look()
    before = len(world.waiting)
    world.text = models(a=", params: {temp: 0.5}", b="")
    world.look()
    assert before == len(world.waiting) == 2
    world.go()
    # It was recalled before it began, and b was not.
    assert world.names() == ["b"]
    world.runtime.behaviours.clear()
    world.step()
    assert world.names() == ["a", "b"]


def test_what_is_in_hand_is_begun_once(four: World) -> None:
    four.die("a")
    four.look()
    four.look()
    assert [one.name for one in four.waiting] == ["a"]
    four.step()
    assert four.did.count("runtime.start") == 1


def test_a_wedged_server_is_replaced_once(four: World) -> None:
    wedged = four.server("b").ref
    four.wedged[wedged] = "it is wedged"
    four.step()
    four.step()
    assert four.did.count("runtime.start") == 1
    assert four.server("b").ref != wedged
    assert four.heard("wedged") == ["instance.b: it is wedged"]


def test_one_that_does_not_answer_is_in_nobodys_hand(four: World) -> None:
    """Its pulse finds out whether it is wedged: then it must be free to be replaced."""
    four.server("b").behaviour = Behaviour(silent=True)
    four.look()
    assert four.waiting == []
    assert four.live("b")


def test_one_that_is_not_ready_in_time_is_replaced() -> None:
    world = World(text=models(a=", probe: {startup: 1m}"))
    world.runtime.behaviours["a"] = Behaviour(loads_s=100_000.0)
    world.begin()
    world.step()
    assert len(world.runtime.servers) > 1
    assert len(world.live()) == 1


def test_one_that_gets_ready_late_while_it_may_not_be_replaced_serves() -> None:
    world = World(text=models(a=", protect: true, probe: {startup: 1m}"))
    world.runtime.behaviours["a"] = Behaviour(loads_s=300.0)
    world.begin()
    world.step()
    [slow] = world.live()
    assert "a is protected and would be stopped" in world.heard("trouble")[-1]
    world.clock.advance(300.0)
    world.step()
    assert world.live() == [slow]
    assert world.heard("over") == ["desired/x.yaml: nothing is held back any more"]
