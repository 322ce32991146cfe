"""The state folder on a real disk: the journal, its owner, the run lock between processes."""

from __future__ import annotations

import errno
import json
import os
import re
import select
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fake_drivers import FakeState
from launches import make_launch

from reconciler.core.downtime import LastStart
from reconciler.core.launch import LastGood
from reconciler.core.observed import Journal, LastExit
from reconciler.core.suspension import Suspension
from reconciler.core.words import InstanceName, ModelName, SpecHash
from reconciler.drivers import effects, locks, proc
from reconciler.drivers.base import State
from reconciler.drivers.state import StateFolder, state_folder
from reconciler.errors import ExitCode, LockHeldError, StateFolderError

FULL = Journal(
    desired="desired/prod.yaml",
    protected=frozenset({ModelName("z"), ModelName("a")}),
    suspended={
        ModelName("m"): Suspension(12.5, "by hand"),
        ModelName("n"): Suspension(12.5, "", 99.5, 7200),
    },
    last_exits={InstanceName("m[1]"): LastExit(3.25, "it died: \u00fc", SpecHash("abc"))},
    parts={"m": "0123456789ab", "gateway": "0123456789ab"},
    starts={InstanceName("m[1]"): LastStart(0.25, 140)},
    last_good={
        InstanceName("m"): LastGood(
            replace(make_launch("m", env=(("A", "1"),)), weights=("/x.gguf",)), SpecHash("x"), "y"
        )
    },
)
HOLD = """
import os, sys
from pathlib import Path
from reconciler.drivers.state import StateFolder
with StateFolder(sys.argv[2]).run_lock(0):
    print("held", flush=True)
    sys.stdin.read()
"""


class StateContract(ABC):
    """What every `State` does; the subclasses give one."""

    @pytest.fixture
    @abstractmethod
    def state(self, tmp_path: Path) -> State: ...

    def test_the_journal_is_empty_at_first(self, state: State) -> None:
        assert state.read() == Journal()

    def test_what_was_written_is_read(self, state: State) -> None:
        state.write(FULL)
        assert state.read() == FULL
        state.write(Journal(desired="y.yaml"))
        assert state.read() == Journal(desired="y.yaml")

    def test_the_lock_can_be_taken_again(self, state: State) -> None:
        for _ in range(2):
            with state.run_lock(0):
                pass

    def test_the_lock_excludes(self, state: State) -> None:
        with (
            state.run_lock(0),
            pytest.raises(LockHeldError, match="another run is at work on this root: "),
            state.run_lock(0),
        ):
            pass

    def test_the_lock_is_free_after_an_error(self, state: State) -> None:
        with pytest.raises(ZeroDivisionError), state.run_lock(0):
            raise ZeroDivisionError
        with state.run_lock(0):
            pass

    def test_the_boot_has_a_name_that_stays(self, state: State) -> None:
        assert state.boot_id() == state.boot_id() != ""


class TestFakeState(StateContract):
    @pytest.fixture
    def state(self, tmp_path: Path) -> State:
        return FakeState()


