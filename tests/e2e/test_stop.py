"""Stopping: out of nginx, drain, TERM, grace, KILL; nothing is left (BARS 13)."""

from __future__ import annotations

import os
import re
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from waiting import PATIENCE_S, eventually

from e2e import machine
from e2e.client import Answer
from e2e.lab import ENDLESS, FAKE_ENGINE, Lab, Result

PIECE = 0.02
SLOW_ANSWERS = {"fake-token-seconds": PIECE}


class Asked:
    """A request that runs in a thread."""

    def __init__(self, lab: Lab, model: str, tokens: int) -> None:
        self._found: list[Answer | OSError] = []
        self._thread = threading.Thread(target=self._ask, args=(lab, model, tokens), daemon=True)
        self._thread.start()

    def _ask(self, lab: Lab, model: str, tokens: int) -> None:
        try:
            self._found.append(lab.complete(model, tokens))
        except OSError as error:
            self._found.append(error)

    @property
    def answer(self) -> Answer:
        self._thread.join(PATIENCE_S)
        assert isinstance(self._found[0], Answer), self._found
        return self._found[0]


def seconds(done: Result, instance: str = "a") -> float:
    """How long the stop took: told by the run, so that a slow start of the verb does not count."""
    found = re.search(rf"instance\.{instance}: stopped \((\d+\.\d) s\)", done.err)
    assert found, done.all
    return float(found[1])


def in_flight(lab: Lab, model: str) -> bool:
    return "requests_processing 1" in lab.ask(f"/api/{model}/metrics").body.decode()


def test_request_that_ends_in_time_is_complete(fakes: Lab) -> None:
    fakes.write({"a": {"args": SLOW_ANSWERS, "drain": "20s"}, "b": {}})
    fakes.apply()
    asked = Asked(fakes, "a", tokens=100)
    eventually(lambda: in_flight(fakes, "a"), "the request runs")
    with fakes.stream("a", tokens=60) as stream:
        stream.take(1)
        child = fakes.popen("stop", "a")
        eventually(lambda: fakes.complete("a").status == 503, "new requests are refused")
        refused = fakes.complete("a")
        assert refused.headers["retry-after"]
        assert "'a'" in refused.error
        assert stream.rest() == 60
        assert stream.finished
    answer = asked.answer
    assert answer.status == 200
    assert answer.json["content"].split() == [f"w{number}" for number in range(100)]
    done = fakes.end(child)
    assert done.code == 0, done.all
    assert set(fakes.pids()) == {"b"}
    assert not [name for name in fakes.left_over() if name.startswith("a")]


@pytest.mark.parametrize("verb", ["stop", "down", "replace"])
def test_long_stream_is_cut_after_drain(fakes: Lab, verb: str) -> None:
    model = {"args": SLOW_ANSWERS, "drain": "1s", "grace": "5s"}
    fakes.write({"a": model})
    fakes.apply()
    old = fakes.pids()["a"]
    with fakes.stream("a") as stream:
        stream.take(2)
        if verb == "stop":
            done = fakes.run("stop", "a")
        elif verb == "down":
            done = fakes.run("down", "-y")
        else:
            fakes.write({"a": {**model, "params": {"temp": 0.2}}})
            done = fakes.apply()
        stream.rest()
        assert not stream.finished
    assert "running requests get 1 s to finish" in done.out
    assert 1 <= seconds(done) < 1 + 5 + 5
    assert not machine.lives(old)
    assert fakes.pids().keys() == ({"a"} if verb == "replace" else set())


def test_server_that_ignores_term_is_killed(fakes: Lab) -> None:
    """Total at most drain + grace + 5 s; its request is not waited for any longer."""
    fakes.write(
        {
            "deaf": {
                "args": {"fake-ignore-term": True, **SLOW_ANSWERS},
                "drain": "1s",
                "grace": "1s",
            },
            "good": {},
        }
    )
    fakes.apply()
    pids = fakes.pids()
    with fakes.stream("deaf") as stream:
        stream.take(1)
        done = fakes.run("stop", "deaf")
        stream.rest()
    assert 2 <= seconds(done, "deaf") < 1 + 1 + 5
    assert "deaf" not in fakes.servers()
    assert not machine.lives(pids["deaf"])
    assert fakes.pids() == {"good": pids["good"]}
    assert not [name for name in fakes.left_over() if name.startswith("deaf")], done.all


