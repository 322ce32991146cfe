"""Each `needs` of a plan is there for a reason: without it, some order of steps does harm."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from builders import SITE, desired, observed, plan, rendered, server, steps_of, stray
from world import Luck, World
from world_files import ViolationError

from reconciler.core.desired import DesiredState
from reconciler.core.observed import FileStatus, LastExit, ObservedGateway, ObservedServer
from reconciler.core.plan import Plan
from reconciler.core.planner import make_plan
from reconciler.core.present import plan_values
from reconciler.core.resolve import tcp_port
from reconciler.core.words import InstanceName, Phase, SpecHash

ORDERS = 60
"""Random orders of at most a dozen steps: enough to meet the one that does harm."""


@dataclass(frozen=True)
class Scene:
    """A machine and what is wanted of it; each world is made anew."""

    state: DesiredState
    servers: tuple[ObservedServer, ...] = ()
    files: dict[str, FileStatus] = field(default_factory=dict)
    nginx_ports: frozenset[int] = frozenset()
    nginx_is_silent: bool = False

    def world(self) -> World:
        world = World(servers={one.ref: one for one in self.servers}, files=dict(self.files))
        for one in self.servers:
            if one.routed and tcp_port(one.address) is None:
                world.routes[one.instance] = one.address
        if self.nginx_ports:
            world.gateway_ports = set(self.nginx_ports)
            answer = None
            if self.state.gateway and not self.nginx_is_silent:
                answer = rendered(self.state, world.observe(self.state)).generation
            world.gateway = ObservedGateway(world.new_ref(), (), answer)
        return world

    def plan(self) -> Plan:
        return make_plan(self.state, SITE, self.world().observe(self.state))


BEHIND = desired({"a": {"port": 8001}, "b": {"port": 8002}})
BARE = desired({"a": {"port": 8001}, "b": {"port": 8002}}, gateway=False)
SWAPPED = desired({"a": {"port": 8002}, "b": {"port": 8001}}, gateway=False)
SURGE = desired({"a": {"rollout": "surge"}})
HUB = {"source": {"repo": "org/far"}, "quant": "Q4"}
MISSING = {"org/far": FileStatus.MISSING}
NGINX_PORTS = frozenset({8888, 8001, 8002})

SCENES = {
    "ports are swapped": Scene(SWAPPED, (server(BARE, "a"), server(BARE, "b"))),
    "a port is taken over": Scene(
        desired({"c": {"port": 8001}}, gateway=False), (server(BARE, "a"),)
    ),
    "another launch": Scene(BEHIND, (stray("a"),), nginx_ports=NGINX_PORTS),
    "new files": Scene(desired({"a": HUB}), files=MISSING),
    "new files for a running model": Scene(desired({"a": HUB}), (stray("a"),), files=MISSING),
    "new files for a surge": Scene(
        desired({"a": {**HUB, "rollout": "surge"}}), (stray("a"),), files=MISSING
    ),
    "surge": Scene(SURGE, (stray("a"),)),
    "surge from slot b": Scene(SURGE, (stray("a", slot="b"),)),
    "surge, cut, and the file changed again": Scene(
        SURGE, (stray("a"), stray("a", slot="b", phase=Phase.STARTING, routed=False))
    ),
    "surge, cut": Scene(
        SURGE, (stray("a"), server(SURGE, "a", slot="b", phase=Phase.STARTING, routed=False))
    ),
    "surge, cut, and turned back": Scene(
        SURGE, (server(SURGE, "a", phase=Phase.STOPPING, routed=False), stray("a", slot="b"))
    ),
    "surge beside a copy on a port": Scene(
        desired({"a": {"rollout": "surge", "port": 8001}}),
        (stray("a", address="127.0.0.1:8001"), stray("a", slot="b")),
    ),
    "two copies of a model that does not surge": Scene(
        desired({"a": {}}),
        (stray("a"), server(BEHIND, "a", slot="b", phase=Phase.UNHEALTHY, routed=False)),
    ),
    "gateway off": Scene(BARE, (server(BEHIND, "a"), server(BEHIND, "b")), nginx_ports=NGINX_PORTS),
    "gateway on": Scene(BEHIND, (server(BARE, "a"), server(BARE, "b"))),
    "nginx does not answer": Scene(
        BEHIND, (stray("b"),), nginx_ports=NGINX_PORTS, nginx_is_silent=True
    ),
}


def harm(scene: Scene, plan: Plan) -> ViolationError | None:
    """What goes wrong in one of many orders."""
    for seed in range(ORDERS):
        tape = hashlib.shake_128(bytes([seed])).digest(64)
        try:
            assert scene.world().run(plan, scene.state, Luck(tape))
        except ViolationError as violation:
            return violation
    return None


def edges(plan: Plan) -> Iterator[tuple[int, int]]:
    """The needs that no other need implies."""
    needs = {step.number: set(step.needs) for step in plan.steps}

    def behind(number: int) -> set[int]:
        return needs[number].union(*(behind(need) for need in needs[number]))

    for number, direct in needs.items():
        implied = set[int]().union(*(behind(need) for need in direct))
        yield from ((number, need) for need in sorted(direct - implied))


def without(plan: Plan, number: int, need: int) -> Plan:
    """The plan with one edge less."""
    return replace(
        plan,
        steps=tuple(
            replace(step, needs=tuple(one for one in step.needs if one != need))
            if step.number == number
            else step
            for step in plan.steps
        ),
    )


@pytest.mark.parametrize("scene", SCENES.values(), ids=SCENES)
def test_no_order_does_harm(scene: Scene) -> None:
    plan = scene.plan()
    assert plan.steps
    assert harm(scene, plan) is None


@pytest.mark.parametrize("scene", SCENES.values(), ids=SCENES)
def test_without_any_one_need_some_order_does_harm(scene: Scene) -> None:
    plan = scene.plan()
    found = {
        (number, need): harm(scene, without(plan, number, need)) for number, need in edges(plan)
    }
    assert found
    assert [edge for edge, violation in found.items() if violation is None] == [], steps_of(plan)


def test_a_start_needs_the_stop_of_the_holder_of_its_address() -> None:
    scene = SCENES["ports are swapped"]
    plan = scene.plan()
    assert steps_of(plan) == [
        "1 StopServer instance.a",
        "2 StopServer instance.b",
        "3 StartServer instance.a <1,2",
        "4 StartServer instance.b <1,2",
    ]
    with pytest.raises(ViolationError, match="port 8002 is taken"):
        raise harm(scene, without(plan, 3, 2)) or AssertionError("not caught")
    # In the order of their numbers nothing would be seen.
    in_order = Luck(b"\0")
    assert scene.world().run(without(plan, 3, 2), scene.state, in_order)


def test_what_is_new_starts_after_what_leaves() -> None:
    state = desired({"a": {}, "b": {}, "c": {"rollout": "surge"}})
    leaving, live = (stray("y"), stray("z")), (stray("b"), stray("c"))
    ended = {InstanceName("a"): LastExit(90.0, "killed by SIGKILL", SpecHash("0" * 12))}
    gateway = ObservedGateway()
    made = plan(state, observed(state, *leaving, *live, gateway=gateway))
    assert [one for one in steps_of(made) if "Start" in one] == [
        "6 StartServer instance.a ~3,4",
        "7 StartServer instance.b <1",
        "8 StartServer instance.c ~3,4",
    ]
    again = plan(state, observed(state, *leaving, *live, gateway=gateway, deaths=ended))
    assert "6 StartServer instance.a" in steps_of(again)
    values: Any = plan_values(made)
    [change] = [one for one in values["resource_changes"] if one["address"] == "instance.a"]
    assert change["depends_on"] == ["instance.y", "instance.z"]
