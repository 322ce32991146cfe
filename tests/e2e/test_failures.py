"""What cannot run says why, and everything else comes up (exit 3)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from waiting import eventually

from e2e import machine
from e2e.lab import Lab


def test_bad_files(lab: Lab) -> None:
    """Missing, truncated, empty, foreign: each model is blocked, the good one serves."""
    whole = lab.weights.read_bytes()
    files = {"truncated": whole[:70_000], "empty": b"", "foreign": b"PK\x03\x04" + bytes(5000)}
    for name, content in files.items():
        (lab.root / f"{name}.gguf").write_bytes(content)
    names = ("missing", *files)
    lab.write({**{name: {"source": {"path": f"{name}.gguf"}} for name in names}, "good": {}})
    done = lab.apply(code=3)
    for name, said in {
        "missing": "No such file",
        "truncated": "is truncated",
        "empty": "is empty",
        "foreign": "GGUF",
    }.items():
        line = next(each for each in done.err.splitlines() if f"instance.{name} is blocked" in each)
        assert said in line
        assert f"{name}.gguf" in line
    assert set(lab.pids()) == {"good"}
    assert lab.complete("good").status == 200
    assert lab.complete("missing").status == 503
    assert lab.phases(code=3) == dict.fromkeys(names, "blocked") | {"good": "ready"}
    (lab.root / "missing.gguf").write_bytes(whole)
    lab.apply(code=3)
    assert set(lab.pids()) == {"good", "missing"}


def test_file_lost_while_its_server_runs(lab: Lab) -> None:
    """What runs was loaded already: it is left alone; and a needed restart is blocked."""
    own = lab.root / "own.gguf"
    own.write_bytes(lab.weights.read_bytes())
    model: dict[str, Any] = {"source": {"path": "own.gguf"}}
    lab.write({"a": model, "b": {}})
    lab.apply()
    pids = lab.pids()
    own.unlink()
    lab.apply()
    assert lab.pids() == pids
    lab.write({"a": {**model, "params": {"temp": 0.1}}, "b": {}})
    done = lab.apply(code=3)
    assert "blocked, keeps running" in done.out
    assert lab.pids() == pids
    assert lab.complete("a").status == 200


def test_replaced_file_is_drift(lab: Lab) -> None:
    own = lab.root / "own.gguf"
    own.write_bytes(lab.weights.read_bytes())
    lab.write({"a": {"source": {"path": "own.gguf"}}})
    lab.apply()
    pids = lab.pids()
    other = lab.root / "other.gguf"
    other.write_bytes(lab.weights.read_bytes())
    other.replace(own)
    assert "! instance.a" in lab.apply().out
    assert lab.pids() == pids
    assert lab.status()["drift"][0]["address"] == "instance.a"


def test_unknown_flag(lab: Lab) -> None:
    """Found in the plan, at its place in the file; nothing is started for it."""
    lab.write({"good": {}})
    lab.file.write_text(
        "version: 1\n"
        "engine: {kind: embedded}\n"
        f"gateway: {{listen: 127.0.0.1:{lab.listen}}}\n"
        "models:\n"
        f"  good: {{source: {{path: {lab.weights}}}}}\n"
        "  bad:\n"
        f"    source: {{path: {lab.weights}}}\n"
        "    params: {ctx_size: 256}\n"
        "    args:\n"
        "      paralel: 2\n"
    )
    plan = lab.plan().out
    assert "! instance.bad" in plan
    assert "blocked, not running: desired/x.yaml:10:16: " in plan
    assert "--paralel; did you mean `parallel`?" in plan
    done = lab.apply(code=3)
    assert "desired/x.yaml:10:16" in done.err
    assert set(lab.pids()) == {"good"}


def test_value_that_the_help_rules_out(lab: Lab) -> None:
    """Found before the server that serves now is stopped for it."""
    lab.write({"a": {"params": {"ctx_size": 256}}})
    lab.apply()
    pids = lab.pids()
    for key, value, said in (
        ("ctx_size", "lots", "--ctx-size needs a number, not `lots`"),
        ("flash_attn", True, "--flash-attn needs one of on, off, auto, not `true`"),
        ("pooling", "men", "not `men`; did you mean `mean`?"),
        ("ctx_size", False, "--ctx-size cannot be switched off"),
        ("jinja", "on", "--jinja is a switch"),
    ):
        lab.write({"a": {"params": {key: value}}})
        done = lab.apply(code=3)
        assert said in done.err
        assert "desired/x.yaml:" in done.err
        assert lab.pids() == pids
    assert lab.complete("a").status == 200


def test_value_that_only_the_engine_can_judge(lab: Lab) -> None:
    lab.write({"bad": {"params": {"parallel": 0}}, "good": {}})
    done = lab.apply(code=3)
    assert "instance.bad: it died while loading" in done.err
    assert "parallel" in done.err
    assert "  | " in done.err
    assert lab.log("bad").splitlines()[-1] in done.err
    assert set(lab.pids()) == {"good"}
    rows = {row["name"]: row for row in lab.status(code=3)["instances"]}
    assert rows["bad"]["phase"] == "exited"
    assert "died while loading" in rows["bad"]["reason"]
    assert not [name for name in lab.left_over() if name.startswith("bad")]
    lab.write({"bad": {"params": {"parallel": 1}}, "good": {}})
    assert "exited: it died while loading" in lab.plan().out
    lab.apply()
    assert lab.phases() == {"bad": "ready", "good": "ready"}


@pytest.mark.parametrize(
    ("switches", "said"),
    [
        ({"fake-exit-loading": 1}, "asked to fail"),
        ({"fake-load-seconds": 0.3, "fake-exit-loading": 7}, "asked to fail"),
        ({"fake-crash-after": 0}, ""),
    ],
)
def test_server_that_dies(fakes: Lab, switches: dict[str, Any], said: str) -> None:
    """The others come up; the reason and the end of its log are told; no zombie meanwhile."""
    fakes.write({"bad": {"args": switches}, "slow": {"args": {"fake-load-seconds": 1.5}}})
    child = fakes.begin_apply()
    fakes.wait_for("slow")
    eventually(lambda: "bad" not in fakes.servers(), "it is dead")
    eventually(lambda: not machine.zombies(child.pid), "it is reaped")
    done = fakes.end(child)
    if "fake-crash-after" in switches and done.code == 0:
        # It was ready for a moment; without a watch nobody notices its end.
        assert fakes.phases(code=3)["bad"] in {"absent", "exited"}
    else:
        assert done.code == 3
        assert "instance.bad: it died while loading" in done.err
        assert said in done.err
        assert not [name for name in fakes.left_over() if name.startswith("bad")]
    assert set(fakes.pids()) == {"slow"}
    assert fakes.complete("slow").status == 200


def test_start_that_takes_too_long(fakes: Lab) -> None:
    """It is told, and goes on loading."""
    fakes.write(
        {"slow": {"args": {"fake-load-seconds": 3}, "probe": {"startup": "1s"}}, "quick": {}}
    )
    done = fakes.apply(code=3)
    assert "not ready after 1 s (probe.startup)" in done.err
    pid = fakes.pids()["slow"]
    eventually(lambda: fakes.phases(code=3)["slow"] == "ready", "it is loaded")
    fakes.apply()
    assert fakes.pids()["slow"] == pid
    assert fakes.complete("slow").status == 200


def test_engine_missing(lab: Lab) -> None:
    """Every model is blocked by it; what runs goes on."""
    lab.write({"a": {}, "b": {}})
    lab.apply()
    pids = lab.pids()
    engine = {"kind": "llama-server", "command": "tools/no-such-server"}
    lab.write({"a": {}, "b": {}}, engine=engine)
    done = lab.apply(code=3)
    assert "tools/no-such-server" in done.err
    assert lab.pids() == pids
    assert lab.complete("a").status == 200


BROKEN = {
    "no YAML": ("models: {a: [}\n", "desired/x.yaml:1:"),
    "empty": ("", "desired/x.yaml:1:1"),
    "only a comment": ("# nothing\n", "desired/x.yaml:1:1"),
    "typo": ("version: 1\nmodels:\n  a: {sourc: {path: x}}\n", "desired/x.yaml:3:7"),
    "other version": ("version: 2\nmodels: {}\n", "desired/x.yaml:1:10"),
    "a list": ("- version: 1\n", "desired/x.yaml:1:1"),
    "not text": ("\x00\x01", "desired/x.yaml"),
}


def test_broken_desired_file(lab: Lab) -> None:
    """Exit 1 at file:line:col, nothing stops; and stopping by hand still works."""
    lab.write({"a": {}, "b": {}})
    lab.apply()
    pids, nginx = lab.pids(), lab.nginx()
    before = machine.snapshot(lab.state)
    where = ""
    for name, (text, where) in BROKEN.items():
        lab.file.write_text(text)
        failed = lab.apply(code=1)
        assert where in failed.err, name
        assert failed.out == ""
    for verb in ("validate", "plan"):
        assert where in lab.run(verb, str(lab.file), code=1).err
    lab.file.unlink()
    assert "no such file" in lab.apply(code=1).err
    assert machine.snapshot(lab.state) == before
    assert (lab.pids(), lab.nginx()) == (pids, nginx)
    assert "no such file" in lab.run("status", code=1).err
    lab.run("stop", "a")
    assert set(lab.pids()) == {"b"}


def test_every_problem_is_named_at_once(lab: Lab) -> None:
    lab.file.write_text(
        "version: 1\nmodels:\n  a: {source: {path: x}, port: 99999}\n  b: {quant: Q4}\n"
    )
    failed = lab.run("validate", str(lab.file), code=1)
    assert "desired/x.yaml:3:32" in failed.err
    assert "desired/x.yaml:4:3" in failed.err


def test_shell_mistakes(lab: Lab, tmp_path: Path) -> None:
    """Wrong usage is exit 1, with one line on how it goes."""
    lab.write({"a": {}})
    for words in (
        ("apply",),
        ("apply", str(lab.file), "--yess"),
        ("frobnicate",),
        ("plan", str(lab.file), "--root", "/nowhere"),
        ("stop",),
        ("stop", "a", "--all"),
        ("stop", "zebra"),
        ("logs", "a"),
        ("apply", str(lab.file), "--allow-destroy", "-1", "-y"),
    ):
        failed = lab.run(*words, code=1)
        assert failed.err, words
        assert "Traceback" not in failed.err
    assert "no root here" in lab.run("status", code=1, cwd=tmp_path).err
    assert lab.run("--help").out
    assert lab.run("version").out.startswith("llm-reconcile ")


def test_json_is_one_event_a_line(lab: Lab) -> None:
    lab.write({"a": {}, "bad": {"source": {"path": "none.gguf"}}})
    done = lab.apply("--json", code=3)
    events = [json.loads(line) for line in done.out.splitlines()]
    assert events[0]["event"] == "plan"
    assert events[0]["summary"]["add"] == 1
    assert {event["address"] for event in events if event["event"] == "step"} == {
        "gateway",
        "instance.a",
    }
    assert events[-1] == {"event": "done", "converged": False}
    plan = lab.plan("--json").json
    assert plan["format_version"] == "1.0"
    rows = {each["address"]: each for each in plan["resource_changes"]}
    assert rows["instance.a"]["change"]["actions"] == ["no-op"]
    assert "none.gguf" in rows["instance.bad"]["blocked"]
