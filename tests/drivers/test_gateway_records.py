"""What runs left, as the gateway tells it: all of it, or what a key may know."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gateway_rig import WORLD, Rig, rig

from reconciler.core.pending import Watching, watching_text
from reconciler.drivers import proc

ALICE, BOB, NOBODY = "alice-key-1", "bob-key-22", "nobody-key-3"
FILE = f"alice:{ALICE}\nbob:{BOB}:twin,idle\nnobody:{NOBODY}:gone\n"
NEVER: dict[str, Any] = {"at": None, "file": None, "pending": [], "downloads": [], "watch": None}
REST = {"action": "create", "reason": "why"}
PENDING: list[dict[str, Any]] = [
    {"type": "gateway", "name": "gateway", **REST},
    {"type": "instance", "name": "alpha", **REST},
    {"type": "instance", "name": "twin[1]", "action": "blocked", "reason": "<img onerror=x>"},
    {"type": "lock", "name": "twin", **REST},
    {"type": "model_file", "name": "idle", **REST},
]
STATUS = {"at": 1.5, "file": "desired/x.yaml", "pending": PENDING}


@pytest.fixture(scope="module")
def world() -> Iterator[Rig]:
    with rig() as made:
        keys = Path(made.site.root) / "secrets" / "keys"
        keys.parent.mkdir(parents=True)
        keys.write_text(FILE)
        keys.chmod(0o600)
        made.apply(made.render(WORLD, keys_file="secrets/keys"))
        yield made


def write(world: Rig, text: str) -> None:
    (Path(world.site.gateway) / "status.json").write_text(text)


def told(world: Rig, key: str, path: str = "/api/status") -> Any:
    answer = world.ask("GET", path, headers={"x-api-key": key})
    assert (answer.status, answer.headers["cache-control"]) == (200, "no-store")
    assert answer.headers["content-type"] == "application/json"
    return answer.json


def test_status_needs_a_key(world: Rig) -> None:
    assert world.ask("GET", "/api/status").status == 401


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", '{"pending": 7}'])
def test_what_is_not_there_or_broken_says_nothing(world: Rig, text: str) -> None:
    write(world, text)
    assert told(world, ALICE) == NEVER
    (Path(world.site.gateway) / "status.json").unlink()
    assert told(world, ALICE) == NEVER


def test_a_key_sees_what_is_about_its_models(world: Rig) -> None:
    write(world, json.dumps(STATUS))
    assert told(world, ALICE) == {**STATUS, "downloads": [], "watch": None}
    of_bob = [PENDING[2], PENDING[4]]
    assert told(world, BOB) == {**STATUS, "pending": of_bob, "downloads": [], "watch": None}
    assert told(world, NOBODY)["pending"] == []


def test_a_watch_is_told_of_while_it_lives_to_keys_without_a_limit(world: Rig) -> None:
    me = proc.ref_of(os.getpid())
    assert me
    path = Path(world.site.gateway) / "watch.json"
    watching = Watching(1.5, trouble="<img onerror=x>", held="too much")
    path.write_text(watching_text(watching, (me.pid, me.start_ticks)))
    said = {"pid": me.pid, "since": 1.5, "trouble": "<img onerror=x>", "held": "too much"}
    assert told(world, ALICE)["watch"] == said
    assert told(world, BOB)["watch"] is None
    path.write_text(watching_text(watching, (me.pid, me.start_ticks + 1)))
    assert told(world, ALICE)["watch"] is None
    path.write_text("[")
    assert told(world, ALICE)["watch"] is None
    path.unlink()


def test_files_on_their_way_are_those_of_runs_that_live(world: Rig) -> None:
    me = proc.ref_of(os.getpid())
    assert me
    files = [
        {"model": name, "file": "x.gguf", "bytes": 1, "of": 2, "at": 1.5}
        for name in ("alpha", "twin")
    ]
    paths = []
    for pid, ticks in ((me.pid, me.start_ticks), (1, me.start_ticks), (2**22 + 1, 0)):
        text = json.dumps({"process": [pid, ticks], "downloads": files})
        paths.append(Path(world.site.gateway) / f"downloads.{pid}.json")
        paths[-1].write_text(text)
    paths.append(Path(world.site.gateway) / "downloads.7.json")
    paths[-1].write_text("{")
    assert told(world, ALICE)["downloads"] == files
    assert told(world, BOB)["downloads"] == [files[1]]
    for path in paths:
        path.unlink()
    assert told(world, ALICE)["downloads"] == []


def history(world: Rig, key: str) -> list[Any]:
    found: list[Any] = told(world, key, "/api/history")["records"]
    return found


def record(number: int, changes: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    rest = {"who": "ann", "changes": changes, "outcome": "applied", "message": "alpha", "more": 2}
    return {"number": number, **rest, "process": [1, 1], **more}


def write_history(world: Rig, *records: dict[str, Any], end: str = "") -> None:
    text = "".join(json.dumps(one) + "\n" for one in records)
    (Path(world.site.state) / "history.jsonl").write_text(text + end)


def test_history_is_empty_at_first(world: Rig) -> None:
    assert world.ask("GET", "/api/history").status == 401
    (Path(world.site.state) / "history.jsonl").unlink(missing_ok=True)
    assert history(world, ALICE) == []
    write_history(world, end="\n\n{torn")
    assert history(world, ALICE) == []


def test_history_shows_the_last_twenty_with_how_they_ended(world: Rig) -> None:
    begun = [record(number, PENDING, outcome="running") for number in range(1, 31)]
    write_history(world, *begun, *(record(number, PENDING) for number in (29, 30, 12)), end='{"n')
    found = history(world, ALICE)
    assert [one["number"] for one in found] == list(range(30, 10, -1))
    assert [one["outcome"] for one in found[:3]] == ["applied", "applied", "killed"]
    assert found[0] == {k: v for k, v in record(30, PENDING).items() if k != "process"}


def test_a_run_that_lives_is_running(world: Rig) -> None:
    me = proc.ref_of(os.getpid())
    assert me
    write_history(
        world,
        record(1, PENDING, outcome="running", process=[me.pid, me.start_ticks]),
        record(2, PENDING, outcome="running", process=[me.pid, me.start_ticks + 1]),
    )
    assert [one["outcome"] for one in history(world, ALICE)] == ["killed", "running"]


def test_a_key_sees_the_history_of_its_models(world: Rig) -> None:
    write_history(world, record(1, PENDING), record(2, PENDING[:2]))
    [seen] = history(world, BOB)
    assert (seen["number"], seen["changes"]) == (1, [PENDING[2], PENDING[4]])
    assert (seen["message"], seen["more"], seen["who"]) == ("", 0, "ann")
    assert history(world, NOBODY) == []
    assert len(history(world, ALICE)) == 2


def test_without_keys_all_is_seen() -> None:
    with rig() as open_to_all:
        open_to_all.apply(open_to_all.render(WORLD))
        write(open_to_all, json.dumps(STATUS))
        write_history(open_to_all, record(1, PENDING))
        assert open_to_all.ask("GET", "/api/status").json["pending"] == PENDING
        [seen] = open_to_all.ask("GET", "/api/history").json["records"]
        assert (seen["changes"], seen["message"]) == (PENDING, "alpha")
