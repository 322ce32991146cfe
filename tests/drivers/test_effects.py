"""Every effect on the machine: whole or not at all, announced, and on the right process."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from waiting import PATIENCE_S, eventually

from reconciler.core.observed import ProcessRef
from reconciler.drivers import effects, locks, proc


class Killed(BaseException):
    """The program ends here."""


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    heard: list[str] = []
    monkeypatch.setattr(effects, "hook", heard.append)
    return heard


@pytest.fixture
def sleeper() -> Iterator[ProcessRef]:
    with subprocess.Popen(["/bin/sleep", "60"], start_new_session=True) as process:
        ref = proc.ref_of(process.pid)
        assert ref is not None
        yield ref
        process.kill()


def spawn_true(folder: Path) -> None:
    effects.spawn(["/bin/true"], env={}, cwd="/", log=str(folder / "log"), keep=()).wait()


def publish(path: Path, target: Path) -> None:
    descriptor = os.open(path, os.O_RDWR)
    try:
        effects.publish(descriptor, path, target)
    finally:
        os.close(descriptor)


def setup(folder: Path) -> None:
    (folder / "file").write_text("old", encoding="utf-8")
    (folder / "link").symlink_to("old")
    (folder / "tree").mkdir()


EFFECTS: dict[str, Callable[[Path], object]] = {
    "mkdir {}/new": lambda folder: effects.make_folder(folder / "new"),
    "write {}/file": lambda folder: effects.write_atomic(folder / "file", "new"),
    "write {}/new": lambda folder: effects.write_folder(folder / "new", {"a/b": "c"}),
    "note {}/file": lambda folder: effects.overwrite(folder / "file", "new"),
    "link {}/link": lambda folder: effects.swap_link(folder / "link", "new"),
    "append {}/file": lambda folder: effects.append_line(folder / "file", "new\n"),
    "create {}/new": lambda folder: os.close(effects.open_partial(folder / "new")),
    "publish {}/moved": lambda folder: publish(folder / "file", folder / "moved"),
    "unlink {}/file": lambda folder: effects.unlink(folder / "file"),
    "chmod {}/file": lambda folder: effects.make_executable(folder / "file"),
    "rename {}/file": lambda folder: effects.rename(folder / "file", folder / "moved"),
    "rmtree {}/tree": lambda folder: effects.remove_tree(folder / "tree"),
    "spawn /bin/true": spawn_true,
}


def picture(folder: Path) -> list[tuple[str, int, str]]:
    """Everything in a folder as it stands."""
    found = []
    for path in sorted(folder.rglob("*")):
        is_file = path.is_file() and not path.is_symlink()
        content = path.read_text(encoding="utf-8") if is_file else str(path.is_symlink())
        content = str(path.readlink()) if path.is_symlink() else content
        found.append((path.name, path.lstat().st_mode, content))
    return found


@pytest.mark.parametrize("what", EFFECTS)
def test_each_effect_is_announced_before_and_after(
    tmp_path: Path, told: list[str], what: str
) -> None:
    setup(tmp_path)
    EFFECTS[what](tmp_path)
    name = what.format(tmp_path)
    assert told == [f"before {name}", f"after {name}"]


@pytest.mark.parametrize("what", EFFECTS)
def test_who_is_killed_before_an_effect_changed_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    setup(tmp_path)
    before = picture(tmp_path)

    def die(_what: str) -> None:
        raise Killed

    monkeypatch.setattr(effects, "hook", die)
    with pytest.raises(Killed):
        EFFECTS[what](tmp_path)
    assert picture(tmp_path) == before


@pytest.mark.parametrize("what", [key for key in EFFECTS if not key.startswith("spawn")])
def test_who_is_killed_after_an_effect_changed_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    setup(tmp_path)
    before = picture(tmp_path)
    seen = []

    def die_after(said: str) -> None:
        if said.startswith("after"):
            seen.append(picture(tmp_path))
            raise Killed

    monkeypatch.setattr(effects, "hook", die_after)
    with pytest.raises(Killed):
        EFFECTS[what](tmp_path)
    assert seen == [picture(tmp_path)] != [before]


# ---- files


@pytest.mark.parametrize("broken", ["os.fsync", "pathlib.Path.replace"])
def test_an_interrupted_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    file = tmp_path / "file"
    effects.write_atomic(file, "old")

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(broken, fail)
    with pytest.raises(OSError, match="No space left") as hit:
        effects.write_atomic(file, "new" * 1000)
    assert hit.value.filename == str(file)
    assert file.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    "what", [key for key in EFFECTS if key.partition(" ")[0] in {"write", "note", "link"}]
)
def test_what_cannot_be_written_is_named_not_its_temporary_file(tmp_path: Path, what: str) -> None:
    missing = tmp_path / "missing"
    with pytest.raises(FileNotFoundError) as hit:
        EFFECTS[what](missing)
    assert hit.value.filename == what.format(missing).partition(" ")[2]


def test_two_writers_of_one_file_do_not_meet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two models of one repository note its commit at the same time."""
    both, failed = threading.Barrier(2, timeout=PATIENCE_S), []
    fsync = os.fsync

    def when_both_have_written(descriptor: int) -> None:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            both.wait()
        fsync(descriptor)

    def write(text: str) -> None:
        try:
            effects.write_atomic(tmp_path / "file", text)
        except OSError as error:
            failed.append(error)

    monkeypatch.setattr(os, "fsync", when_both_have_written)
    writers = [threading.Thread(target=write, args=(text,)) for text in ("one", "other")]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert failed == []
    assert (tmp_path / "file").read_text(encoding="utf-8") in {"one", "other"}
    assert [one.name for one in tmp_path.iterdir()] == ["file"]


