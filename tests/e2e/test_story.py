"""The whole story, with every engine that this machine has: from validate to down and back."""

from __future__ import annotations

import contextlib
import shutil
from typing import Any

from waiting import eventually

from e2e import machine
from e2e.lab import Lab, Nginx


def two_models(lab: Lab) -> tuple[int, int]:
    ports = machine.free_port(), machine.free_port()
    lab.write(
        {
            "one": {"port": ports[0], "aliases": ["uno", "org/one:latest"]},
            "two": {"port": ports[1], "params": {"temp": 0.5}},
        },
        defaults={"params": {"ctx_size": 1024, "parallel": 2}, "drain": "2s", "grace": "3s"},
    )
    return ports


def test_story(real: Lab) -> None:
    ports = two_models(real)
    assert "2 models" in real.run("validate", str(real.file)).out
    before = machine.snapshot(real.root, real.folder / "home")
    plan = real.plan()
    assert "+ instance.one" in plan.out
    assert "params.temp: 0.5" in plan.out
    assert plan.out.splitlines()[-2:] == [
        "Plan: 2 to add, 0 to change, 0 to replace, 0 to remove, 0 unchanged.",
        "Gateway: start.",
    ]
    assert real.plan("--detailed-exitcode", code=2).out == plan.out
    assert machine.snapshot(real.root, real.folder / "home") == before

    done = real.apply()
    assert done.out == plan.out
    assert f"http://127.0.0.1:{real.listen}" in done.err
    assert set(real.pids()) == {"one", "two"}
    answers(real, ports)
    for verb in ("plan", "apply"):
        quiet = real.run(verb, str(real.file))
        assert quiet.out == "No changes. The machine matches desired/x.yaml.\n"
    tells(real, ports)
    suspends(real)

    down = real.run("down", "-y")
    assert "2 to remove" in down.out
    assert real.servers() == {}
    assert real.nginx() == Nginx(None, ())
    assert real.left_over() == []
    assert not any(machine.listens(port) for port in (*ports, real.listen))
    assert real.phases(code=3) == {"one": "absent", "two": "absent"}
    assert "wants no server" not in real.run("status", code=3).out
    again = real.run("down", "-y")
    assert again.out == "No changes. Nothing of this root runs.\n"
    real.apply()
    assert real.complete("two").status == 200


def answers(lab: Lab, ports: tuple[int, int]) -> None:
    for name in ("one", "uno", "org/one:latest"):
        body = {"model": name, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}
        answer = lab.ask("/v1/chat/completions", body)
        assert answer.status == 200, answer
        assert answer.json["choices"][0]["message"]["role"] == "assistant"
    assert lab.ask("/api/two/v1/completions", {"prompt": "a", "max_tokens": 1}).status == 200
    assert lab.ask("/tokenize", {"model": "two", "content": "abc"}).json["tokens"]
    unknown = lab.complete("three")
    assert unknown.status == 404
    assert "one" in unknown.error
    assert "two" in unknown.error
    with lab.stream("uno", tokens=20) as stream:
        assert stream.status == 200
        assert stream.rest() > 5  # tokens that are half a character come together
        assert stream.finished
    for port in ports:
        assert lab.ask("/v1/completions", {"prompt": "a", "max_tokens": 1}, port).status == 200
    assert lab.ask("/health").status == 200
    assert b"<html" in lab.ask("/").body.lower()
    listed = [entry["id"] for entry in lab.ask("/v1/models").json["data"]]
    assert sorted(listed) == ["one", "two"]
    models = {entry["name"]: entry for entry in lab.ask("/api/models").json["models"]}
    assert {name: entry["phase"] for name, entry in models.items()} == {
        "one": "ready",
        "two": "ready",
    }
    assert models["one"]["port"] == ports[0]
    assert models["one"]["size_bytes"] == lab.weights.stat().st_size
    assert models["one"]["since"]


