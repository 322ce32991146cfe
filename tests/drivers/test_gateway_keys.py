"""Keys at the gateway: who gets in by which way, to what, and what is written down about it."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from e2e.machine import free_port
from gateway_rig import WORLD, Rig, eventually, forget_requests, only, rig, write_keys

ALICE, BOB, NOBODY = "alice-key-1", "bob-key-22", "nobody-key-3"
FILE = f"alice:{ALICE}\nbob:{BOB}:org/alpha:Q4,idle\nnobody:{NOBODY}:gone\n"
MEGABYTE = 1024 * 1024


@pytest.fixture(scope="module")
def whole_world() -> Iterator[Rig]:
    with rig() as made:
        made.ports = {"alpha": free_port(), "beta": free_port()}
        write_keys(made, FILE)
        ports = {name: {**WORLD[name], "port": port} for name, port in made.ports.items()}
        made.apply(made.render({**WORLD, **ports}, keys_file="secrets/keys"))
        for instance in ("alpha", "beta"):
            made.backend(instance)
        yield made


@pytest.fixture
def world(whole_world: Rig) -> Rig:
    forget_requests(whole_world)
    return whole_world


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


PUBLIC = ["/", "/health", "/?x", "//health", "/%68ealth"]
CLOSED: list[tuple[str, str, Any, str | None]] = [
    ("GET", "/api/models", None, None),
    ("GET", "/metrics", None, None),
    ("GET", "/api/alpha", None, None),
    ("GET", "/api/alpha/v1/models", None, None),
    ("POST", "/api/alpha/v1/completions", {}, None),
    ("GET", "/v1/models", None, None),
    ("GET", "/v1/models/alpha", None, None),
    ("POST", "/v1/chat/completions", {"model": "alpha"}, None),
    ("POST", "/v1/messages", {"model": "alpha"}, None),
    ("POST", "/tokenize", {"model": "alpha"}, None),
    ("GET", "/v1/responses/7?model=alpha", None, None),
    ("GET", "/", None, "alpha"),
    ("GET", "/health", None, "alpha"),
    ("GET", "/metrics", None, "alpha"),
    ("POST", "/v1/chat/completions", {}, "alpha"),
]
NOTHING_THERE = ["/nope", "/index.html", "/api/", "/healthy", "/health/"]


@pytest.mark.parametrize("path", PUBLIC)
def test_health_and_the_page_are_public(world: Rig, path: str) -> None:
    assert world.ask("GET", path).status == 200
    assert world.ask("GET", path, headers=bearer("wrong-key")).status == 200


@pytest.mark.parametrize(("method", "path", "body", "port"), CLOSED)
def test_all_else_needs_a_key(
    world: Rig, method: str, path: str, body: Any, port: str | None
) -> None:
    where = world.ports[port] if port else None
    for headers, said in (
        ({}, "an API key is needed: send `Authorization: Bearer KEY` or `x-api-key: KEY`"),
        (bearer("wrong-key"), "this API key is not valid here"),
    ):
        answer = world.ask(method, path, body, port=where, headers=headers)
        assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert answer.error == said
        assert answer.json["error"]["code"] == "invalid_api_key"
    assert not any(backend.seen for backend in world.backends.values())
    for headers in (bearer(ALICE), {"x-api-key": ALICE}, bearer(BOB)):
        assert world.ask(method, path, body, port=where, headers=headers).status == 200


@pytest.mark.parametrize("path", NOTHING_THERE)
def test_what_is_not_there_needs_a_key_too(world: Rig, path: str) -> None:
    assert world.ask("GET", path).status == 401
    assert world.ask("GET", path, headers=bearer(ALICE)).status in {400, 404}


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "PUT", "DELETE", "POST"])
def test_no_method_does_without(world: Rig, method: str) -> None:
    assert world.ask(method, "/api/alpha/x").status == 401
    assert world.ask(method, "/x", port=world.ports["alpha"]).status == 401


@pytest.mark.parametrize(
    "path",
    [
        "/health/../api/models",
        "/health/..%2fapi/models",
        "/health%2f..%2fapi/models",
        "/health;/../api/models",
        "//api/models",
        "/api/models?/health",
        "/api/models#/health",
    ],
)
def test_no_path_looks_public_and_is_not(world: Rig, path: str) -> None:
    assert world.ask("GET", path).status == 401


def test_the_host_is_checked_first(world: Rig) -> None:
    answer = world.ask("GET", "/api/models", headers={"Host": "evil.example"})
    assert answer.status == 421
    assert world.ask("GET", "/x", headers={"Host": "evil.example", **bearer(ALICE)}).status == 421


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": f"bearer {ALICE}"},
        {"authorization": f"BEARER {ALICE}"},
        {"Authorization": f"Bearer    {ALICE}  "},
        {"X-API-Key": ALICE},
        {"x-api-key": ALICE, "Authorization": "Basic YTpi"},
        {"x-api-key": "wrong-key", "Authorization": f"Bearer {ALICE}"},
    ],
)
def test_ways_to_present_a_key(world: Rig, headers: dict[str, str]) -> None:
    assert world.ask("GET", "/v1/models", headers=headers).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer "},
        {"Authorization": ""},
        {"Authorization": ALICE},
        {"Authorization": f"Bearer{ALICE}"},
        {"Authorization": f"Basic {ALICE}"},
        {"Authorization": f"Bearer {ALICE} {ALICE}"},
        {"Authorization": f"Bearer {ALICE},"},
        {"Authorization": f"Bearer {ALICE[:-1]}"},
        {"Authorization": f"Bearer {ALICE.upper()}"},
        {"Authorization": f"Bearer alice:{ALICE}"},
        {"Authorization": f"Bearer {hashlib.sha256(ALICE.encode()).hexdigest()}"},
        {"Authorization": f"Bearer {'x' * 8000}"},
        {"Authorization": "Bearer __proto__"},
        {"Authorization": "Bearer default", "x-api-key": ""},
        {"Authorization": "Bearer wrong-key", "x-api-key": ALICE},
        {"x-api-key": ""},
        {"x-api-key": f"{ALICE}, {ALICE}"},
        {"x-api-key": f"Bearer {ALICE}"},
        {"api-key": ALICE},
        {"Cookie": f"key={ALICE}; api_key={ALICE}"},
        {"Proxy-Authorization": f"Bearer {ALICE}"},
    ],
)
def test_no_ways_to_present_a_key(world: Rig, headers: dict[str, str]) -> None:
    assert world.ask("GET", "/v1/models", headers=headers).status == 401
    assert world.ask("GET", "/x", port=world.ports["alpha"], headers=headers).status == 401


@pytest.mark.parametrize("name", ["key", "api_key", "access_token", "Authorization", "x-api-key"])
def test_a_key_in_the_address_is_no_key(world: Rig, name: str) -> None:
    assert world.ask("GET", f"/v1/models?{name}={ALICE}").status == 401
    body = f"{name}={ALICE}"
    assert world.ask("POST", "/v1/completions", body).status == 401


@pytest.mark.parametrize(
    "lines",
    [
        f"Authorization: Bearer wrong-key\r\nAuthorization: Bearer {ALICE}\r\n",
        f"Authorization: Bearer {ALICE}\r\nAuthorization: Bearer {ALICE}\r\n",
        f"x-api-key: wrong-key\r\nx-api-key: {ALICE}\r\n",
        f"x-api-key: {ALICE}\r\nx-api-key: wrong-key\r\n",
        f"Authorization: Bearer\r\n {ALICE}\r\n",
        f"Authorization: Bearer {ALICE}\x00\r\n",
        f"Authorization : Bearer {ALICE}\r\n",
        f"Authorization: Bearer {'x' * 40000}\r\n",
    ],
)
def test_a_header_that_is_not_clearly_one_key_opens_nothing(world: Rig, lines: str) -> None:
    head = f"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n{lines}Connection: close\r\n\r\n"
    assert world.raw(head) in {400, 401, 431}


def test_a_key_is_for_its_models_alone(world: Rig) -> None:
    beta, mine = world.ports["beta"], bearer(BOB)
    refused = [
        world.ask("POST", "/v1/chat/completions", {"model": "beta"}, headers=mine),
        world.ask("GET", "/v1/responses/7?model=beta", headers=mine),
        world.ask("GET", "/v1/models/beta", headers=mine),
        world.ask("POST", "/api/beta/v1/completions", {}, headers=mine),
        world.ask("GET", "/api/beta", headers=mine),
        world.ask("GET", "/health", port=beta, headers=mine),
        world.ask("POST", "/v1/completions", {"model": "alpha"}, port=beta, headers=mine),
    ]
    for answer in refused:
        assert answer.status == 403
        assert answer.error == "the API key of bob is not meant for the model beta"
        assert answer.json["error"]["code"] == "model_not_allowed"
    # The scope comes before the route: whether it runs is no business of this key.
    assert world.ask("GET", "/api/zero/x", headers=mine).status == 403
    assert world.ask("POST", "/v1/x", {"model": "zero"}, headers=mine).status == 403
    assert not any(backend.seen for backend in world.backends.values())
    for name in ("alpha", "org/alpha:Q4", "__proto__"):
        assert world.ask("POST", "/v1/x", {"model": name}, headers=mine).status == 200
    assert world.ask("GET", "/api/idle/x", headers=mine).status == 503
    assert world.ask("GET", "/api/beta/x", headers=bearer(NOBODY)).status == 403


def test_a_key_sees_its_models_alone(world: Rig) -> None:
    def seen(key: str) -> tuple[list[str], list[str]]:
        listed = world.ask("GET", "/v1/models", headers=bearer(key)).json["data"]
        states = world.ask("GET", "/api/models", headers=bearer(key)).json["models"]
        return [one["id"] for one in listed], [one["name"] for one in states]

    assert seen(BOB) == (["alpha"], ["alpha", "idle"])
    assert seen(NOBODY) == ([], [])
    assert seen(ALICE) == (["alpha", "beta", "down", "twin"], sorted(WORLD))
    unknown = world.ask("POST", "/v1/x", {"model": "nope"}, headers=bearer(BOB))
    assert unknown.status == 404
    assert "alpha" in unknown.error
    assert "beta" not in unknown.error
    # The only one that it may use is the one that is meant.
    assert world.ask("POST", "/v1/x", {}, headers=bearer(BOB)).json["backend"] == "alpha.a"
    assert world.ask("POST", "/v1/x", {}, headers=bearer(ALICE)).status == 400


@pytest.mark.parametrize("headers", [bearer(ALICE), {"x-api-key": ALICE}])
def test_no_server_ever_sees_a_key(world: Rig, headers: dict[str, str]) -> None:
    world.ask("POST", "/v1/x", {"model": "alpha"}, headers=headers)
    world.ask("GET", "/api/alpha/x", headers=headers)
    world.ask("GET", "/x", port=world.ports["alpha"], headers=headers)
    backend = only(world, "alpha.a")
    assert len(backend.seen) == 3
    for seen in backend.seen:
        assert not {"authorization", "x-api-key"} & seen.headers.keys()
    before = len(backend.probes)
    eventually(
        lambda: bool(
            world.ask("GET", "/api/models", headers=headers).body and before < len(backend.probes)
        )
    )
    assert not any("alice-key" in probe for probe in backend.probes)


@pytest.mark.parametrize("way", ["body", "api", "port"])
def test_a_stream_arrives_as_it_is_made(world: Rig, way: str) -> None:
    path, port = {
        "body": ("/v1/x/stream", None),
        "api": ("/api/alpha/v1/x/stream", None),
        "port": ("/v1/x/stream", world.ports["alpha"]),
    }[way]
    connection, reply = world.stream(
        "POST", path, {"model": "alpha"}, port=port, headers=bearer(BOB)
    )
    assert reply.readline() == b"data: first of alpha.a\n"
    world.backends["alpha.a"].go_on.set()
    assert reply.read() == b"\ndata: [DONE]\n\n"
    connection.close()


@pytest.mark.parametrize("path", ["/v1/x", "/api/alpha/x"])
def test_a_large_body_goes_through_whole(world: Rig, path: str) -> None:
    body = '{"model":"alpha","prompt":"' + "x" * 3 * MEGABYTE + '"}'
    answer = world.ask("POST", path, body, headers=bearer(BOB), chunked=True)
    assert (answer.status, answer.json["bytes"]) == (200, len(body))
    assert world.ask("POST", path, body, headers=bearer("wrong-key")).status == 401


def test_a_refused_upload_is_not_waited_for(world: Rig) -> None:
    head = "POST /api/alpha/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\n"
    with socket.create_connection(("127.0.0.1", world.listen), 10) as connection:
        connection.sendall(head.encode())
        assert connection.recv(4096).startswith(b"HTTP/1.1 401 ")
    head = head.replace("Host:", f"x-api-key: {BOB}\r\nHost:").replace("alpha", "beta")
    with socket.create_connection(("127.0.0.1", world.listen), 10) as connection:
        connection.sendall(head.encode())
        assert connection.recv(4096).startswith(b"HTTP/1.1 403 ")


def test_the_access_log_names_the_key_and_never_says_it(world: Rig) -> None:
    folder = Path(world.site.gateway)
    access = folder / "logs" / "access.log"
    world.ask("GET", "/api/alpha/noted", headers=bearer(ALICE))
    world.ask("POST", "/v1/noted", {"model": "alpha"}, headers={"x-api-key": BOB})
    world.ask("GET", "/api/beta/noted", headers=bearer(BOB))
    world.ask("POST", "/v1/noted", {"model": "beta"}, headers=bearer(BOB))
    world.ask("GET", "/noted", headers=bearer("wrong-key"))
    world.ask("GET", f"/noted?key={ALICE}")
    eventually(lambda: access.read_text().count("/noted") == 6)
    lines = [line.split() for line in access.read_text().splitlines() if "/noted" in line]
    assert sorted([*line[3:4], line[5], *line[7:9]] for line in lines) == [
        ["/api/alpha/noted", "200", "key=alice", "model=alpha"],
        ["/api/beta/noted", "403", "key=bob", "model=beta"],
        ["/noted", "401", "key=-", "model=-"],
        ["/noted", "401", "key=-", "model=-"],
        ["/v1/noted", "200", "key=bob", "model=alpha"],
        ["/v1/noted", "403", "key=bob", "model=beta"],
    ]
    for path in folder.rglob("*"):
        if path.is_file():
            text = path.read_text(errors="replace")
            assert not any(key in text for key in (ALICE, BOB, NOBODY, "wrong-key")), path
            assert path.stat().st_mode & 0o077 == 0, path


def test_a_changed_file_is_a_reload_and_an_old_key_is_none(world: Rig) -> None:
    with rig() as made:
        write_keys(made, "alice:first-key-1\nbob:bob-key-22\n")
        models: dict[str, Any] = {"a": {}}
        first = made.apply(made.render(models, keys_file="secrets/keys"))
        made.backend("a")
        for key in ("first-key-1", "bob-key-22"):
            assert made.ask("GET", "/api/a/x", headers=bearer(key)).status == 200
        connection, stream = made.stream("GET", "/api/a/stream", headers=bearer("first-key-1"))
        assert stream.readline() == b"data: first of a.a\n"
        write_keys(made, "alice:second-key-2\nbob:bob-key-22\n")
        second = made.apply(made.render(models, keys_file="secrets/keys"))
        assert second.master == first.master
        for _ in range(10):
            assert made.ask("GET", "/api/a/x", headers=bearer("first-key-1")).status == 401
            assert made.ask("GET", "/api/a/x", headers=bearer("second-key-2")).status == 200
            assert made.ask("GET", "/api/a/x", headers=bearer("bob-key-22")).status == 200
        made.backends["a.a"].go_on.set()
        assert stream.read() == b"\ndata: [DONE]\n\n"
        connection.close()


def test_many_keys_are_looked_up(world: Rig) -> None:
    with rig() as made:
        models: dict[str, Any] = {f"m{number}": {} for number in range(50)}
        lines = (f"user{number}:key-of-user-{number}:m{number % 50}" for number in range(2000))
        write_keys(made, "\n".join(lines))
        made.apply(made.render(models, keys_file="secrets/keys"))
        made.backend("m49")
        assert made.ask("GET", "/api/m49/x", headers=bearer("key-of-user-1999")).status == 200
        assert made.ask("GET", "/api/m49/x", headers=bearer("key-of-user-1998")).status == 403
        assert made.ask("GET", "/api/m49/x", headers=bearer("key-of-user-2000")).status == 401
        assert "map_hash" not in (Path(made.site.gateway) / "logs" / "start.log").read_text()
