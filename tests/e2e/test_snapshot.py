"""status --snapshot on the machine, plan --observed elsewhere, apply on the machine again."""

from __future__ import annotations

from typing import Any

import jsonschema

from e2e.lab import Lab, Result
from reconciler.core.plan_schema import plan_document_schema

SECRET = {"HF_TOKEN": "hf_secret"}


def elsewhere(lab: Lab, *words: str, code: int = 0) -> Result:
    """A plan of a copy of the file, in a place where nothing was ever started."""
    other = lab.folder / "ci" / "desired" / lab.file.name
    other.parent.mkdir(parents=True, exist_ok=True)
    other.write_bytes(lab.file.read_bytes())
    env = {"XDG_STATE_HOME": "/nowhere", "HOME": "/nowhere", "XDG_CACHE_HOME": "/nowhere"}
    folder = other.parents[1]
    return lab.run("plan", str(other), *words, code=code, cwd=folder, env=env)


def told(document: Any) -> Any:
    """What must be the same wherever it is planned."""
    observed = {**document["observed"], "source": "", "snapshot": None}
    return {**document, "timestamp": "", "observed": observed}


def test_a_plan_elsewhere_is_the_machines_own(fakes: Lab) -> None:
    lab = fakes
    lab.write({"a": {"env": SECRET}, "b": {}})
    lab.apply()
    lab.lock.write_text("version: 1\nmodels: {}\n")  # It is not in the checkout.
    seen = lab.folder / "seen.json"
    lab.run("status", "--snapshot", str(seen))
    assert seen.stat().st_mode & 0o777 == 0o600
    assert SECRET["HF_TOKEN"] not in seen.read_text()
    lab.write({"a": {"env": {"HF_TOKEN": "hf_other"}}, "b": {}, "c": {}})
    plan = lab.folder / "next.plan"
    words = ("--observed", str(seen), "--detailed-exitcode")
    made = elsewhere(lab, *words, "--json", "--out", str(plan), code=2)
    assert f"this is {lab.root} on " in made.err
    assert " s old, of 20" in made.err
    here = lab.plan("--json").json
    assert told(made.json) == told(here)
    assert made.json["observed"]["snapshot"]["root"] == str(lab.root)
    jsonschema.validate(made.json, plan_document_schema())
    [changed] = [one for one in made.json["resource_changes"] if one["address"] == "instance.a"]
    assert changed["change"]["replace_paths"] == ["env.HF_TOKEN"]
    lab.run("apply", str(plan))
    assert lab.servers().keys() == {"a", "b", "c"}
    # The old snapshot shows what was; a plan by it is not carried out any more.
    lab.write({"d": {}})
    elsewhere(lab, *words, "--allow-destroy", "2", "--out", str(plan), code=2)
    assert "instance.c: the plan says nothing of it" in lab.run("apply", str(plan), code=4).err
