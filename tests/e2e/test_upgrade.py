"""A new version finds what every released one left: no restart, nothing forgotten (BARS 8).

The kept state folders are made by tests/make_state_fixture.py, once for each release.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e import old_state
from e2e.lab import Lab, Nginx
from reconciler import __version__

VERSIONS = sorted(old_state.KEPT.iterdir())
RUNNING = {"plain", "flags", "pair", "pair[1]", "swift", "gold"}


@pytest.fixture(params=VERSIONS, ids=lambda path: path.name)
def old(request: pytest.FixtureRequest, lab: Lab) -> old_state.OldMachine:
    """The machine of an older version, before anything runs there."""
    lab.engine = old_state.ENGINE
    return old_state.lay_out(request.param, lab)


@pytest.fixture
def running(old: old_state.OldMachine) -> Iterator[old_state.OldMachine]:
    with contextlib.closing(old):
        old.start()
        yield old
        old.lab.run("down", "-y", "--allow-protected", "gold")


def journal(lab: Lab) -> Any:
    return json.loads((lab.state / "journal.json").read_text())


def actions(lab: Lab) -> dict[str, list[str]]:
    """What the plan does to instances that are to run."""
    changes = lab.plan("--json").json["resource_changes"]
    return {
        one["name"]: one["change"]["actions"]
        for one in changes
        if one["type"] == "instance" and one["name"] != "off"
    }


def test_this_version_is_kept() -> None:
    """`tests/make_state_fixture.py` has not been forgotten."""
    assert __version__ in {path.name for path in VERSIONS}


def test_servers_of_an_older_version_run_on(running: old_state.OldMachine) -> None:
    lab = running.lab
    pids, nginx = lab.pids(), lab.nginx()
    assert pids.keys() == RUNNING
    assert nginx.master
    wanted = {**{name: ["no-op"] for name in RUNNING}, "bad": ["create"]}
    assert actions(lab) == wanted
    plan = lab.plan().out
    assert f"suspended by `stop`: {old_state.REASON}" in plan
    assert "exited: it died while loading" in plan
    assert "! " not in plan, "no drift"
    lab.apply(code=3)
    assert lab.pids() == pids
    assert lab.nginx().master == nginx.master
    assert actions(lab) == wanted
    for name in ("plain", "org/flags:latest", "pair", "swift", "gold"):
        assert lab.complete(name).status == 200
    keeps_what_it_noted(running)


def keeps_what_it_noted(old: old_state.OldMachine) -> None:
    lab, before, after = old.lab, old.journal, journal(old.lab)
    kept = before.keys() - {"last_exits", "suspended"}
    assert {key: after[key] for key in kept} == {key: before[key] for key in kept}
    for name, stopped in before["suspended"].items():
        assert stopped.items() <= after["suspended"][name].items()
    assert after["last_exits"].keys() == before["last_exits"].keys()
    assert after["last_exits"]["bad"]["spec"] == before["last_exits"]["bad"]["spec"]
    for name, pid in lab.pids().items():
        pid_file = lab.pid_file(name.replace("[", ".").rstrip("]"))
        assert pid_file.read_text().splitlines()[0] == str(pid)
    # What it protects is still protected, though the new file has it no longer.
    text = json.loads(lab.file.read_text())
    del text["models"]["gold"]
    lab.file.write_text(json.dumps(text))
    assert "gold is protected" in lab.apply(code=4).err


def test_what_it_left_behind_is_tidied(old: old_state.OldMachine) -> None:
    """After a reboot: notes, locks, routes, and no process."""
    lab = old.lab
    assert lab.left_over()
    assert lab.phases(code=3)["off"] == "suspended"
    lab.apply(code=3)
    assert lab.pids().keys() == RUNNING
    lab.run("start", "off")
    assert lab.complete("off").status == 200
    lab.run("down", "-y", "--allow-protected", "gold")
    assert lab.left_over() == []
    assert lab.nginx() == Nginx(None, ())


def test_the_kept_files_name_no_machine() -> None:
    """Folders, ports and identities of the machine that made them are placeholders."""
    for path in (each for folder in VERSIONS for each in folder.rglob("*") if each.is_file()):
        text = path.read_text()
        assert str(Path.home()) not in text
        assert tempfile.gettempdir() not in text