def test_idle_servers_stop_at_once(lab: Lab) -> None:
    """Nobody waits for drain or grace where there is nothing to wait for."""
    lab.write({name: {"drain": "60s", "grace": "60s"} for name in "abc"})
    lab.apply()
    done = lab.run("down", "-y")
    assert all(seconds(done, name) < 5 for name in "abc")
    assert lab.left_over() == []


def test_wedged_server_is_stopped(fakes: Lab) -> None:
    """Its request never ends: cut after drain, and the client notices."""
    fakes.write({"a": {"args": {"fake-wedge": True}, "drain": "0.5s", "grace": "1s"}})
    fakes.apply()
    asked = Asked(fakes, "a", tokens=1)
    eventually(lambda: in_flight(fakes, "a"), "the request runs")
    assert seconds(fakes.run("stop", "a")) < 0.5 + 1 + 5
    assert asked.answer.status == 502
    assert fakes.servers() == {}


def test_silent_server_is_stopped(fakes: Lab) -> None:
    """It answers nothing, so nothing can be drained."""
    fakes.write({"a": {"args": {"fake-silent": True}, "probe": {"startup": "1s"}}})
    failed = fakes.apply(code=3)
    assert "not ready after 1 s" in failed.err
    assert fakes.phases(code=3) == {"a": "unhealthy"}
    # Each question to it takes its time-out.
    assert seconds(fakes.run("down", "-y")) < 2 + 3 + 5 + 4
    assert fakes.servers() == {}


def test_stopping_while_it_loads(fakes: Lab) -> None:
    fakes.write({"slow": {"args": {"fake-load-seconds": 60}}})
    child = fakes.begin_apply()
    pid = fakes.wait_for("slow")
    child.kill()
    fakes.end(child)
    fakes.run("stop", "slow")
    assert not machine.lives(pid)
    assert set(fakes.left_over()) <= {"gateway.sock"}


def test_second_stop_sends_no_second_term(fakes: Lab) -> None:
    """A second TERM crashes llama-server: a stop that is taken over only waits."""
    fakes.write({"a": {"args": SLOW_ANSWERS, "drain": "0s", "grace": "2s"}, "b": {}})
    fakes.apply()
    # With a whole answer in hand it lives on after TERM until its client leaves.
    asked = Asked(fakes, "a", ENDLESS)
    eventually(lambda: in_flight(fakes, "a"), "the request runs")
    first = fakes.popen("stop", "a")
    slot = fakes.state / "slots" / "a.a"
    eventually(lambda: "stopping" in slot.read_text(), "TERM is sent")
    first.kill()
    fakes.end(first)
    assert fakes.phases(code=3)["a"] == "stopping"
    fakes.run("stop", "a")
    assert asked.answer.status == 502
    assert "second interrupt" not in fakes.log("a")
    assert set(fakes.pids()) == {"b"}


HELPERS = """#!/bin/sh
[ "$1" = --help ] && exec "{engine}" --help
trap '' TERM
sleep 600 &
setsid sleep 600 &
exec "{engine}" "$@"
"""
"""An engine with two helpers that TERM does not end; one has left the engine's group."""


def processes(lab: Lab) -> list[int]:
    """All that carries the root's label, helpers too."""
    labelled = (pid for pid in machine.pids() if machine.lives(pid))
    root = str(lab.root)
    return [p for p in labelled if machine.environment(p).get("LLM_RECONCILE_ROOT") == root]


def with_helpers(lab: Lab) -> dict[str, str]:
    program = lab.root / "engine"
    program.write_text(HELPERS.format(engine=FAKE_ENGINE["command"]))
    program.chmod(0o755)
    return {"kind": "llama-server", "command": str(program)}


