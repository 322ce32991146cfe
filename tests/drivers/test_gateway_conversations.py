"""Conversations and replicas: the turns of one reach the same server, and none is overloaded."""

from __future__ import annotations

import contextlib
import http.client
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from engine_programs import EngineProgram, real_engines
from engine_server import Server
from gateway_rig import Rig, eventually, forget_requests, rig

from reconciler.core.words import InstanceName

NAMES = ("twin", "twin[1]", "twin[2]")
PAIR = ("pair", "pair[1]")
SMALL = ("small", "small[1]", "small[2]")
CHAT = "/v1/chat/completions"
SYSTEM = {"role": "system", "content": 'Say {"role":"user"} or \\ or ]}.'}


@pytest.fixture(scope="module")
def whole_world() -> Iterator[Rig]:
    with rig() as made:
        # nginx counts a request until it has seen its end: some milliseconds after the client.
        twin = {"replicas": 3, "args": {"np": "64"}}
        small = {"replicas": 3, "params": {"parallel": "2"}}
        made.apply(made.render({"twin": twin, "small": small}))
        for instance in (*NAMES, *SMALL):
            made.backend(instance)
        yield made


@pytest.fixture
def world(whole_world: Rig) -> Rig:
    forget_requests(whole_world)
    return whole_world


def turns(opening: str) -> list[dict[str, Any]]:
    """What is said in three turns, each a longer one."""
    messages: list[dict[str, Any]] = [SYSTEM, {"role": "user", "content": opening}]
    for number in range(3):
        messages.append({"role": "assistant", "content": f"answer {number} {'x' * 5000}"})
        messages.append({"role": "user", "content": f"question {number}"})
    return [{"messages": messages[: 2 * number]} for number in (1, 2, 3)]


def parts(opening: str) -> list[dict[str, Any]]:
    """The same as other clients say it: in parts, with an image, and with tools before it."""
    return [
        {
            "tools": [{"messages": [1, "prompt"]}],
            "messages": [
                {"content": [{"type": "text", "text": opening}, {"url": "x" * 99999}]}
                | {"role": "user"},
                *each["messages"][2:],
            ],
        }
        for each in turns(opening)
    ]


def long_turns(opening: str) -> list[dict[str, Any]]:
    """With more quotes in the first message than anybody should count."""
    return [
        {"messages": [{"role": "user", "content": opening + '"' * 200_000}, *each["messages"][2:]]}
        for each in turns(opening)
    ]


def prompts(opening: str) -> list[dict[str, Any]]:
    text = opening + " is what was asked. " * 100
    return [{"prompt": text + "and so on " * number} for number in range(3)]


def responses(opening: str) -> list[dict[str, Any]]:
    return [{"input": each["messages"]} for each in turns(opening)]


def served_by(world: Rig, body: dict[str, Any], path: str = CHAT, **headers: str) -> str:
    answer = world.ask("POST", path, {"model": "twin", **body}, headers=headers)
    assert answer.status == 200
    return str(answer.json["backend"])


@pytest.mark.parametrize(
    ("path", "said"),
    [
        (CHAT, turns),
        ("/chat/completions", parts),
        ("/v1/messages", parts),
        ("/v1/completions", prompts),
        (
            "/v1/completions",
            lambda opening: [{"prompt": [f"{opening}{'.' * 2000}", n]} for n in "12"],
        ),
        ("/completion", prompts),
        ("/v1/responses", responses),
        ("/v1/responses", lambda opening: [{"input": f"{opening}{'.' * 2000}{n}"} for n in "12"]),
    ],
)
def test_a_conversation_keeps_to_its_replica(world: Rig, path: str, said: Any) -> None:
    chosen: list[str] = []
    for number in range(20):
        found = {served_by(world, body, path) for body in said(f"conversation {number}")}
        assert len(found) == 1
        chosen += found
    assert len(set(chosen)) > 1, "they are spread"


def test_a_long_opening_is_read_in_part(world: Rig) -> None:
    for number in range(3):
        found = {served_by(world, body) for body in long_turns(f"conversation {number}")}
        assert len(found) == 1