def test_a_sweep_takes_what_dead_writers_left_and_nothing_else(tmp_path: Path) -> None:
    with subprocess.Popen(["/bin/true"]) as process:
        process.wait()
    (tmp_path / "below").mkdir()
    left = [f".file.{process.pid}.tmp", f"below/.x.y.{process.pid}.tmp"]
    kept = [f".file.{os.getpid()}.tmp", ".file.tmp", f"file.{process.pid}.tmp", "below/file"]
    for name in (*left, *kept):
        (tmp_path / name).touch()
    effects.sweep(tmp_path)
    found = [one.relative_to(tmp_path) for one in tmp_path.rglob("*") if one.is_file()]
    assert sorted(map(str, found)) == sorted(kept)
    effects.sweep(tmp_path / "nowhere")


def test_a_write_that_is_killed_before_its_rename_leaves_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "file"
    effects.write_atomic(file, "old")
    code = (
        "import os, sys; from reconciler.drivers import effects;"
        "os.fsync = lambda _: os.kill(os.getpid(), 9);"
        "effects.write_atomic(sys.argv[1], 'new')"
    )
    ended = subprocess.run([sys.executable, "-c", code, str(file)], check=False)
    assert ended.returncode == -9
    assert file.read_text(encoding="utf-8") == "old"
    effects.write_atomic(file, "newer")
    assert file.read_text(encoding="utf-8") == "newer"


def test_a_write_is_private_unless_said_otherwise(tmp_path: Path) -> None:
    for mode in (0o600, 0o644):
        effects.write_atomic(tmp_path / "file", "\u00fc", mode)
        assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == mode
    assert (tmp_path / "file").read_bytes() == "\u00fc".encode()


def test_a_folder_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    code = (
        "import os, sys; from reconciler.drivers import effects;"
        "os.replace = os.rename = lambda *_, **__: os.kill(os.getpid(), 9);"
        "effects.write_folder(sys.argv[1], {'a': 'b', 'c/d': 'e'})"
    )
    new = tmp_path / "new"
    ended = subprocess.run([sys.executable, "-c", code, str(new)], check=False)
    assert ended.returncode == -9
    assert not new.exists()
    assert len(list(tmp_path.iterdir())) == 1
    effects.sweep(tmp_path)
    assert list(tmp_path.iterdir()) == []
    effects.write_folder(new, {"a": "b", "c/d": "e"})
    found = [one for one in picture(tmp_path) if stat.S_ISREG(one[1])]
    assert [(name, stat.S_IMODE(mode), text) for name, mode, text in found] == [
        ("a", 0o600, "b"),
        ("d", 0o600, "e"),
    ]
    assert stat.S_IMODE(new.stat().st_mode) == stat.S_IMODE((new / "c").stat().st_mode) == 0o700


