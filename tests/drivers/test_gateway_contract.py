"""What every `GatewayDriver` does, the real nginx and the fake."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import replace

import pytest
from fake_drivers import FakeGateway
from gateway_rig import Rig, rig

from reconciler.core.observed import ObservedGateway
from reconciler.core.plan import ApplyGateway, RenderedGateway, StopGateway
from reconciler.core.words import Generation
from reconciler.drivers.base import GatewayDriver
from reconciler.errors import GatewayError

NEVER = threading.Event()


class World(ABC):
    """A gateway driver, and configurations for it."""

    driver: GatewayDriver

    @abstractmethod
    def render(self, *models: str) -> RenderedGateway:
        """A good configuration."""

    def bad(self, *models: str) -> RenderedGateway:
        """One that nginx rejects."""
        good = self.render(*models)
        files = dict(good.files) | {"nginx.conf": f"bad; {good.files['nginx.conf']}"}
        return replace(good, generation=Generation(good.generation[::-1]), files=files)


class RealWorld(World):
    def __init__(self, made: Rig) -> None:
        self._rig = made
        self.driver = made.gateway

    def render(self, *models: str) -> RenderedGateway:
        return self._rig.render({name: {} for name in models})


class FakeWorld(World):
    def __init__(self) -> None:
        self.driver = FakeGateway()

    def render(self, *models: str) -> RenderedGateway:
        text = " ".join(models)
        return RenderedGateway(Generation(f"{len(text):012}"), {"nginx.conf": text})


class GatewayContract:
    """The contract; the subclasses give the world."""

    def apply(self, world: World, rendered: RenderedGateway) -> ObservedGateway:
        nginx, _ = world.driver.locate("auto")
        now = world.driver.observe()
        world.driver.apply(ApplyGateway(rendered, nginx, now.master, now.orphans), NEVER)
        return world.driver.observe()

    def test_it_is_found_or_said_why_not(self, world: World) -> None:
        command, why = world.driver.locate("auto")
        assert (bool(command), why) == (True, "")
        command, why = world.driver.locate("no-such-nginx")
        assert command == ()
        assert "no-such-nginx" in why

    def test_nothing_runs_at_first(self, world: World) -> None:
        assert world.driver.observe() == ObservedGateway()

    def test_what_was_applied_runs(self, world: World) -> None:
        rendered = world.render("a")
        seen = self.apply(world, rendered)
        assert seen.master is not None
        assert (seen.generation, seen.orphans) == (rendered.generation, ())
        assert seen.since > 0

    def test_another_configuration_keeps_the_master(self, world: World) -> None:
        first = self.apply(world, world.render("a"))
        second = self.apply(world, world.render("a", "b"))
        assert second.master == first.master
        assert second.generation == world.render("a", "b").generation != first.generation

    def test_a_restart_takes_another_master(self, world: World) -> None:
        first = self.apply(world, world.render("a"))
        rendered = world.render("a", "b")
        nginx, _ = world.driver.locate("auto")
        effect = ApplyGateway(rendered, nginx, first.master, (), restart_grace_s=0.0)
        world.driver.apply(effect, NEVER)
        second = world.driver.observe()
        assert second.master not in {None, first.master}
        assert (second.generation, second.orphans) == (rendered.generation, ())

    def test_what_runs_tells_what_it_is_made_of(self, world: World) -> None:
        for rendered in (world.render("a"), world.render("a", "b")):
            assert self.apply(world, rendered).outline == rendered.outline

    def test_a_bad_one_is_refused_and_the_good_one_serves_on(self, world: World) -> None:
        first = self.apply(world, world.render("a"))
        with pytest.raises(GatewayError, match="nginx reject"):
            self.apply(world, world.bad("a", "b"))
        seen = world.driver.observe()
        assert (seen.master, seen.generation) == (first.master, first.generation)

    def test_a_bad_first_one_starts_nothing(self, world: World) -> None:
        with pytest.raises(GatewayError, match="nginx reject"):
            self.apply(world, world.bad("a"))
        assert world.driver.observe() == ObservedGateway()

    def test_what_was_stopped_is_gone(self, world: World) -> None:
        seen = self.apply(world, world.render("a"))
        world.driver.stop(StopGateway(seen.master, seen.orphans, 0.0), NEVER)
        assert world.driver.observe() == ObservedGateway()

    def test_stopping_nothing_is_nothing(self, world: World) -> None:
        world.driver.stop(StopGateway(None, (), 0.0), NEVER)
        assert world.driver.observe() == ObservedGateway()

    def test_publishing_needs_no_nginx(self, world: World) -> None:
        for _ in range(2):
            world.driver.publish({"m": {"since": 1, "size_bytes": 2}})
        assert world.driver.observe() == ObservedGateway()


class TestNginxGateway(GatewayContract):
    @pytest.fixture
    def world(self) -> Iterator[World]:
        with rig() as made:
            yield RealWorld(made)


class TestFakeGateway(GatewayContract):
    @pytest.fixture
    def world(self) -> World:
        return FakeWorld()
