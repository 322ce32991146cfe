"""A table in a terminal: names are shortened, long texts go on below, nothing else is lost."""

from __future__ import annotations

from collections.abc import Sequence

from reconciler.core.columns import grid, row_lines

LONG = "a-model-with-a-name-that-is-as-long-as-a-line-of-this-terminal-64"
CHANGES = "-/+ smollm2 (instance.smollm2: interrupted while it was waited for; it runs on)"


def shown(rows: Sequence[Sequence[str]], width: int) -> list[str]:
    return [line for row in rows for line in row_lines(row, grid(rows, width), width)]


def test_what_fits_is_only_aligned() -> None:
    assert shown([("NAME", "PHASE"), ("tiny", "ready"), ("a", "")], 11) == [
        "NAME  PHASE",
        "tiny  ready",
        "a",
    ]


def test_where_a_column_begins() -> None:
    fitted = grid([("NAME", "PHASE", "PID"), ("tiny", "ready", "1")], 80)
    assert [fitted.start(column) for column in range(3)] == [0, 6, 13]


def test_a_long_name_gives_way_to_what_is_said_of_it() -> None:
    rows = [("NAME", "PHASE", "PID"), (LONG, "blocked", "-"), ("tiny", "ready", "12345")]
    assert shown(rows, 50) == [
        "NAME                                PHASE    PID",
        "a-model-with-a-name-that-is-as-lo…  blocked  -",
        "tiny                                ready    12345",
    ]


def test_where_no_name_is_short_enough_the_line_is_cut() -> None:
    rows = [("NAME", "PHASE", "PID"), (LONG, "blocked", "12345")]
    assert shown(rows, 26) == ["NAME              PHASE  …", "a-model-with-a-…  blocked…"]


def test_a_long_text_is_broken_between_words_in_its_column() -> None:
    rows = [("NUMBER", "CHANGES"), ("12", CHANGES), ("2", "+ a")]
    assert shown(rows, 44) == [
        "NUMBER  CHANGES",
        "12      -/+ smollm2 (instance.smollm2:",
        "        interrupted while it was waited for;",
        "        it runs on)",
        "2       + a",
    ]


def test_without_room_beside_the_others_a_long_text_stands_below() -> None:
    rows = [("WHEN", "OUTCOME", "CHANGES"), ("2026-11-26 20:55:27", "interrupted", CHANGES)]
    assert shown(rows, 60) == [
        "WHEN                 OUTCOME",
        "    CHANGES",
        "2026-11-26 20:55:27  interrupted",
        "    -/+ smollm2 (instance.smollm2: interrupted while it was",
        "    waited for; it runs on)",
    ]


def test_a_word_without_room_is_broken_and_nothing_of_it_lost() -> None:
    path = "/models/" + LONG
    assert shown([("PORT", "SOURCE"), ("8001", path), ("8002", "")], 40) == [
        "PORT  SOURCE",
        f"8001  {path[:34]}",
        f"      {path[34:68]}",
        f"      {path[68:]}",
        "8002",
    ]


def test_nothing_said_is_no_line_below() -> None:
    rows = [("A" * 30, "WHAT"), ("x", CHANGES), ("y", "")]
    assert shown(rows, 40)[-1] == "y"


def test_spaces_of_a_text_that_fits_are_left_alone() -> None:
    assert shown([("A", "WHAT"), ("1", "x  =\ty")], 999)[-1] == "1  x  =\ty"
