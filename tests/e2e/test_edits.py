"""Edits of the desired file: what changes is touched, all else stays (BARS 7)."""

from __future__ import annotations

from typing import Any

import pytest

from e2e import machine
from e2e.client import ask_socket
from e2e.lab import Lab, Nginx, completion

COUNT = 20


def many(lab: Lab) -> dict[str, dict[str, Any]]:
    models: dict[str, dict[str, Any]] = {
        f"m{number}": {"port": machine.free_port(), "params": {"ctx_size": 256, "parallel": 1}}
        for number in range(COUNT)
    }
    lab.write(models)
    lab.apply()
    assert len(lab.pids()) == COUNT
    return models


def changed(before: dict[str, int], after: dict[str, int]) -> set[str]:
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


def test_edit_one_of_many(lab: Lab) -> None:
    models = many(lab)
    pids, nginx = lab.pids(), lab.nginx()

    models["m3"]["params"]["temp"] = 0.3
    lab.write(models)
    plan = lab.plan().out
    assert "-/+ instance.m3" in plan
    assert "params.temp: (none) -> 0.3  # forces restart" in plan
    assert "Gateway" not in plan
    lab.apply()
    assert changed(pids, lab.pids()) == {"m3"}
    assert lab.nginx() == nginx
    assert lab.complete("m3").status == 200

    pids = lab.pids()
    models["m4"]["aliases"] = ["four"]
    old, models["m5"]["port"] = models["m5"]["port"], machine.free_port()
    lab.write(models)
    assert lab.plan().out.splitlines()[-2:] == [
        f"Plan: 0 to add, 0 to change, 0 to replace, 0 to remove, {COUNT} unchanged.",
        "Gateway: reload.",
    ]
    lab.apply()
    assert lab.pids() == pids
    assert lab.nginx().master == nginx.master
    assert not set(lab.nginx().workers) & set(nginx.workers)
    assert lab.complete("four").status == 200
    assert lab.complete("m5", port=models["m5"]["port"]).status == 200
    assert not machine.listens(old)
    assert lab.pid_file("m5").read_text() == f"{pids['m5']}\n{models['m5']['port']}\n"

    for harmless in ({"drain": "3s"}, {"grace": "4s"}, {"probe": {"startup": "1m"}}):
        models["m6"] |= harmless
    lab.write(models)
    assert lab.plan("--detailed-exitcode").out.startswith("No changes.")

    nginx = lab.nginx()
    del models["m7"]
    lab.write(models)
    assert "- instance.m7" in lab.plan().out
    lab.apply()
    del pids["m7"]
    assert lab.pids() == pids
    assert lab.nginx().master == nginx.master
    assert not lab.pid_file("m7").exists()
    assert lab.complete("m7").status == 404


@pytest.mark.parametrize("rest", [{"state": "present"}, {"state": "absent"}, {"replicas": 0}])
def test_model_at_rest(lab: Lab, rest: dict[str, Any]) -> None:
    """Its process stops, its file stays, the others do not notice."""
    models = {name: {"port": machine.free_port()} for name in ("a", "b", "c", "d")}
    lab.write(models)
    lab.apply()
    pids, master = lab.pids(), lab.nginx().master
    lab.write({**models, "b": {**models["b"], **rest}})
    plan = lab.plan().out
    reason = "state: {state}".format(**rest) if "state" in rest else "replicas: 0"
    assert "- instance.b" in plan
    assert reason in plan
    lab.apply()
    del pids["b"]
    assert lab.pids() == pids
    assert lab.nginx().master == master
    assert lab.weights.exists()
    refused = lab.complete("b")
    assert refused.status == 503
    assert reason in refused.error
    assert lab.apply().out.startswith("No changes.")
    lab.write(models)
    lab.apply()
    assert lab.complete("b").status == 200
    assert changed(pids, lab.pids()) == {"b"}


def test_removing_many_needs_leave(lab: Lab) -> None:
    lab.write({name: {} for name in "abcd"})
    lab.apply()
    pids = lab.pids()
    lab.write({name: {} for name in "ab"})
    plan = lab.plan(code=4)
    assert "2 of 4 running instances would be stopped" in plan.out
    refused = lab.apply(code=4)
    assert "--allow-destroy 2" in refused.err
    assert lab.pids() == pids
    lab.apply("--allow-destroy", "1", code=4)
    assert lab.pids() == pids
    lab.apply("--allow-destroy", "2")
    assert lab.pids() == {name: pids[name] for name in "ab"}


def test_replicas(lab: Lab) -> None:
    """Two servers of one model share its requests; one of them may go."""
    model: dict[str, Any] = {"port": machine.free_port(), "params": {"ctx_size": 256}}
    lab.write({"a": {**model, "replicas": 2}})
    lab.apply()
    pids = lab.pids()
    assert set(pids) == {"a", "a[1]"}
    assert lab.pid_file("a.1").read_text() == f"{pids['a[1]']}\n{model['port']}\n"
    # Each prompt begins a conversation of its own, and these are shared out.
    for number in range(40):
        body = {**completion("a", 1), "prompt": f"question {number}"}
        assert lab.ask("/v1/completions", body).status == 200
    for name, pid in pids.items():
        metrics = ask_socket(machine.listens_on(pid), "/metrics").decode()
        assert "llamacpp:prompt_tokens_total 0\n" not in metrics, f"nothing reached {name}"
    lab.write({"a": {**model, "replicas": 1}})
    lab.apply()
    assert lab.pids() == {"a": pids["a"]}
    assert not lab.pid_file("a.1").exists()
    lab.write({"a": {**model, "replicas": 2}})
    lab.apply()
    assert lab.pids()["a"] == pids["a"]
    assert lab.complete("a").status == 200


def test_dead_server_is_started_again(lab: Lab) -> None:
    lab.write({name: {} for name in "abc"})
    lab.apply()
    pids, nginx = lab.pids(), lab.nginx()
    machine.end([pids["b"]])
    answer = lab.complete("b")
    assert (answer.status, "has exited" in answer.error) == (502, True)
    assert lab.phases(code=3)["b"] in {"absent", "exited"}
    assert "+ instance.b" in lab.plan().out
    lab.apply()
    assert changed(pids, lab.pids()) == {"b"}
    assert lab.nginx() == nginx
    assert lab.complete("b").status == 200


def test_removed_after_a_crash(lab: Lab) -> None:
    """A server that died by itself leaves nothing behind once its model is out of the file."""
    lab.write({name: {} for name in "abc"})
    lab.apply()
    machine.end([lab.pids()["b"]])
    lab.write({name: {} for name in "ac"})
    lab.apply()
    assert not [name for name in lab.left_over() if name.startswith("b")]


def test_nothing_wanted(lab: Lab) -> None:
    """An empty list of models from the start: only the gateway."""
    lab.write({})
    lab.apply()
    assert lab.servers() == {}
    assert lab.nginx().master
    assert lab.ask("/api/models").json["models"] == []
    lab.run("down", "-y")
    assert lab.nginx() == Nginx(None, ())
