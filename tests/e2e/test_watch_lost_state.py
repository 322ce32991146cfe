"""The state folder is removed under a running watch: what nobody can reach any more is replaced."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import time

from waiting import eventually

from e2e import machine
from e2e.faults import Fault, Launcher
from e2e.lab import Lab
from e2e.rest import is_at_rest

LOST_AFTER_S = 1.0
WAITS = {
    "reconciler.drivers.labelled:LOST_AFTER_S": LOST_AFTER_S,
    "reconciler.drivers.nginx:CONFIRM_S": 2.0,
    "reconciler.watch.watch:FAILED_EVERY_S": 0.3,
    "reconciler.watch.watch:LOOK_EVERY_S": 1.0,
}
NAMES = ("a", "b")


def age_s(pid: int) -> float:
    """Of a process (proc(5): stat, starttime)."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - int(machine.stat(pid)[19]) / os.sysconf(
        "SC_CLK_TCK"
    )


def test_all_comes_back_and_nothing_is_left_behind(fakes: Lab, commands: Launcher) -> None:
    fakes.write({"a": {}, "b": {}})
    pid = commands.begin(fakes, "watch", "--json", "desired/x.yaml", fault=Fault(), waits=WAITS)
    eventually(lambda: is_at_rest(fakes, NAMES), "all is ready")
    before, nginx = fakes.pids(), fakes.nginx()
    # A younger one might not have made its socket yet: that one is waited for.
    eventually(lambda: all(age_s(one) > LOST_AFTER_S for one in before.values()))
    # It cannot even be said again at once whose watch this is.
    fault = Fault("outside: open state/watch.lock", errno.ENOSPC)
    commands.arm(fault)
    # What is written into it meanwhile stays, and is too little.
    shutil.rmtree(fakes.state, ignore_errors=True)
    eventually(
        lambda: is_at_rest(fakes, NAMES) and not {*fakes.pids().values()} & {*before.values()},
        f"all is replaced: {commands.said}",
    )
    assert fault.at in commands.passed
    assert machine.lives(pid)
    assert not any(map(machine.lives, (*before.values(), *nginx.workers)))
    assert nginx.master
    assert not machine.lives(nginx.master)
    eventually(lambda: bool(fakes.status()["watch"]), "it is heard again")
    os.kill(pid, signal.SIGTERM)
    assert commands.end().code == 0
