"""Reading /proc, on processes that live, die, wait to be reaped, or never were."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from waiting import PATIENCE_S, eventually

from reconciler.core.observed import ProcessRef
from reconciler.drivers import locks, proc
from reconciler.drivers.clock import SystemClock

NEVER = threading.Event()
NOBODY = 2**22 + 1
"""More than the kernel's largest pid."""


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["/bin/sleep", "60"], env={"A": "1=2", "B": ""}) as process:
        yield process
        process.kill()


@pytest.fixture
def zombie() -> Iterator[int]:
    with subprocess.Popen(["/bin/true"]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        yield process.pid


def ref(pid: int) -> ProcessRef:
    found = proc.ref_of(pid)
    assert found is not None
    return found


ENDS_ITS_FIRST_THREAD = """
import ctypes, os, threading
threading.Thread(target=input).start()
ctypes.CDLL(None).syscall(93 if os.uname().machine == "aarch64" else 60, 0)
"""


def test_a_process_lives_until_its_last_thread_has_ended() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", ENDS_ITS_FIRST_THREAD], stdin=subprocess.PIPE
    ) as process:
        known = ref(process.pid)

        def has_begun_to_end() -> bool:
            seen = proc.read_stat(process.pid)
            return seen is not None and (seen.state, seen.threads) == ("Z", 2)

        eventually(has_begun_to_end, "its first thread has ended")
        assert proc.lives(known)
        assert not proc.wait_gone(known, 0.2, NEVER)
        process.kill()
        assert proc.wait_gone(known, PATIENCE_S, NEVER)
        assert not proc.lives(known)


def test_nobody_has_no_traces() -> None:
    assert proc.read_stat(NOBODY) is None
    assert proc.ref_of(NOBODY) is None
    assert proc.environment(NOBODY) == {}
    assert proc.command_line(NOBODY) == ()
    assert proc.resident_bytes(NOBODY) == 0
    assert list(proc.open_files(NOBODY)) == []
    assert not proc.lives(ProcessRef(NOBODY, 0))
    assert proc.wait_gone(ProcessRef(NOBODY, 0), 0, NEVER)


def test_a_process_is_read(sleeper: subprocess.Popen[bytes]) -> None:
    eventually(lambda: proc.command_line(sleeper.pid) == ("/bin/sleep", "60"), "its exec")
    assert proc.environment(sleeper.pid) == {"A": "1=2", "B": ""}
    seen = proc.read_stat(sleeper.pid)
    assert seen is not None
    assert seen.parent == os.getpid()
    assert proc.resident_bytes(os.getpid()) > 2**20
    assert sleeper.pid in proc.own_pids()


def is_read(pid: int, environment: dict[str, str]) -> bool:
    return proc.environment(pid) == environment


def test_processes_are_found_by_a_variable() -> None:
    argv, name = ["/bin/sleep", "60"], f"LABEL_{os.getpid()}"
    environments = [{name: "", "B": "2"}, {f"X{name}": "1"}, {"B": f"{name}=1"}]
    children = [subprocess.Popen(argv, env=one) for one in environments]
    try:
        for one, environment in zip(children, environments, strict=True):
            eventually(partial(is_read, one.pid, environment), "its exec")
        assert dict(proc.environments(name)) == {children[0].pid: environments[0]}
    finally:
        for one in children:
            one.kill()
            one.wait()


def test_a_name_with_spaces_and_brackets_is_no_obstacle(tmp_path: Path) -> None:
    program = tmp_path / "a) R (b"
    program.symlink_to("/bin/sleep")
    with subprocess.Popen([program, "60"]) as process:
        eventually(lambda: proc.command_line(process.pid)[:1] == (str(program),), "its exec")
        seen = proc.read_stat(process.pid)
        process.kill()
    assert seen is not None
    assert (seen.parent, seen.state in "SDR") == (os.getpid(), True)


def test_an_identity_is_pid_and_start(sleeper: subprocess.Popen[bytes]) -> None:
    it = ref(sleeper.pid)
    assert proc.lives(it)
    assert not proc.lives(ProcessRef(it.pid, it.start_ticks + 1))
    assert it.start_ticks >= ref(os.getpid()).start_ticks
    now = SystemClock().now()
    assert 0 <= now - proc.started_at(it, now) + 0.1 < 60


