"""What a watch counts and says where notes cannot be trusted: clocks, full disks, other runs."""

from __future__ import annotations

import pytest
from fake_runtime import Behaviour
from watch_world import World, models

from reconciler.core.observed import FileStatus, ObservedFiles
from reconciler.errors import StateFolderError
from reconciler.watch.watch import LOOK_EVERY_S

FOUR = models(a="", b="", c="", d="")


@pytest.fixture
def four() -> World:
    """Four servers, and a watch that has nothing to do."""
    world = World(text=FOUR)
    world.begin()
    world.step()
    world.did.clear()
    return world


def pass_time(world: World, seconds: float) -> None:
    until = world.clock.now() + seconds
    while world.clock.now() < until:
        world.sleep(world.step())


@pytest.mark.parametrize("seconds", [-90_000.0, -100.0, 0.0, 90_000.0])
def test_ends_count_though_the_clock_is_set(seconds: float) -> None:
    """What the journal says of earlier ends is still to come by then, or long ago."""
    world = World(text=models(a=""))
    world.runtime.behaviours["a"] = Behaviour(dies_after_s=1.0)
    world.begin()
    pass_time(world, 60.0)
    world.wall.jump(seconds)
    world.did.clear()
    pass_time(world, 600.0)
    # 20 s, 40 s, 80 s and so on apart.
    assert 2 <= world.did.count("runtime.start") <= 8


def test_a_start_that_failed_is_not_tried_on_and_on_while_the_disk_is_full(four: World) -> None:
    four.sim.is_full, four.state.fault = True, StateFolderError("no space left")
    four.text = models(a="", b="", c="", d="", e="")
    pass_time(four, 600.0)
    assert four.names() == ["a", "b", "c", "d"]
    assert 2 <= four.did.count("runtime.start") <= 8
    four.sim.is_full, four.state.fault = False, None
    pass_time(four, 300.0)
    assert four.names() == ["a", "b", "c", "d", "e"]


def test_a_guard_met_under_what_is_in_force_is_told(four: World) -> None:
    """Their files were replaced on disk, all at once, when something else was accepted."""
    for name in "abcd":
        path = f"{name}.gguf"
        four.files.found[path] = ObservedFiles(FileStatus.PRESENT, f"/{path}", "others")
    four.step()
    [said] = four.heard("trouble")
    assert "held back: 4 of 4 running instances would be replaced" in said
    assert "--allow-destroy 4` lets it through" in said
    assert all("held back" in one.reason for one in four.records.status().pending)
    assert four.apply()
    four.step()
    assert four.heard("over") == ["desired/x.yaml: nothing is held back any more"]


def test_restarts_are_told_again_after_a_run_for_which_nobody_counts(four: World) -> None:
    assert four.gateway.published
    before = four.gateway.published["a"]["restarts"]
    four.text = models(a="", b="", c="", d="", e="")
    assert four.apply()
    assert four.gateway.published["a"]["restarts"] is None
    four.step()
    four.clock.advance(LOOK_EVERY_S)
    four.step()
    assert four.gateway.published["a"]["restarts"] == before == 0
