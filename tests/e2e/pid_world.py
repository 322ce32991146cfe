"""A lab's verbs and servers in a pid namespace, in which a stranger gets any pid that we want.

In: a lab. Out: the lab, run inside; strangers that hold the pid of a server that has died.
Tests look at all of it from outside, by the pids that it has there.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from proof_tools import own_pids
from waiting import eventually

from e2e import machine
from e2e.lab import Lab

REAPER = """
import os, time
print('up', flush=True)
while True:
    try:
        os.wait()
    except ChildProcessError:
        time.sleep(0.01)
"""
"""Pid 1 of a namespace is the parent of every orphan in it."""

STRANGER = """
import os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals))
if sys.argv[1] != 'any':
    with open('/proc/sys/kernel/ns_last_pid', 'w') as last:
        last.write(str(int(sys.argv[1]) - 1))
pid = os.fork()
if pid:
    print(pid, flush=True)
    os._exit(0)
os.setsid()
os.closerange(0, 3)
while True:
    signal.pause()
"""
"""It leads a group of its own, and keeps every signal that can be kept: it stays pending."""


@dataclass(frozen=True)
class Stranger:
    """A process that has nothing to do with us."""

    pid: int

    @property
    def is_unharmed(self) -> bool:
        """No signal has reached it: it lives, is not stopped, and none is pending."""
        fields = status(self.pid)
        if not fields or fields["State"][0] in "ZXT":
            return False
        return not int(fields["SigPnd"], 16) | int(fields["ShdPnd"], 16)


def status(pid: int) -> dict[str, str]:
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return {}
    return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)


def inner(pid: int) -> int:
    """A process's pid in its own namespace."""
    return int(status(pid)["NSpid"].split()[-1])


def some_stranger(words: str = "") -> Stranger:
    """One outside any namespace; `words` end its command line."""
    return Stranger(_start((), "any", words))


def _start(enter: tuple[str, ...], pid: str, words: str) -> int:
    argv = [*enter, sys.executable, "-c", STRANGER, pid, *words.split()]
    return int(subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True).stdout)


class World:
    """A pid namespace with a /proc of its own."""

    def __init__(self) -> None:
        argv = [*own_pids(), sys.executable, "-c", REAPER]
        self._holder = subprocess.Popen(
            argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == "up\n"
        children = Path(f"/proc/{self._holder.pid}/task/{self._holder.pid}/children")
        self._first = int(children.read_text())
        self._name = self._namespace(self._first)

    @staticmethod
    def _namespace(pid: int) -> str:
        try:
            return str(Path(f"/proc/{pid}/ns/pid").readlink())
        except OSError:
            return ""

    @property
    def enter(self) -> tuple[str, ...]:
        """Run a command inside."""
        own_user = () if os.geteuid() == 0 else ("--user", "--preserve-credentials")
        return ("nsenter", "--target", str(self._first), *own_user, "--pid", "--mount")

    def house(self, lab: Lab) -> None:
        """From now on the lab's verbs, and what they start, run in here."""
        lab.under = (*self.enter, "env", "-C", str(lab.root))

    def takes_over(self, victim: int, *group: int) -> Stranger:
        """End a process of this world; a stranger with the same arguments gets its pid.

        Its whole group has to end: the kernel gives no pid that is still a group's number.
        """
        wanted, words = inner(victim), machine.command_line(victim)
        # It goes first: a master of nginx would start another worker for one that is killed.
        machine.kill([victim, *group])

        def is_free() -> bool:
            """Also who only finishes its work, like a worker of nginx before a reload, is gone."""
            left = [pid for pid in machine.pids() if str(victim) in machine.stat(pid)[2:4]]
            machine.kill(left)
            return not left and not any(status(pid) for pid in (victim, *group))

        eventually(is_free, "all are dead, and reaped")
        found: list[Stranger] = []

        def has_it() -> bool:
            """Where it is the next number, the very program that asks for it may have got it."""
            number = _start(self.enter, str(wanted), words)
            inside = (pid for pid in machine.pids() if self._namespace(pid) == self._name)
            found.append(Stranger(next(pid for pid in inside if inner(pid) == number)))
            if number != wanted:
                machine.kill([found.pop().pid])
            return bool(found)

        eventually(has_it, f"{wanted} comes round")
        return found[0]

    def close(self) -> None:
        """All that is in there ends with its first process."""
        machine.kill([self._first])
        self._holder.communicate()
