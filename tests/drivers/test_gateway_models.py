"""Which model a request means: its body's `model`, ?model=, or the only one there is."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from gateway_rig import Rig, forget_requests, only, rig, world_of_models

from reconciler.core.words import InstanceName
from reconciler.drivers.clock import SystemClock

MEGABYTE = 1024 * 1024


@pytest.fixture(scope="module")
def whole_world() -> Iterator[Rig]:
    with world_of_models() as made:
        yield made


@pytest.fixture
def world(whole_world: Rig) -> Rig:
    forget_requests(whole_world)
    return whole_world


DEEP_OPEN = '{"a":[' * 100
DEEP_CLOSE = "]}" * 100

TO_ALPHA = [
    '{"model":"alpha"}',
    '{"model":"org/alpha:Q4"}',
    '{"model":"__proto__"}',
    '{"model":"\u00fcber"}',
    '{"model":"\\u00fcber"}',
    '{"model":"al\\u0070ha"}',
    ' \n{ \t"model" \r\n:\n "alpha" }',
    '{"messages":[{"role":"user","content":"x"}],"model":"alpha","stream":false}',
    '{"mod\\u0065l":"alpha"}',
    '{"x":{"model":"beta"},"model":"alpha"}',
    '{"model":"alpha","x":{"model":"beta"}}',
    '{"model":"alpha","x":[{"model":"beta"},{"model":"twin"}]}',
    '{"x":"\\"model\\":\\"beta\\"","model":"alpha"}',
    '{"x":"\\\\","model":"alpha"}',
    '{"x":"\\\\\\"model","model":"alpha"}',
    '{"x":"model","y":["model"],"model":"alpha"}',
    '{"x":"}","y":"{","model":"alpha"}',
    '{"model":"beta","model":"alpha"}',
    f'{{"x":{DEEP_OPEN}1{DEEP_CLOSE},"model":"alpha"}}',
    f'{{"model":"alpha","x":{DEEP_OPEN}1{DEEP_CLOSE}}}',
    f'{{"x":{DEEP_OPEN}{{"model":"beta"}}{DEEP_CLOSE},"model":"alpha"}}',
    f'{{"model":"alpha","x":{DEEP_OPEN}{{"model":"beta"}}{DEEP_CLOSE}}}',
    f'{{"k":"\\\\","x":{DEEP_OPEN}"\\"model\\":{{"{DEEP_CLOSE},"m\\u006fdel":"alpha"}}',
]


@pytest.mark.parametrize("body", TO_ALPHA)
def test_the_top_level_model_of_the_body_decides(world: Rig, body: str) -> None:
    answer = world.ask("POST", "/v1/chat/completions?x=%20y&z", body)
    assert (answer.status, answer.json["backend"]) == (200, "alpha.a")
    seen = only(world, "alpha.a").seen[0]
    assert (seen.method, seen.path, seen.body) == (
        "POST",
        "/v1/chat/completions?x=%20y&z",
        body.encode(),
    )
    assert seen.headers["connection"] == "close"


NAMES_NONE = [
    "",
    "no json at all",
    "{}",
    '{"x":{"model":"beta"}}',
    '[{"model":"beta"}]',
    '{"x":"\\"model\\": \\"beta\\""}',
    '{"x":"model"}',
    '"model"',
    '{"model":null}',
    '{"model":""}',
    f'{{"x":{DEEP_OPEN}{{"model":"beta"}}{DEEP_CLOSE}}}',
    f'[{DEEP_OPEN}1{DEEP_CLOSE},"model","beta"]',
]


@pytest.mark.parametrize("body", NAMES_NONE)
def test_a_body_without_a_top_level_model_reaches_none(world: Rig, body: str) -> None:
    answer = world.ask("POST", "/v1/completions", body)
    assert answer.status == 400
    assert "alpha, beta, down, twin" in answer.error
    assert not any(each.seen for each in world.backends.values())


@pytest.mark.parametrize("value", ["3", "true", '["alpha"]', '{"model":"alpha"}'])
def test_a_model_that_is_no_text_is_an_error(world: Rig, value: str) -> None:
    assert world.ask("POST", "/v1/completions", f'{{"model":{value}}}').status == 400


@pytest.mark.parametrize("name", ["Alpha", "alpha ", "nope", "constructor", "toString", "a" * 5000])
def test_an_unknown_model_is_404_with_the_known_names(world: Rig, name: str) -> None:
    answer = world.ask("POST", "/v1/chat/completions", {"model": name})
    assert answer.status == 404
    assert answer.json["error"]["code"] == "model_not_found"
    for known in ("alpha", "org/alpha:Q4", "beta", "twin", "idle"):
        assert known in answer.error


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("place", ["first", "middle", "last", "twice"])
def test_a_body_of_ten_megabytes(world: Rig, place: str, chunked: bool) -> None:
    fill = 'x\\n\\"' * (MEGABYTE)
    body = {
        "first": f'{{"model":"alpha","prompt":"{fill}"}}',
        "middle": f'{{"prompt":"{fill}","model":"alpha","more":"{fill}"}}',
        "last": f'{{"prompt":"{fill}{fill}","model":"alpha"}}',
        "twice": f'{{"x":{{"model":"beta"}},"prompt":"{fill}{fill}","model":"alpha"}}',
    }[place]
    answer = world.ask("POST", "/v1/completions", body, chunked=chunked)
    assert (answer.status, answer.json["backend"]) == (200, "alpha.a")
    assert only(world, "alpha.a").seen[0].body == body.encode()


@pytest.mark.parametrize("path", ["/v1/completions", "/nope", "/api/nope", "/api/models", "/"])
def test_a_body_too_large_to_be_routed_is_413(world: Rig, path: str) -> None:
    with socket.create_connection(("127.0.0.1", world.listen), 10) as connection:
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\n"
        connection.sendall(head.encode())
        reply = connection.recv(65536)
        while b"}}" not in reply:
            reply += connection.recv(65536)
    assert reply.startswith(b"HTTP/1.1 413 ")
    assert b'"code":"body_too_large"' in reply
    assert b"/api/MODEL/" in reply


def form(*parts: tuple[str, bytes], boundary: str = "b0") -> bytes:
    """A form as it is sent: each part's head and content."""
    mark = f"--{boundary}\r\n".encode()
    whole = (mark + head.encode() + b"\r\n\r\n" + text + b"\r\n" for head, text in parts)
    return b"".join(whole) + f"--{boundary}--\r\n".encode()


