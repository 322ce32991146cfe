"""Going back: what it does to the machine, to the files, and to git."""

from __future__ import annotations

import subprocess
from typing import Any

from e2e.lab import Lab
from reconciler.core.site import Site
from reconciler.drivers.git_branch import GitBranch

OLD: dict[str, Any] = {"a": {}, "b": {"aliases": ["b2"]}}
NEW: dict[str, Any] = {"a": {}, "c": {}}
MINE = b"version: 1\n# not applied yet\nmodels: {}\n"


def git(lab: Lab, *words: str) -> str:
    argv = ["git", "-c", "user.name=x", "-c", "user.email=x@x", "-C", str(lab.root), *words]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, env=lab.environment)
    return done.stdout.strip()


def listed(lab: Lab) -> list[Any]:
    found: list[Any] = lab.run("rollback", "--list", "--json").json["generations"]
    return found


def test_back_and_forth(fakes: Lab) -> None:
    fakes.write(OLD)
    assert "is kept yet" in fakes.run("rollback", "--list").out
    old = fakes.file.read_bytes()
    fakes.apply()
    refused = fakes.run("rollback", "-y", code=1)
    assert "nothing to go back to" in refused.err
    assert "rollback --list" in refused.err
    fakes.write(NEW)
    new = fakes.file.read_bytes()
    fakes.apply("--allow-destroy", "9")
    before = fakes.pids()

    # Nobody can be asked: nothing is done, and nothing is written.
    asked = fakes.run("rollback", code=1)
    assert "Going back to generation 1" in asked.err
    assert "instance.b" in asked.out
    assert (fakes.file.read_bytes(), fakes.pids()) == (new, before)

    done = fakes.run("rollback", "-y", "--allow-destroy", "9")
    assert "write desired/x.yaml" in done.err
    assert fakes.file.read_bytes() == old
    assert set(fakes.pids()) == {"a", "b"}
    assert fakes.pids()["a"] == before["a"]
    assert fakes.run("plan", "--detailed-exitcode", "desired/x.yaml").code == 0
    [record] = fakes.run("history", "-n", "1", "--json").json["records"]
    assert (record["verb"], record["outcome"], record["generation"]) == ("rollback", "applied", 3)

    # What was typed meanwhile is kept, and --to names any of them.
    fakes.file.write_bytes(MINE)
    done = fakes.run("rollback", "--to", "2", "-y", "--allow-destroy", "9")
    assert "kept as desired/x.yaml.before-rollback" in done.err
    assert fakes.file.read_bytes() == new
    assert fakes.file.with_name("x.yaml.before-rollback").read_bytes() == MINE
    assert set(fakes.pids()) == {"a", "c"}
    assert [one["number"] for one in listed(fakes)] == [4, 3, 2, 1]
    rows = fakes.run("rollback", "--list").out.splitlines()
    assert [row.split()[0] for row in rows] == ["NUMBER", "4", "3", "2", "1"]
    assert rows[1].endswith("applied last")
    assert rows[3].endswith("the same")
    unknown = fakes.run("rollback", "--to", "9", code=1)
    assert "there are: 1, 2, 3, 4" in unknown.err


def test_where_a_branch_is_followed_it_is_a_commit_there(fakes: Lab) -> None:
    """The working tree, where somebody may be at work, stays as it is."""
    remote = fakes.folder / "hub.git"
    fakes.write(OLD)
    old = fakes.file.read_text()
    git(fakes, "init", "-q", "--bare", str(remote))
    git(fakes, "init", "-q", "-b", "main")
    for key in ("user.name", "user.email"):
        git(fakes, "config", key, "x")
    git(fakes, "remote", "add", "origin", str(remote))
    fakes.apply()
    fakes.write({**OLD, "b": {"aliases": ["b3"]}})
    git(fakes, "add", "desired")
    git(fakes, "commit", "-q", "-m", "x")
    git(fakes, "push", "-q", "origin", "main")
    fakes.apply()
    before, typed = git(fakes, "rev-parse", "HEAD"), fakes.file.read_text()
    site = Site(str(fakes.root), str(fakes.state), "desired/x.yaml")
    GitBranch(site, fakes.file, "origin/main", fakes.environment).accept(before)
    done = fakes.run("rollback", "-y")
    assert "commit and push to origin/main" in done.err
    git(fakes, "fetch", "-q")
    tip = git(fakes, "rev-parse", "origin/main")
    assert git(fakes, "show", "-s", "--format=%P %s", tip) == (
        f"{before} Roll back desired/x.yaml to generation 1"
    )
    assert git(fakes, "show", f"{tip}:desired/x.yaml") == old.strip()
    assert (fakes.file.read_text(), git(fakes, "rev-parse", "HEAD")) == (typed, before)
    [record] = fakes.run("history", "-n", "1", "--json").json["records"]
    assert (record["commit"], record["generation"], record["outcome"]) == (tip, 3, "applied")
    remote.rename(fakes.folder / "away.git")
    pids = fakes.pids()
    refused = fakes.run("rollback", "-y", code=1)
    assert "git: fatal:" in refused.err
    assert fakes.pids() == pids


def test_a_guard_holds_it_back(fakes: Lab) -> None:
    fakes.write({"z": {}})
    fakes.apply()
    fakes.write({"a": {}, "b": {}, "c": {}})
    fakes.apply("--allow-destroy", "9")
    before, text = fakes.pids(), fakes.file.read_bytes()
    refused = fakes.run("rollback", "-y", code=4)
    assert "--allow-destroy 3" in refused.err
    assert (fakes.pids(), fakes.file.read_bytes()) == (before, text)


def test_from_a_file_that_is_gone_and_as_a_commit(fakes: Lab) -> None:
    fakes.write(OLD)
    old = fakes.file.read_bytes()
    fakes.apply()
    nowhere = fakes.run("rollback", "--commit", code=1)
    assert "lies in no git repository" in nowhere.err
    git(fakes, "init", "-q")
    for key in ("user.name", "user.email"):
        git(fakes, "config", key, "x")
    fakes.write({"a": {"aliases": ["a2"]}, "b": {}})
    git(fakes, "add", "desired/x.yaml")
    git(fakes, "commit", "-q", "-m", "x")
    fakes.apply()
    fakes.file.unlink()
    fakes.run("rollback", "-y", "--commit")
    assert fakes.file.read_bytes() == old
    assert git(fakes, "log", "-1", "--format=%s") == "Roll back desired/x.yaml to generation 1"
    assert git(fakes, "show", "--name-only", "--format=", "HEAD") == "desired/x.yaml"
    [record] = fakes.run("history", "-n", "1", "--json").json["records"]
    assert (record["commit"], record["dirty"]) == (git(fakes, "rev-parse", "HEAD"), False)
