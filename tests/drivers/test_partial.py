"""A file on its way: its room, its journal, its lock."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from waiting import after

from reconciler.core.ranges import MIB, Span
from reconciler.drivers import effects
from reconciler.drivers.fetch.partial import Partial, came, held, journal_of, partial_of

NEVER = threading.Event()
SIZE = 3 * MIB


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    heard: list[str] = []
    monkeypatch.setattr(effects, "hook", heard.append)
    return heard


@pytest.fixture
def partial(tmp_path: Path) -> Iterator[int]:
    descriptor = effects.open_partial(tmp_path / "partial")
    yield descriptor
    os.close(descriptor)


def test_room_is_taken_once_and_before_the_first_byte(
    tmp_path: Path, partial: int, told: list[str]
) -> None:
    path = tmp_path / "partial"
    for _ in range(2):
        effects.preallocate(partial, path, 1 << 20)
    assert (path.stat().st_size, path.stat().st_blocks * 512) == (0, 1 << 20)
    assert told == [f"before allocate {path}", f"after allocate {path}"]


def test_too_little_room_is_an_error_that_names_the_file(tmp_path: Path, partial: int) -> None:
    with pytest.raises(OSError, match=r"(too large|No space left).*partial"):
        effects.preallocate(partial, tmp_path / "partial", 1 << 60)
    assert (tmp_path / "partial").stat().st_blocks == 0


def test_where_room_cannot_be_taken_the_file_grows_as_it_comes(told: list[str]) -> None:
    # The files of /proc are of a file system without fallocate.
    descriptor = os.open("/proc/self/comm", os.O_RDWR)
    effects.preallocate(descriptor, "/proc/self/comm", 4096)
    os.close(descriptor)
    assert len(told) == 2


def test_all_is_written_at_its_place_however_little_at_a_time(
    tmp_path: Path, partial: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda to, data, at: whole(to, bytes(data)[:2], at))
    effects.write_at(partial, b"world", 6)
    effects.write_at(partial, b"hello ", 0)
    assert (tmp_path / "partial").read_bytes() == b"hello world"


def test_a_journal_that_cannot_be_written_whole_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "journal").touch()
    descriptor = effects.open_journal(tmp_path / "journal")
    monkeypatch.setattr(os, "write", lambda _to, data: len(data) - 1)
    with pytest.raises(OSError, match="No space left"):
        effects.append(descriptor, "0 5\n")
    os.close(descriptor)


def test_what_a_partial_holds_is_known(tmp_path: Path) -> None:
    target = tmp_path / "x"
    assert came(target, SIZE) == (0, 0)
    with held(target, SIZE, NEVER) as descriptor:
        assert descriptor is not None
        effects.preallocate(descriptor, partial_of(target), SIZE)
        assert came(target, SIZE) == (0, SIZE)
        partial = Partial(target, descriptor, SIZE)
        partial.identify("e")
        assert partial.writer(0).write(bytes(5))
        partial.close()
    assert came(target, SIZE) == (5, SIZE)
    assert came(target, SIZE + 1) == (0, SIZE)


# ---- the lock


def test_the_lock_is_one_processs_until_the_file_is_here(tmp_path: Path) -> None:
    target = tmp_path / "x"
    with held(target, 5, NEVER) as first:
        assert first is not None
        effects.write_at(first, b"whole", 0)

        def waits() -> bool:
            stop = threading.Event()
            with after(lambda: True, stop.set), held(target, 5, stop) as second:
                return second is None

        assert waits()
        effects.publish(first, partial_of(target), target)
    with held(target, 5, NEVER) as late:
        assert late is None
    assert list(tmp_path.iterdir()) == [target]


def test_who_opened_it_just_before_it_got_its_name_does_not_take_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "x"
    lock = fcntl.flock

    def after_its_holder_finished(descriptor: int, how: int) -> None:
        partial_of(target).write_bytes(b"whole")
        partial_of(target).rename(target)
        lock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", after_its_holder_finished)
    with held(target, 5, NEVER) as late:
        assert late is None


# ---- the journal


def opened(folder: Path, descriptor: int) -> Partial:
    return Partial(folder / "x", descriptor, SIZE)


def next_finds(folder: Path, descriptor: int, size: int = SIZE) -> tuple[Span, ...]:
    after_all = Partial(folder / "x", descriptor, size)
    after_all.close()
    return after_all.spans


def test_what_was_written_is_known_to_the_next_run(tmp_path: Path, partial: int) -> None:
    first = opened(tmp_path, partial)
    assert first.identify('"e"')
    assert not first.identify('"other"')
    one, two = first.writer(0), first.writer(MIB)
    assert one.write(b"a" * 10)
    assert two.write(b"b" * MIB)
    assert list(first.spans) == [(MIB, 2 * MIB)]
    one.finish()
    first.close()
    second = opened(tmp_path, partial)
    assert (second.etag, second.spans, second.done) == ('"e"', ((0, 10), (MIB, 2 * MIB)), MIB + 10)
    second.close()


def test_closing_notes_what_is_half_done_and_takes_no_more(tmp_path: Path, partial: int) -> None:
    first = opened(tmp_path, partial)
    first.identify("")
    writer = first.writer(0)
    writer.write(b"abc")
    first.close()
    assert not writer.write(b"def")
    writer.finish()
    assert first.read(memoryview(bytearray(3)), 0) == 0
    assert first.beyond(0) == 0
    assert first.identify("")
    assert next_finds(tmp_path, partial) == ((0, 3),)


def test_a_kill_in_mid_line_loses_that_line_alone(tmp_path: Path, partial: int) -> None:
    first = opened(tmp_path, partial)
    first.identify('"e"')
    for begin in (0, 100):
        writer = first.writer(begin)
        writer.write(b"x" * 50)
        writer.finish()
    first.close()
    journal = journal_of(tmp_path / "x")
    journal.write_bytes(journal.read_bytes()[:-2])
    second = opened(tmp_path, partial)
    assert second.spans == ((0, 50),)
    writer = second.writer(60)
    writer.write(b"y")
    second.close()
    assert next_finds(tmp_path, partial) == ((0, 50), (60, 61))


def test_a_journal_of_a_file_of_another_size_counts_for_nothing(
    tmp_path: Path, partial: int
) -> None:
    first = opened(tmp_path, partial)
    first.identify('"e"')
    first.writer(0).write(b"abc")
    first.close()
    assert next_finds(tmp_path, partial, SIZE + 1) == ()
