"""The server processes of a root, with real small processes: labels, locks, signals, logs."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from process_rig import COMMAND, DIRTY, NEVER, ProcessRig, process_rig
from waiting import PATIENCE_S, eventually

from reconciler.core.engine import (
    LABEL_FILES,
    LABEL_INSTANCE,
    LABEL_PREFIX,
    LABEL_ROOT,
    LABEL_SLOT,
    LABEL_SPEC,
)
from reconciler.core.observed import ProcessRef
from reconciler.core.words import InstanceName, Phase
from reconciler.drivers import effects, labelled, locks, proc, processes
from reconciler.drivers.clock import SystemClock
from reconciler.drivers.processes import ServerProcesses
from reconciler.errors import EngineError

M = InstanceName("m")


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Iterator[ProcessRig]:
    monkeypatch.setattr(processes, "SLOT_WAIT_S", 0.05)
    with process_rig(DIRTY) as made:
        yield made


def status_of(pid: int, field: str) -> str:
    text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)[field].strip()


def parent(ref: ProcessRef) -> int:
    """The shell above a server."""
    stat = proc.read_stat(ref.pid)
    assert stat is not None
    return stat.parent


def lock_of(rig: ProcessRig, slot: str = "a") -> str:
    return rig.site.slot_lock(M, slot)


class LettingGo(SystemClock):
    """Somebody lets go of a lock after the first look at it."""

    def __init__(self, held: int) -> None:
        self._held = held
        self._looks = 0

    def monotonic(self) -> float:
        self._looks += 1
        if self._looks == 2:
            os.close(self._held)
        return super().monotonic()


# ---- what a server is given


def test_the_environment_is_the_labels_and_little_else(rig: ProcessRig) -> None:
    launch = rig.launch("m", "b", env=(("CUDA_VISIBLE_DEVICES", "0"),))
    ref = rig.runtime.start(launch)
    eventually(lambda: "up" in rig.log(), "up")
    assert proc.environment(ref.pid) == {
        "PATH": DIRTY["PATH"],
        "HOME": DIRTY["HOME"],
        "XDG_CONFIG_HOME": f"{rig.site.state}/empty",
        "CUDA_VISIBLE_DEVICES": "0",
        LABEL_ROOT: rig.site.root,
        LABEL_INSTANCE: "m",
        LABEL_SPEC: launch.spec_hash,
        LABEL_SLOT: "b",
        LABEL_FILES: "8:1:2:3",
    }
    assert list(Path(rig.site.state, "empty").iterdir()) == []


def test_the_labels_stand_nowhere_else(rig: ProcessRig) -> None:
    launch, ref = rig.launch(), rig.start()
    assert proc.command_line(ref.pid) == (*COMMAND, *launch.argv)
    assert LABEL_PREFIX not in " ".join(proc.command_line(ref.pid))
    labels = {LABEL_ROOT, LABEL_INSTANCE, LABEL_SPEC, LABEL_SLOT, LABEL_FILES}
    assert not labels & os.environ.keys()
    written = [path for path in Path(rig.site.root).parent.rglob("*") if path.is_file()]
    assert written
    assert not any(launch.spec_hash.encode() in path.read_bytes() for path in written)


def test_the_user_may_not_take_a_label_but_may_set_the_rest(rig: ProcessRig) -> None:
    env = ((LABEL_INSTANCE, "fake"), ("XDG_CONFIG_HOME", "/own"))
    ref = rig.runtime.start(rig.launch(env=env))
    eventually(lambda: "up" in rig.log(), "up")
    assert proc.environment(ref.pid)[LABEL_INSTANCE] == "m"
    assert ("XDG_CONFIG_HOME", "/own") in rig.fresh().list()[0].base_env


def test_what_the_user_gave_is_read_back(rig: ProcessRig) -> None:
    rig.runtime.start(rig.launch("m", "a", "--n-gpu-layers", "99", env=(("B", "2"), ("A", "1"))))
    eventually(lambda: "up" in rig.log(), "up")
    [seen] = rig.fresh().list()
    assert seen.env == (("A", "1"), ("B", "2"))
    assert seen.argv[-2:] == ("--n-gpu-layers", "99")
    assert seen.memory_bytes > 2**20
    assert abs(seen.since - SystemClock().now()) < 60


def test_it_has_a_session_and_a_group_of_its_own(rig: ProcessRig) -> None:
    ref = rig.start()
    shell = parent(ref)
    assert os.getsid(ref.pid) == os.getpgid(ref.pid) == shell
    assert shell != os.getpid()


def test_what_it_makes_is_private_and_logged(rig: ProcessRig) -> None:
    ref = rig.start()
    assert status_of(ref.pid, "Umask") == "0077"
    log = Path(rig.site.log_file(M))
    assert [Path(f"/proc/{ref.pid}/fd/{number}").readlink() for number in (1, 2)] == [log, log]
    assert Path(f"/proc/{ref.pid}/cwd").readlink() == Path(rig.site.root)
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    assert stat.S_IMODE(Path(rig.site.sockets).stat().st_mode) == 0o700


def test_it_inherits_its_slot_and_nothing_else(rig: ProcessRig) -> None:
    ref = rig.start()
    assert proc.holders_of(lock_of(rig)) == (ref,)
    assert set(proc.open_files(ref.pid)) == {"/dev/null", rig.site.log_file(M), lock_of(rig)}
    assert lock_of(rig) not in proc.open_files(os.getpid())


def test_a_socket_left_behind_is_removed_first(rig: ProcessRig) -> None:
    path = Path(rig.site.socket(M, "a"))
    path.parent.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    rig.start()
    assert not path.exists()


def test_a_command_that_is_missing_is_said(rig: ProcessRig) -> None:
    launch = replace(rig.launch(), command=("/nowhere/llama-server",))
    with pytest.raises(EngineError, match="not be started: /nowhere/llama-server: No such") as hit:
        rig.runtime.start(launch)
    assert hit.value.hint
    assert not Path(rig.site.pid_file(M)).exists()
    rig.start()


# ---- the slot


def test_a_taken_slot_names_its_holder_to_every_run(rig: ProcessRig) -> None:
    ref = rig.start()
    for runtime in (rig.runtime, rig.fresh()):
        with pytest.raises(
            EngineError, match=rf"a copy of m already runs \(pid {ref.pid}\)"
        ) as hit:
            runtime.start(rig.launch())
        assert "apply again" in hit.value.hint
    assert rig.pids() == [ref.pid]
    assert Path(rig.site.pid_file(M)).read_text(encoding="ascii") == f"{ref.pid}\n\n"


def test_a_slot_dies_with_its_server(rig: ProcessRig) -> None:
    ref = rig.start()
    os.kill(ref.pid, 9)
    assert rig.runtime.wait_gone(ref, PATIENCE_S, NEVER)
    taken = locks.take(lock_of(rig))
    assert taken is not None
    os.close(taken)


def test_a_slot_that_is_held_for_a_moment_is_waited_for(rig: ProcessRig) -> None:
    held = locks.take(lock_of(rig))
    assert held is not None
    letting_go = LettingGo(held)
    rig.runtimes.append(ServerProcesses(rig.site, rig.environment, letting_go))
    assert rig.runtimes[-1].start(rig.launch()).pid in rig.pids()


def test_unsettled_is_a_slot_held_without_labels(
    rig: ProcessRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not rig.runtime.unsettled()
    held = locks.take(lock_of(rig))
    assert held is not None
    assert not rig.runtime.unsettled()
    other = rig.beside(held)
    os.close(held)
    assert rig.runtime.unsettled()
    with monkeypatch.context() as patched:
        patched.setattr(labelled, "OLD_S", -1.0)
        assert not rig.runtime.unsettled(), "what runs for long is no start of ours"
    other.kill()
    other.wait()
    assert not rig.runtime.unsettled()
    rig.start()
    assert not rig.runtime.unsettled()


# ---- finding them again


def test_another_run_finds_it_also_without_our_notes(rig: ProcessRig) -> None:
    ref = rig.start("m[1]", "b")
    before = rig.runtime.list()
    shutil.rmtree(f"{rig.site.root}/run")
    shutil.rmtree(f"{rig.site.root}/logs")
    [seen] = rig.fresh().list()
    assert (seen.ref, seen.instance, seen.slot) == (ref, "m[1]", "b")
    assert replace(seen, since=0, memory_bytes=0) == replace(before[0], since=0, memory_bytes=0)


def test_what_is_not_this_roots_is_not_seen(rig: ProcessRig) -> None:
    with process_rig() as neighbour:
        theirs = neighbour.start()
        rig.beside()
        rig.beside(labelled=True)
        assert rig.runtime.list() == ()
        ours = rig.start()
        assert [one.ref for one in rig.runtime.list()] == [ours]
        assert [one.ref for one in neighbour.runtime.list()] == [theirs]


def test_a_helper_of_an_engine_is_no_server(rig: ProcessRig) -> None:
    ref = rig.start("m", "a", "--child")
    assert len(rig.pids()) == 2
    assert [one.ref for one in rig.fresh().list()] == [ref]
    rig.runtime.kill(ref)
    assert rig.runtime.wait_gone(ref, PATIENCE_S, NEVER)
    eventually(lambda: rig.pids() == [], "its helper ends with it")


def test_who_only_waits_to_be_reaped_is_gone(rig: ProcessRig) -> None:
    ref = rig.start()
    shell = parent(ref)
    os.kill(shell, signal.SIGSTOP)
    os.kill(ref.pid, signal.SIGKILL)
    eventually(lambda: status_of(ref.pid, "State").startswith("Z"), "a zombie")
    assert rig.runtime.list() == ()
    assert not proc.lives(ref)
    assert rig.fresh().exited(ref, M) is not None
    assert rig.fresh().wait_gone(ref, 0, NEVER)
    os.kill(shell, signal.SIGCONT)
    assert rig.runtime.wait_gone(ref, 0, NEVER)
    assert proc.read_stat(ref.pid) is None


def test_who_vanishes_while_being_looked_at_is_not_there(
    rig: ProcessRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.start()
    with monkeypatch.context() as patch:
        patch.setattr(proc, "ref_of", lambda _pid: None)
        assert rig.runtime.list() == ()


@pytest.mark.parametrize(
    ("listen", "address"),
    [(("--port", "8001"), "127.0.0.1:8001"), (("--host", "10.0.0.1"), "10.0.0.1:8080")],
)
def test_the_address_is_read_from_the_arguments(
    rig: ProcessRig, listen: tuple[str, ...], address: str
) -> None:
    rig.runtime.start(replace(rig.launch(), argv=("--model", "/x.gguf", *listen)))
    eventually(lambda: "up" in rig.log(), "up")
    [seen] = rig.runtime.list()
    assert (seen.address, seen.routed) == (address, True)


# ---- the end


def test_term_is_sent_once_whoever_asks(rig: ProcessRig) -> None:
    ref = rig.start("m", "a", "--ignore-term")
    rig.runtime.signal_stop(ref, M, "a")
    rig.runtime.signal_stop(ref, M, "a")
    again = rig.fresh()
    again.signal_stop(ref, M, "a")
    assert [one.phase for one in again.list()] == [Phase.STOPPING]
    # Signals come in order: when the one sent now shows, an earlier one would have shown too.
    eventually(lambda: rig.log().count("TERM") == 1, "the first TERM")
    os.kill(ref.pid, 15)
    eventually(lambda: rig.log().count("TERM") >= 2, "our own TERM")
    assert rig.log().count("TERM") == 2


def test_each_copy_gets_a_term_of_its_own(rig: ProcessRig) -> None:
    a, b = rig.start("m", "a", "--ignore-term"), rig.start("m", "b", "--ignore-term")
    rig.runtime.signal_stop(a, M, "a")
    phases = {one.ref: one.phase for one in rig.runtime.list()}
    assert phases == {a: Phase.STOPPING, b: Phase.STARTING}
    rig.runtime.signal_stop(b, M, "b")
    eventually(lambda: rig.log().count("TERM") == 2, "both TERMs")


def test_a_pid_that_was_given_to_another_is_never_signalled(
    rig: ProcessRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = rig.start()
    former = ProcessRef(ref.pid, ref.start_ticks - 1)
    sent: list[str] = []
    monkeypatch.setattr(effects, "hook", sent.append)
    rig.runtime.signal_stop(former, M, "a")
    rig.runtime.kill(former)
    assert rig.runtime.wait_gone(former, 0, NEVER)
    assert sent == []
    assert Path(lock_of(rig)).read_text(encoding="utf-8").startswith("log ")
    assert rig.pids() == [ref.pid]


def test_kill_ends_the_whole_group(rig: ProcessRig) -> None:
    ref = rig.start("m", "a", "--ignore-term", "--child")
    assert len(rig.pids()) == 2
    rig.fresh().kill(ref)
    assert rig.runtime.wait_gone(ref, PATIENCE_S, NEVER)
    eventually(lambda: rig.pids() == [], "the group is gone")


def test_an_engine_that_lost_its_wrapper_is_found_and_killed(rig: ProcessRig) -> None:
    wrapped = ("/bin/sh", "-c", '"$@"; :', "sh", *COMMAND)
    wrapper = rig.runtime.start(replace(rig.launch("m", "a", "--ignore-term"), command=wrapped))
    eventually(lambda: "up" in rig.log(), "up")
    [seen] = rig.runtime.list()
    assert seen.ref == wrapper
    # What it holds is what the engine behind it holds.
    assert sorted(seen.pids) == rig.pids()
    assert seen.memory_bytes > proc.resident_bytes(wrapper.pid) + 2**20
    os.kill(wrapper.pid, 9)
    assert rig.runtime.wait_gone(wrapper, PATIENCE_S, NEVER)
    [engine] = rig.runtime.list()
    with pytest.raises(EngineError, match=f"pid {engine.ref.pid}"):
        rig.runtime.start(rig.launch())
    rig.runtime.kill(engine.ref)
    assert rig.runtime.wait_gone(engine.ref, PATIENCE_S, NEVER)
    assert rig.runtime.list() == ()


def test_a_cancelled_wait_returns(rig: ProcessRig) -> None:
    ref = rig.start()
    cancel = threading.Event()
    cancel.set()
    assert not rig.runtime.wait_gone(ref, 600, cancel)


def test_the_end_of_an_adopted_server_is_seen_at_once(rig: ProcessRig) -> None:
    ref = rig.start()
    adopted = rig.fresh()
    assert not adopted.wait_gone(ref, 0.05, NEVER)
    killer = threading.Timer(0.05, os.kill, (ref.pid, 9))
    killer.start()
    assert adopted.wait_gone(ref, PATIENCE_S, NEVER)
    killer.join()
    ended = adopted.exited(ref, M)
    assert ended is not None
    assert (ended.code, ended.log_tail) == (-9, "up")


def test_a_server_outlives_the_run_that_started_it(rig: ProcessRig) -> None:
    code = (
        "import sys; sys.path[:0] = sys.argv[1].split(':');"
        "from process_rig import *; import os;"
        "rig = ProcessRig(Site(sys.argv[2], sys.argv[3], 'x'));"
        "print(rig.start().pid, flush=True); os.kill(os.getpid(), 9)"
    )
    here = Path(__file__).parent
    paths = ":".join(str(one) for one in (here, here.parent, here.parent / "fakes"))
    made = subprocess.run(
        [sys.executable, "-c", code, paths, rig.site.root, rig.site.state],
        input=b"not for the server",
        stdout=subprocess.PIPE,
        check=False,
    )
    assert made.returncode == -9
    [seen] = rig.runtime.list()
    assert seen.ref.pid == int(made.stdout)
    assert Path(f"/proc/{seen.ref.pid}/fd/0").readlink() == Path("/dev/null")
    rig.runtime.signal_stop(seen.ref, M, "a")
    assert rig.runtime.wait_gone(seen.ref, PATIENCE_S, NEVER)
    assert "TERM" in rig.log()
