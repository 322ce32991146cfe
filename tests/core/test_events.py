"""Events: as lines, read again, and as rows of a table."""

from __future__ import annotations

import datetime
import json
from dataclasses import replace

import pytest

from reconciler.core.events import (
    LONGEST_TEXT,
    Event,
    event_cells,
    event_line,
    event_values,
    read_event,
    read_events,
)

END = Event(12.5, "exited", "instance.glm[1]", "killed by SIGSEGV", 2, 22.5)


def test_an_event_is_read_as_it_was_written() -> None:
    assert event_line(END).count("\n") == 1
    assert read_event(event_line(END)) == END
    assert read_events(event_line(END) + event_line(replace(END, at=13))) == (
        END,
        replace(END, at=13),
    )


def test_a_line_says_which_model_and_instance_it_is_about() -> None:
    values = json.loads(event_line(END))
    assert values == {
        "at": 12.5,
        "kind": "exited",
        "about": "instance.glm[1]",
        "text": "killed by SIGSEGV",
        "count": 2,
        "next_start": 22.5,
        "model": "glm",
        "instance": "glm[1]",
    }
    assert values == event_values(END)


@pytest.mark.parametrize(
    ("about", "model", "instance"),
    [
        ("instance.a.b", "a.b", "a.b"),
        ("model_file.a", "a", None),
        ("gateway", None, None),
        ("desired/x.yaml", None, None),
    ],
)
def test_whom_an_event_concerns(about: str, model: str | None, instance: str | None) -> None:
    event = replace(END, about=about)
    assert (event.model, event.instance) == (model, instance)
    assert event.concerns(None)
    assert not event.concerns("other")
    assert model is None or event.concerns(model)


def test_a_replicas_event_concerns_its_model_and_itself_alone() -> None:
    assert END.concerns("glm")
    assert END.concerns("glm[1]")
    assert not END.concerns("glm[2]")


@pytest.mark.parametrize(
    "line",
    [
        "",
        "{",
        "[]",
        "null",
        event_line(END)[:40],
        event_line(END).replace("12.5", '"x"'),
        event_line(END).replace("12.5", "1e300"),
        event_line(END).replace('"exited"', "7"),
        event_line(END).replace('"kind"', '"other"'),
    ],
)
def test_a_torn_or_foreign_line_is_no_event(line: str) -> None:
    assert read_event(line) is None
    assert read_events(f"{line}\n{event_line(END)}") == (END,)


def test_what_a_later_version_adds_is_passed_over() -> None:
    assert read_event(event_line(END).replace('{"at"', '{"new": 1, "at"')) == END


def test_foreign_text_stays_on_one_line_and_within_bounds() -> None:
    line = event_line(replace(END, text="a\nb\x1b[2J" + "x" * 5000))
    assert line.count("\n") == 1
    assert len(json.loads(line)["text"]) == LONGEST_TEXT
    assert event_cells(replace(END, text="a\nb"))[3] == r"a\nb"


def test_a_row_has_the_time_of_whoever_reads_it() -> None:
    east = datetime.timezone(datetime.timedelta(hours=2))
    said = event_cells(END, east)
    assert said == ("1970-01-01 02:00:12", "exited", "instance.glm[1]", "killed by SIGSEGV")
    assert event_cells(END)[1:] == said[1:]
