"""The file of events: written line by line, moved aside when it is full, followed meanwhile."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from reconciler.core.events import Event, event_line
from reconciler.drivers import effects, event_log
from reconciler.drivers.event_log import EventLog, EventReader
from reconciler.drivers.server_logs import LOGS_KEPT


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "logs" / "events.jsonl"


@pytest.fixture
def log(path: Path) -> EventLog:
    return EventLog(str(path))


@pytest.fixture
def reader(path: Path) -> Iterator[EventReader]:
    with closing(EventReader(str(path))) as one:
        yield one


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each event fills a file."""
    monkeypatch.setattr(event_log, "LIMIT_BYTES", 1)


def event(at: float, name: str = "a") -> Event:
    return Event(at, "exited", f"instance.{name}", "killed by SIGSEGV", 1, at + 10)


def times(found: tuple[Event, ...]) -> list[float]:
    return [one.at for one in found]


def test_the_last_events_are_read_again(log: EventLog, path: Path) -> None:
    assert log.last(9) == ()
    for at in (1, 2, 3):
        log.add(event(at))
    assert log.last(2) == (event(2), event(3))
    assert log.last(0) == ()
    assert path.stat().st_mode & 0o777 == 0o600


def test_those_of_one_model_are_found_among_others(log: EventLog) -> None:
    for at, name in enumerate(["a", "b", "a[1]", "b"]):
        log.add(event(at, name))
    assert times(log.last(9, "a")) == [0, 2]
    assert times(log.last(9, "a[1]")) == [2]
    assert times(log.last(1, "b")) == [3]


@pytest.mark.usefixtures("tiny")
def test_a_full_file_is_moved_aside_and_the_oldest_goes(log: EventLog, path: Path) -> None:
    for at in range(LOGS_KEPT + 4):
        log.add(event(at))
    names = sorted(one.name for one in path.parent.iterdir())
    older = [f"events.jsonl.{number}" for number in range(1, LOGS_KEPT + 1)]
    assert names == ["events.jsonl", *older]
    assert times(log.last(99)) == list(range(3, LOGS_KEPT + 4))
    assert times(log.last(2)) == [LOGS_KEPT + 2, LOGS_KEPT + 3]


def test_what_is_added_is_followed_from_before_there_is_a_file(
    reader: EventReader, log: EventLog
) -> None:
    assert reader.more() == ()
    log.add(event(1))
    log.add(event(2))
    assert times(reader.more()) == [1, 2]
    assert reader.more() == ()


def test_what_was_there_before_is_not_told(log: EventLog, path: Path) -> None:
    log.add(event(1))
    with closing(EventReader(str(path))) as reader:
        log.add(event(2))
        assert times(reader.more()) == [2]


def test_nothing_is_lost_when_the_file_is_moved_aside(
    reader: EventReader, log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.add(event(1))
    assert times(reader.more()) == [1]
    log.add(event(2))
    monkeypatch.setattr(event_log, "LIMIT_BYTES", 1)
    log.add(event(3))
    assert times(reader.more()) == [2, 3]


def test_half_a_line_waits_for_its_other_half(reader: EventReader, path: Path) -> None:
    line = event_line(event(1))
    path.parent.mkdir()
    with path.open("w") as file:
        file.write(line[:20])
        file.flush()
        assert reader.more() == ()
        file.write(line[20:])
        file.flush()
        assert times(reader.more()) == [1]


def test_a_torn_line_costs_no_other_one(log: EventLog, path: Path) -> None:
    log.add(event(1))
    with path.open("a") as file:
        file.write('{"at": 1')
    log.add(event(2))
    assert times(log.last(9)) == [1, 2]


def test_a_full_disk_costs_the_event_and_nothing_else(
    log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(what: str) -> None:
        if what.startswith("before append"):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(effects, "hook", full)
    log.add(event(1))
    monkeypatch.undo()
    log.add(event(2))
    assert times(log.last(9)) == [2]
