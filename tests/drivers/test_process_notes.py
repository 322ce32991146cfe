"""What lies beside the servers of a root: logs and their tails, pid files, routes."""

from __future__ import annotations

import errno
import os
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from process_rig import NEVER, ProcessRig, process_rig
from waiting import PATIENCE_S

from reconciler.core.words import InstanceName, Phase
from reconciler.drivers import effects, labelled, server_logs
from reconciler.drivers.clock import SystemClock
from reconciler.drivers.processes import ServerProcesses
from reconciler.errors import StateFolderError

M = InstanceName("m")


@pytest.fixture
def rig() -> Iterator[ProcessRig]:
    with process_rig() as made:
        yield made


def test_the_tail_of_a_start_begins_with_it(rig: ProcessRig) -> None:
    rig.run("m", "--say", "old failure", "--exit", "1")
    ref = rig.run("m", "--say", "new failure", "--exit", "1")
    ended = rig.runtime.exited(ref, M)
    assert ended is not None
    assert ended.log_tail == "new failure"
    assert rig.runtime.log_tail(M, 10) == "old failure\nnew failure"


def test_the_tail_has_an_end(rig: ProcessRig) -> None:
    lines = [f"line {number}" for number in range(9000)]
    ref = rig.run("m", "--say", "\n".join(lines), "--exit", "1")
    ended = rig.runtime.exited(ref, M)
    assert ended is not None
    assert ended.log_tail.splitlines() == lines[-400:]
    assert 63 * 2**10 < len(rig.runtime.log_tail(M, 10**6)) <= 64 * 2**10


def test_the_tail_is_without_a_backtrace(rig: ProcessRig) -> None:
    """As ggml writes it without a debugger: the lines before it say what happened."""
    end = Path(__file__).parents[1] / "data" / "ends" / "cuda-memory-stream.txt"
    _, _, log = end.read_text(encoding="utf-8").partition("\n\n")
    ref = rig.run("m", "--say", log.rstrip(), "--exit", "1")
    ended = rig.runtime.exited(ref, M)
    assert ended is not None
    told = ended.log_tail.splitlines()
    assert told[-3].endswith("E CUDA error: out of memory")
    assert told[-1].endswith("cudaStreamCreateWithFlags(&streams[device][stream], 0x01)")
    assert told == log.splitlines()[: len(told)]
    assert rig.runtime.log_tail(M, 2).splitlines() == told[-2:]


def test_a_log_that_somebody_emptied_is_read_from_its_beginning(rig: ProcessRig) -> None:
    rig.run("m", "--say", "x" * 100, "--exit", "1")
    ref = rig.run("m", "--say", "y" * 100, "--exit", "1")
    Path(rig.site.log_file(M)).write_text("short\n", encoding="utf-8")
    ended = rig.runtime.exited(ref, M)
    assert ended is not None
    assert ended.log_tail == "short"


def test_a_log_that_is_not_text_is_shown_as_far_as_it_goes(rig: ProcessRig) -> None:
    log = Path(rig.site.log_file(M))
    log.parent.mkdir()
    log.write_bytes(b"a \xff b\n")
    assert rig.runtime.log_tail(M, 1) == "a \ufffd b"


def test_full_logs_are_moved_aside_and_five_are_kept(
    rig: ProcessRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_logs, "LOG_LIMIT_BYTES", 4)
    for number in range(8):
        rig.run("m", "--say", f"run {number}", "--exit", "0")
    log = Path(rig.site.log_file(M))
    names = [log, *(log.with_name(f"m.log.{number}") for number in range(1, 6))]
    assert [one.read_text(encoding="utf-8") for one in names] == [
        f"run {number}\n" for number in (7, 6, 5, 4, 3, 2)
    ]
    assert sorted(log.parent.iterdir()) == sorted(names)


