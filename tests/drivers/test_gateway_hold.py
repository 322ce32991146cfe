"""`gateway.hold`: a request waits for a server that is being replaced, whole and not for ever."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from e2e.machine import free_port
from gateway_rig import Answer, Rig, eventually, forget_requests, rig

from reconciler.core.words import InstanceName
from reconciler.drivers.clock import SystemClock

MEGABYTE = 1024 * 1024


@pytest.fixture(scope="module")
def whole_world() -> Iterator[Rig]:
    with rig() as made:
        made.ports = {"m.1": free_port()}
        models = {"m.1": {"port": made.ports["m.1"], "aliases": ("m",)}, "twin": {"replicas": 2}}
        # Longer than the tests' client waits.
        made.apply(made.render(models, hold="10m"))
        for instance in ("m.1", "twin", "twin[1]"):
            made.backend(instance)
        yield made


@pytest.fixture
def world(whole_world: Rig) -> Rig:
    forget_requests(whole_world)
    return whole_world


class Held:
    """A question that is asked beside the test, and known to have found nobody."""

    def __init__(self, world: Rig, path: str, body: Any, port: int | None = None) -> None:
        log = Path(world.site.gateway) / "logs" / "error.log"
        before = log.read_text().count("failed")
        self.answers: list[Answer] = []
        self._thread = threading.Thread(target=self._ask, args=(world, path, body, port))
        self._thread.start()
        eventually(lambda: log.read_text().count("failed") > before or bool(self.answers))

    def _ask(self, world: Rig, path: str, body: Any, port: int | None) -> None:
        self.answers.append(world.ask("POST", path, body, port=port))

    def answer(self) -> Answer:
        self._thread.join()
        return self.answers[0]


@pytest.mark.parametrize("size", [10, 3 * MEGABYTE])
@pytest.mark.parametrize(
    ("path", "seen", "has_port"),
    [
        ("/v1/x%20y?a=b", "/v1/x%20y?a=b", False),
        ("/api/m.1/v1/x?a=b", "/v1/x?a=b", False),
        ("/api/m.1", "/", False),
        ("/api/m.1/x%3Fy", "/x%3Fy", True),
    ],
)
def test_a_request_waits_and_arrives_whole(
    world: Rig, path: str, seen: str, has_port: bool, size: int
) -> None:
    port = world.ports["m.1"] if has_port else None
    body = {"model": "m", "pad": "x" * size}
    world.unroute("m.1")
    held = Held(world, path, body, port)
    assert not held.answers
    world.route("m.1", "a")
    assert held.answer().status == 200
    (one,) = world.backends["m.1.a"].seen
    assert one.path == (path if has_port else seen)
    assert len(one.body) > size


def test_a_socket_that_nobody_listens_on_is_waited_out(world: Rig) -> None:
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(world.site.socket(InstanceName("m.1"), "b"))
    world.route("m.1", "b")
    held = Held(world, "/v1/x", {"model": "m.1"})
    assert not held.answers
    dead.close()
    Path(world.site.socket(InstanceName("m.1"), "b")).unlink()
    world.route("m.1", "a")
    assert held.answer().status == 200


def test_a_conversation_waits_for_any_of_the_replicas(world: Rig) -> None:
    for name in ("twin", "twin[1]"):
        world.unroute(name)
    held = Held(world, "/v1/completions", {"model": "twin", "prompt": "once"})
    world.route("twin[1]", "a")
    assert held.answer().json["backend"] == "twin[1].a"
    world.route("twin", "a")


def test_what_will_not_come_back_is_refused_at_once(world: Rig) -> None:
    world.unroute("m.1")
    world.gateway.publish({"m.1": {"phase": "suspended", "reason": "suspended by `stop`"}})
    try:
        answer = world.ask("POST", "/v1/x", {"model": "m"})
        assert (answer.status, answer.error) == (503, "model 'm.1' is suspended by `stop`")
        assert "retry-after" not in answer.headers
    finally:
        world.gateway.publish({})
        world.route("m.1", "a")


def test_who_asks_for_a_model_that_rests_for_a_while_is_told_how_long(world: Rig) -> None:
    world.unroute("m.1")
    until = SystemClock().now() + 3600
    world.gateway.publish({"m.1": {"phase": "suspended", "reason": "at rest", "until": until}})
    try:
        answer = world.ask("POST", "/v1/x", {"model": "m"})
        assert (answer.status, answer.error) == (503, "model 'm.1' is at rest")
        assert 3000 < int(answer.headers["retry-after"]) <= 3600
    finally:
        world.gateway.publish({})
        world.route("m.1", "a")


def test_a_rest_that_is_over_is_a_start_that_is_waited_for(world: Rig) -> None:
    world.unroute("m.1")
    world.gateway.publish({"m.1": {"phase": "suspended", "reason": "at rest", "until": 1.5}})
    held = Held(world, "/v1/x", {"model": "m"})
    world.gateway.publish({})
    world.route("m.1", "a")
    assert held.answer().status == 200


@pytest.mark.parametrize("path", ["/props?model=m", "/api/m.1/slots"])
def test_who_only_looks_does_not_wait(world: Rig, path: str) -> None:
    world.unroute("m.1")
    try:
        assert world.ask("GET", path).status == 503
    finally:
        world.route("m.1", "a")


def test_a_stop_while_requests_wait_ends_them(world: Rig) -> None:
    world.unroute("m.1")
    held = Held(world, "/v1/x", {"model": "m"})
    world.gateway.publish({"m.1": {"phase": "suspended", "reason": "suspended by `stop`"}})
    try:
        assert held.answer().error == "model 'm.1' is suspended by `stop`"
    finally:
        world.gateway.publish({})
        world.route("m.1", "a")


@pytest.mark.parametrize("path", ["/v1/break", "/api/m.1/break"])
def test_a_server_that_breaks_off_has_had_the_request(world: Rig, path: str) -> None:
    answer = world.ask("POST", path, {"model": "m"})
    assert (answer.status, answer.json["error"]["code"]) == (502, "bad_gateway")
    assert len(world.backends["m.1.a"].seen) == 1


def test_the_wait_has_an_end() -> None:
    with rig() as made:
        made.apply(made.render({"m": {}, "twin": {"replicas": 2}}, hold=0.3))
        for path, body in (
            ("/v1/x", {"model": "m"}),
            ("/api/m/x", {}),
            ("/v1/completions", {"model": "twin", "prompt": "x"}),
        ):
            answer = made.ask("POST", path, body)
            assert (answer.status, answer.headers["retry-after"]) == (503, "2")
