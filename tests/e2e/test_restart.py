"""restart: a new process of the same launch, for the named model only."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from engine_programs import llama_server

from e2e import machine
from e2e.lab import Lab
from e2e.load import requests


def test_restart_replaces_the_named_model_only(lab: Lab) -> None:
    lab.write({"a": {}, "b": {"rollout": "surge"}, "c": {}})
    lab.apply()
    pids, nginx = lab.pids(), lab.nginx()
    done = lab.run("restart", "a")
    assert "a restart was asked for" in done.out
    now = lab.pids()
    assert now["a"] != pids["a"]
    assert (now["b"], now["c"]) == (pids["b"], pids["c"])
    assert "+/- instance.b" in lab.run("restart", "b").out
    assert lab.pids()["b"] != pids["b"]
    assert lab.nginx() == nginx
    assert lab.complete("a").status == 200
    assert lab.complete("b").status == 200
    before = lab.pids()
    lab.run("restart", "--all")
    assert not set(lab.pids().values()) & set(before.values())
    assert "No changes." in lab.plan().out


def test_with_hold_a_restart_fails_no_request(lab: Lab) -> None:
    lab.write({"a": {}}, gateway={"listen": f"127.0.0.1:{lab.listen}", "hold": "1m"})
    lab.apply()
    before = lab.pids()
    load = requests(lab, "a")
    load.start()
    try:
        load.some_more()
        assert " of downtime, requests wait\n" in lab.run("restart", "a").out
        load.some_more()
    finally:
        counts = load.stop()
    assert set(counts) == {"200"}, counts
    assert lab.pids() != before


def test_with_hold_a_death_costs_time_only(fakes: Lab) -> None:
    """Whoever asks in vain waits until the new server has loaded, and never meets it before."""
    gateway = {"listen": f"127.0.0.1:{fakes.listen}", "hold": "1m"}
    fakes.write({"a": {"args": {"fake-load-seconds": 1}}}, gateway=gateway)
    fakes.apply()
    machine.end([fakes.pids()["a"]])
    load = requests(fakes, "a")
    load.start()
    try:
        fakes.apply()
        load.some_more()
    finally:
        counts = load.stop()
    assert set(counts) == {"200"}, counts


def test_restart_takes_a_file_that_was_replaced_in_place(lab: Lab) -> None:
    own = lab.root / "own.gguf"
    own.write_bytes(lab.weights.read_bytes())
    lab.write({"a": {"source": {"path": "own.gguf"}}, "b": {}})
    lab.apply()
    own.unlink()
    own.write_bytes(lab.weights.read_bytes())
    assert "not the ones it loaded" in lab.plan().out
    lab.run("restart", "a")
    assert "No changes." in lab.plan().out


@pytest.mark.parametrize("program", [one for one in [llama_server()] if one], ids=str)
def test_another_build_of_the_engine_is_taken_when_it_is_wanted(
    program: Path, short_folder: Path, tiny_model: Path
) -> None:
    engine = Path(shutil.copy(program, short_folder / "llama-server"))
    lab = Lab(short_folder / "l", tiny_model, {"kind": "llama-server", "command": str(engine)})
    lab.write({"a": {}})
    lab.apply()
    before = lab.pids()
    new = Path(shutil.copy(engine, short_folder / "new"))
    with new.open("ab") as file:
        file.write(b"another build")
    new.replace(engine)
    told = lab.plan("--detailed-exitcode").out
    assert "! instance.a                       ready; drift: engine changed: it runs the" in told
    lab.engine = {**lab.engine, "on_change": "replace"}
    lab.write({"a": {"rollout": "surge"}})
    assert "+/- instance.a                       engine changed: it runs" in lab.plan().out
    lab.apply()
    assert lab.pids()["a"] != before["a"]
    assert lab.apply().out == lab.plan().out
    assert lab.close() == []


def test_what_cannot_be_restarted_is_said_and_left_alone(lab: Lab) -> None:
    lab.write({"a": {}, "gold": {"protect": True}, "rest": {"state": "present"}})
    lab.apply()
    lab.run("stop", "a")
    pids = lab.pids()
    assert "llm-reconcile start a" in lab.run("restart", "a", code=1).err
    assert "does not want rest to run" in lab.run("restart", "rest", code=1).err
    assert "does not want rest to run" in lab.run("start", "rest", code=1).err
    assert "did you mean gold" in lab.run("restart", "golt", code=1).err
    assert "--allow-protected gold" in lab.run("restart", "gold", code=4).err
    assert lab.pids() == pids
    lab.run("restart", "gold", "--allow-protected", "gold")
    assert lab.pids()["gold"] != pids["gold"]
