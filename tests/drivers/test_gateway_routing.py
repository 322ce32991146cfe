"""Every route of the gateway, through a real nginx, as clients and backends see it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gateway_rig import Rig, eventually, forget_requests, only, world_of_models

from reconciler.core.words import InstanceName

MEGABYTE = 1024 * 1024


@pytest.fixture(scope="module")
def whole_world() -> Iterator[Rig]:
    with world_of_models() as made:
        yield made


@pytest.fixture
def world(whole_world: Rig) -> Rig:
    forget_requests(whole_world)
    return whole_world


@pytest.mark.parametrize(
    ("path", "body", "why"),
    [
        ("/v1/completions", '{"model":"asleep"}', "state: present"),
        ("/v1/completions", '{"model":"zero"}', "replicas: 0"),
        ("/api/idle/v1/completions", "{}", "state: present"),
        ("/api/zero", "{}", "replicas: 0"),
    ],
)
def test_a_model_that_is_not_wanted_running_is_503_and_says_so(
    world: Rig, path: str, body: str, why: str
) -> None:
    answer = world.ask("POST", path, body)
    assert answer.status == 503
    assert why in answer.error


@pytest.mark.parametrize(
    "path",
    [
        "/v1/embeddings",
        "/v1/messages",
        "/v1/messages/count_tokens",
        "/v1/responses",
        "/tokenize",
        "/detokenize",
        "/infill",
        "/embedding",
        "/embeddings",
        "/rerank",
        "/completion",
        "/completions",
        "/apply-template",
        "/audio/transcriptions",
        "/chat/completions",
        "/chat/completions/input_tokens",
        "/responses/input_tokens",
        "/responses",
        "/messages",
    ],
)
def test_all_of_llama_servers_paths_are_routed(world: Rig, path: str) -> None:
    assert world.ask("POST", path, {"model": "beta"}).json["backend"] == "beta.a"
    assert only(world, "beta.a").seen[0].path == path


@pytest.mark.parametrize("path", ["/props", "/slots", "/lora-adapters", "/v1/health"])
def test_what_names_its_model_in_the_query_is_routed_too(world: Rig, path: str) -> None:
    assert world.ask("GET", f"{path}?model=beta").json["backend"] == "beta.a"
    assert world.ask("POST", f"{path}?x&model=beta", [{"id": 0}]).json["backend"] == "beta.a"
    assert [one.path for one in only(world, "beta.a").seen] == [
        f"{path}?model=beta",
        f"{path}?x&model=beta",
    ]
    assert world.ask("POST", "/slots/0?action=save&model=beta").json["backend"] == "beta.a"


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("way", ["api", "port"])
def test_ways_that_read_no_body_pass_any(world: Rig, way: str, chunked: bool) -> None:
    body = bytes(range(256)) * 4096 * 10
    if way == "api":
        answer = world.ask("POST", "/api/alpha/v1/x", body, chunked=chunked)
    else:
        answer = world.ask("POST", "/v1/x", body, port=world.ports["alpha"], chunked=chunked)
    assert answer.status == 200
    seen = only(world, "alpha.a").seen[0]
    assert (seen.path, seen.body) == ("/v1/x", body)


@pytest.mark.parametrize(
    ("asked", "seen"),
    [
        ("/api/alpha", "/"),
        ("/api/alpha/", "/"),
        ("/api/alpha?x=1", "/?x=1"),
        ("/api/alpha/v1/chat/completions?x=1&y=%2F", "/v1/chat/completions?x=1&y=%2F"),
        ("/api/alpha/a%20b%3Fc%23d%25e", "/a%20b%3Fc%23d%25e"),
        ("/api/alpha/a%0d%0aX-Evil:%201", "/a%0D%0AX-Evil:%201"),
        ("/api//alpha//props", "/props"),
        ("/v1//x%20y?model=alpha", "/v1/x%20y?model=alpha"),
    ],
)
def test_what_a_backend_sees_of_the_path(world: Rig, asked: str, seen: str) -> None:
    assert world.ask("GET", asked).json["backend"] == "alpha.a"
    assert only(world, "alpha.a").seen[0].path == seen


@pytest.mark.parametrize(
    "path", ["/api/nope/x", "/api/Alpha/x", "/api/alphax", "/api/", "/api/logs"]
)
def test_an_unknown_name_under_api_is_404(world: Rig, path: str) -> None:
    answer = world.ask("GET", path)
    assert answer.status == 404
    assert "alpha" in answer.error


@pytest.mark.parametrize("path", ["/nope", "/api", "/v1", "/-/health/alpha.sock", "/index.html"])
def test_other_paths_are_404(world: Rig, path: str) -> None:
    answer = world.ask("GET", path)
    assert (answer.status, answer.json["error"]["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    "path",
    [
        "/api/alpha/../beta/x",
        "/api/alpha/./x",
        "/api/alpha/..",
        "/api/alpha/%2e%2e/beta/x",
        "/api/alpha/%2E./beta/x",
        "/api/alpha/..%2fbeta/x",
        "/api/alpha%2f..%2fbeta/x",
        "/api/alpha/..%5cbeta/x",
        "/api/alpha/..\\beta/x",
        "/api%2falpha/x",
        "/v1/../api/beta/x",
        "/v1/models/..%2f..%2fapi%2fbeta%2fx",
        "/v1/models/%2e%2e/x",
        "/api/alpha/x%00y",
    ],
)
def test_tricks_with_the_path_reach_nobody(world: Rig, path: str) -> None:
    assert world.raw(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n") == 400
    assert not any(each.seen for each in world.backends.values())


def test_a_dot_in_the_query_is_no_trick(world: Rig) -> None:
    assert world.ask("GET", "/api/alpha/x?file=/../%2e%2e%2f").status == 200


HOSTS = [
    ("localhost", True),
    ("localhost:1", True),
    ("LOCALHOST", True),
    ("127.0.0.1:8888", True),
    ("[::1]", True),
    ("[::1]:8888", True),
    ("llm.lan", True),
    ("llm.lan:443", True),
    ("evil.example", False),
    ("127.0.0.1.evil.example", False),
    ("localhost.evil.example", False),
    ("192.168.1.1", False),
]


@pytest.mark.parametrize(("host", "good"), HOSTS)
@pytest.mark.parametrize("where", ["gateway", "port"])
def test_only_our_own_host_names_are_served(world: Rig, host: str, good: bool, where: str) -> None:
    port = world.ports["alpha"] if where == "port" else None
    request = f"GET /health HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    assert world.raw(request, port=port) == (200 if good else 421)


def test_a_foreign_host_cannot_hide_in_other_forms(world: Rig) -> None:
    assert world.raw("GET /api/alpha/x HTTP/1.0\r\n\r\n") == 421
    absolute = "GET http://evil.example/api/alpha/x HTTP/1.1\r\nHost: localhost\r\n\r\n"
    assert world.raw(absolute) == 421
    answer = world.ask("GET", "/", headers={"Host": "evil.example"})
    assert (answer.status, answer.json["error"]["code"]) == (421, "misdirected_request")


@pytest.mark.parametrize("path", ["/", "/health", "/api/models", "/v1/models", "/nope"])
def test_no_cors_header_is_ever_added(world: Rig, path: str) -> None:
    answer = world.ask("GET", path, headers={"Origin": "http://evil.example"})
    assert not [name for name in answer.headers if name.startswith("access-control")]
    assert answer.headers["server"] == "nginx"


def test_the_models_own_port_passes_everything(world: Rig) -> None:
    answer = world.ask("POST", "/any/../where?x=1", "raw", port=world.ports["alpha"])
    assert answer.json["backend"] == "alpha.a"
    seen = only(world, "alpha.a").seen[0]
    assert (seen.path, seen.body) == ("/any/../where?x=1", b"raw")


@pytest.mark.parametrize("way", ["body", "api", "port"])
def test_a_stream_arrives_as_it_is_made(world: Rig, way: str) -> None:
    path, port = {
        "body": ("/v1/x/stream", None),
        "api": ("/api/alpha/v1/x/stream", None),
        "port": ("/v1/x/stream", world.ports["alpha"]),
    }[way]
    connection, reply = world.stream("POST", path, {"model": "alpha"}, port=port)
    # The backend waits: what arrives now was buffered by nobody.
    assert reply.readline() == b"data: first of alpha.a\n"
    world.backends["alpha.a"].go_on.set()
    assert reply.read() == b"\ndata: [DONE]\n\n"
    connection.close()


def test_a_swapped_symlink_replaces_the_backend_without_a_reload(world: Rig) -> None:
    before = world.gateway.observe()
    connection, reply = world.stream("GET", "/api/beta/stream")
    assert reply.readline() == b"data: first of beta.a\n"
    world.backend("beta", "b")
    try:
        for _ in range(20):
            assert world.ask("POST", "/v1/x", {"model": "beta"}).json["backend"] == "beta.b"
            assert world.ask("GET", "/api/beta/x").json["backend"] == "beta.b"
        world.backends["beta.a"].go_on.set()
        assert reply.read() == b"\ndata: [DONE]\n\n"
        connection.close()
    finally:
        world.route("beta", "a")
        world.backends.pop("beta.b").close()
    assert world.gateway.observe().master == before.master


def test_a_server_that_is_not_there_is_503_to_be_tried_again(world: Rig) -> None:
    for path in ("/v1/x", "/api/down/x"):
        answer = world.ask("POST", path, {"model": "down", "pad": "x" * MEGABYTE})
        assert answer.status == 503
        assert answer.headers["retry-after"] == "2"
        assert "'down'" in answer.error


def test_a_server_that_has_exited_is_502_until_another_one_starts(world: Rig) -> None:
    name = InstanceName("down")
    with socket.socket(socket.AF_UNIX) as dead, socket.socket(socket.AF_UNIX) as coming:
        dead.bind(world.site.socket(name, "a"))
        world.route("down", "a")
        for path in ("/v1/x", "/api/down/x"):
            answer = world.ask("POST", path, {"model": "down", "pad": "x" * MEGABYTE})
            assert (answer.status, answer.json["error"]["code"]) == (502, "bad_gateway")
            assert "the server of model 'down' has exited" in answer.error
            assert "retry-after" not in answer.headers
        coming.bind(world.site.socket(name, "b"))
        assert world.ask("POST", "/v1/x", {"model": "down"}).status == 503
    for slot in "ab":
        Path(world.site.socket(name, slot)).unlink()
    # Its own socket went with it.
    assert world.ask("POST", "/v1/x", {"model": "down"}).status == 502
    world.unroute("down")


def test_a_loading_server_is_503_to_be_tried_again(world: Rig) -> None:
    backend = world.backends["beta.a"]
    backend.health = 503
    try:
        for port, path in ((None, "/v1/x"), (None, "/api/beta/x")):
            answer = world.ask("POST", path, {"model": "beta"}, port=port)
            assert (answer.status, answer.headers["retry-after"]) == (503, "2")
            assert answer.json["error"]["message"] == "Loading model"
    finally:
        backend.health = 200


def test_a_server_that_breaks_off_is_502(world: Rig) -> None:
    for path in ("/v1/break", "/api/beta/break"):
        answer = world.ask("POST", path, {"model": "beta"})
        assert (answer.status, answer.json["error"]["code"]) == (502, "bad_gateway")
        assert "retry-after" not in answer.headers


def test_replicas_share_the_load_and_stand_in_for_each_other(world: Rig) -> None:
    streams = [world.stream("GET", "/api/twin/stream") for _ in range(4)]
    first = sorted(reply.readline() for _, reply in streams)
    assert first == [b"data: first of twin.a\n"] * 2 + [b"data: first of twin[1].a\n"] * 2
    for name in ("twin.a", "twin[1].a"):
        world.backends[name].go_on.set()
    for connection, reply in streams:
        reply.read()
        connection.close()
    world.unroute("twin")
    try:
        for _ in range(4):
            answer = world.ask("POST", "/v1/x", {"model": "twin"})
            assert answer.json["backend"] == "twin[1].a"
    finally:
        world.route("twin", "a")


def test_the_list_of_models_needs_no_backend(world: Rig) -> None:
    data = world.ask("GET", "/v1/models").json
    assert data["object"] == "list"
    assert [each["id"] for each in data["data"]] == ["alpha", "beta", "down", "twin"]
    assert data["data"][0] == {
        "id": "alpha",
        "object": "model",
        "created": 0,
        "owned_by": "llm-reconcile",
        "aliases": ["__proto__", "org/alpha:Q4", "\u00fcber"],
    }
    assert world.ask("GET", "/v1/models/org%2Falpha:Q4").json["id"] == "alpha"
    assert world.ask("GET", "/v1/models/org/alpha:Q4").json["id"] == "alpha"
    assert world.ask("GET", "/v1/models/nope").status == 404
    assert world.ask("GET", "/v1/models/idle").status == 503


def phases(world: Rig) -> dict[str, str]:
    listed = world.ask("GET", "/api/models").json["models"]
    return {each["name"]: each["phase"] for each in listed}


def test_the_phases_are_asked_live(world: Rig) -> None:
    calm = {
        "alpha": "ready",
        "beta": "ready",
        "twin": "ready",
        "down": "exited",
        "idle": "absent",
        "zero": "absent",
    }
    eventually(lambda: phases(world) == calm)
    world.backends["beta.a"].health = 503
    world.backends["twin.a"].health = 503
    eventually(lambda: phases(world) == {**calm, "beta": "starting"})
    world.backends["beta.a"].health = 200
    # A copy that loads is not routed yet, but is there.
    world.unroute("beta")
    eventually(lambda: phases(world)["beta"] == "starting")
    world.backends["twin.a"].health = world.backends["beta.a"].health = 500
    world.route("beta", "a")
    eventually(lambda: phases(world) == {**calm, "beta": "unhealthy"})
    world.backends["twin.a"].health = world.backends["beta.a"].health = 200
    eventually(lambda: phases(world) == calm)


def test_the_models_as_json(world: Rig) -> None:
    world.gateway.publish({})
    generation = world.gateway.observe().generation

    def listed() -> dict[str, Any]:
        value = world.ask("GET", "/api/models").json
        assert value["generation"] == generation
        return {each["name"]: each for each in value["models"]}

    eventually(lambda: listed()["beta"]["since"] is None)
    beta = listed()["beta"]
    assert beta == {
        "name": "beta",
        "aliases": [],
        "phase": "ready",
        "quant": "Q8_0",
        "port": None,
        "size_bytes": None,
        "since": None,
        "restarts": None,
        "reason": None,
        "replicas": 1,
        "ready": 1,
        "url": f"http://127.0.0.1:{world.listen}/api/beta/v1",
    }
    note = {"since": 12.5, "restarts": 3, "size_bytes": 7, "reason": "<b>"}
    world.gateway.publish({"beta": note, "twin": {"restarts": 1}, "twin[1]": {"restarts": 2}})
    eventually(lambda: listed()["beta"] == {**beta, **note})
    assert listed()["twin"]["restarts"] == 3
    world.gateway.publish({"beta": {**note, "size_bytes": None, "since": 13}})
    eventually(lambda: listed()["beta"] == {**beta, **note, "since": 13})
    rest = {"phase": "suspended", "reason": "suspended by `stop`"}
    world.gateway.publish({"beta": rest, "down": rest})
    eventually(lambda: listed()["down"]["phase"] == "suspended")
    assert listed()["down"]["reason"] == rest["reason"]
    asked = world.ask("POST", "/v1/completions", {"model": "down", "prompt": ""})
    assert (asked.status, "retry-after" in asked.headers) == (503, False)
    assert asked.json["error"]["message"] == "model 'down' is suspended by `stop`"
    world.gateway.publish({"beta": rest, "down": {**rest, "until": 1.5}})
    eventually(lambda: listed()["down"]["phase"] == "exited")
    assert listed()["down"]["reason"] is None
    assert listed()["beta"]["phase"] == "ready", "it answers, whatever the note says"
    assert listed()["alpha"]["port"] == world.ports["alpha"]


def test_the_page_and_health(world: Rig) -> None:
    page = world.ask("GET", "/")
    assert (page.status, page.headers["content-type"]) == (200, "text/html")
    assert b"/api/models" in page.body
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert world.ask("GET", "/health").json == {"status": "ok"}
