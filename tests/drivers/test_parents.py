"""The shell above a server: it notes how the server ended, whoever is gone by then."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from process_rig import NEVER, ProcessRig, process_rig
from waiting import PATIENCE_S, eventually

from reconciler.core.causes import REBOOTED
from reconciler.core.observed import LastExit, ProcessRef
from reconciler.core.words import InstanceName
from reconciler.drivers import parents, proc, slots
from reconciler.drivers.server_logs import deaths
from reconciler.errors import EngineError

M = InstanceName("m")
STARTS_AND_DIES = (
    "import sys; sys.path[:0] = sys.argv[1].split(':');"
    "from process_rig import *; import os;"
    "rig = ProcessRig(Site(sys.argv[2], sys.argv[3], 'x'));"
    "rig.start('m', 'a', *sys.argv[4:]); os.kill(os.getpid(), 9)"
)


@pytest.fixture
def rig() -> Iterator[ProcessRig]:
    with process_rig() as made:
        yield made


def orphan(rig: ProcessRig, *flags: str) -> ProcessRef:
    """A server whose starter was killed: nobody of us is above it any more."""
    here = Path(__file__).parent
    paths = ":".join(str(one) for one in (here, here.parent, here.parent / "fakes"))
    argv = [sys.executable, "-c", STARTS_AND_DIES, paths, rig.site.root, rig.site.state, *flags]
    assert subprocess.run(argv, check=False).returncode == -signal.SIGKILL
    [server] = rig.runtime.list()
    return server.ref


def shell_of(rig: ProcessRig, server: ProcessRef) -> ProcessRef:
    found = parents.parent_of(server, rig.site.slots)
    assert found is not None
    return found


def note(rig: ProcessRig) -> Path:
    return Path(rig.site.slot_lock(M, "a"))


def death(rig: ProcessRig) -> LastExit:
    return rig.fresh().deaths(())[M]


def gone(rig: ProcessRig, *some: ProcessRef) -> None:
    for one in some:
        assert rig.fresh().wait_gone(one, PATIENCE_S, NEVER)


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (signal.SIGSEGV, "killed by SIGSEGV: an error in the engine"),
        (signal.SIGKILL, "killed by SIGKILL"),
        (signal.SIGTERM, "it ended by itself (exit 0)"),
    ],
)
def test_how_a_server_ended_is_known_though_nobody_was_there(
    rig: ProcessRig, number: signal.Signals, reason: str
) -> None:
    server = orphan(rig)
    os.kill(server.pid, number)
    gone(rig, server)
    found = death(rig)
    assert found.reason.startswith(reason)
    assert (found.seen, found.began) == (True, True)
    rig.start()
    assert rig.fresh().deaths(rig.runtime.list()) == {}


def test_a_shell_that_ends_while_we_look_for_it_has_noted_how(
    rig: ProcessRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = orphan(rig)
    shell = shell_of(rig, server)
    os.kill(shell.pid, signal.SIGSTOP)
    os.kill(server.pid, signal.SIGTERM)
    gone(rig, server)
    look = parents._shell

    def late(pid: int, folder: str) -> ProcessRef | None:
        os.kill(pid, signal.SIGCONT)
        gone(rig, shell)
        return look(pid, folder)

    monkeypatch.setattr(parents, "_shell", late)
    assert death(rig).reason.startswith("it ended by itself (exit 0)")


def test_who_was_started_since_we_looked_has_not_died(rig: ProcessRig) -> None:
    rig.start()
    assert rig.fresh().deaths(()) == {}


def test_nobody_waits_for_a_copy_that_lives_to_be_told_how_the_other_one_ended(
    rig: ProcessRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell, ended = shell_of(rig, rig.start("m", "a")), rig.start("m", "b")
    os.kill(ended.pid, signal.SIGKILL)
    gone(rig, ended)
    look, looked_for = parents._shell, []

    def noted(pid: int, folder: str) -> ProcessRef | None:
        looked_for.append(pid)
        return look(pid, folder)

    monkeypatch.setattr(parents, "_shell", noted)
    found = rig.fresh().exited(ended, M)
    assert found is not None
    assert found.code == -9
    assert shell.pid not in looked_for


def test_a_slot_is_free_as_soon_as_its_server_is_dead(rig: ProcessRig) -> None:
    """Its shell may take its time, and says too late what the next one has not done."""
    first = orphan(rig)
    shell = shell_of(rig, first)
    os.kill(shell.pid, signal.SIGSTOP)
    try:
        os.kill(first.pid, signal.SIGKILL)
        gone(rig, first)
        second = rig.start()
    finally:
        os.kill(shell.pid, signal.SIGCONT)
    gone(rig, shell)
    os.kill(shell_of(rig, second).pid, signal.SIGKILL)
    os.kill(second.pid, signal.SIGKILL)
    gone(rig, second)
    assert f"exit {first.pid} " in note(rig).read_text()
    assert death(rig).reason == "it ended, and its log does not say why"


def test_a_server_outlives_its_shell(rig: ProcessRig) -> None:
    server = rig.start()
    shell = shell_of(rig, server)
    os.kill(shell.pid, signal.SIGKILL)
    gone(rig, shell)
    [seen] = rig.fresh().list()
    assert seen.ref == server
    os.kill(server.pid, signal.SIGSEGV)
    gone(rig, server)
    for runtime in (rig.runtime, rig.fresh()):
        ended = runtime.exited(server, M)
        assert ended is not None
        assert ended.code is None
    assert death(rig).reason == "it ended, and its log does not say why"


def test_a_whole_group_that_is_killed_leaves_a_death(rig: ProcessRig) -> None:
    server = orphan(rig, "--child")
    os.killpg(shell_of(rig, server).pid, signal.SIGKILL)
    gone(rig, server)
    eventually(lambda: rig.pids() == [], "its helper is dead too")
    assert not death(rig).seen


def test_signals_to_the_shell_are_nothing(rig: ProcessRig) -> None:
    server = rig.start()
    shell = shell_of(rig, server)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(shell.pid, number)
    os.kill(server.pid, signal.SIGABRT)
    gone(rig, server, shell)
    assert death(rig).reason.startswith("killed by SIGABRT")


def test_killing_ends_all_of_the_group_and_how_is_noted_first(rig: ProcessRig) -> None:
    server = orphan(rig, "--child", "--ignore-term")
    assert len(rig.pids()) == 2
    shell = shell_of(rig, server)
    rig.runtime.kill(server)
    gone(rig, server, shell)
    eventually(lambda: rig.pids() == [], "its helper is dead too")
    assert slots.parse(note(rig).read_text()).code == -9


def test_the_shell_is_no_server_holds_no_slot_and_bears_no_label(rig: ProcessRig) -> None:
    server = rig.start()
    shell = shell_of(rig, server)
    eventually(lambda: slots.parse(note(rig).read_text()).server == server, "noted")
    assert rig.pids() == [server.pid]
    assert [one.pids for one in rig.runtime.list()] == [(server.pid,)]
    assert proc.holders_of(rig.site.slot_lock(M, "a")) == (server,)
    assert set(proc.open_files(shell.pid)) == {"/dev/null", rig.site.log_file(M)}
    assert not any(name.startswith("LLM_RECONCILE") for name in proc.environment(shell.pid))
    assert not rig.runtime.unsettled()


def test_the_machine_was_restarted(rig: ProcessRig) -> None:
    """Of its own accord or not: what was told to end when the machine went down has not crashed."""
    server = orphan(rig)
    os.kill(server.pid, signal.SIGKILL)
    gone(rig, server)
    assert death(rig).reason.startswith("killed by SIGKILL")
    later = note(rig).stat().st_mtime + 60
    assert deaths(rig.site, (), later)[M].reason == REBOOTED.reason
    text = note(rig).read_text()
    note(rig).write_text(text.replace(" 137\n", " 139\n"))
    assert deaths(rig.site, (), later)[M].reason.startswith("killed by SIGSEGV")
    note(rig).write_text(text.partition("exit")[0])
    assert deaths(rig.site, (), later)[M].reason == REBOOTED.reason


def test_a_lack_of_memory_is_proved_by_the_kernels_count(rig: ProcessRig) -> None:
    server = orphan(rig)
    os.kill(server.pid, signal.SIGKILL)
    gone(rig, server)
    death(rig)
    counter = Path(rig.site.root, "memory.events")
    lines = [line for line in note(rig).read_text().splitlines() if not line.startswith("oom")]
    lines.insert(1, f"oom 3 {counter}")
    note(rig).write_text("\n".join(lines) + "\n")
    for kills, reason in (("3", "(kill -9)"), ("4", "not enough memory: the kernel killed it")):
        counter.write_text(f"low 0\noom 9\noom_kill {kills}\noom_group_kill 0\n")
        assert death(rig).reason.endswith(reason)
    counter.unlink()
    assert death(rig).reason.endswith("perhaps for lack of memory")


@pytest.mark.parametrize(("number", "code"), [(15, 0), (9, -9), (6, -6)])
def test_exit_codes_are_the_childs_own(rig: ProcessRig, number: int, code: int) -> None:
    ref = rig.start()
    assert rig.runtime.exited(ref, M) is None
    os.kill(ref.pid, number)
    assert rig.runtime.wait_gone(ref, PATIENCE_S, NEVER)
    ended = rig.runtime.exited(ref, M)
    assert ended is not None
    assert ended.code == code


# ---- without one


def test_without_a_shell_it_is_started_all_the_same(
    rig: ProcessRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parents, "SHELL", "/nowhere/sh")
    server = rig.start()
    assert parents.parent_of(server, rig.site.slots) is None
    assert os.getpgid(server.pid) == server.pid
    os.kill(server.pid, signal.SIGSEGV)
    gone(rig, server)
    own, others = rig.runtime.exited(server, M), rig.fresh().exited(server, M)
    assert own is not None
    assert others is not None
    assert (own.code, others.code) == (-11, None)
    assert death(rig).reason == "it ended, and its log does not say why"


@pytest.mark.parametrize("shell", ["/bin/true", "/bin/false"])
def test_what_is_no_shell_is_done_without(
    rig: ProcessRig, monkeypatch: pytest.MonkeyPatch, shell: str
) -> None:
    monkeypatch.setattr(parents, "SHELL", shell)
    server = rig.start()
    assert os.getpgid(server.pid) == server.pid
    assert rig.pids() == [server.pid]


@pytest.mark.parametrize("late", ["kill -9 $$", "sleep 600"])
def test_of_a_shell_that_fails_after_its_fork_nothing_goes_on(
    rig: ProcessRig, monkeypatch: pytest.MonkeyPatch, late: str
) -> None:
    """What it forked waits for us, and must not begin beside the one that is started instead."""
    monkeypatch.setattr(parents, "SETTLE_S", 1.0)
    monkeypatch.setattr(parents, "SCRIPT", parents.SCRIPT.replace("trap", f"{late}; trap", 1))
    server = rig.start()
    assert parents.parent_of(server, rig.site.slots) is None
    assert rig.pids() == [server.pid]
    assert rig.log().count("up") == 1


def test_what_a_shell_forked_and_does_not_end_is_in_the_way(
    rig: ProcessRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parents, "SETTLE_S", 0.2)
    monkeypatch.setattr(proc, "holders_of", lambda _: [1])
    monkeypatch.setattr(parents, "SCRIPT", "exit 0")
    with pytest.raises(EngineError, match="/bin/sh was killed, and what it forked does not end"):
        rig.runtime.start(rig.launch())


def test_the_engine_begins_when_its_identity_is_known(
    rig: ProcessRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that dies at once is gone from /proc before a slow shell has looked there."""
    slow = parents.SCRIPT.replace("p=$!;", "p=$!; sleep 0.2;", 1)
    assert slow != parents.SCRIPT
    monkeypatch.setattr(parents, "SCRIPT", slow)
    server = rig.runtime.start(replace(rig.launch(), command=("/bin/false",)))
    gone(rig, server)
    ended = rig.fresh().exited(server, M)
    assert ended is not None
    assert ended.code == 1


