"""Limits of keys at the gateway: how many requests a minute and at once, through a real nginx."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from e2e.machine import free_port
from gateway_rig import Answer, Rig, eventually, forget_requests, rig, write_keys

LIMITS = {
    "free": "",
    "minute": "rpm=2",
    "other": "rpm=2",
    "noted": "rpm=1",
    "patient": "rpm=2",
    "kept": "rpm=1",
    "quick": "rpm=30",
    "single": "parallel=1",
    "pair": ":alpha,down parallel=2",
    "looks": "rpm=2",
}


def line(name: str) -> str:
    limits = LIMITS[name]
    return f"{name}:key-of-{name}{limits if limits.startswith(':') else ' ' + limits}\n"


def models(world: Rig) -> dict[str, Any]:
    return {
        "alpha": {"port": world.ports["alpha"]},
        "twin": {"replicas": 2},
        "down": {"replicas": 2},
    }


@pytest.fixture(scope="module")
def whole_world() -> Iterator[Rig]:
    with rig() as made:
        made.ports = {"alpha": free_port()}
        write_keys(made, "".join(map(line, LIMITS)))
        made.apply(made.render(models(made), keys_file="secrets/keys"))
        for instance in ("alpha", "twin"):
            made.backend(instance)
        yield made


@pytest.fixture
def world(whole_world: Rig) -> Rig:
    forget_requests(whole_world)
    return whole_world


def of(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer key-of-{name}"}


def post(
    world: Rig, name: str, path: str = "/v1/x", model: str = "alpha", port: int | None = None
) -> Answer:
    body = {"model": model, "prompt": "x"}
    return world.ask("POST", path, body, headers=of(name), port=port)


def said(answer: Answer) -> tuple[int, str, str, str]:
    error = answer.json["error"]
    assert error["code"] == "rate_limit_exceeded"
    assert error["type"] == "requests"
    return answer.status, answer.headers["retry-after"], error["code"], answer.error


def test_requests_a_minute_are_counted_over_all_ways(world: Rig) -> None:
    """The third of two waits half a minute: no machine is that slow."""
    assert post(world, "minute").status == 200
    assert post(world, "minute", port=world.ports["alpha"]).status == 200
    refused = [
        post(world, "minute"),
        post(world, "minute", model="twin"),
        post(world, "minute", "/api/alpha/x"),
        post(world, "minute", port=world.ports["alpha"]),
        post(world, "minute", model="down"),
    ]
    why = "the API key of minute may have 2 requests a minute: the next one may begin in 31 s"
    assert {said(one) for one in refused} == {(429, "31", "rate_limit_exceeded", why)}
    assert sum(len(each.seen) for each in world.backends.values()) == 2
    # Who has the same limit has one of its own; who has none is not counted.
    assert post(world, "other", "/api/alpha/x").status == 200
    assert [post(world, "free").status for _ in range(5)] == [200] * 5


def test_looking_and_what_goes_to_no_model_is_not_counted(world: Rig) -> None:
    for path in ("/api/models", "/v1/models", "/api/alpha/slots", "/v1/x?model=alpha"):
        for _ in range(3):
            assert world.ask("GET", path, headers=of("looks")).status == 200
    assert world.ask("DELETE", "/api/alpha/x", headers=of("looks")).status == 200
    assert [post(world, "looks", model="nope").status for _ in range(3)] == [404] * 3
    assert [post(world, "looks").status for _ in range(3)] == [200, 200, 429]


def test_a_request_that_is_sent_on_counts_once(world: Rig) -> None:
    """A conversation that no replica answers is tried twice inside."""
    asked = [post(world, "patient", "/v1/completions", "down") for _ in range(3)]
    assert [answer.status for answer in asked] == [503, 503, 429]


def test_after_its_pause_a_request_is_let_through(world: Rig) -> None:
    answers = (post(world, "quick") for _ in range(1000))
    refused = next(answer for answer in answers if answer.status == 429)
    time.sleep(int(refused.headers["retry-after"]))
    assert post(world, "quick").status == 200


@pytest.mark.parametrize(
    ("name", "path"), [("single", "/v1/x/stream"), ("pair", "/api/alpha/stream")]
)
def test_requests_at_once_are_counted_until_their_streams_end(
    world: Rig, name: str, path: str
) -> None:
    streams = [
        world.stream("POST", path, {"model": "alpha"}, headers=of(name))
        for _ in range(1 if name == "single" else 2)
    ]
    assert {reply.readline() for _, reply in streams} == {b"data: first of alpha.a\n"}
    status, pause, _, why = said(post(world, name))
    assert (status, pause) == (429, "1")
    assert why.endswith("at once: one may begin when one of those that run has ended")
    assert post(world, "free").status == 200
    # One that ends, or is left by its client, makes room for another one.
    streams[0][0].close()
    eventually(lambda: post(world, name).status == 200)
    world.backends["alpha.a"].go_on.set()
    for connection, _ in streams:
        connection.close()
    eventually(lambda: post(world, name).status == 200)


def test_a_reload_forgets_no_count(world: Rig) -> None:
    assert [post(world, "kept").status for _ in range(2)] == [200, 429]
    write_keys(world, "".join(map(line, LIMITS)) + "new:key-of-new rpm=5\n")
    world.apply(world.render(models(world), keys_file="secrets/keys"))
    assert post(world, "kept").status == 429
    assert post(world, "new").status == 200


def test_the_access_log_names_who_was_refused(world: Rig) -> None:
    access = Path(world.site.gateway) / "logs" / "access.log"
    while post(world, "noted", "/api/alpha/noted").status != 429:
        pass
    eventually(lambda: '/noted HTTP/1.1" 429' in access.read_text())
    assert "key=noted model=alpha" in access.read_text().splitlines()[-1]
    assert "limiting" not in (access.parent / "error.log").read_text()
