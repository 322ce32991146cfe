"""kill -9 and Ctrl-C at any moment: never two servers, and the next apply completes it (BARS 9).

LLM_RECONCILE_NIGHT=1 makes it ten times as many trials.
"""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from typing import Any, TypeVar

import numpy as np
import pytest
from waiting import PATIENCE_S, eventually

from e2e import machine
from e2e.faults import NIGHT, Ended, Fault, Launcher
from e2e.lab import ENDLESS, Lab
from e2e.matrix import APPLY
from reconciler.cli.verbs import LEAVING

T = TypeVar("T")
ROUNDS = 8
TRIALS = 125 if NIGHT else 13
"""1,000 kills in all; by day 104."""


class Dice:
    """Random choices that a seed repeats."""

    def __init__(self, seed: int) -> None:
        self._dice = np.random.default_rng(seed)

    def one_of(self, *values: T) -> T:
        return values[int(self._dice.integers(len(values)))]

    def moment(self, first: float, last: float) -> float:
        return float(self._dice.uniform(first, last))

    def some(self, letters: str, count: int) -> list[str]:
        return [letters[int(at)] for at in self._dice.permutation(len(letters))[:count]]


def some_edit(dice: Dice, step: int) -> dict[str, Any]:
    """Two to four models, each with a spec that may differ from the last time."""
    names = dice.some("abcd", dice.one_of(2, 3, 4))
    return {
        name: {
            "params": {"temp": dice.one_of(0.1, 0.2)},
            "rollout": dice.one_of("recreate", "surge") if name == "d" else "recreate",
            "aliases": [f"alias-{step}"] if name == names[0] else [],
            "args": {"fake-load-seconds": dice.one_of(0, 0.2)},
        }
        for name in names
    }


def alone(lab: Lab) -> None:
    """At rest there is one server an instance and one nginx."""
    assert lab.pids()
    assert lab.nginx().master
    lock = lab.state / "gateway.lock"
    eventually(
        lambda: len(machine.holders(lock)) == 1 + len(lab.nginx().workers),
        "the workers of an nginx before are gone",
    )


@pytest.mark.timeout(3600 if NIGHT else 600)
@pytest.mark.parametrize("seed", range(ROUNDS))
def test_killed_at_random_moments(fakes: Lab, commands: Launcher, seed: int) -> None:
    """The reconciler in the middle of an apply, and in some rounds nginx's master between two."""
    dice, longest = Dice(seed), 1.0
    # `d` may surge: two copies of it may live, of the others never.
    with machine.Twins(fakes.root, most={"d": 2}):
        for step in range(TRIALS):
            fakes.write(some_edit(dice, step), defaults={"drain": "1s", "grace": "2s"})
            commands.begin(fakes, *APPLY)
            time.sleep(dice.moment(0, longest))
            commands.kill()
            if dice.one_of(True, False):
                fakes.write(some_edit(dice, step), defaults={"drain": "1s", "grace": "2s"})
            master = fakes.nginx().master
            if master and dice.one_of(True, False, False, False):
                machine.kill([master])
            began = time.monotonic()
            done = commands.run(fakes, *APPLY)
            longest = time.monotonic() - began
            assert done.code == 0, done.result.all
            alone(fakes)
        assert commands.run(fakes, *APPLY).result.out.startswith("No changes.")
    for name in fakes.pids():
        assert fakes.complete(name).status == 200


def test_what_was_ready_when_its_run_was_killed_is_no_failed_try(
    fakes: Lab, commands: Launcher
) -> None:
    """Nobody had noted that it got ready: its end, months later, passed for a bad version's."""
    port = machine.free_port()

    def replaced(temperature: float, fault: Fault) -> Ended:
        model = {"params": {"temp": temperature}, "port": port}
        fakes.write({"a": model}, gateway=False)
        return commands.run(fakes, *APPLY, fault=fault)

    replaced(0.1, Fault())
    moments = replaced(0.2, Fault()).moments
    ready = moments.index("after write run/a.pid")
    noted = next(one for one in moments[ready:] if one.startswith("before write state/journal"))
    assert replaced(0.3, Fault(noted)).was_killed
    before = fakes.pids()
    assert "ready, and not noted yet" in fakes.apply().out
    assert fakes.pids() == before
    machine.end(before.values())
    fakes.apply()
    assert "--temp 0.3" in machine.command_line(fakes.pids()["a"])
    assert fakes.run(*APPLY).out.startswith("No changes.")


def test_the_end_of_what_served_is_no_failed_try_of_what_was_to_follow(
    fakes: Lab, commands: Launcher
) -> None:
    """The run was killed before it told the old one to end; that crashed before the next one."""
    fakes.write({"a": {"params": {"temp": 0.1}}})
    fakes.apply()
    fakes.write({"a": {"params": {"temp": 0.2}}})
    noted = "after write state/journal.json (#2)"
    assert commands.run(fakes, *APPLY, fault=Fault(noted)).was_killed
    machine.end(fakes.pids().values())
    fakes.apply()
    assert "--temp 0.2" in machine.command_line(fakes.pids()["a"])


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_while_loading(fakes: Lab, number: signal.Signals, code: int) -> None:
    """It says what is left; what loads goes on loading; the next apply completes it."""
    fakes.write({"quick": {}, "slow": {"args": {"fake-load-seconds": 6}}})
    child = fakes.begin_apply()
    pid = fakes.wait_for("slow")
    eventually(lambda: fakes.pid_file("quick").exists(), "the other one is started")
    child.send_signal(number)
    done = fakes.end(child)
    assert done.code == code, done.all
    assert "instance.slow: cancelled: interrupted while it was waited for" in done.err
    assert "The next apply completes what is left." in done.err
    assert machine.lives(pid)
    fakes.apply()
    assert fakes.pids()["slow"] == pid
    assert fakes.phases() == {"quick": "ready", "slow": "ready"}


