"""`rollout: surge`: the new server is ready before the old one stops."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from waiting import eventually

from e2e import machine
from e2e.lab import Lab
from e2e.load import requests


def test_no_request_fails(lab: Lab) -> None:
    """Replaced twice under load: from slot a to b and back; no reload."""
    lab.write({"a": {"rollout": "surge"}, "b": {}})
    lab.apply()
    nginx, other = lab.nginx(), lab.pids()["b"]
    load = requests(lab, "a")
    load.start()
    load.some_more()
    try:
        for temp in (0.1, 0.2):
            before = lab.pids()["a"]
            lab.write({"a": {"rollout": "surge", "params": {"temp": temp}}, "b": {}})
            assert "+/- instance.a" in lab.plan().out
            lab.apply()
            assert lab.pids()["a"] != before
            load.some_more()
    finally:
        counts = load.stop()
    assert set(counts) == {"200"}, counts
    assert lab.pids()["b"] == other
    assert lab.nginx() == nginx
    assert lab.apply().out.startswith("No changes.")
    assert len([name for name in lab.left_over() if name.startswith("a-")]) == 2


def test_long_stream_ends_on_the_old_one(fakes: Lab) -> None:
    args = {"fake-token-seconds": 0.02}
    fakes.write({"a": {"rollout": "surge", "args": args, "drain": "20s"}})
    fakes.apply()
    with fakes.stream("a", tokens=100) as stream:
        stream.take(1)
        model = {"rollout": "surge", "args": args, "drain": "20s", "params": {"temp": 0.1}}
        fakes.write({"a": model})
        with machine.Twins(fakes.root, most={"a": 2}):
            fakes.apply()
        assert stream.rest() == 100
        assert stream.finished
    assert len(fakes.pids()) == 1


def test_new_version_that_dies(fakes: Lab) -> None:
    """The old one serves on, without a single failed request."""
    fakes.write({"a": {"rollout": "surge"}})
    fakes.apply()
    pids = fakes.pids()
    load = requests(fakes, "a", clients=2)
    load.start()
    load.some_more()
    try:
        fakes.write({"a": {"rollout": "surge", "args": {"fake-exit-loading": 1}}})
        done = fakes.apply(code=3)
        assert "instance.a: it died while loading" in done.err
        assert "asked to fail" in done.err
        assert fakes.pids() == pids
    finally:
        counts = load.stop()
    assert set(counts) == {"200"}, counts
    assert fakes.phases(code=3) == {"a": "ready"}
    fakes.write({"a": {"rollout": "surge", "params": {"temp": 0.3}}})
    fakes.apply()
    assert fakes.pids() != pids


def test_new_version_that_is_never_ready(fakes: Lab) -> None:
    """Out of time: the new one is ended, the old one serves on."""
    fakes.write({"a": {"rollout": "surge"}})
    fakes.apply()
    pids = fakes.pids()
    slow = {"args": {"fake-load-seconds": 60}, "probe": {"startup": "1s"}}
    fakes.write({"a": {"rollout": "surge", **slow}})
    done = fakes.apply(code=3)
    assert "not ready after 1 s" in done.err
    assert "still runs" not in done.err
    assert fakes.pids() == pids
    assert fakes.complete("a").status == 200


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"args": {"fake-exit-loading": 1}}, "it died while loading"),
        ({"args": {"fake-load-seconds": 60}, "probe": {"startup": "1s"}}, "not ready after 1 s"),
    ],
)
def test_recreate_goes_back_to_what_served(fakes: Lab, bad: dict[str, Any], said: str) -> None:
    """And what failed is not tried again until it is another one, or somebody asks for it."""
    # One that every server has may be this server's own, as where the engine's libraries lie.
    own = {"GOOD": "1", "LD_LIBRARY_PATH": "/opt/own/lib", "LANG": "C"}
    good: dict[str, Any] = {"env": own, "params": {"temp": 0.5}}
    fakes.write({"a": good, "b": {}})
    fakes.apply()
    before = fakes.pids()
    [row, _] = fakes.status()["instances"]
    fakes.write({"a": bad, "b": {}})
    done = fakes.apply(code=3)
    assert said in done.err
    assert "; the old one serves again" in done.err
    after = fakes.pids()
    assert (after["b"], after["a"] != before["a"]) == (before["b"], True)
    assert fakes.complete("a").status == 200
    given = Path(f"/proc/{after['a']}/environ").read_bytes().split(b"\0")
    assert {f"{name}={value}".encode() for name, value in own.items()} <= {*given}
    [now, _] = fakes.status(code=3)["instances"]
    assert (now["spec"], now["phase"]) == (row["spec"], "ready")
    assert said in now["reason"]
    assert "`llm-reconcile restart a` tries it once more" in now["reason"]
    again = fakes.apply(code=3)
    assert "instance.a is blocked: this version was tried, and failed" in again.err
    assert fakes.pids() == after
    assert said in fakes.run("restart", "a", code=3).err
    assert fakes.complete("a").status == 200
    fakes.write({"a": {"params": {"temp": 0.6}}, "b": {}})
    fakes.apply()
    fakes.write({"a": good, "b": {}})
    fakes.apply()
    assert fakes.plan().out == "No changes. The machine matches desired/x.yaml.\n"


def test_surge_that_was_killed(fakes: Lab) -> None:
    """kill -9 while both live: the next apply keeps the new one, once it is ready."""
    fakes.write({"a": {"rollout": "surge"}})
    fakes.apply()
    old = fakes.pids()["a"]
    fakes.write({"a": {"rollout": "surge", "args": {"fake-load-seconds": 2}}})
    child = fakes.begin_apply()
    eventually(lambda: len(fakes.servers().get("a", [])) == 2, "both live")
    child.kill()
    fakes.end(child)
    (new,) = set(fakes.servers()["a"]) - {old}
    assert fakes.complete("a").status == 200
    load = requests(fakes, "a", clients=2)
    load.start()
    load.some_more()
    try:
        fakes.apply()
    finally:
        counts = load.stop()
    assert set(counts) == {"200"}, counts
    assert fakes.pids() == {"a": new}


def test_recreate_says_503_meanwhile(fakes: Lab) -> None:
    """Without surge there is a gap, and clients are told to come back."""
    fakes.write({"a": {}, "b": {}})
    fakes.apply()
    fakes.write({"a": {"args": {"fake-load-seconds": 3}}, "b": {}})
    child = fakes.begin_apply()
    answers = iter(lambda: fakes.complete("a"), None)
    away = next(answer for answer in answers if answer.status == 503)
    assert away.headers["retry-after"]
    entries = {each["name"]: each["phase"] for each in fakes.ask("/api/models").json["models"]}
    assert entries["b"] == "ready"
    assert entries["a"] in {"starting", "exited"}
    assert fakes.end(child).code == 0
    assert fakes.complete("a").status == 200


@pytest.mark.parametrize("dies", [False, True], ids=["it loads for ever", "it died"])
def test_recreate_goes_back_though_its_run_was_killed(fakes: Lab, dies: bool) -> None:
    """The old one is stopped, the new one is not ready: the next run still knows the old one."""
    good: dict[str, Any] = {"env": {"GOOD": "1"}}
    fakes.write({"a": good})
    fakes.apply()
    slow = {"args": {"fake-load-seconds": 600}}
    fakes.write({"a": slow})
    run = fakes.begin_apply()
    # What dies before its first word was not tried yet.
    eventually(lambda: fakes.log("a").count("loading model") == 2)
    run.kill()
    run.wait()
    [new] = fakes.servers()["a"]
    if dies:
        machine.kill([new])
    # Not before: on a busy machine the run that is killed would itself have given up by then.
    fakes.write({"a": {**slow, "probe": {"startup": "1s"}}})
    said = fakes.apply(code=3)
    assert ("tried, and failed" if dies else "; the old one serves again") in said.all
    after = fakes.pids()["a"]
    assert b"GOOD=1" in Path(f"/proc/{after}/environ").read_bytes().split(b"\0")
    assert fakes.complete("a").status == 200
    assert "tried, and failed" in fakes.apply(code=3).err
    assert fakes.pids()["a"] == after
    fakes.write({"a": good})
    fakes.apply()
    assert fakes.pids()["a"] == after
