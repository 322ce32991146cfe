"""What `history` tells of runs: those that went well, and those that did not."""

from __future__ import annotations

import json
import signal
import subprocess
from typing import Any

from waiting import eventually

from e2e.lab import Lab

SLOW = {"args": {"fake-load-seconds": 30}}


def told(lab: Lab) -> list[Any]:
    found: list[Any] = lab.run("history", "--json").json["records"]
    return found


def ends(lab: Lab) -> list[tuple[str, str]]:
    return [(one["verb"], one["outcome"]) for one in told(lab)]


def git(lab: Lab, *words: str) -> str:
    argv = ["git", "-c", "user.name=x", "-c", "user.email=x@x", "-C", str(lab.root), *words]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, env=lab.environment)
    return done.stdout.strip()


def test_each_run_that_changes_something_is_told(fakes: Lab) -> None:
    fakes.write({"a": {}, "b": {"aliases": ["b2"]}})
    assert fakes.run("history").out == "No run has changed anything here yet.\n"
    git(fakes, "init", "-q")
    git(fakes, "add", "desired")
    git(fakes, "commit", "-q", "-m", "x")
    fakes.apply()
    fakes.apply()
    fakes.run("stop", "a")
    fakes.write({"b": {}})
    fakes.apply("--allow-destroy", "9")
    fakes.write({"b": {"args": {"fake-exit-loading": 3}}, "c": {}})
    fakes.apply(code=3)
    found = told(fakes)
    assert [one["number"] for one in found] == [4, 3, 2, 1]
    assert ends(fakes) == [
        ("apply", "failed"),
        ("apply", "applied"),
        ("stop", "applied"),
        ("apply", "applied"),
    ]
    assert [one["generation"] for one in found] == [3, 2, 1, 1]
    assert [one["dirty"] for one in found] == [True, True, False, False]
    assert {one["commit"] for one in found} == {git(fakes, "rev-parse", "HEAD")}
    assert {one["file"] for one in found} == {"desired/x.yaml"}
    assert len({one["spec"] for one in found}) == 3
    failed, _, stopped, first = found
    assert [one["name"] for one in stopped["changes"]] == ["a"]
    assert {one["name"]: one["action"] for one in first["changes"]} == {
        "gateway": "create",
        "a": "create",
        "b": "create",
    }
    assert failed["message"].startswith("instance.b: it died")
    assert fakes.ask("/api/history").json["records"] == found
    rows = fakes.run("history", "-n", "2").out.splitlines()
    assert [row.split()[0] for row in rows] == ["NUMBER", "4", "3"]
    assert f"{found[0]['commit'][:12]}*" in rows[1]
    assert "instance.b: it died" in rows[1]
    fakes.run("down", "-y")
    assert ends(fakes)[0] == ("down", "applied")


def test_a_run_says_that_it_is_at_work_and_was_killed(fakes: Lab) -> None:
    """A second run at the same time does nothing, and says nothing."""
    fakes.write({"slow": SLOW})
    child = fakes.begin_apply()
    fakes.wait_for("slow")
    assert ends(fakes) == [("apply", "running")]
    fakes.apply(code=5)
    assert ends(fakes) == [("apply", "running")]
    child.kill()
    child.wait()
    assert ends(fakes) == [("apply", "killed")]
    fakes.write({"slow": {}})
    fakes.apply("--allow-destroy", "9")
    assert ends(fakes) == [("apply", "applied"), ("apply", "killed")]


def test_an_interrupted_run_says_so(fakes: Lab) -> None:
    fakes.write({"slow": SLOW})
    child = fakes.begin_apply()
    fakes.wait_for("slow")
    eventually(lambda: ends(fakes) == [("apply", "running")], "it has begun")
    child.send_signal(signal.SIGTERM)
    assert fakes.end(child).code == 143
    assert ends(fakes) == [("apply", "interrupted")]


def test_no_secret_is_written_down(fakes: Lab) -> None:
    fakes.write({"a": {"env": {"MY_TOKEN": "s3cr3t-token"}}})
    fakes.apply()
    fakes.write({"a": {"env": {"MY_TOKEN": "s3cr3t-other"}}})
    fakes.apply()
    files = [fakes.state / "history.jsonl", fakes.state / "gateway" / "status.json"]
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in files)
    assert not [path for path in files if "s3cr3t" in path.read_text()]
    assert json.loads(files[0].read_text().splitlines()[-1])["changes"][0]["name"] == "a"
