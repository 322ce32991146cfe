"""What is written down of changes that were not made."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from reconciler.core.pending import (
    LONGEST_REASON,
    Coming,
    Noted,
    Status,
    Watching,
    changed,
    coming_text,
    merged,
    noted,
    pending_of,
    read_status,
    status_text,
    watching_text,
)
from reconciler.core.plan import Action, Change, ResourceType
from reconciler.core.words import ModelName

INSTANCE, FILE = ResourceType.INSTANCE, ResourceType.MODEL_FILE
START = Change("instance.a[1]", INSTANCE, "a[1]", Action.CREATE, "absent")
FETCH = Change("model_file.a", FILE, "a", Action.CREATE, "missing")
RELOAD = Change("gateway", ResourceType.GATEWAY, "gateway", Action.UPDATE, "changed")
STUCK = Change("instance.b", INSTANCE, "b", Action.NO_OP, "x", obstacles=("no engine", "no port"))
FINE = Change("instance.c", INSTANCE, "c", Action.NO_OP, "ready")
A, B = ModelName("a"), ModelName("b")


def of(name: str, reason: str = "why") -> Noted:
    return Noted(INSTANCE, name, "create", reason)


def test_a_change_is_noted_with_its_reason_or_another_one() -> None:
    assert noted(START) == Noted(INSTANCE, "a[1]", "create", "absent")
    assert noted(START, "it died").reason == "it died"
    assert noted(STUCK, STUCK.blocked) == Noted(INSTANCE, "b", "blocked", "no engine; no port")


def test_foreign_text_is_one_short_line() -> None:
    assert noted(START, "a\x1b[2J\nb").reason == "a\\x1b[2J\\nb"
    assert len(noted(START, "x" * 9999).reason) == LONGEST_REASON


def test_whose_a_change_is() -> None:
    found = [noted(one).model for one in (START, FETCH, RELOAD)]
    assert found == [A, A, None]


def test_the_changes_of_a_run_are_those_that_it_can_make() -> None:
    names = [one.name for one in changed((START, FETCH, RELOAD, STUCK, FINE))]
    assert names == ["a[1]", "a", "gateway"]


def test_what_is_left_says_why() -> None:
    left = {"instance.a[1]": "it died", "instance.b": STUCK.blocked, "instance.gone": "?"}
    assert pending_of((START, FETCH, STUCK, FINE), left) == (
        Noted(INSTANCE, "a[1]", "create", "it died"),
        Noted(INSTANCE, "b", "blocked", "no engine; no port"),
    )


def test_a_run_about_some_keeps_what_is_known_of_others() -> None:
    old = Status(1, "x.yaml", (of("a"), of("a[7]"), of("b"), noted(RELOAD)))
    new = Status(2, "x.yaml", (of("a", "new"),))
    kept = merged(old, new, (), frozenset({A}))
    assert kept == Status(2, "x.yaml", (noted(RELOAD), of("a", "new"), of("b")))
    assert merged(old, new, (RELOAD, STUCK), frozenset({A})).pending == (of("a", "new"),)
    assert merged(replace(old, file="y.yaml"), new, (), frozenset({A})) == new


def test_a_status_is_read_as_it_was_written() -> None:
    whole = Status(12.25, "desired/x.yaml", (noted(START), noted(RELOAD), noted(STUCK)))
    text = status_text(whole)
    assert text.count("\n") == 1
    assert read_status(text) == whole
    assert json.loads(text)["pending"][0] == {
        "type": "instance",
        "name": "a[1]",
        "action": "create",
        "reason": "absent",
    }


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "7", '{"at": 1}', '{"at":1,"file":"x","pending":[{"type":"odd"}]}']
)
def test_of_a_broken_status_nothing_is_known(text: str) -> None:
    assert read_status(text) == Status()


def test_a_watch_is_told_in_one_printable_line() -> None:
    text = watching_text(Watching(1.5, trouble="a\nb", held="x" * 999), (7, 123))
    assert text.count("\n") == 1
    assert json.loads(text) == {
        "process": [7, 123],
        "since": 1.5,
        "trouble": "a\\nb",
        "held": "x" * LONGEST_REASON,
    }


def test_files_on_their_way_are_told_with_who_fetches_them() -> None:
    text = coming_text([Coming(ModelName("a"), "a.gguf", 5, 9)], 12.5, (7, 123))
    assert text.count("\n") == 1
    assert json.loads(text) == {
        "process": [7, 123],
        "downloads": [{"model": "a", "file": "a.gguf", "bytes": 5, "of": 9, "at": 12.5}],
    }
