"""`status NAME`, `--argv` and `--wait ready`, with real processes that die, load and wait."""

from __future__ import annotations

import json
import os
import signal

import pytest
from waiting import eventually

from e2e import machine
from e2e.lab import Lab

NEVER_S = 600


def test_everything_about_one(lab: Lab) -> None:
    lab.write({"a": {"aliases": ["uno"], "params": {"ctx_size": 1024}}, "b": {}})
    lab.apply()
    pid = lab.pids()["a"]
    for name in ("a", "uno"):
        said = lab.run("status", name).out
        assert said.startswith("a: ready, up for ")
        assert f"Server: pid {pid}, copy a" in said
        assert "of the host" in said
        assert "--ctx-size 1024\n" in said
        assert "model loaded" in said
    (row,) = lab.run("status", "a", "--json").json["instances"]
    assert row["command"] == machine.arguments(pid)
    assert row["files"] == [
        {"name": str(lab.weights), "size_bytes": lab.weights.stat().st_size, "on_disk": True}
    ]
    assert row["log_tail"]
    assert lab.run("status", "a", "--argv").out.split() == machine.arguments(pid)
    every = lab.run("status", "--argv", "--json").json
    assert every == {name: machine.arguments(one) for name, one in lab.pids().items()}


def test_one_replica(fakes: Lab) -> None:
    fakes.write({"a": {"replicas": 2}})
    fakes.apply()
    assert [line.split(":")[0] for line in _heads(fakes, "a")] == ["a", "a[1]"]
    assert [line.split(":")[0] for line in _heads(fakes, "a[1]")] == ["a[1]"]
    wrong = fakes.run("status", "a[7]", code=1)
    assert "there are: a, a[1]" in wrong.err


def _heads(lab: Lab, name: str) -> list[str]:
    return [
        one.splitlines()[0] for one in lab.run("status", name).out.split("\n\n") if ", up" in one
    ]


def test_a_death_that_nobody_saw_is_told_and_stays_known(fakes: Lab) -> None:
    fakes.write({"a": {}, "b": {}})
    fakes.apply()
    with (fakes.root / "logs" / "a.log").open("a") as log:
        log.write("ggml_backend_cuda_buffer_type_alloc_buffer: failed to allocate 9 MiB\n")
    os.kill(fakes.pids()["a"], signal.SIGABRT)
    eventually(lambda: set(fakes.servers()) == {"b"}, "it is dead")
    said = fakes.run("status", code=3).out
    assert "a: exited: not enough memory; apply starts it." in said
    assert "+ instance.a" in fakes.plan().out
    one = fakes.run("status", "a", code=3).out
    assert one.startswith("a: exited\n")
    assert "Would run: " in one
    fakes.apply()
    after = fakes.run("status", "a").out
    assert "ago: not enough memory" in after
    fakes.run("stop", "a")
    fakes.run("start", "a")
    assert "not enough memory" not in fakes.run("status", "a").out


def test_a_model_that_wants_no_server(fakes: Lab) -> None:
    fakes.write({"a": {"state": "present"}, "b": {}})
    fakes.apply()
    assert fakes.run("status", "a").out == "a wants no server (state: present, replicas: 1).\n"
    wrong = fakes.run("status", "a", "--wait", "ready", code=1)
    assert "nothing would ever be ready" in wrong.err


# ---- waiting


def test_it_waits_for_what_loads(fakes: Lab) -> None:
    fakes.write({"a": {}, "slow": {"args": {"fake-load-seconds": 1.5}}})
    child = fakes.begin_apply()
    fakes.wait_for("slow")
    said = fakes.run("status", "--wait", "ready", "--json")
    assert {row["phase"] for row in said.json["instances"]} == {"ready"}
    assert said.json["converged"] is True
    assert fakes.end(child).code == 0
    assert fakes.run("status", "slow", "--wait", "ready").out.startswith("slow: ready")


def test_it_does_not_wait_for_what_nobody_starts(fakes: Lab) -> None:
    fakes.write({"a": {}, "b": {}})
    fakes.apply()
    fakes.run("stop", "b")
    assert fakes.run("status", "a", "--wait", "ready").code == 0
    assert "suspended" in fakes.run("status", "b", "--wait", "ready", code=3).out
    # What an operator stopped is not waited for, unless it is named.
    assert "matches" in fakes.run("status", "--wait", "ready").out
    fakes.write({"a": {"params": {"temp": 0.5}}, "b": {}})
    assert "its launch changed" in fakes.run("status", "a", "--wait", "ready", code=3).out


def test_waiting_has_an_end(fakes: Lab) -> None:
    fakes.write({"a": {"args": {"fake-load-seconds": NEVER_S}}})
    child = fakes.begin_apply()
    fakes.wait_for("a")
    late = fakes.run("status", "--wait", "ready", "--timeout", "0.4", code=3)
    assert "Not ready after 0.4 s: a" in late.err
    # Coverage would catch TERM from the beginning on.
    unmeasured = {"COVERAGE_PROCESS_START": ""}
    waiting = fakes.popen("status", "a", "--wait", "ready", env=unmeasured)
    eventually(lambda: machine.catches(waiting.pid, signal.SIGTERM), "it waits")
    waiting.send_signal(signal.SIGINT)
    assert fakes.end(waiting).code == 130
    child.send_signal(signal.SIGTERM)
    assert fakes.end(child).code == 143


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--timeout", "5s"), "--timeout goes with --wait"),
        (("--wait", "ready", "--timeout", "soon"), "expected a duration like 30s"),
        (("--wait", "done"), "'done' is not"),
        (("nobody",), "no model is called nobody"),
        (("unp",), "did you mean uno?"),
    ],
)
def test_wrong_words(fakes: Lab, words: tuple[str, ...], said: str) -> None:
    fakes.write({"a": {"aliases": ["uno"]}})
    wrong = fakes.run("status", *words, code=1)
    assert said in wrong.err
    assert wrong.out == ""


def test_completion_knows_the_models(fakes: Lab) -> None:
    fakes.write({"alpha": {"replicas": 2}, "beta": {}})
    for words, offered in (
        ("llm-reconcile res", ["restart"]),
        ("llm-reconcile stop a", ["alpha"]),
        ("llm-reconcile status ", ["alpha", "alpha[1]", "beta"]),
        ("llm-reconcile logs alpha[", ["alpha[1]"]),
    ):
        asked = {
            "_LLM_RECONCILE_COMPLETE": "complete_bash",
            "COMP_WORDS": words,
            "COMP_CWORD": str(len(words.split(" ")) - 1),
        }
        assert fakes.run(env=asked).out.split() == offered
    fakes.file.write_text("version: 7")
    asked = {"_LLM_RECONCILE_COMPLETE": "complete_bash", "COMP_CWORD": "2"}
    assert fakes.run(env={**asked, "COMP_WORDS": "llm-reconcile stop a"}).all.split() == []


def test_every_effect_is_told_as_it_happens(fakes: Lab) -> None:
    fakes.write({"a": {}})
    said = fakes.apply("-v").err
    assert f"  write {fakes.state}/journal.json" in said
    assert "  spawn " in said
    assert said.index("  link ") > said.index("  spawn ")
    events = [json.loads(line) for line in fakes.run("down", "-y", "-v", "--json").out.splitlines()]
    effects = [one["text"] for one in events if one["event"] == "effect"]
    assert any(text.startswith("SIGTERM ") for text in effects)
    assert "write" not in fakes.apply().err
    assert "contradict" in fakes.apply("-v", "-q", code=1).err