def test_a_zombie_does_not_live(zombie: int) -> None:
    stat = proc.read_stat(zombie)
    assert stat is not None
    assert stat.state == "Z"
    assert proc.ref_of(zombie) is None
    assert not proc.lives(ProcessRef(zombie, stat.start_ticks))
    assert proc.wait_gone(ProcessRef(zombie, stat.start_ticks), 60, NEVER)
    assert proc.environment(zombie) == {}


def test_the_boot_has_a_uuid() -> None:
    assert len(proc.boot_id()) == 36


def test_an_unreadable_process_of_ours_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> bytes:
        raise PermissionError

    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert proc.environment(os.getpid()) == {}
    assert proc.command_line(os.getpid()) == ()


@pytest.mark.parametrize(
    "look", [proc.read_stat, proc.environment, proc.command_line, proc.resident_bytes]
)
def test_who_cannot_be_looked_at_is_not_dead(
    monkeypatch: pytest.MonkeyPatch, look: Callable[[int], object]
) -> None:
    """Without a descriptor left, a server that lives must not be taken for one that has ended."""

    def refuse(*_: object, **__: object) -> bytes:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    for name in ("read_bytes", "read_text"):
        monkeypatch.setattr(Path, name, refuse)
    with pytest.raises(OSError, match="Too many open files"):
        look(os.getpid())


def test_whose_descriptors_cannot_be_listed_is_not_passed_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(_path: str) -> list[str]:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(os, "listdir", refuse)
    with pytest.raises(OSError, match="Too many open files"):
        list(proc.open_files(os.getpid()))


# ---- holders


def test_the_holder_of_an_inherited_lock_is_found(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    held = locks.take(path)
    assert held is not None
    assert proc.holders_of(path) == ()
    with subprocess.Popen(["/bin/sleep", "60"], pass_fds=(held,)) as process:
        os.close(held)
        assert proc.holders_of(path) == (ref(process.pid),)
        Path(path).unlink()
        assert proc.holders_of(path) == (ref(process.pid),)
        process.kill()
    assert proc.holders_of(path) == ()


def test_all_holders_are_found_in_order(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    with (
        path.open("rb") as file,
        subprocess.Popen(["/bin/sleep", "60"], stdin=file) as first,
        subprocess.Popen(["/bin/sleep", "60"], stdin=file) as second,
    ):
        assert proc.holders_of(str(path)) == tuple(sorted((ref(first.pid), ref(second.pid))))
        first.kill()
        second.kill()


def test_a_descriptor_that_closes_meanwhile_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(_path: str) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(os, "readlink", gone)
    assert list(proc.open_files(os.getpid())) == []


def test_a_process_that_ends_meanwhile_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    class Entry:
        name = "1"

        def stat(self) -> os.stat_result:
            raise ProcessLookupError

    class Entries(list[Entry]):
        def __enter__(self) -> Entries:
            return self

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr(os, "scandir", lambda _path: Entries([Entry()]))
    assert list(proc.own_pids()) == []


# ---- waiting


def test_waiting_ends_with_the_process(sleeper: subprocess.Popen[bytes]) -> None:
    it = ref(sleeper.pid)
    killer = threading.Timer(0.05, sleeper.kill)
    killer.start()
    assert proc.wait_gone(it, PATIENCE_S, NEVER)
    killer.join()


def test_waiting_ends_with_the_time(sleeper: subprocess.Popen[bytes]) -> None:
    assert not proc.wait_gone(ref(sleeper.pid), 0.15, NEVER)
    assert not proc.wait_gone(ref(sleeper.pid), 0, NEVER)


def test_waiting_ends_with_the_run(sleeper: subprocess.Popen[bytes]) -> None:
    cancel = threading.Event()
    cancel.set()
    assert not proc.wait_gone(ref(sleeper.pid), 600, cancel)


def test_who_is_no_child_of_ours_can_be_waited_for() -> None:
    code = (
        "import subprocess as s; p = s.Popen(['/bin/sleep', '60'], stdout=s.DEVNULL);"
        "print(p.pid, flush=True); p.returncode = 0"
    )
    made = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True)
    it = ref(int(made.stdout))
    assert not proc.wait_gone(it, 0.01, NEVER)
    os.kill(it.pid, 9)
    assert proc.wait_gone(it, PATIENCE_S, NEVER)
