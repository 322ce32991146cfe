"""A log is cut while it is written to: no line is lost, whoever is killed; readers go on."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.drivers import effects, log_trimming, server_logs
from reconciler.drivers.log_reader import LogReader
from reconciler.drivers.log_trimming import KEPT_BYTES, trim

LIMIT = 2**20
FULL = LIMIT + KEPT_BYTES


@pytest.fixture(params=["disk", "memory"])
def log(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """Where a part can be taken out of a file, as a rule, and on tmpfs, where it cannot."""
    monkeypatch.setattr(server_logs, "LOG_LIMIT_BYTES", LIMIT)
    folder = Path(tempfile.mkdtemp(dir="/dev/shm")) if request.param == "memory" else tmp_path
    yield folder / "m.log"
    shutil.rmtree(folder)


def line(number: int) -> bytes:
    return b"%07d a server says something, over and over again, and says it well\n" % number


def write(log: Path, numbers: range) -> None:
    with log.open("ab") as file:
        file.write(b"".join(map(line, numbers)))


def enough(size: int) -> int:
    """So many lines are at least so many bytes."""
    return size // len(line(0)) + 1


def content(path: Path) -> bytes:
    """What is in a file, without the hole in front."""
    with path.open("rb") as file:
        file.seek(server_logs.first_data(file.fileno()))
        return file.read()


def parts(log: Path) -> list[Path]:
    """All there are, the oldest first."""
    found = sorted(log.parent.glob("m.log.*"), key=lambda one: int(one.suffix[1:]))
    return [*found[::-1], log]


def whole(log: Path) -> bytes:
    return b"".join(map(content, parts(log)))


def on_disk(log: Path) -> int:
    return sum(one.stat().st_blocks * 512 for one in log.parent.iterdir())


def nothing() -> None:
    pass


def test_what_is_not_full_stays_as_it_is(log: Path) -> None:
    trim(log, nothing)
    assert not log.exists()
    write(log, range(enough(FULL) - 2))
    before = log.stat()
    trim(log, nothing)
    assert (log.stat(), list(log.parent.iterdir())) == (before, [log])


def test_a_writer_that_never_stops_loses_no_line(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_logs, "LOGS_KEPT", 100)
    count = enough(4 * LIMIT)
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def server() -> None:
        for number in range(count):
            os.write(descriptor, line(number))

    writer = threading.Thread(target=server)
    writer.start()
    while writer.is_alive():
        trim(log, nothing)
    trim(log, nothing)
    os.close(descriptor)
    assert whole(log) == b"".join(map(line, range(count)))
    assert len(parts(log)) > 2
    assert {one.stat().st_size for one in parts(log)[:-1]} == {LIMIT}


def test_the_oldest_go_and_little_room_is_taken(log: Path) -> None:
    count = enough(8 * LIMIT)
    write(log, range(count))
    trim(log, nothing)
    assert [one.name for one in parts(log)] == [f"m.log.{one}" for one in range(5, 0, -1)] + [
        "m.log"
    ]
    every = b"".join(map(line, range(count)))
    assert every.endswith(whole(log))
    assert on_disk(log) <= 5 * LIMIT + FULL + 2**16
    assert server_logs.tail(log, 1) == line(count - 1).decode().strip()


def test_offsets_are_given_up_before_a_part_goes(log: Path) -> None:
    write(log, range(enough(FULL)))
    seen: list[int] = []
    trim(log, lambda: seen.append(len(content(log))))
    assert (len(seen), seen[0] >= FULL, len(content(log)) >= KEPT_BYTES) == (1, True, True)


def test_killed_at_any_moment_no_line_is_lost(log: Path) -> None:
    before = b"".join(map(line, range(enough(2 * LIMIT + FULL))))
    saved = {"m.log.2": before[:LIMIT], "m.log.1": before[LIMIT : 2 * LIMIT]}
    saved["m.log"] = before[2 * LIMIT :]
    for moment in range(1, 9):
        for one in log.parent.iterdir():
            one.unlink()
        for name, text in saved.items():
            log.with_name(name).write_bytes(text)
        child = os.fork()
        if child == 0:
            kill_at(moment, log)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
        trim(log, nothing)
        # All of them; if it was killed after the copy, the part that was copied is there twice.
        found = whole(log)
        assert set(before.splitlines()) <= set(found.splitlines()), moment
        assert found.endswith(before[3 * LIMIT :]), moment
        assert len(found) in {len(before), len(before) + LIMIT}, moment
        assert len(content(log)) < FULL, moment


def kill_at(moment: int, log: Path) -> None:
    """Trim, and end without another word at this moment of it; if it has so many."""
    heard: list[str] = []

    def hook(what: str) -> None:
        heard.append(what)
        if len(heard) == moment:
            os._exit(9)

    effects.hook = hook
    trim(log, nothing)
    os._exit(0)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EACCES])
def test_where_it_fails_all_lines_are_there_and_the_next_time_it_works(
    log: Path, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = enough(2 * FULL)
    every = b"".join(map(line, range(count)))
    write(log, range(count))
    for verb in ("copy", "trim"):

        def fail(what: str, verb: str = verb) -> None:
            if what.startswith(f"before {verb} "):
                raise OSError(code, os.strerror(code))

        monkeypatch.setattr(effects, "hook", fail)
        with pytest.raises(OSError, match=os.strerror(code)) as raised:
            trim(log, nothing)
        assert raised.value.filename
        assert content(log) == every
    monkeypatch.setattr(effects, "hook", lambda _: None)
    trim(log, nothing)
    assert whole(log) == every
    assert len(content(log)) < FULL


def test_where_nothing_can_be_given_back_nothing_is_copied(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cannot(*_: int) -> None:
        raise OSError(errno.EOPNOTSUPP, "no")

    monkeypatch.setattr(log_trimming, "fallocate", cannot)
    write(log, range(enough(FULL)))
    trim(log, nothing)
    assert list(log.parent.iterdir()) == [log]


# ---- reading


def test_the_last_lines_are_looked_for_in_older_parts(log: Path) -> None:
    count = enough(3 * LIMIT)
    write(log, range(count))
    trim(log, nothing)
    for lines in (0, 1, 100, count - 10, count, count + 1000):
        found = LogReader(log).last(lines)
        assert found == b"".join(map(line, range(max(0, count - lines), count))).decode()
    with log.open("ab") as file:
        file.write(b"no end")
    assert LogReader(log).last(2) == (line(count - 1) + b"no end").decode()


def test_who_follows_reads_each_line_once(log: Path) -> None:
    count = enough(LIMIT // 2)
    write(log, range(count))
    reader = LogReader(log)
    read = [reader.last(count)]
    for number in range(1, 12):
        write(log, range(number * count, (number + 1) * count))
        trim(log, nothing)
        read.append(reader.more())
    assert "".join(read) == b"".join(map(line, range(12 * count))).decode()


def test_who_follows_reads_on_through_a_start(log: Path) -> None:
    write(log, range(10))
    reader = LogReader(log)
    assert reader.last(1) == line(9).decode()
    write(log, range(10, enough(LIMIT)))
    server_logs.rotate(log)
    assert reader.more() == ""
    write(log, range(5))
    expected = b"".join(map(line, [*range(10, enough(LIMIT)), *range(5)])).decode()
    assert reader.more() == expected
    log.write_bytes(b"emptied, and more\n")
    assert reader.more() == "emptied, and more\n"
    log.unlink()
    assert reader.more() == ""
    log.write_bytes("another \u00fc".encode()[:-1])
    assert reader.more() == "another "
    with log.open("ab") as file:
        file.write("\u00fc\n".encode()[1:])
    assert reader.more() == "\u00fc\n"