@pytest.mark.parametrize("args", [{}, {"fake-ignore-term": True}])
def test_helpers_of_an_engine_end_with_it(fakes: Lab, args: dict[str, Any]) -> None:
    """Whether TERM ended the engine or KILL its group: nothing of it is left, and no zombie."""
    fakes.write({"a": {"args": args, "grace": "1s"}, "b": {}}, engine=with_helpers(fakes))
    fakes.apply()
    assert len(processes(fakes)) == 6
    other = fakes.pids()["b"]
    fakes.run("stop", "a")
    assert len(processes(fakes)) == 3
    assert fakes.pids() == {"b": other}
    assert not [name for name in fakes.left_over() if name.startswith("a")]
    assert fakes.apply().out.endswith("No changes. The machine matches desired/x.yaml.\n")
    fakes.run("down", "-y")
    assert processes(fakes) == []
    assert fakes.left_over() == []
    assert machine.zombies(os.getpid()) == []


def test_helpers_that_outlived_their_engine(fakes: Lab) -> None:
    """They serve nobody and hold its slot: the next apply ends them, and starts it again."""
    fakes.write({"a": {"grace": "1s"}, "b": {}}, engine=with_helpers(fakes))
    fakes.apply()
    pids, before = fakes.pids(), processes(fakes)
    machine.kill([pids["a"]])
    eventually(lambda: not machine.lives(pids["a"]), "it is dead")
    assert len(processes(fakes)) == 5
    assert fakes.complete("a").status == 502
    assert fakes.phases(code=3)["a"] != "ready"
    fakes.apply()
    assert fakes.complete("a").status == 200
    assert len(processes(fakes)) == 6
    assert len(set(processes(fakes)) - set(before)) == 3
    assert fakes.pids()["b"] == pids["b"]


SHIFTED = Path(__file__).with_name("shifted_clock.py")


def test_until_its_time_is_over(fakes: Lab) -> None:
    fakes.write({"a": {}, "b": {}})
    fakes.apply()
    other = fakes.pids()["b"]
    done = fakes.run("stop", "a", "--until", "2h", "--reason", "too hot")
    until = re.search(r"Stopped until (\S+ \S+ \S+), or `llm-reconcile start a`\.", done.err)
    assert until, done.err
    said = f"suspended by `stop` until {until[1]}: too hot"
    assert said in fakes.plan().out
    assert said in fakes.run("status").out
    assert said in fakes.complete("a").error
    assert int(fakes.complete("a").headers["retry-after"]) > 7000
    fakes.apply()
    assert fakes.pids() == {"b": other}
    # Longer than it was, though nothing is left to stop: all are told.
    fakes.run("stop", "a", "--until", "3h")
    assert int(fakes.complete("a").headers["retry-after"]) > 10000
    fakes.under = (sys.executable, str(SHIFTED), str(3 * 3600))
    try:
        assert fakes.status(code=3)["suspended"] == []
        assert "+ instance.a" in fakes.plan().out
        fakes.apply()
    finally:
        fakes.under = ()
    assert fakes.phases() == {"a": "ready", "b": "ready"}
    assert fakes.pids()["b"] == other
    # It is forgotten, whatever the clock says now.
    assert fakes.apply().out.startswith("No changes.")


def test_start_ends_it_before(fakes: Lab) -> None:
    fakes.write({"a": {}})
    fakes.apply()
    fakes.run("stop", "--all", "--until", "2999-12-01T08:00")
    assert "until 2999-12-01 08:00 " in fakes.plan().out
    fakes.run("start", "a")
    assert fakes.apply().out.startswith("No changes.")


@pytest.mark.parametrize(
    ("when", "said"),
    [
        ("soon", "--until soon: expected a time like 30m, 18:00 or 2026-12-01T08:00"),
        ("2020-01-01", "--until 2020-01-01 is over: it is 20"),
        ("0001-01-01", "--until 0001-01-01"),
        ("0s", "--until 0s is over"),
        ("24:00", "--until 24:00: hour must be in 0..23"),
    ],
)
def test_what_is_no_time_to_come_is_refused(fakes: Lab, when: str, said: str) -> None:
    fakes.write({"a": {}})
    assert said in fakes.run("stop", "a", "--until", when, code=1).err