class TestStateFolder(StateContract):
    @pytest.fixture
    def state(self, tmp_path: Path) -> State:
        return StateFolder(str(tmp_path / "st"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "st"


@pytest.fixture
def holder(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another program that holds the run lock: `apply x.yaml`."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, "apply", str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


# ---- where it lies


def test_the_folder_follows_the_root_and_the_environment() -> None:
    assert re.fullmatch(
        r"/h/\.local/state/llm-reconcile/[0-9a-f]{12}", state_folder("/srv/llm", {"HOME": "/h"})
    )
    there = state_folder("/srv/llm", {"HOME": "/h", "XDG_STATE_HOME": "/s"})
    assert there.startswith("/s/llm-reconcile/")
    assert there != state_folder("/srv/llm2", {"XDG_STATE_HOME": "/s"})
    assert state_folder("/srv/llm", {"HOME": "/h", "XDG_STATE_HOME": ""}).startswith("/h/")


def test_without_a_home_it_is_the_users() -> None:
    assert state_folder("/srv/llm", {}).startswith(str(Path.home()))


def test_a_path_too_long_for_sockets_is_said_beforehand() -> None:
    longest = next(
        length
        for length in range(107, 0, -1)
        if not _raises_for({"XDG_STATE_HOME": "/" + "x" * (length - 1)})
    )
    folder = state_folder("/r", {"XDG_STATE_HOME": "/" + "x" * (longest - 1)})
    assert len(f"{folder}/s/12345678-123456.a.sock") == 107
    with pytest.raises(StateFolderError, match="too long for unix sockets") as hit:
        state_folder("/r", {"XDG_STATE_HOME": "/" + "x" * longest})
    assert "XDG_STATE_HOME" in hit.value.hint


def _raises_for(environment: dict[str, str]) -> bool:
    try:
        state_folder("/r", environment)
    except StateFolderError:
        return True
    return False


def test_a_folder_of_another_user_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.mkdir()
    StateFolder(str(folder)).check()
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.raises(StateFolderError, match=f"belongs to another user \\(uid {owner}\\)") as hit:
        StateFolder(str(folder)).check()
    assert "XDG_STATE_HOME" in hit.value.hint


def test_a_folder_that_is_not_there_is_nobodys(folder: Path) -> None:
    StateFolder(str(folder)).check()
    assert not folder.exists()


def test_a_folder_that_cannot_be_looked_at_is_said(folder: Path) -> None:
    folder.write_text("a file", encoding="utf-8")
    with pytest.raises(StateFolderError, match="Not a directory"):
        StateFolder(f"{folder}/inside").check()


def test_a_folder_that_cannot_be_used_is_said(folder: Path) -> None:
    folder.write_text("a file", encoding="utf-8")
    state = StateFolder(f"{folder}/inside")
    with pytest.raises(StateFolderError, match=r"used: \S+/inside: Not a directory") as hit:
        state.run_lock(0).__enter__()
    assert "XDG_STATE_HOME" in hit.value.hint


def test_a_full_disk_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    state = StateFolder(str(folder))
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StateFolderError, match="No space left"):
        state.write(FULL)
    assert state.read() == Journal()
    assert list(folder.iterdir()) == []


def test_a_journal_that_cannot_be_read_is_not_to_be_removed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> str:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(StateFolderError, match="Too many open files") as hit:
        StateFolder(str(folder)).read()
    assert "ulimit -n" in hit.value.hint
    assert "remove" not in hit.value.hint


# ---- the journal


def test_the_journal_is_private_and_readable_by_people(folder: Path) -> None:
    StateFolder(str(folder)).write(FULL)
    path = folder / "journal.json"
    assert path.stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700
    assert json.loads(path.read_text(encoding="utf-8"))["protected"] == ["a", "z"]


def test_an_equal_journal_is_not_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = StateFolder(str(folder))
    state.write(FULL)
    done: list[str] = []
    monkeypatch.setattr(effects, "hook", done.append)
    state.write(FULL)
    StateFolder(str(folder)).write(state.read())
    assert done == []


def test_reading_makes_nothing(folder: Path) -> None:
    StateFolder(str(folder)).read()
    assert not folder.exists()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"desired": null}',
        '{"desired": null, "protected": 3, "suspended": {}, "last_exits": {}}',
        '{"desired": null, "protected": [], "suspended": [], "last_exits": {}}',
        '{"desired": null, "protected": [], "suspended": {"m": {"x": 1}}, "last_exits": {}}',
        '{"desired": null, "protected": [], "suspended": {}, "last_exits": {"m": {"at": 1}}}',
        '{"desired": null, "protected": [], "suspended": {}, "last_exits": {}, "starts": {"m": 1}}',
        "\udcff",
    ],
)
def test_a_broken_journal_says_what_its_removal_costs(folder: Path, text: str) -> None:
    folder.mkdir()
    path = folder / "journal.json"
    path.write_bytes(text.encode(errors="surrogateescape"))
    state = StateFolder(str(folder))
    with pytest.raises(StateFolderError, match=re.escape(f"{path} cannot be read")) as hit:
        state.read()
    assert "remove it" in hit.value.hint
    with pytest.raises(StateFolderError):
        state.write(Journal())
    assert path.read_bytes() == text.encode(errors="surrogateescape")


# ---- the run lock


def test_the_holder_is_named_by_pid_and_verb(folder: Path, holder: subprocess.Popen[str]) -> None:
    with (
        pytest.raises(LockHeldError, match=f"pid {holder.pid} \\(") as hit,
        StateFolder(str(folder)).run_lock(0),
    ):
        pass
    assert hit.value.exit_code is ExitCode.LOCKED
    assert "status" in hit.value.hint


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (
            ("/venv/bin/python3", "/venv/bin/llm-reconcile", "apply", "x.yaml"),
            "llm-reconcile apply x.yaml",
        ),
        (("/usr/bin/llm-reconcile", "watch"), "llm-reconcile watch"),
        (("x" * 200,), "x" * 80),
        ((), ""),
    ],
)
def test_a_holder_is_named_as_it_was_typed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, argv: tuple[str, ...], words: str
) -> None:
    monkeypatch.setattr(proc, "command_line", lambda _pid: argv)
    monkeypatch.setattr(proc, "holders_of", lambda _path: (proc.ref_of(os.getpid()),))
    state = StateFolder(str(folder))
    named = re.escape(f"pid {os.getpid()} ({words})")
    with state.run_lock(0), pytest.raises(LockHeldError, match=named), state.run_lock(0):
        pass


def test_a_holder_that_has_just_ended_has_no_name(folder: Path) -> None:
    state = StateFolder(str(folder))
    with (
        state.run_lock(0),
        pytest.raises(LockHeldError, match="it has just ended"),
        state.run_lock(0),
    ):
        pass


def test_the_lock_is_free_at_once_when_its_holder_is_killed(
    folder: Path, holder: subprocess.Popen[str]
) -> None:
    holder.kill()
    holder.wait()
    with StateFolder(str(folder)).run_lock(0):
        pass


def test_a_lock_is_waited_for(folder: Path, holder: subprocess.Popen[str]) -> None:
    waiting = subprocess.Popen(
        [sys.executable, "-c", HOLD.replace("run_lock(0)", "run_lock(60)"), "x", str(folder)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    with waiting:
        assert waiting.stdout is not None
        # It does not get it while the holder lives, however long we look.
        assert select.select([waiting.stdout], [], [], 0.3)[0] == []
        holder.kill()
        assert waiting.stdout.readline() == "held\n"


def test_no_child_inherits_the_lock(folder: Path) -> None:
    path = str(folder / "run.lock")
    with StateFolder(str(folder)).run_lock(0):
        slot = locks.take(str(folder / "slots" / "m.a"))
        assert slot is not None
        child = effects.spawn(["/bin/sleep", "60"], env={}, cwd="/", log="/dev/null", keep=(slot,))
        os.close(slot)
    try:
        assert proc.holders_of(path) == ()
        assert [one.pid for one in proc.holders_of(str(folder / "slots" / "m.a"))] == [child.pid]
        with StateFolder(str(folder)).run_lock(0):
            pass
    finally:
        child.kill()
        child.wait()