def test_a_conversation_may_have_a_name(world: Rig) -> None:
    chosen = set()
    for number in range(20):
        name = {"X-Conversation-Id": f"talk {number}"}
        found = {served_by(world, {"prompt": text}, "/v1/x", **name) for text in ("a", "b", "c")}
        assert len(found) == 1
        chosen |= found
    assert len(chosen) > 1


@contextlib.contextmanager
def streams(world: Rig, count: int, body: dict[str, Any], path: str = CHAT) -> Iterator[list[str]]:
    """So many streams at once; the names of the servers that make them."""
    opened: list[tuple[http.client.HTTPConnection, http.client.HTTPResponse]] = []
    asked = {"model": "twin", "stream": True, **body}
    try:
        for _ in range(count):
            opened.append(world.stream("POST", path, asked))
            assert opened[-1][1].status == 200
        yield [reply.readline().decode().split()[-1] for _, reply in opened]
    finally:
        for backend in world.backends.values():
            backend.go_on.set()
        for connection, reply in opened:
            reply.read()
            connection.close()
        forget_requests(world)


def test_a_replica_takes_as_many_as_it_has_slots_and_the_others_the_rest(world: Rig) -> None:
    first, second, _ = ({**turn, "model": "small"} for turn in turns("much asked"))
    with streams(world, 9, first) as found:
        assert found[0] == found[1]
        assert found[2] == found[3]
        assert found[4] == found[5]
        assert {found[0], found[2], found[4]} == {f"{name}.a" for name in SMALL}
        # There is no room anywhere: the least busy ones take it, and nobody is refused.
        assert set(found[6:]) == {found[0], found[2], found[4]}
    eventually(lambda: served_by(world, second) == found[0])
    log = Path(world.site.gateway) / "logs" / "error.log"
    assert "no live upstreams" not in log.read_text()


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/embeddings", {"input": "x"}),
        ("/v1/x", turns("x")[0]),
        (CHAT, {}),
        (CHAT, {"messages": None, "x": {"messages": []}}),
    ],
)
def test_what_is_no_conversation_goes_where_least_is_done(
    world: Rig, path: str, body: dict[str, Any]
) -> None:
    def is_even() -> bool:
        with streams(world, 6, body, path) as found:
            return sorted(found) == sorted(f"{name}.a" for name in NAMES for _ in range(2))

    eventually(is_even)


@pytest.mark.parametrize(
    "body", ["", "{", '{"messages":', '{"prompt":"', '{"messages":[{"role":"user']
)
def test_what_is_cut_off_or_no_json_goes_to_any(world: Rig, body: str) -> None:
    assert world.ask("POST", f"{CHAT}?model=twin", body).status == 200


def test_a_replica_that_is_gone_loses_no_turn(world: Rig) -> None:
    first, second, third = turns("to be kept")
    home = served_by(world, first)
    world.unroute(home.removesuffix(".a"))
    try:
        elsewhere = served_by(world, second)
        assert elsewhere != home
        assert served_by(world, third) == elsewhere
        for name in NAMES:
            world.unroute(name)
        answer = world.ask("POST", CHAT, {"model": "twin", **third})
        assert (answer.status, answer.headers["retry-after"]) == (503, "2")
    finally:
        for name in NAMES:
            world.route(name, "a")
    assert served_by(world, third) == home


@pytest.mark.parametrize("engine", real_engines()[-1:], ids=str)
def test_the_prompt_of_the_last_turn_is_in_the_cache(
    engine: EngineProgram, tiny_model: Path
) -> None:
    with rig() as made, contextlib.ExitStack() as running:
        made.apply(made.render({"pair": {"replicas": 2}}))
        for instance in PAIR:
            address = made.site.socket(InstanceName(instance), "a")
            server = Server(engine.command, tiny_model, address, "--ctx-size", "8192")
            running.enter_context(server).ready()
            made.route(instance, "a")
        for number in range(2):
            messages = [{"role": "user", "content": f"{number} is asked about. " * 10}]
            known = []
            for _ in range(3):
                asked = {"model": "pair", "messages": messages, "max_tokens": 4}
                answer = made.ask("POST", CHAT, asked).json
                known.append(answer["timings"]["cache_n"])
                messages += [
                    {"role": "assistant", "content": "x"},
                    {"role": "user", "content": "y"},
                ]
            assert known[0] < 100 < min(known[1:]), known