FIELD = 'Content-Disposition: form-data; name="model"'
FILE = 'Content-Disposition: form-data; name="file"; filename="a.wav"\r\nContent-Type: audio/wav'
FORMS = {
    "after a file": form((FILE, bytes(range(256)) * 4096), (FIELD, b"alpha")),
    "before a file": form((FIELD, b"alpha"), (FILE, b"x")),
    "an alias": form((FIELD, b"org/alpha:Q4")),
    "in a head of its own kind": form(
        (f"content-type: text/plain\r\n{FIELD.lower()}; charset=utf-8", b"alpha")
    ),
    "behind other names": form(
        ('Content-Disposition: form-data; name="mymodel"', b"beta"),
        ('Content-Disposition: form-data; name="file"; filename="model"', b"beta"),
        ('Content-Disposition: form-data; name="prompt"', b'name="model"\r\n\r\nbeta'),
        (FIELD, b"alpha"),
    ),
}


@pytest.mark.parametrize("boundary", ["b0", '"b0"'])
@pytest.mark.parametrize("body", FORMS.values(), ids=FORMS)
def test_the_field_of_a_form_decides(world: Rig, body: bytes, boundary: str) -> None:
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    answer = world.ask("POST", "/v1/audio/transcriptions", body, headers=headers)
    assert (answer.status, answer.json["backend"]) == (200, "alpha.a")
    seen = only(world, "alpha.a").seen[0]
    assert (seen.path, seen.body) == ("/v1/audio/transcriptions", body)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("multipart/form-data; boundary=b0", form((FILE, b"x"))),
        ("multipart/form-data; boundary=b0", form((FIELD, b"alpha"))[:-9]),
        ("multipart/form-data; boundary=other", form((FIELD, b"alpha"))),
        ("multipart/form-data", form((FIELD, b"alpha"))),
        ("multipart/form-data; boundary=b0", b'{"model":"alpha"}'),
        ("multipart/form-data; boundary=b0", form((FIELD, b""))),
        ("multipart/form-data; boundary=b0", b""),
    ],
)
def test_a_form_without_the_field_reaches_none(world: Rig, kind: str, body: bytes) -> None:
    answer = world.ask("POST", "/v1/audio/transcriptions", body, headers={"Content-Type": kind})
    assert answer.status == 400
    assert "name a model" in answer.error


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_the_query_may_name_the_model(world: Rig, method: str) -> None:
    answer = world.ask(method, "/v1/responses/7?model=org%2Falpha:Q4")
    assert answer.json["backend"] == "alpha.a"
    assert only(world, "alpha.a").seen[0].path == "/v1/responses/7?model=org%2Falpha:Q4"
    assert world.ask("POST", "/v1/x?model=alpha", {"model": "beta"}).json["backend"] == "beta.a"
    assert world.ask("GET", "/v1/x?model=alpha&model=beta").status == 400


def test_without_a_name_the_only_model_is_meant() -> None:
    with rig() as solo:
        solo.apply(solo.render({"only": {}, "off": {"state": "absent"}}))
        solo.backend("only")
        bodies = (None, "no json", "{}", json.dumps({"prompt": "x"}))
        for body in bodies:
            assert solo.ask("POST", "/v1/completions", body).json["backend"] == "only.a"
        assert solo.ask("GET", "/v1/x").json["backend"] == "only.a"
        assert solo.ask("POST", "/v1/x", {"model": "other"}).status == 404


def test_without_any_model_it_says_so() -> None:
    with rig() as empty:
        empty.apply(empty.render({}))
        assert empty.ask("GET", "/api/models").json["models"] == []
        assert empty.ask("GET", "/v1/models").json["data"] == []
        assert empty.ask("POST", "/v1/x", {"model": "a"}).status == 404
        assert "none is running" in empty.ask("POST", "/v1/x", {}).error


def test_who_asks_for_a_model_that_starts_is_told_when_it_will_be_there(world: Rig) -> None:
    """By how long its last start took, from the moment that its new socket was made."""

    def told(*, start_s: float, ago_s: float | None = None) -> int:
        world.gateway.publish({"down": {"start_s": start_s}})
        if ago_s is not None:
            os.utime(path, (0, SystemClock().now() - ago_s))
        return int(world.ask("POST", "/v1/x", {"model": "down"}).headers["retry-after"])

    path = Path(world.site.socket(InstanceName("down"), "a"))
    try:
        assert told(start_s=90.0) == 91
        with socket.socket(socket.AF_UNIX) as coming:
            coming.bind(str(path))
            assert 50 < told(start_s=90.0, ago_s=30.0) <= 61
            assert told(start_s=90.0, ago_s=100.0) == 2
            assert told(start_s=9000.0, ago_s=0.0) == 600
    finally:
        world.gateway.publish({})
        path.unlink()
