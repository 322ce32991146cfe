"""Streams that a client lost: taken up again and stopped at the very server that holds them."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from e2e.machine import free_port
from engine_programs import EngineProgram, real_engines
from engine_server import Server
from gateway_rig import Rig, eventually, forget_requests, only, rig, write_keys

from reconciler.core.words import InstanceName


@pytest.fixture(scope="module")
def whole_world() -> Iterator[Rig]:
    with rig() as made:
        made.ports = {"twin": free_port()}
        write_keys(made, "all:key-of-all\none:key-of-one:alpha\n")
        twin = {"replicas": 3, "port": made.ports["twin"], "aliases": ("pair",)}
        models = {"alpha": {}, "down": {}, "twin": twin}
        made.apply(made.render(models, keys_file="secrets/keys"))
        for instance in ("alpha", "twin", "twin[1]"):
            made.backend(instance)
        # Its new copy is routed, the old one still makes its streams.
        made.backend("twin[2]", "a")
        made.backend("twin[2]", "b")
        yield made


@pytest.fixture
def world(whole_world: Rig) -> Rig:
    forget_requests(whole_world)
    return whole_world


ALL, ONE = ({"Authorization": f"Bearer key-of-{name}"} for name in ("all", "one"))


def hold(world: Rig, backend: str, name: str, started: int = 1, *, done: bool = False) -> None:
    stream = {"conversation_id": name, "started_at": started, "is_done": done, "total_bytes": 9}
    world.backends[backend].streams.append(stream)


@pytest.mark.parametrize("holder", ["alpha.a", "twin.a", "twin[1].a", "twin[2].a", "twin[2].b"])
def test_a_stream_is_taken_up_at_the_server_that_holds_it(world: Rig, holder: str) -> None:
    hold(world, holder, "a b::org/x")
    path = "/v1/stream?conv_id=a%20b%3A%3Aorg%2Fx&from=7"
    connection, reply = world.stream("GET", path, headers=ALL)
    assert reply.readline() == f"data: first of {holder}\n".encode()
    world.backends[holder].go_on.set()
    assert reply.read() == b"\ndata: [DONE]\n\n"
    connection.close()
    assert [one.path for one in only(world, holder).seen] == [path]


@pytest.mark.parametrize("way", ["path", "api", "port", "query"])
def test_a_stream_is_stopped_there(world: Rig, way: str) -> None:
    path, port = {
        "path": ("/v1/stream?conv_id=c", None),
        "api": ("/api/twin/v1/stream?conv_id=c", None),
        "port": ("/v1/stream?conv_id=c", world.ports["twin"]),
        "query": ("/v1/stream?conv_id=c&model=pair", None),
    }[way]
    hold(world, "twin[1].a", "c")
    world.backends["twin[1].a"].go_on.set()
    assert world.ask("DELETE", path, port=port, headers=ALL).status == 200
    assert [one.method for one in only(world, "twin[1].a").seen] == ["DELETE"]


def test_of_several_the_one_that_runs_is_meant_then_the_latest(world: Rig) -> None:
    for backend in world.backends.values():
        backend.go_on.set()
    hold(world, "twin.a", "c", 3, done=True)
    hold(world, "twin[2].a", "c", 4, done=True)
    hold(world, "alpha.a", "c", 2, done=True)
    assert world.ask("GET", "/v1/stream?conv_id=c", headers=ALL).status == 200
    only(world, "twin[2].a").seen.clear()
    hold(world, "twin[1].a", "c", 1)
    assert world.ask("GET", "/v1/stream?conv_id=c", headers=ALL).status == 200
    only(world, "twin[1].a").seen.clear()
    # The way says which model is meant.
    assert world.ask("GET", "/api/alpha/v1/stream?conv_id=c", headers=ALL).status == 200
    assert len(only(world, "alpha.a").seen) == 1


def test_a_stream_that_nobody_holds(world: Rig) -> None:
    hold(world, "twin.a", "c")
    for path in ("/v1/stream?conv_id=d", "/api/down/v1/stream?conv_id=c"):
        answer = world.ask("GET", path, headers=ALL)
        assert (answer.status, answer.json["error"]["code"]) == (404, "stream_not_found")
        assert world.ask("DELETE", path, headers=ALL).status == 204
    for path in ("/v1/stream", "/v1/stream?conv_id=", "/v1/stream?conv_id=a&conv_id=b"):
        assert world.ask("GET", path, headers=ALL).status == 400
    assert not any(backend.seen for backend in world.backends.values())


def test_a_key_finds_the_streams_of_its_models_alone(world: Rig) -> None:
    hold(world, "twin.a", "c")
    assert world.ask("GET", "/v1/stream?conv_id=c").status == 401
    assert world.ask("GET", "/v1/stream?conv_id=c", headers=ONE).status == 404
    assert world.ask("GET", "/api/twin/v1/stream?conv_id=c", headers=ONE).status == 403
    port = world.ports["twin"]
    assert world.ask("GET", "/v1/stream?conv_id=c", port=port, headers=ONE).status == 403
    assert world.ask("GET", "/v1/stream?conv_id=c", port=port).status == 401
    assert not any(backend.seen for backend in world.backends.values())


def test_what_all_servers_know_of_conversations(world: Rig) -> None:
    hold(world, "alpha.a", "c")
    hold(world, "twin[2].a", "d", 2)
    hold(world, "twin[1].a", "other")
    asked = {"conversation_ids": ["c", "d", "e"]}

    def known(path: str, headers: dict[str, str], port: int | None = None) -> list[str]:
        listed = world.ask("POST", path, asked, headers=headers, port=port).json
        return sorted(one["conversation_id"] for one in listed)

    assert known("/v1/streams/lookup", ALL) == ["c", "d"]
    assert known("/v1/streams/lookup", ONE) == ["c"]
    assert known("/api/twin/v1/streams/lookup", ALL) == ["d"]
    assert known("/v1/streams/lookup", ALL, world.ports["twin"]) == ["d"]
    for body in ("", "[", {}, {"conversation_ids": "c"}, {"conversation_ids": [1]}, "null"):
        assert world.ask("POST", "/v1/streams/lookup", body, headers=ALL).status == 400


def test_an_answer_that_is_being_made_is_controlled_where_it_is(world: Rig) -> None:
    world.backends["twin[2].a"].streams.append({"id": "chatcmpl-1"})
    port = world.ports["twin"]

    def control(path: str, name: str, port: int | None = None, **more: str) -> Any:
        body = {"id": name, "action": "reasoning_end", **more}
        return world.ask("POST", path, body, port=port, headers=ALL).json

    path = "/v1/chat/completions/control"
    for way, where in ((path, None), (f"/api/twin{path}", None), (path, port)):
        found = control(way, "chatcmpl-1", where)
        assert found == {"success": True, "message": "twin[2].a"}
        assert control(way, "chatcmpl-2", where)["success"] is False
    assert control(path, "chatcmpl-1", model="pair")["success"] is True
    assert control(path, "chatcmpl-1", model="alpha")["success"] is False
    assert control(path, "chatcmpl-1", model="down")["message"] == "no server answers"
    assert world.ask("POST", path, {"id": 1}, headers=ALL).status == 400
    assert world.ask("POST", path, {"id": "chatcmpl-1"}).status == 401
    body = {"id": "chatcmpl-1", "model": "twin"}
    assert world.ask("POST", path, body, headers=ONE).status == 403


def test_a_server_that_loads_or_breaks_holds_nothing(world: Rig) -> None:
    hold(world, "twin.a", "c")
    world.backends["twin.a"].health = 503
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(world.site.socket(InstanceName("down"), "a"))
    try:
        assert world.ask("GET", "/v1/stream?conv_id=c", headers=ALL).status == 404
    finally:
        dead.close()
        world.backends["twin.a"].health = 200


@pytest.mark.parametrize("engine", real_engines(), ids=str)
def test_a_real_server_goes_on_until_it_is_told_to_stop(
    engine: EngineProgram, tiny_model: Path
) -> None:
    endless = {"stream": True, "ignore_eos": True, "max_tokens": 50_000}
    asked = {"model": "pair", "messages": [{"role": "user", "content": "hi"}], **endless}
    place = "/v1/stream?conv_id=talk%3A%3A1"
    with rig() as made, contextlib.ExitStack() as running:
        made.apply(made.render({"pair": {"replicas": 2}}))
        for instance in ("pair", "pair[1]"):
            address = made.site.socket(InstanceName(instance), "a")
            server = Server(engine.command, tiny_model, address, *engine.endless)
            running.enter_context(server).ready()
            made.route(instance, "a")
        connection, reply = made.stream(
            "POST", "/v1/chat/completions", asked, headers={"X-Conversation-Id": "talk::1"}
        )
        first = [reply.readline() for _ in range(5)]
        connection.close()
        connection, reply = made.stream("GET", place)
        assert [reply.readline() for _ in range(5)] == first
        listed = made.ask("POST", "/v1/streams/lookup", {"conversation_ids": ["talk::1"]}).json
        assert [(one["conversation_id"], one["is_done"]) for one in listed] == [("talk::1", False)]
        asked = {"id": "chatcmpl-none", "action": "reasoning_end"}
        said = made.ask("POST", "/v1/chat/completions/control", asked).json
        assert said == {"success": False, "message": "no active completion for this id"}
        assert made.ask("DELETE", place).status == 204
        assert b"[DONE]" not in reply.read()
        connection.close()
        eventually(lambda: made.ask("GET", place).status == 404)
