"""Records of runs: as lines, read again, kept within bounds, and in a few words."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from reconciler.core.history import (
    LARGEST_FILE,
    LONGEST_MESSAGE,
    MOST_CHANGES,
    MOST_RECORDS,
    Ending,
    Origin,
    begun,
    changes_text,
    commit_text,
    next_number,
    read_records,
    record_line,
    record_values,
    shortened,
    took_text,
)
from reconciler.core.pending import Noted
from reconciler.core.plan import ResourceType

COMMIT = "0123456789abcdef" * 2 + "01234567"
ORIGIN = Origin("ann", COMMIT, dirty=False, spec="5" * 64, process=(7, 123))


def change(name: str, action: str = "create", kind: str = "instance") -> Noted:
    return Noted(ResourceType(kind), name, action, 'absent: "{"number": 99}"')


RECORD = replace(begun(12.5, "apply", "desired/x.yaml", ORIGIN, (change("a"),)), number=3)


def test_a_record_is_read_as_it_was_written() -> None:
    ended = RECORD.ended(Ending.FAILED, 1.26, "instance.a: it died")
    for one in (RECORD, ended):
        line = record_line(one)
        assert line.count("\n") == 1
        assert read_records(line) == (one,)
    assert ended.seconds == 1.3
    assert len(RECORD.ended(Ending.FAILED, 1, "x" * 999).message) == LONGEST_MESSAGE


def test_a_record_of_an_older_version_has_no_generation() -> None:
    numbered = replace(RECORD, generation=4)
    assert read_records(record_line(numbered)) == (numbered,)
    older = record_line(RECORD).replace(', "generation": null', "")
    assert "generation" not in older
    assert read_records(older) == (RECORD,)


def test_what_people_see_of_a_record() -> None:
    assert json.loads(json.dumps(record_values(RECORD))) == {
        "number": 3,
        "at": 12.5,
        "who": "ann",
        "verb": "apply",
        "file": "desired/x.yaml",
        "commit": COMMIT,
        "dirty": False,
        "spec": "5" * 64,
        "changes": [
            {"type": "instance", "name": "a", "action": "create", "reason": change("a").reason}
        ],
        "more": 0,
        "outcome": "running",
        "seconds": None,
        "message": "",
        "generation": None,
    }


def test_of_many_changes_the_rest_is_counted() -> None:
    many = tuple(change(f"m{number}") for number in range(MOST_CHANGES + 5))
    record = begun(1, "apply", "x.yaml", ORIGIN, many)
    assert (len(record.changes), record.more) == (MOST_CHANGES, 5)


def test_the_later_line_of_a_run_counts() -> None:
    other = replace(RECORD, number=4)
    lines = [record_line(one) for one in (RECORD, other, RECORD.ended(Ending.APPLIED, 1, ""))]
    assert [(one.number, one.outcome) for one in read_records("".join(lines))] == [
        (3, Ending.APPLIED),
        (4, Ending.RUNNING),
    ]


@pytest.mark.parametrize(
    "line",
    [
        record_line(RECORD)[:-20],
        "",
        "[]",
        "7",
        "\0\0",
        json.dumps({"number": 1}),
        record_line(RECORD).replace('"running"', '"odd"'),
        record_line(RECORD).replace("[7, 123]", "[7]"),
        record_line(RECORD).replace('"number": 3', '"number": "x"'),
    ],
)
def test_a_broken_line_is_none(line: str) -> None:
    other = replace(RECORD, number=8)
    assert read_records(f"{line}\n{record_line(other)}") == (other,)


def test_numbers_go_on() -> None:
    assert next_number("") == 1
    # The run that began first may end last.
    lines = [record_line(replace(RECORD, number=number)) for number in (8, 11, 9)]
    assert next_number("".join(lines)) == 12


def test_a_large_file_keeps_its_last_records() -> None:
    few = "".join(record_line(replace(RECORD, number=number)) * 2 for number in range(1, 1500))
    kept = read_records(shortened(few))
    assert [one.number for one in kept] == list(range(1500 - MOST_RECORDS, 1500))
    big = replace(RECORD, changes=tuple(change(f"m{number}") for number in range(MOST_CHANGES)))
    text = "".join(record_line(replace(big, number=number)) for number in range(1, 200))
    assert len(text) > LARGEST_FILE
    short = shortened(text)
    assert LARGEST_FILE / 3 < len(short) <= LARGEST_FILE / 2
    assert read_records(short)[-1].number == 199
    assert shortened("") == ""


def test_what_changed_in_a_few_words() -> None:
    changes = (
        change("gateway", "update", "gateway"),
        change("a", "replace"),
        change("b", "create"),
        change("a", "create", "model_file"),
        change("c", "delete", "model_file"),
        change("d", "blocked"),
    )
    record = replace(RECORD, changes=changes)
    assert changes_text(record) == "~ gateway, -/+ a, + b, - files of c, ! d"
    many = replace(RECORD, changes=tuple(change(name) for name in "abcdefgh"), more=4)
    assert changes_text(many) == "+ a, + b, + c, + d, + e, + f, 6 more"


def test_commit_and_time_in_words() -> None:
    assert commit_text(RECORD) == "0123456789ab"
    dirty = replace(RECORD, origin=replace(ORIGIN, dirty=True))
    assert commit_text(dirty) == "0123456789ab*"
    assert commit_text(replace(RECORD, origin=Origin("ann"))) == "-"
    assert took_text(RECORD) == "-"
    assert took_text(RECORD.ended(Ending.APPLIED, 200, "")) == "3m20s"
