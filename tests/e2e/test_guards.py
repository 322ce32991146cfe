"""Too much change is refused as a whole: exit 4, and nothing was done."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from e2e import machine
from e2e.lab import Lab


class Untouched:
    """What must be the same after a refusal."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._before = self._look()

    def _look(self) -> tuple[object, ...]:
        lab = self._lab
        found = machine.snapshot(lab.state)
        # That it waits for an operator is told to whoever looks at the gateway's page.
        for told in (lab.state / "gateway", lab.state / "gateway" / "status.json"):
            found.pop(str(told), None)
        return lab.pids(), lab.nginx(), found

    def check(self) -> None:
        assert self._look() == self._before


@pytest.mark.parametrize("names", ["a", "abc"])
def test_nothing_left(lab: Lab, names: str) -> None:
    lab.write({name: {} for name in names})
    lab.apply()
    untouched = Untouched(lab)
    lab.write({})
    count = len(names)
    plan = lab.plan(code=4)
    assert f"{count} of {count} running instances would be stopped: nothing would be" in plan.out
    assert f"--allow-destroy {count}" in plan.out
    for words in ((), ("--allow-destroy", str(count - 1)), ("--json",)):
        refused = lab.apply(*words, code=4)
        assert refused.all.count("nothing would be left running") == 1 + ("--json" in words)
        assert "nothing would be left running; nothing was done" in refused.err
    untouched.check()
    lab.plan("--allow-destroy", str(count))
    lab.apply("--allow-destroy", str(count))
    assert lab.servers() == {}
    assert lab.nginx().master


def test_too_many_replacements(lab: Lab) -> None:
    lab.write({name: {} for name in "abcd"})
    lab.apply()
    untouched = Untouched(lab)
    lab.write({name: {"params": {"temp": 0.1}} for name in "abcd"})
    assert "4 of 4 running instances would be replaced" in lab.apply(code=4).err
    untouched.check()
    before = lab.pids()
    lab.apply("--allow-destroy", "4")
    assert not set(before.values()) & set(lab.pids().values())


def test_protected(lab: Lab) -> None:
    """Not stopped nor replaced by any verb, not even when its entry is gone, but by leave."""
    precious = {"protect": True}
    lab.write({"gold": precious, "b": {}, "c": {}, "d": {}})
    lab.apply()
    untouched = Untouched(lab)
    lab.write({"b": {}, "c": {}, "d": {}})
    assert "gold is protected" in lab.apply(code=4).err
    lab.write({"gold": {**precious, "params": {"temp": 0.1}}, "b": {}, "c": {}, "d": {}})
    assert "--allow-protected gold" in lab.apply(code=4).err
    for words in (("stop", "gold"), ("stop", "--all"), ("down", "-y")):
        assert "gold is protected" in lab.run(*words, code=4).err
    untouched.check()
    pids = lab.pids()
    lab.apply("--allow-protected", "gold")
    assert lab.pids()["gold"] != pids["gold"]
    lab.write({"gold": {"params": {"temp": 0.1}}, "b": {}, "c": {}, "d": {}})
    lab.apply()
    lab.run("stop", "gold")
    assert set(lab.pids()) == {"b", "c", "d"}


def test_another_file(lab: Lab) -> None:
    """A root follows one desired file; another one needs `--switch-file`."""
    lab.write({"a": {}, "b": {}})
    lab.apply()
    other = lab.root / "desired" / "other.yaml"
    text = lab.file.read_text()
    other.write_text(text)
    untouched = Untouched(lab)
    for content in (text, text.replace('"version": 1', '"version": 1, "store": "elsewhere"')):
        other.write_text(content)
        said = "this root was last applied from desired/x.yaml, not from desired/other.yaml"
        assert said in lab.run("plan", str(other), code=4).out
        assert said in lab.run("apply", str(other), "-y", code=4).err
    untouched.check()
    pids = lab.pids()
    lab.run("apply", str(other), "-y", "--switch-file")
    assert lab.pids() == pids
    assert lab.status()["converged"]
    lab.apply(code=4)
    # Once nothing runs, nobody is surprised.
    lab.run("down", "-y")
    lab.apply()


def test_no_terminal_no_yes(lab: Lab) -> None:
    """Without a terminal it refuses rather than asks; no answer comes from a pipe."""
    lab.write({"a": {}})
    refused = lab.run("apply", str(lab.file), code=1)
    assert "add -y" in refused.err
    assert "+ instance.a" in refused.out
    assert lab.servers() == {}
    assert lab.nginx().master is None
    answer = lab.folder / "answer"
    answer.write_text("yes\n")
    with answer.open() as piped:
        lab.run("apply", str(lab.file), code=1, stdin=piped)
    assert lab.servers() == {}
    lab.apply()
    assert "add -y" in lab.run("down", code=1).err
    assert set(lab.pids()) == {"a"}
    # Nothing to do: nothing to ask.
    assert lab.run("apply", str(lab.file)).out.startswith("No changes.")


def test_foreign_state_folder(lab: Lab) -> None:
    """A folder that belongs to somebody else is refused."""
    lab.write({"a": {}})
    lab.state.mkdir(parents=True)
    if not may_chown(lab.state):
        return
    for words in (("apply", str(lab.file), "-y"), ("plan", str(lab.file)), ("status",)):
        assert "belongs to another user" in lab.run(*words, code=1).err
    lab.state.rmdir()


def may_chown(path: Path) -> bool:
    """Give it to nobody; only root may."""
    try:
        path.chmod(0o700)
        os.chown(path, 65534, 65534)
    except PermissionError:
        return False
    return True
