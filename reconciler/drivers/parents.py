"""The one-line shell between us and a server: it waits, and notes on the slot how the server ended.

In: a server's command and environment, its slot. Out: its process, with or without such a parent.
An exit status is told to the parent alone, and a run ends before its servers do. The shell holds
no lock and bears no label; its command line names the slot.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from reconciler.core.engine import LABEL_INSTANCE
from reconciler.core.observed import ProcessRef
from reconciler.drivers import effects, proc, slots

SHELL = "/bin/sh"
SCRIPT = (
    # Standard input is the slot's lock, standard output where we wait for the engine's identity
    # and hang up.
    'exec 3<&0 4>&1 </dev/null >&2; export "$1" "$2" "$3" "$4" "$5"; shift 5; '
    "unset PWD OLDPWD SHLVL; { read -r LLM_RECONCILE_GO <&4; unset LLM_RECONCILE_GO; "
    'exec "$@" 4>&-; } & '
    "trap '' TERM INT HUP PIPE; exec 3<&- 2>/dev/null; "
    "p=$!; read -r s </proc/$p/stat; set -- ${s##*)}; "
    'echo "run $p ${20} $$" >>"$0"; echo "$p ${20}" >&4; exec 4>&-; '
    'wait $p; c=$?; echo "exit $p ${20} $c" >>"$0"; exit $c'
)
"""For any POSIX shell. It closes the lock as soon as the engine has it: that must be free when the
engine is dead. Signals are ignored once the engine is forked, which so does not inherit that. What
follows the last parenthesis of /proc/PID/stat starts with its third field; the 22nd is wanted. The
engine begins when we hang up: one that dies at once would be forgotten by dash before that."""
LABELS = 5
SETTLE_S = 5.0
NOTE_S = 3.0
"""How long a shell may take to note an end: a millisecond, but more where all is overloaded."""


@dataclass(frozen=True, slots=True)
class Started:
    """A server's process, and our own child: the same, or the shell between."""

    ref: ProcessRef
    child: subprocess.Popen[bytes]

    @property
    def is_alone(self) -> bool:
        """It has no such parent."""
        return self.child.pid == self.ref.pid

    def code(self) -> int | None:
        """How it ended, as subprocess gives it; None while nobody knows."""
        if self.is_alone:
            return self.child.poll()
        with contextlib.suppress(subprocess.TimeoutExpired):
            told = self.child.wait(NOTE_S)
            # A shell that was killed says nothing of its engine.
            return slots.code_of(told) if told >= 0 else None
        return None


def start(
    command: Sequence[str],
    labels: Mapping[str, str],
    env: Mapping[str, str],
    place: tuple[str, str],
    slot: tuple[int, str],
) -> Started:
    """Start a server, with a parent where there is a shell.

    `place`: its folder and its log. `slot`: the lock that it inherits, open, and the path of that.

    Raises:
        OSError: it cannot be executed.
    """
    cwd, log = place
    if os.access(SHELL, os.X_OK):
        _refuse_no_program(command[0], cwd)
        words = [f"{name}={value}" for name, value in labels.items()]
        argv = [SHELL, "-c", SCRIPT, slot[1], *words, *command]
        if started := _start_below(argv, env, place, slot[0]):
            return started
        _await_free(slot[1])
    child = effects.spawn(command, env={**env, **labels}, cwd=cwd, log=log, keep=(slot[0],))
    stat = proc.read_stat(child.pid)
    return Started(ProcessRef(child.pid, stat.start_ticks if stat else 0), child)


def _await_free(slot: str) -> None:
    """What was killed before it began may still be ending: another one would be a second."""
    deadline = time.monotonic() + SETTLE_S
    while proc.holders_of(slot):
        if time.monotonic() > deadline:
            raise ChildProcessError(f"{SHELL} was killed, and what it forked does not end")
        time.sleep(0.001)


def _refuse_no_program(program: str, cwd: str) -> None:
    """What exec would say at once, which a shell says in the log only."""
    path = Path(cwd) / program
    if "/" in program:
        path.stat()
        if not os.access(path, os.X_OK):
            raise PermissionError(13, os.strerror(13), str(path))


def _start_below(
    argv: Sequence[str], env: Mapping[str, str], place: tuple[str, str], lock: int
) -> Started | None:
    """None: the shell does not do what it should, and started nothing."""
    ours, its = socket.socketpair()
    with ours:
        with its:
            streams = (lock, its.fileno())
            child = effects.spawn(argv, env=env, cwd=place[0], log=place[1], streams=streams)
        said = _first_line(ours)
        if said is None:
            # Before we hang up: what it forked meanwhile must not begin without it.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            return None
    _await_exec(said)
    return Started(said, child)


def _first_line(shell: socket.socket) -> ProcessRef | None:
    poller = select.poll()
    poller.register(shell, select.POLLIN)
    text = b""
    deadline = time.monotonic() + SETTLE_S
    while b"\n" not in text and poller.poll(max(0.0, deadline - time.monotonic()) * 1000):
        try:
            more = shell.recv(64)
        except ConnectionError:
            break
        if not more:
            break
        text += more
    words = text.split()
    if len(words) != 2:
        return None
    return ProcessRef(int(words[0]), int(words[1]))


def _await_exec(server: ProcessRef) -> None:
    """Between fork and exec it bears no label yet, and nobody would find it."""
    deadline = time.monotonic() + SETTLE_S
    while LABEL_INSTANCE not in proc.environment(server.pid) and proc.lives(server):
        if time.monotonic() > deadline:
            return
        time.sleep(0.0005)


def parent_of(server: ProcessRef, folder: str) -> ProcessRef | None:
    """The shell above a live server, if it has one; `folder`: where the slots of its root lie."""
    stat = proc.read_stat(server.pid)
    is_its = stat is not None and stat.start_ticks == server.start_ticks
    return _shell(stat.parent, folder) if stat and is_its else None


def _shell(pid: int, folder: str) -> ProcessRef | None:
    words = proc.command_line(pid)
    is_ours = len(words) > LABELS + 4 and words[1] == "-c" and words[3].startswith(f"{folder}/")
    return proc.ref_of(pid) if is_ours else None


def ended_note(path: Path) -> slots.Note:
    """What stands on the slot of a server that is dead; its shell gets a moment to note how.

    Of one that lives nothing: it was started since others looked.
    """
    note = slots.parse(slots.read(path))
    if not note.server or note.code is not None:
        return note
    if proc.lives(note.server):
        return slots.Note(None)
    if shell := _shell(note.parent, str(path.parent)):
        proc.wait_gone(shell, NOTE_S, threading.Event())
    # It may have noted that, and ended, since the first look.
    return slots.parse(slots.read(path))


def kill(server: ProcessRef, folder: str) -> None:
    """KILL to a server; then, once its parent has noted that, to what is left of their group."""
    parent = parent_of(server, folder)
    if parent is None:
        effects.kill_group(server, proc.lives)
        return

    # Known before, one by one: once the shell has ended, its number may be another group's.
    group = [ref for pid in proc.group_of(server.pid) if (ref := proc.ref_of(pid))]
    effects.send(server, signal.SIGKILL, proc.lives)
    proc.wait_gone(parent, NOTE_S, threading.Event())
    for one in group:
        effects.send(one, signal.SIGKILL, proc.lives)
