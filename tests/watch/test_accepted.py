"""One record in the history for each desired state that a watch carried out, however it ended."""

from __future__ import annotations

from fake_runtime import Behaviour
from watch_world import World, models

from reconciler.core.history import Ending, Record
from reconciler.core.words import ModelName
from reconciler.remember import resumed


def watching() -> World:
    world = World(text=models(a="", b=""))
    world.begin()
    world.step()
    return world


def outcomes(world: World) -> list[tuple[Ending, list[str]]]:
    def names(record: Record) -> list[str]:
        return sorted(one.name for one in record.changes)

    return [(one.outcome, names(one)) for one in world.records.history()]


FIRST = (Ending.APPLIED, ["a", "b"])
BOTH = models(a=", params: {temp: 0.5}", b=", params: {temp: 0.5}")


def test_what_is_done_in_parts_is_one_record() -> None:
    world = watching()
    assert outcomes(world) == [FIRST]
    world.text = BOTH
    world.look()
    assert len(world.waiting) == 2
    # It is there from the beginning on: killed now, it is seen not to have ended.
    assert outcomes(world)[1:] == [(Ending.RUNNING, ["a", "b"])]
    world.step()
    assert outcomes(world) == [FIRST, FIRST]


def test_what_dies_and_is_started_again_is_none() -> None:
    world = watching()
    world.die("a")
    world.step()
    assert world.names() == ["a", "b"]
    # Nor is a watch that finds all as it is to be.
    world.begin()
    world.step()
    assert outcomes(world) == [FIRST]


def test_what_it_finds_to_do_later_is_another_one() -> None:
    world = watching()
    assert world.control("stop", "a")
    world.state.update(lambda journal: resumed(journal, [ModelName("a")]))
    world.step()
    assert world.names() == ["a", "b"]
    assert outcomes(world) == [FIRST, (Ending.APPLIED, ["a"])]


def test_the_next_desired_state_comes_before_this_one_is_done() -> None:
    world = watching()
    world.text = BOTH
    world.look()
    world.text = models(a="", b="")
    world.step()
    assert outcomes(world)[1][0] is Ending.SUPERSEDED
    assert not [one for one, _ in outcomes(world) if one is Ending.RUNNING]


def test_down_and_the_end_of_the_watch_leave_it_undone() -> None:
    world = watching()
    world.text = BOTH
    world.look()
    world.waiting.clear()
    world.state.holder = ""
    assert world.down()
    world.look()
    assert outcomes(world)[1][0] is Ending.SUPERSEDED
    other = watching()
    other.text = BOTH
    other.look()
    other.waiting.clear()
    assert other.watch
    other.watch.lanes._going.clear()
    other.watch.close()
    assert outcomes(other)[1][0] is Ending.INTERRUPTED


def test_one_that_cannot_be_done_says_why() -> None:
    world = watching()
    world.text = models(a="", b="", c="")
    world.runtime.behaviours["c"] = Behaviour(loads_s=1.0, dies_after_s=0.5, says="it is broken")
    world.step()
    [record] = world.records.history()[1:]
    assert record.outcome is Ending.FAILED
    assert "instance.c" in record.message


def test_a_history_that_cannot_be_written_is_no_reason_not_to_do_it() -> None:
    world = watching()
    world.records.fault = OSError(28, "No space left on device")
    world.text = models(a="", b="", c="")
    world.step()
    assert world.names() == ["a", "b", "c"]
