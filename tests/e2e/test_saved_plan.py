"""A saved plan is carried out as it was reviewed, or refused; it never asks (BARS 4)."""

from __future__ import annotations

import json
import shlex
import stat
from pathlib import Path

import jsonschema

from e2e import machine
from e2e.lab import Lab
from reconciler.core.plan_schema import plan_document_schema

HIDDEN = "hf_ThisIsTheSecret"


def saved(lab: Lab, *words: str) -> Path:
    path = lab.folder / "saved"
    lab.plan("--out", str(path), *words)
    return path


def test_it_is_applied_once_and_only_as_it_was_reviewed(fakes: Lab) -> None:
    """On an empty machine: without a question, and of another file not at all."""
    models = {"a": {"env": {"HF_TOKEN": HIDDEN}}, "b": {}}
    fakes.write(models)
    plan = saved(fakes)
    assert stat.S_IMODE(plan.stat().st_mode) == 0o600
    assert HIDDEN not in plan.read_text()
    assert "It holds: `llm-reconcile apply" in fakes.run("show", str(plan)).out
    fakes.write({"a": {}})
    refused = fakes.run("apply", str(plan), code=4)
    assert "the plan is stale; nothing was done" in refused.err
    assert "desired/x.yaml says something else" in refused.err
    assert not fakes.servers()
    fakes.write(models)
    fakes.run("apply", str(plan))
    pids = fakes.pids()
    assert pids.keys() == {"a", "b"}
    again = fakes.run("apply", str(plan))
    assert "No changes." in again.out
    assert fakes.pids() == pids
    assert "It was applied: all that it wants is so." in fakes.run("show", str(plan)).out


def test_what_changed_meanwhile_is_named(fakes: Lab) -> None:
    fakes.write({"a": {}, "b": {}})
    fakes.apply()
    fakes.write({"a": {"params": {"temp": 0.1}}, "b": {}})
    plan = saved(fakes)
    machine.end([fakes.pids()["b"]])
    pids = fakes.pids()
    why = "instance.b: it was to stay as it is; now it would be created (exited:"
    assert why in fakes.run("apply", str(plan), code=4).err
    shown = fakes.run("show", str(plan), "--json").json
    assert shown["standing"] == "stale"
    assert why in shown["reasons"][0]
    assert fakes.pids() == pids
    fakes.lock.write_text("version: 1\nmodels: {}\n")
    assert "the lock file desired/x.lock.yaml says" in fakes.run("show", str(plan)).out


def test_a_plan_and_a_desired_file_are_told_apart(fakes: Lab) -> None:
    fakes.write({"a": {}})
    plan = saved(fakes)
    told = "this is a saved plan, and no desired file"
    assert told in fakes.run("validate", str(plan), code=1).err
    assert f"{fakes.file} is no saved plan" in fakes.run("show", str(fakes.file), code=1).err
    over = fakes.plan("--out", str(fakes.file), code=1).err
    assert "there is something else, which is no plan" in over
    plan.write_text(plan.read_text()[:-40])
    assert "this plan is not whole" in fakes.run("apply", str(plan), code=1).err
    assert not fakes.state.exists()


def test_what_has_failed_or_was_stopped_since_was_not_applied(fakes: Lab) -> None:
    """Nothing is left to do of it then, and yet not all that it wants is so."""
    fakes.write({"a": {}, "b": {}})
    fakes.apply()
    fakes.write({"a": {"args": {"fake-exit-loading": 1}}, "b": {}})
    plan = saved(fakes)
    assert "the old one serves again" in fakes.run("apply", str(plan), code=3).err
    why = "instance.a: it was to be replaced; now it would stay as it is (this version was tried"
    assert why in fakes.run("show", str(plan)).out
    assert why in fakes.run("apply", str(plan), code=4).err
    fakes.write({"a": {"params": {"temp": 0.1}}, "b": {}})
    plan = saved(fakes)
    fakes.run("stop", "a")
    assert "(suspended by `stop`)" in fakes.run("apply", str(plan), code=4).err
    fakes.run("start", "a")
    assert "It was applied" in fakes.run("show", str(plan)).out


def test_the_line_that_carries_it_out_does_so_as_it_is_typed(fakes: Lab) -> None:
    """Whatever its name is, and with the flags that guards ask for; into a file of `mktemp` too."""
    fakes.write({name: {} for name in "abcdefg"} | {"kept": {"protect": True}})
    fakes.apply()
    fakes.write({name: {"params": {"temp": 0.1}} for name in "abc"})
    plan = fakes.folder / "ann's next plan"
    plan.touch(mode=0o644)
    said = fakes.plan("--out", str(plan), code=4).err
    typed = said.partition("if that is what you want: llm-reconcile ")[2].strip()
    assert stat.S_IMODE(plan.stat().st_mode) == 0o600
    assert "It holds, and is refused as it is: if that is" in fakes.run("show", str(plan)).out
    fakes.run("apply", str(plan), code=4)
    fakes.run(*shlex.split(typed))
    assert fakes.pids().keys() == set("abc")
    assert "is written to a file, not to stdout" in fakes.plan("--out", "-", code=1).err


def test_parts_and_the_end(fakes: Lab) -> None:
    """One model alone, one replaced anew, and a saved `down`: each once."""
    fakes.write({"coder": {}, "b": {}})
    assert "did you mean coder?" in fakes.plan("--target", "codr", code=1).err
    markdown = fakes.plan("--target", "coder", "--format", "markdown").out
    assert "left out: instance.b (create)" in markdown
    fakes.apply("--target", "coder")
    assert fakes.servers().keys() == {"coder"}
    into = fakes.folder / "plan.json"
    plan = saved(fakes, "--replace", "coder", "--exclude", "b", "--json-into", str(into))
    document = json.loads(into.read_text())
    assert document["selection"]["replacing"] == ["coder"]
    jsonschema.validate(document, plan_document_schema())
    before = fakes.pids()
    fakes.run("apply", str(plan))
    after = fakes.pids()
    assert after.keys() == {"coder"}
    assert after != before
    assert "No changes. There is nothing to do for all but b." in fakes.run("apply", str(plan)).out
    assert fakes.pids() == after
    plan = saved(fakes, "--destroy")
    fakes.run("apply", str(plan))
    assert not fakes.servers()
    assert "Nothing of this root runs." in fakes.run("apply", str(plan)).out
