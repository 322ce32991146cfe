"""What a watch cannot do now: it is tried again, ever less often, and at once where that is due."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import cast

import pytest
from watch_world import World, models

from reconciler.core.launch import Launch
from reconciler.core.observed import FileStatus, ObservedFile, ObservedFiles
from reconciler.core.plan import FetchFiles
from reconciler.errors import EngineError, HubError
from reconciler.watch.watch import FAILED_EVERY_S

HUB = "version: 1\ngateway: false\nmodels:\n  a: {source: {repo: o/a}, quant: Q4, port: 8001}\n"


def raising(error: Exception) -> Callable[[object], object]:
    def fail(_effect: object) -> object:
        raise error

    return fail


def hub_world(error: Exception) -> World:
    """One model whose files cannot be fetched."""
    world = World(text=HUB)
    world.files.found["o/a"] = ObservedFiles(FileStatus.MISSING, files=(ObservedFile("a.gguf", 9),))
    world.files.on_fetch = raising(error)
    world.begin()
    return world


def test_a_fetch_that_failed_is_tried_again_after_growing_waits() -> None:
    world = hub_world(HubError("away"))
    tried: list[float] = []

    def fail(_fetch: FetchFiles) -> object:
        tried.append(world.clock.now())
        raise HubError("away")

    world.files.on_fetch = fail
    while world.clock.now() < 4000:
        world.clock.advance(world.step())
    waits = [round(after - before, 1) for before, after in pairwise(tried)]
    assert waits[:6] == [10.0, 20.0, 40.0, 80.0, 160.0, 300.0]
    assert set(waits[5:]) == {300.0}


def refusing(world: World, but: str = "") -> list[tuple[float, str]]:
    """Let starts fail before there is a process, as on a full disk; when, and of which spec."""
    tried: list[tuple[float, str]] = []

    def refuse(what: str, args: tuple[object, ...], by_watch: bool) -> None:
        if what == "runtime.start":
            launch = cast("Launch", args[0])
            world.clock.advance(0.01)
            tried.append((world.clock.now(), launch.spec_hash))
            if launch.spec_hash != but:
                raise EngineError("it could not be started: full", hint="make room")

    world.checks.append(refuse)
    return tried


def waits_between(tried: list[tuple[float, str]]) -> list[float]:
    return [round(after - before) for (before, _), (after, _) in pairwise(tried)]


@pytest.mark.parametrize("rollout", ["surge", "recreate"])
def test_a_start_that_is_refused_while_another_serves_is_tried_ever_less_often(
    rollout: str,
) -> None:
    """Else nginx would be sent to and fro, and the one that serves be stopped again and again."""
    world = World(text=f"version: 1\nmodels:\n  a: {{source: {{path: a}}, rollout: {rollout}}}\n")
    world.begin()
    world.step()
    old = world.server("a").launch.spec_hash
    world.text = world.text.replace("rollout", "params: {temp: 0.5}, rollout")
    tried = refusing(world, but=old)
    while world.clock.now() < 4000:
        world.clock.advance(world.step())
    assert waits_between([one for one in tried if one[1] != old])[:6] == [10, 20, 40, 80, 160, 300]
    assert world.names() == ["a"]
    assert "could not be started: full" in world.heard("failed")[0]
    assert "make room" in world.heard("failed")[0]
    # What serves dies meanwhile: that is no reason to wait.
    world.die("a")
    world.checks.clear()
    world.step()
    assert world.names() == ["a"]
    assert world.server("a").launch.spec_hash != old


def test_what_served_before_waits_for_its_turn_too_where_it_ends_as_well() -> None:
    """Neither version can be started: both together are tried no more often than one."""
    world = World(text=models(a=""))
    world.begin()
    world.step()
    world.text = models(a=", params: {temp: 0.5}")
    tried = refusing(world)
    while world.clock.now() < 4000:
        world.clock.advance(world.step())
    assert len(tried) < 60
    world.checks.clear()
    world.clock.advance(300)
    world.step()
    assert world.names() == ["a"]


def test_a_retry_that_is_under_way_does_not_keep_it_awake() -> None:
    world = hub_world(HubError("away"))
    world.clock.advance(world.step())
    world.files.on_fetch = None
    world.clock.advance(10.0)
    assert world.look() >= 10.0
    assert world.waiting
    world.clock.advance(3600.0)
    assert world.look() >= 10.0


def test_a_new_file_is_tried_at_once() -> None:
    world = hub_world(HubError("away"))
    world.step()
    world.files.on_fetch = None
    world.text = HUB.replace("8001", "8002")
    world.step()
    assert world.names() == ["a"]


def test_a_defect_is_told_and_does_not_end_the_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LLM_RECONCILE_DEBUG")
    world = World(text=models(a=""))
    world.begin()

    def fail() -> None:
        raise KeyError("x")

    world.soon(3, fail)
    assert world.look() == FAILED_EVERY_S
    [told] = world.heard("trouble")
    assert "unexpected KeyError: 'x'" in told
    world.step()
    assert world.names() == ["a"]
    assert world.heard("over") == ["watch: it goes on"]
