"""Trials in a pid namespace: a server ends, a stranger gets its very pid, and then we act on it.

In: how many trials, a folder. Out: a line of JSON: what was tried, and which strangers a signal
reached. It is pid 1 there, so nobody else takes a pid; ns_last_pid says which one is next.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from reconciler.core.observed import ProcessRef
from reconciler.core.site import Site
from reconciler.core.words import InstanceName
from reconciler.drivers import effects, proc
from reconciler.drivers.clock import SystemClock
from reconciler.drivers.processes import ServerProcesses

Act = Callable[[], object]
M = InstanceName("m")
MOMENTS = ("before we act", "after the check", "at the signal")
A_TICK_S = 1.5 / os.sysconf("SC_CLK_TCK")
"""No pid comes round within one: identities are told apart by it."""


def start() -> int:
    """A process that leads a group of its own; signals that it got stay pending, to be seen."""
    pid = os.fork()
    if pid == 0:
        os.setsid()
        while True:
            signal.pause()
    while os.getpgid(pid) != pid:
        time.sleep(0.0001)
    return pid


def end(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def was_hit(pid: int) -> bool:
    text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    fields = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
    pending = int(fields["SigPnd"], 16) | int(fields["ShdPnd"], 16)
    return bool(pending) or fields["State"][0] in "ZXT"


class Trial:
    """One server, and who gets its pid."""

    def __init__(self) -> None:
        self.pid = start()
        ref = proc.ref_of(self.pid)
        assert ref is not None
        self.ref = ref
        self.swapped = False
        time.sleep(A_TICK_S)

    def swap(self, *_: object) -> None:
        """The server ends, and a stranger gets its pid."""
        if self.swapped:
            return
        end(self.pid)
        Path("/proc/sys/kernel/ns_last_pid").write_text(str(self.pid - 1), encoding="ascii")
        assert start() == self.pid
        self.swapped = True

    def still(self, process: ProcessRef) -> bool:
        """The check of identity, and the swap right after it."""
        answer = proc.lives(process)
        self.swap()
        return answer

    def close(self) -> bool:
        """End the stranger; whether it was hit."""
        self.swap()
        hit = was_hit(self.pid)
        end(self.pid)
        return hit


def plain_acts(trial: Trial, still: Callable[[ProcessRef], bool]) -> dict[str, Act]:
    """What signals with a check of identity that is given to it."""
    found: dict[str, Act] = {
        f"send {number.name}": functools.partial(effects.send, trial.ref, number, still)
        for number in (signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP, signal.SIGKILL)
    }
    found["kill group"] = functools.partial(effects.kill_group, trial.ref, still)
    return found


def all_acts(trial: Trial, runtime: ServerProcesses) -> dict[str, Act]:
    """The same, and what the runtime does with them."""
    return {
        **plain_acts(trial, proc.lives),
        "stop": functools.partial(runtime.signal_stop, trial.ref, M, "a"),
        "kill": functools.partial(runtime.kill, trial.ref),
        "forget": functools.partial(runtime.forget, trial.ref, M, "127.0.0.1:1"),
    }


def try_once(number: int, runtime: ServerProcesses) -> tuple[str, bool]:
    """One trial: what was done when, and whether a stranger was hit by it."""
    moment, trial = MOMENTS[number % len(MOMENTS)], Trial()
    late = moment == "after the check"
    found = plain_acts(trial, trial.still) if late else all_acts(trial, runtime)
    act = sorted(found)[number // len(MOMENTS) % len(found)]
    if moment == "before we act":
        trial.swap()
    elif moment == "at the signal":
        effects.hook = trial.swap
    found[act]()
    effects.hook = lambda _: None
    return f"{act}, {moment}", trial.close()


def control() -> bool:
    """What a hit looks like: a stranger that is signalled by its own right identity."""
    pid = start()
    ref = proc.ref_of(pid)
    assert ref is not None
    effects.send(ref, signal.SIGTERM, proc.lives)
    hit = was_hit(pid)
    end(pid)
    return hit


def main() -> None:
    count, folder = int(sys.argv[1]), Path(sys.argv[2])
    signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals) - {signal.SIGCHLD})
    (folder / "state" / "slots").mkdir(parents=True)
    (folder / "state" / "slots" / "m.a").touch()
    site = Site(str(folder), str(folder / "state"), "x.yaml")
    runtime = ServerProcesses(site, {}, SystemClock())
    results = [try_once(number, runtime) for number in range(count)]
    done, hits = sorted({what for what, _ in results}), [what for what, hit in results if hit]
    json.dump({"control": control(), "done": done, "hits": hits}, sys.stdout)


if __name__ == "__main__":
    main()
