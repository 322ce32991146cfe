"""What runs left, as the gateway tells it: all of it, or what a key may know."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gateway_rig import WORLD, Rig, rig

ALICE, BOB, NOBODY = "alice-key-1", "bob-key-22", "nobody-key-3"
FILE = f"alice:{ALICE}\nbob:{BOB}:twin,idle\nnobody:{NOBODY}:gone\n"
NEVER: dict[str, Any] = {"at": None, "file": None, "pending": [], "downloads": []}
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
    assert told(world, ALICE) == {**STATUS, "downloads": []}
    assert told(world, BOB) == {**STATUS, "pending": [PENDING[2], PENDING[4]], "downloads": []}
    assert told(world, NOBODY)["pending"] == []


def test_without_keys_all_is_seen() -> None:
    with rig() as open_to_all:
        open_to_all.apply(open_to_all.render(WORLD))
        write(open_to_all, json.dumps(STATUS))
        assert open_to_all.ask("GET", "/api/status").json["pending"] == PENDING