def test_a_program_that_is_none_is_said_at_once(rig: ProcessRig) -> None:
    program = Path(rig.site.root, "engine")
    for told in ("No such file", "Permission denied"):
        launch = replace(rig.launch(), command=(str(program),))
        with pytest.raises(EngineError, match=told):
            rig.runtime.start(launch)
        program.write_bytes(b"\x7fELF\x02\x01 of another machine")
    program.chmod(0o755)
    server = rig.runtime.start(replace(rig.launch(), command=("./engine",)))
    gone(rig, server)
    assert death(rig).reason == "the engine is not a program of this kind of machine"
    assert death(rig).final


def ignored(pid: int) -> set[int]:
    """The signals that a process ignores (proc(5): SigIgn)."""
    status = Path(f"/proc/{pid}/status").read_text()
    mask = int(dict(line.split(":\t", 1) for line in status.splitlines())["SigIgn"], 16)
    return {number for number in range(1, 65) if mask >> (number - 1) & 1}


def test_core_files_limits_and_variables_are_the_engines_own(rig: ProcessRig) -> None:
    """A shell between must not show: no variable more, and signals as they are by default."""
    rig.runtime.start(rig.launch(env=(("s", "1"), ("p", "a b"), ("LONG", "y" * 9999))))
    eventually(lambda: "up" in rig.log(), "up")
    [server] = rig.runtime.list()
    env = proc.environment(server.ref.pid)
    assert {name: env[name] for name in ("s", "p")} == {"s": "1", "p": "a b"}
    assert len(env["LONG"]) == 9999
    assert not env.keys() & {"PWD", "OLDPWD", "SHLVL"}
    # Both are Python's: it ignores SIGPIPE, and whoever runs these tests may SIGHUP (nohup).
    ours, its = ignored(os.getpid()), ignored(server.ref.pid)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGCHLD):
        assert (number in its) is (number in ours), number