def test_a_note_keeps_the_lock_on_its_file(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    held = locks.take(str(path))
    assert held is not None
    effects.overwrite(path, "a long note")
    effects.overwrite(path, "short")
    assert path.read_text(encoding="utf-8") == "short"
    assert locks.take(str(path)) is None
    os.close(held)


def test_a_link_that_a_killed_run_left_half_made_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / f".link.{threading.get_native_id()}.tmp").symlink_to("half")
    effects.swap_link(tmp_path / "link", "whole")
    assert [one.name for one in tmp_path.iterdir()] == ["link"]
    assert (tmp_path / "link").readlink() == Path("whole")


def test_what_is_there_or_gone_already_is_no_effect(tmp_path: Path, told: list[str]) -> None:
    effects.make_folder(tmp_path)
    effects.unlink(tmp_path / "nothing")
    assert told == []


def test_a_dangling_link_can_be_removed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    effects.unlink(tmp_path / "link")
    assert list(tmp_path.iterdir()) == []


def test_who_may_read_may_execute(tmp_path: Path) -> None:
    for before, after in ((0o640, 0o750), (0o604, 0o705), (0o600, 0o700)):
        (tmp_path / "file").touch()
        (tmp_path / "file").chmod(before)
        effects.make_executable(tmp_path / "file")
        assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == after


# ---- processes


def test_a_log_is_appended_to_and_the_environment_is_exact(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("before\n", encoding="utf-8")
    for number in ("1", "2"):
        effects.spawn(
            ["/usr/bin/env"], env={"ONLY": number}, cwd=str(tmp_path), log=str(log), keep=()
        ).wait()
    assert log.read_text(encoding="utf-8") == "before\nONLY=1\nONLY=2\n"


def test_a_signal_goes_to_this_very_process(sleeper: ProcessRef, told: list[str]) -> None:
    assert effects.send(sleeper, signal.SIGTERM, proc.lives)
    eventually(lambda: not proc.lives(sleeper), "it ends")
    assert told == [f"before SIGTERM {sleeper.pid}", f"after SIGTERM {sleeper.pid}"]


def test_a_reused_pid_is_never_signalled(sleeper: ProcessRef, told: list[str]) -> None:
    former = ProcessRef(sleeper.pid, sleeper.start_ticks - 1)
    assert not effects.send(former, signal.SIGKILL, proc.lives)
    assert not effects.kill_group(former, proc.lives)
    assert told == []
    assert proc.lives(sleeper)


def test_the_identity_is_checked_when_the_process_can_no_longer_change(
    sleeper: ProcessRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    opened, sent = os.pidfd_open, signal.pidfd_send_signal

    def opening(pid: int) -> int:
        order.append("open")
        return opened(pid)

    def sending(descriptor: int, number: int) -> None:
        order.append("send")
        sent(descriptor, number)

    monkeypatch.setattr(os, "pidfd_open", opening)
    monkeypatch.setattr(signal, "pidfd_send_signal", sending)

    def still(process: ProcessRef) -> bool:
        order.append("check")
        return proc.lives(process)

    assert effects.send(sleeper, signal.SIGTERM, still)
    assert order == ["open", "check", "send"]


def test_the_dead_get_no_signal(told: list[str]) -> None:
    with subprocess.Popen(["/bin/true"]) as process:
        process.wait()
    gone = ProcessRef(process.pid, 1)
    assert not effects.send(gone, signal.SIGTERM, proc.lives)
    assert not effects.kill_group(gone, proc.lives)
    assert told == []


def test_who_dies_between_check_and_signal_is_no_error(
    sleeper: ProcessRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_late(*_: object) -> None:
        raise ProcessLookupError

    monkeypatch.setattr(signal, "pidfd_send_signal", too_late)
    assert not effects.send(sleeper, signal.SIGTERM, proc.lives)
    assert not effects.kill_group(sleeper, proc.lives)


def test_a_kernel_that_knows_no_group_by_its_descriptor_gets_its_number(
    sleeper: ProcessRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_held: int, _number: int, _info: None, flags: int) -> None:
        assert flags == 1 << 2
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(signal, "pidfd_send_signal", refuse)
    assert effects.kill_group(sleeper, proc.lives)
    eventually(lambda: not proc.lives(sleeper), "it ends")


def test_what_the_kernel_forbids_is_an_error(
    sleeper: ProcessRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(signal, "pidfd_send_signal", refuse)
    with pytest.raises(PermissionError) as hit:
        effects.kill_group(sleeper, proc.lives)
    assert hit.value.filename == f"process {sleeper.pid}"
    assert proc.lives(sleeper)