def tells(lab: Lab, ports: tuple[int, int]) -> None:
    text = lab.run("status").out
    assert "The machine matches desired/x.yaml." in text
    status = lab.status()
    assert status["converged"]
    assert status["gateway"]["phase"] == "ready"
    rows = {row["name"]: row for row in status["instances"]}
    for (name, pid), port in zip(sorted(lab.pids().items()), ports, strict=True):
        assert (rows[name]["phase"], rows[name]["pid"], rows[name]["port"]) == ("ready", pid, port)
        assert lab.pid_file(name).read_text() == f"{pid}\n{port}\n"
        assert rows[name]["memory_bytes"] > 2**20
    only = lab.run("status", "two", "--json").json
    assert [row["name"] for row in only["instances"]] == ["two"]
    assert lab.run("logs", "one").out.strip() in lab.log("one")
    assert len(lab.run("logs", "one", "-n", "3").out.splitlines()) == 3
    assert "did you mean one" in lab.run("status", "onee", code=1).err


def suspends(lab: Lab) -> None:
    other = lab.pids()["two"]
    lab.run("stop", "one", "--reason", "card is hot")
    assert lab.pids() == {"two": other}
    assert not lab.pid_file("one").exists()
    assert "suspended by `stop`: card is hot" in lab.plan().out
    lab.apply()
    assert lab.phases() == {"one": "suspended", "two": "ready"}
    assert lab.status()["suspended"] == ["one"]
    refused = lab.complete("one")
    assert refused.status == 503
    assert "model 'one' is suspended by `stop`" in refused.error
    # It does not come back by itself.
    assert "retry-after" not in refused.headers
    lab.run("start", "one")
    assert lab.complete("one").status == 200
    assert lab.pids()["two"] == other


def test_run_and_logs_deleted(fakes: Lab) -> None:
    """Identity lives on the processes: 20 servers are found again, 50 streams go on (BARS 10)."""
    models: dict[str, dict[str, Any]] = {
        f"m{number}": {"args": {"fake-token-seconds": 0.05, "fake-tokens": 100_000}}
        for number in range(20)
    }
    fakes.write(models)
    never = fakes.run("logs", "m2", code=1).err
    assert "m2 has no log yet\n  `llm-reconcile status m2` says why" in never
    fakes.apply()
    pids, nginx = fakes.pids(), fakes.nginx()
    assert len(pids) == 20
    with contextlib.ExitStack() as stack:
        streams = [stack.enter_context(fakes.stream(f"m{one % 20}")) for one in range(50)]
        for stream in streams:
            stream.take(2)
        written = fakes.log("m2")
        shutil.rmtree(fakes.root / "run")
        shutil.rmtree(fakes.root / "logs")
        shown = fakes.run("logs", "m2")
        assert shown.out == written
        assert "was deleted; this is what its server still writes" in shown.err
        fakes.apply()
        assert fakes.phases() == dict.fromkeys(pids, "ready")
        assert fakes.pid_file("m1").read_text() == f"{pids['m1']}\n\n"
        for stream in streams:
            stream.take(20)
    assert fakes.pids() == pids
    assert fakes.nginx() == nginx
    del models["m3"], pids["m3"]
    fakes.write(models)
    fakes.apply()
    assert fakes.pids() == pids


def test_killed_apply_is_adopted(fakes: Lab) -> None:
    """kill -9 while servers load: the next apply waits for these very servers."""
    fakes.write({name: {"args": {"fake-load-seconds": 2}} for name in ("a", "b", "c")})
    child = fakes.begin_apply()
    eventually(lambda: len(fakes.servers()) == 3, "three are started")
    child.kill()
    fakes.end(child)
    pids = fakes.pids()
    assert len(pids) == 3
    assert fakes.phases(code=3) == dict.fromkeys(pids, "starting")
    fakes.pid_file("a").unlink(missing_ok=True)
    done = fakes.apply()
    assert "> instance.a" in done.out
    assert fakes.pids() == pids
    assert fakes.pid_file("a").read_text() == f"{pids['a']}\n\n"
    assert fakes.phases() == dict.fromkeys(pids, "ready")
    assert fakes.complete("b").status == 200
