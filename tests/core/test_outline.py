"""What is kept of a configuration, and when one cannot follow on another by a reload."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from reconciler.core.outline import (
    KeyOutline,
    Outline,
    outline_text,
    read_outline,
    stuck_addresses,
)

FULL = Outline(
    ("127.0.0.1:8001", "127.0.0.1:8888"),
    {"alice": KeyOutline("0" * 12, "all models"), "bob": KeyOutline("1" * 12, "a, b")},
    "2" * 12,
    "2027-01-01",
    "3" * 12,
    {"tiny": "port 8001, aliases small"},
    90.0,
)


@pytest.mark.parametrize("outline", [FULL, Outline(), Outline(keys={})])
def test_an_outline_is_read_as_it_was_written(outline: Outline) -> None:
    assert read_outline(outline_text(outline)) == outline


def test_what_is_written_without_a_hold_is_what_older_versions_wrote() -> None:
    assert "hold_s" not in outline_text(replace(FULL, hold_s=0.0))
    assert '"hold_s": 90.0' in outline_text(FULL)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        "null",
        '{"keys": 3, "listens": []}',
        '{"keys": null, "listens": [], "hold_s": "soon"}',
        outline_text(FULL)[:-9],
        json.dumps({**json.loads(outline_text(FULL)), "new": 1}),
    ],
)
def test_what_is_none_of_ours_is_no_outline(text: str) -> None:
    assert read_outline(text) is None


ANY4, ANY6 = "0.0.0.0:1", "[::]:1"


@pytest.mark.parametrize(
    ("old", "new", "stuck"),
    [
        ("127.0.0.1:1", ANY4, True),
        (ANY4, "127.0.0.1:1", True),
        ("localhost:1", ANY4, True),
        (ANY4, "llm.lan:1", True),
        ("[::1]:1", ANY6, True),
        ("localhost:1", ANY6, True),
        ("[::1]:1", ANY4, False),
        ("127.0.0.1:1", ANY6, False),
        # nginx binds [::] for IPv6 alone.
        (ANY4, ANY6, False),
        (ANY4, ANY4, False),
        ("127.0.0.1:1", "10.0.0.1:1", False),
        ("127.0.0.1:1", "localhost:1", False),
        ("127.0.0.1:2", ANY4, False),
    ],
)
def test_an_address_and_all_addresses_cannot_listen_at_once(
    old: str, new: str, stuck: bool
) -> None:
    assert stuck_addresses((old, "h:9"), (new, "h:9")) == ([(old, new)] if stuck else [])


def test_what_stays_and_what_comes_anew_is_in_nobodys_way() -> None:
    assert stuck_addresses([ANY4, "1.1.1.1:2"], [ANY4, "1.1.1.1:3"]) == []
    assert stuck_addresses(["h:2", "h:1"], [ANY4, "0.0.0.0:2"]) == [
        ("h:1", ANY4),
        ("h:2", "0.0.0.0:2"),
    ]
