"""An apply that waits for files: it is in nobody's way, and sees what others did meanwhile."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_faults import Made
from hub_server import HubServer
from waiting import eventually

from e2e import hub_lab, machine
from e2e.hub_lab import model
from e2e.lab import Lab

MIB = 2**20
QUICK = {"drain": "1s"}


@pytest.fixture
def hub(lab: Lab, tiny_model: Path) -> Iterator[HubServer]:
    """Its file takes some seconds: llama.cpp does not mind what follows the tensors."""
    padded = tiny_model.read_bytes() + bytes(8 * MIB)
    with hub_lab.connected(lab, {"m-Q4_0.gguf": padded}) as running:
        yield running


def waiting(lab: Lab, hub: HubServer, rate: str = "2M") -> subprocess.Popen[str]:
    """An apply that has done all else, and now waits for its file."""
    before = hub.sent
    child = lab.begin_apply("--limit-rate", rate)
    eventually(lambda: hub.sent > before + MIB, "bytes flow")
    eventually(lambda: not machine.holders(lab.state / "run.lock"), "the run lock is free")
    assert child.poll() is None
    return child


def test_what_needs_no_file_does_not_wait_for_it(lab: Lab, hub: HubServer) -> None:
    lab.write({"m": model(), "a": QUICK})
    child = waiting(lab, hub)
    assert lab.complete("a").status == 200
    assert set(lab.servers()) == {"a"}
    done = lab.end(child)
    assert done.code == 0, done.all
    assert lab.complete("m").status == 200
    assert lab.plan().out == hub_lab.NOTHING


def test_a_stop_meanwhile_is_obeyed(lab: Lab, hub: HubServer) -> None:
    lab.write({"m": model(), "a": QUICK, "b": {}})
    child = waiting(lab, hub, "700k")
    lab.run("stop", "a", "--lock-timeout", "0")
    # On a busy machine the file may have come by now, and be started: then this one waits.
    said = lab.run("stop", "m")
    assert "download" not in said.all
    done = lab.end(child)
    assert done.code == 0, done.all
    assert set(lab.servers()) == {"b"}
    lab.run("start", "m")
    assert hub.sent < 9 * MIB
    assert set(lab.servers()) == {"m", "b"}


def test_down_meanwhile_is_the_end(lab: Lab, hub: HubServer) -> None:
    lab.write({"m": model(), "a": QUICK})
    child = waiting(lab, hub, "700k")
    lab.run("down", "-y", "--lock-timeout", "0")
    done = lab.end(child)
    assert done.code == 3, done.all
    assert "`down` came while files were on their way: no more was done." in done.err
    assert not lab.servers()
    assert lab.nginx().master is None
    lab.apply()
    assert set(lab.servers()) == {"a", "m"}
    assert hub.sent < 9 * MIB


def test_another_apply_meanwhile_has_the_last_word(lab: Lab, hub: HubServer) -> None:
    lab.write({"m": model(), "a": QUICK})
    child = waiting(lab, hub, "1M")
    lab.write({"m": model(state="present"), "a": QUICK, "b": {}})
    other = lab.begin_apply()
    done = lab.end(child)
    assert done.code == 3, done.all
    assert "another `apply` came while files were on their way: no more was done." in done.err
    assert lab.end(other).code == 0
    assert set(lab.servers()) == {"a", "b"}


def test_the_same_apply_twice(lab: Lab, hub: HubServer) -> None:
    """Both wait for one download, and start one server."""
    lab.write({"m": model(), "a": QUICK})
    first = waiting(lab, hub)
    second = lab.begin_apply()
    ends = [lab.end(first), lab.end(second)]
    assert [one.code for one in ends] == [0, 0], [one.all for one in ends]
    assert set(lab.pids()) == {"a", "m"}
    assert hub.sent < 9 * MIB


def test_what_serves_does_so_until_the_new_files_are_here(lab: Lab, hub: HubServer) -> None:
    lab.write({"m": QUICK})
    lab.apply()
    before = lab.pids()["m"]
    lab.write({"m": model(**QUICK)})
    child = waiting(lab, hub)
    assert lab.pids()["m"] == before
    assert lab.complete("m").status == 200
    assert lab.end(child).code == 0
    assert lab.pids()["m"] != before


def test_nobody_agreed_to_what_only_happened_meanwhile(lab: Lab, hub: HubServer) -> None:
    lab.write({"m": model(), "a": QUICK})
    lab.run("start", "a")
    child = waiting(lab, hub)
    machine.kill([lab.pids()["a"]])
    done = lab.end(child)
    assert done.code == 3, done.all
    assert "instance.a is blocked: it changed while files were on their way" in done.err
    assert set(lab.pids()) == {"m"}
    lab.apply()
    assert set(lab.pids()) == {"a", "m"}


def test_a_restart_of_all_restarts_each_once(lab: Lab, hub: HubServer) -> None:
    lab.write({"m": model(), "a": QUICK})
    lab.run("start", "a")
    before = lab.pids()["a"]
    child = lab.popen("restart", "--all")
    done = lab.end(child)
    assert done.code == 0, done.all
    assert done.err.count("instance.a: ready") == 1
    assert lab.pids()["a"] != before
    assert lab.complete("m").status == 200


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_who_works_at_the_end_is_waited_for(lab: Lab, hub: HubServer, number: int) -> None:
    """By name; and the wait can be ended."""
    lab.write({"m": model(), "a": QUICK})
    child = waiting(lab, hub)
    lock = os.open(lab.state / "run.lock", os.O_RDWR)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert child.stderr is not None
        lines = iter(child.stderr.readline, "")
        said = next(line for line in lines if "Waiting for" in line)
        assert f"pid {os.getpid()}" in said
        child.send_signal(number)
        done = lab.end(child)
    finally:
        os.close(lock)
    assert done.code == (130 if number == signal.SIGINT else 143), done.all
    assert set(lab.servers()) == {"a"}
    lab.apply()
    assert lab.complete("m").status == 200


def test_files_that_did_not_come_keep_their_own_server_only(
    lab: Lab, hub: HubServer, tiny_model: Path
) -> None:
    head = tiny_model.read_bytes()
    hub.add("org/bad", {"n-Q4_0.gguf": Made(3 * MIB, sha="0" * 64, head=head)})
    lab.write({"m": model(), "n": {**model(), "source": {"repo": "org/bad"}}, "a": QUICK})
    done = lab.apply("--json", code=3)
    events = [json.loads(line) for line in done.out.splitlines()]
    ends = {one["address"]: one["outcome"] for one in events if one["event"] == "step"}
    assert ends["model_file.n"] == "failed"
    assert ends["instance.n"] == "skipped"
    assert ends["instance.m"] == ends["instance.a"] == "done"
    assert [one["event"] for one in events].count("plan") == 2
    assert set(lab.pids()) == {"a", "m"}