def test_interrupted_while_it_plans(fakes: Lab) -> None:
    """Whoever it waits for, here a hub that never answers: nothing was done, it ends at once."""
    fakes.write({"a": {"source": {"repo": "org/far"}, "quant": "Q4"}})
    for words in (("apply", str(fakes.file)), ("apply", str(fakes.file), "-y"), ("start", "a")):
        with socket.create_server(("127.0.0.1", 0)) as silent:
            silent.settimeout(PATIENCE_S)
            port = silent.getsockname()[1]
            child = fakes.popen(*words, env={"HF_ENDPOINT": f"http://127.0.0.1:{port}"})
            with silent.accept()[0]:
                child.send_signal(signal.SIGINT)
                done = fakes.end(child, timeout=PATIENCE_S)
        assert done.code == 130, done.all
        assert done.err == "Interrupted; nothing was done.\n"
    assert fakes.servers() == {}


def test_interrupted_while_draining(fakes: Lab) -> None:
    """Nothing was stopped yet: it serves on."""
    model = {"args": {"fake-token-seconds": 0.02, "fake-tokens": ENDLESS}, "drain": "60s"}
    fakes.write({"a": model, "b": {}})
    fakes.apply()
    pids = fakes.pids()
    with fakes.stream("a") as stream:
        stream.take(1)
        child = fakes.popen("stop", "a")
        eventually(lambda: fakes.complete("a", 1).status == 503, "it is not routed")
        child.send_signal(signal.SIGINT)
        done = fakes.end(child, timeout=PATIENCE_S)
        assert done.code == 130
        assert fakes.pids() == pids
        assert fakes.complete("a", 1).status == 200
        stream.take(5)
    fakes.run("stop", "a")
    assert set(fakes.pids()) == {"b"}


def test_interrupted_before_it_replaced_all(fakes: Lab) -> None:
    """Steps that did not begin are named; nothing half done is left."""
    slow = {"args": {"fake-token-seconds": 0.02}, "drain": "60s"}
    fakes.write({"a": slow, "b": {}, "c": {}, "d": {}})
    fakes.apply()
    with fakes.stream("a") as stream:
        stream.take(1)
        fakes.write({"a": {**slow, "params": {"temp": 0.1}}, "b": {}, "c": {}, "d": {}})
        child = fakes.begin_apply()
        eventually(lambda: fakes.complete("a", 1).status == 503, "it drains")
        child.send_signal(signal.SIGINT)
        done = fakes.end(child, timeout=PATIENCE_S)
    assert done.code == 130
    assert "instance.a: cancelled" in done.err
    assert fakes.complete("a", 1).status == 200
    fakes.apply()
    assert fakes.apply().out.startswith("No changes.")


def test_second_signal_ends_at_once(fakes: Lab) -> None:
    """A stop after its TERM is waited for; who is in a hurry says so twice."""
    fakes.write({"deaf": {"args": {"fake-ignore-term": True}, "grace": "60s"}, "b": {}})
    fakes.apply()
    child = fakes.popen("stop", "deaf")
    slot = fakes.state / "slots" / "deaf.a"
    eventually(lambda: "stopping" in slot.read_text(), "TERM is sent")
    child.send_signal(signal.SIGINT)
    assert child.stderr is not None
    # Two signals that come before the first one is noticed are one.
    assert any(LEAVING in line for line in iter(child.stderr.readline, ""))
    with pytest.raises(subprocess.TimeoutExpired):
        child.wait(0.3)
    child.send_signal(signal.SIGINT)
    assert fakes.end(child, timeout=PATIENCE_S).code == 130
    fakes.write({"deaf": {"args": {"fake-ignore-term": True}, "grace": "1s"}, "b": {}})
    fakes.run("stop", "deaf")
    assert set(fakes.pids()) == {"b"}


def test_interrupted_at_random_moments(fakes: Lab) -> None:
    """Ctrl-C at once after the start: exit 130, and an apply that completes it."""
    fakes.write({name: {} for name in "abc"})
    dice = Dice(7)
    for _ in range(3):
        child = fakes.begin_apply()
        time.sleep(dice.moment(0.3, 0.8))
        child.send_signal(signal.SIGINT)
        done = fakes.end(child)
        # Before the handler stands, Python's own way to die of it; after the end, it was done.
        assert done.code in {0, 130, 1, -signal.SIGINT}, done.all
        fakes.apply()
        alone(fakes)
        fakes.run("down", "-y")
        assert fakes.servers() == {}
