"""A stranger is never signalled, whatever pid it has got and whatever the clock says (BARS 11).

LLM_RECONCILE_NIGHT=1 makes it ten times as many trials.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from process_rig import NEVER, ProcessRig, process_rig
from proof_tools import own_pids
from waiting import PATIENCE_S, eventually

from reconciler.core.observed import ProcessRef
from reconciler.core.words import InstanceName, Phase
from reconciler.drivers import effects, proc
from reconciler.drivers.clock import SystemClock
from reconciler.drivers.processes import ServerProcesses

TRIALS = 1000 if os.environ.get("LLM_RECONCILE_NIGHT") else 100
PROGRAM = Path(__file__).with_name("pid_trials.py")
A, B = InstanceName("a"), InstanceName("b")
TEN_YEARS_S = 10 * 365 * 86400.0


@pytest.fixture
def rig() -> Iterator[ProcessRig]:
    with process_rig() as made:
        yield made


@pytest.mark.needs("pid namespaces")
def test_who_got_a_servers_pid_is_never_signalled(short_folder: Path) -> None:
    """Really the same pid: before we act, after the identity was checked, at the signal itself."""
    argv = [*own_pids(), sys.executable, str(PROGRAM), str(TRIALS), str(short_folder)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["control"], "a hit would not have been seen"
    assert len(told["done"]) == 8 + 5 + 8, "each act at each moment"
    assert told["hits"] == []


def test_who_has_a_former_servers_pid_is_never_signalled(rig: ProcessRig) -> None:
    """The same identity check without a namespace: one tick or many beside the truth."""
    stranger = rig.start("a", "a", "--ignore-term")
    for number in range(1, TRIALS + 1):
        ticks = stranger.start_ticks + (-number if number % 2 else number)
        former = ProcessRef(stranger.pid, ticks)
        for sent in (signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP, signal.SIGKILL):
            assert not effects.send(former, sent, proc.lives)
        assert not effects.kill_group(former, proc.lives)
        rig.runtime.signal_stop(former, A, "a")
        rig.runtime.kill(former)
        assert rig.runtime.wait_gone(former, 0, NEVER)
    assert proc.lives(stranger)
    # Signals come in order: when the one sent now shows, an earlier one would have shown too.
    os.kill(stranger.pid, signal.SIGTERM)
    eventually(lambda: "TERM" in rig.log("a"), "our own TERM")
    assert rig.log("a").count("TERM") == 1


class JumpingClock(SystemClock):
    """The wall clock is set at every look: ten years on, ten years back, 1970."""

    def __init__(self) -> None:
        self._looks = 0

    def now(self) -> float:
        self._looks += 1
        real = super().now()
        return (real + TEN_YEARS_S, real - TEN_YEARS_S, 0.0)[self._looks % 3]


def test_a_clock_that_jumps_changes_nobodys_identity(rig: ProcessRig) -> None:
    a, b = rig.start("a", "a", "--ignore-term"), rig.start("b", "a", "--ignore-term")
    rig.runtimes.append(ServerProcesses(rig.site, rig.environment, JumpingClock()))
    jumping = rig.runtimes[-1]
    for _ in range(6):
        assert [(one.ref, one.phase) for one in jumping.list()] == [
            (a, Phase.STARTING),
            (b, Phase.STARTING),
        ]
    jumping.signal_stop(a, A, "a")
    eventually(lambda: rig.log("a").count("TERM") == 1, "the TERM of a")
    assert [one.phase for one in jumping.list()] == [Phase.STOPPING, Phase.STARTING]
    assert not jumping.wait_gone(b, 0, NEVER)
    jumping.kill(a)
    assert jumping.wait_gone(a, PATIENCE_S, NEVER)
    assert proc.lives(b)
    assert "TERM" not in rig.log("b")