def test_the_log_of_a_server_that_runs_is_set_aside_too(
    rig: ProcessRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.run("m", "--say", "before", "--exit", "0")
    ref = rig.start()
    note = Path(rig.site.slot_lock(M, "a"))
    assert note.read_text(encoding="utf-8").startswith("log 7\n")
    monkeypatch.setattr(server_logs, "LOG_LIMIT_BYTES", 2**20)
    log = Path(rig.site.log_file(M))
    with log.open("ab") as file:
        file.write(b"it says a lot\n" * 2**17)
    half = log.with_name(".m.log.1.4194305.tmp")
    half.write_text("of a run that was killed", encoding="utf-8")
    rig.runtime.tidy({})
    assert (log.with_name("m.log.1").stat().st_size, half.exists()) == (2**20, False)
    assert note.read_text(encoding="utf-8").startswith("log 0\n")
    assert rig.runtime.log_tail(M, 1) == "it says a lot"
    with log.open("ab") as file:
        file.write(b"it says a lot\n" * 2**17)
    rig.runtime.trim_logs()
    assert log.with_name("m.log.2").exists()
    rig.runtime.kill(ref)
    assert rig.runtime.wait_gone(ref, 20, threading.Event())
    ended = rig.runtime.exited(ref, M)
    assert ended is not None
    assert ended.log_tail.splitlines() == ["it says a lot"] * server_logs.CAUSE_LINES


def test_a_log_with_room_goes_on(rig: ProcessRig) -> None:
    assert server_logs.LOG_LIMIT_BYTES == 50 * 2**20
    rig.run("m", "--say", "one", "--exit", "0")
    rig.run("m", "--say", "two", "--exit", "0")
    assert rig.log() == "one\ntwo\n"
    assert [one.name for one in Path(rig.site.root, "logs").iterdir()] == ["m.log"]


def test_a_new_copy_does_not_inherit_the_note_of_a_stop(rig: ProcessRig) -> None:
    # After a reboot pid and start ticks may well come again.
    ref = rig.run("m", "--exit", "0")
    note = Path(rig.site.slot_lock(M, "a"))
    note.write_text(f"stopping {ref.pid} {ref.start_ticks}\n", encoding="utf-8")
    rig.start()
    assert note.read_text(encoding="utf-8").startswith("log 0\n")


@pytest.mark.parametrize(("port", "line"), [(8001, "8001"), (None, "")])
def test_the_pid_file_has_pid_and_public_port(rig: ProcessRig, port: int | None, line: str) -> None:
    ref = rig.runtime.start(rig.launch("m[2]", port=port))
    text = Path(rig.site.root, "run", "m.2.pid").read_text(encoding="ascii")
    assert text == f"{ref.pid}\n{line}\n"


def test_forget_removes_only_its_own_pid_file(rig: ProcessRig) -> None:
    old, new = rig.start("m", "a"), rig.start("m", "b")
    pid_file, old_socket = Path(rig.site.pid_file(M)), Path(rig.site.socket(M, "a"))
    old_socket.touch()
    rig.runtime.forget(old, M, f"unix:{old_socket}")
    assert not old_socket.exists()
    assert pid_file.read_text(encoding="ascii") == f"{new.pid}\n\n"
    rig.runtime.forget(new, M, f"unix:{rig.site.socket(M, 'b')}")
    assert not pid_file.exists()
    rig.runtime.forget(new, M, "127.0.0.1:8001")


def refused(monkeypatch: pytest.MonkeyPatch, *verbs: str) -> None:
    """Let these effects fail."""

    def refuse(said: str) -> None:
        if said.startswith(tuple(f"before {verb}" for verb in verbs)):
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(effects, "hook", refuse)


def test_who_was_not_told_to_end_is_not_noted_as_ending(
    rig: ProcessRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = rig.start()
    slot = Path(rig.site.slot_lock(M, "a"))
    before = slot.read_text(encoding="utf-8")
    refused(monkeypatch, "SIGTERM")
    with pytest.raises(OSError, match="Input/output error"):
        rig.runtime.signal_stop(ref, M, "a")
    (seen,) = rig.runtime.list()
    assert seen.phase is Phase.STARTING
    assert slot.read_text(encoding="utf-8") == before
    monkeypatch.undo()
    rig.runtime.signal_stop(ref, M, "a")
    assert rig.runtime.wait_gone(ref, PATIENCE_S, NEVER)


def test_what_a_dead_server_left_and_cannot_be_removed_is_no_error(
    rig: ProcessRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = rig.run("m", "--exit", "0")
    socket = Path(rig.site.socket(M, "a"))
    socket.touch()
    refused(monkeypatch, "unlink")
    rig.runtime.forget(ref, M, f"unix:{socket}")
    assert socket.exists()
    monkeypatch.undo()
    rig.runtime.tidy({})
    assert not socket.exists()
    assert not Path(rig.site.pid_file(M)).exists()


def test_tidying_takes_what_killed_runs_left_half_written(rig: ProcessRig) -> None:
    with subprocess.Popen(["/bin/true"]) as process:
        process.wait()
    for folder in ("run", "elsewhere"):
        Path(rig.site.root, folder).mkdir()
    left = [Path(rig.site.root, "run"), Path(rig.site.state, "gateway", "0123456789ab")]
    left[1].mkdir(parents=True)
    names = [one / f".x.{process.pid}.tmp" for one in (*left, Path(rig.site.root, "elsewhere"))]
    for name in names:
        name.touch()
    rig.runtime.tidy({})
    assert [name.exists() for name in names] == [False, False, True]


def test_tidying_takes_sockets_of_the_dead_and_of_no_one_else(rig: ProcessRig) -> None:
    ref = rig.start("m", "a")
    dead = rig.start("m", "b")
    rig.runtime.kill(dead)
    assert rig.runtime.wait_gone(dead, PATIENCE_S, NEVER)
    a, b = (Path(rig.site.socket(M, slot)) for slot in "ab")
    a.touch()
    b.touch()
    rig.fresh().tidy({})
    assert (a.exists(), b.exists()) == (True, False)
    assert rig.pids() == [ref.pid]


def test_tidying_makes_lost_pid_files_again_and_writes_no_others(
    rig: ProcessRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = rig.start()
    pid_file = Path(rig.site.pid_file(M))
    pid_file.unlink()
    pid_file.parent.rmdir()
    rig.runtime.tidy({M: 8001})
    assert pid_file.read_text(encoding="ascii") == f"{ref.pid}\n8001\n"
    done: list[str] = []
    monkeypatch.setattr(effects, "hook", done.append)
    rig.fresh().tidy({M: 8001})
    assert done == []


def test_tidying_an_empty_root_is_nothing(rig: ProcessRig) -> None:
    rig.runtime.tidy({M: 8001})
    assert not Path(rig.site.state).exists()


# ---- routes


def test_a_route_is_swapped_and_written_only_when_it_changes(
    rig: ProcessRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.start()
    a, b = (f"unix:{rig.site.socket(M, slot)}" for slot in "ab")
    link = Path(rig.site.route(M))
    done: list[str] = []
    monkeypatch.setattr(effects, "hook", done.append)
    for address, writes in ((a, 2), (a, 2), (b, 4), (b, 4)):
        rig.runtime.route(M, address)
        assert link.readlink() == Path(Path(address).name)
        assert len(done) == writes
    rig.runtime.unroute(M, a)
    assert link.is_symlink()
    rig.runtime.unroute(M, b)
    assert not link.is_symlink()
    rig.runtime.unroute(M, b)
    assert len(done) == 6


def test_a_port_needs_no_route(rig: ProcessRig) -> None:
    rig.runtime.route(M, "127.0.0.1:8001")
    rig.runtime.unroute(M, "127.0.0.1:8001")
    assert not Path(rig.site.state).exists()


def test_servers_of_another_state_folder_are_refused_not_doubled(rig: ProcessRig) -> None:
    rig.start()
    moved = replace(rig.site, state=f"{rig.site.state}/elsewhere/llm-reconcile/123456789abc")
    with pytest.raises(StateFolderError, match="was started with the state folder") as hit:
        ServerProcesses(moved, rig.environment, SystemClock()).list()
    assert "XDG_STATE_HOME=" in hit.value.hint


def test_a_server_whose_socket_was_removed_is_given_up(
    rig: ProcessRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.start()
    socket = Path(rig.site.socket(M, "a"))
    socket.touch()
    monkeypatch.setattr(labelled, "LOST_AFTER_S", 0.0)
    assert [one.phase for one in rig.fresh().list()] == [Phase.STARTING]
    socket.unlink()
    assert [one.phase for one in rig.fresh().list()] == [Phase.STOPPING]
    monkeypatch.setattr(labelled, "LOST_AFTER_S", 3600.0)
    assert [one.phase for one in rig.fresh().list()] == [Phase.STARTING]


def test_tidying_spares_the_socket_of_a_server_that_lost_its_lock(rig: ProcessRig) -> None:
    ref = rig.start()
    socket, lock = Path(rig.site.socket(M, "a")), Path(rig.site.slot_lock(M, "a"))
    socket.touch()
    lock.unlink()
    lock.touch()
    rig.fresh().tidy({})
    assert socket.exists()
    assert rig.pids() == [ref.pid]
