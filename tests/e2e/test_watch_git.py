"""A watch that follows a branch: the real command, a repository that somebody pushes to."""

from __future__ import annotations

import os
import signal
import subprocess
from typing import Any

from e2e.lab import Lab
from e2e.test_watch import all_ready, watching

GIT = ("--git", "origin/main", "--interval", "0.2s")


class Team:
    """Whoever pushes, and the place that is pushed to."""

    def __init__(self, lab: Lab) -> None:
        self.lab, self.remote = lab, lab.folder / "hub.git"
        self.git("init", "-q", "--bare", "-b", "main", str(self.remote))
        self.git("init", "-q", "-b", "main")
        self.git("remote", "add", "origin", str(self.remote))

    def git(self, *words: str) -> str:
        who = ("-c", "user.name=x", "-c", "user.email=x@x")
        argv = ["git", *who, "-C", str(self.lab.root), *words]
        environment = {**os.environ, **self.lab.environment}
        done = subprocess.run(argv, capture_output=True, text=True, check=True, env=environment)
        return done.stdout.strip()

    def push(self, models: dict[str, Any], **top: Any) -> str:
        self.lab.write(models, **top)
        self.git("add", "desired")
        self.git("commit", "-q", "-m", "x")
        self.git("push", "-q", "--force", "origin", "HEAD:main")
        return self.git("rev-parse", "HEAD")


def test_it_follows_what_is_pushed_and_not_what_is_typed(fakes: Lab) -> None:
    team = Team(fakes)
    first = team.push({"a": {}})
    fakes.file.write_text("what somebody types here")
    watcher = watching(fakes, *GIT)
    all_ready(watcher, "a")
    bad = team.push({"a": {}}, nonsense=1)
    watcher.until("trouble", f"commit {bad[:12]} of origin/main is not applied")
    all_ready(watcher, "a")
    # The remote is away, and comes back.
    away = team.remote.with_name("away.git")
    team.remote.rename(away)
    watcher.until("trouble", "cannot be fetched")
    away.rename(team.remote)
    good = team.push({"a": {}, "b": {}})
    all_ready(watcher, "a", "b")
    found = fakes.run("history", "--json").json["records"]
    assert list(dict.fromkeys(one["commit"] for one in found)) == [good, first]
    # A rewritten branch is not followed, also not by the next watch.
    team.git("reset", "-q", "--hard", first)
    team.push({"c": {}})
    watcher.until("trouble", "was rewritten")
    assert watcher.end() == 0
    # Nobody waits an hour for it who asks.
    again = watcher.again("--git", "origin/main", "--interval", "1h")
    again.until("trouble", "was rewritten")
    team.git("reset", "-q", "--hard", good)
    team.push({"a": {}, "d": {}, "b": {}})
    again.child.send_signal(signal.SIGHUP)
    all_ready(again, "a", "b", "d")
    assert again.end() == 0


def test_flags_that_need_each_other(fakes: Lab) -> None:
    fakes.write({"a": {}})
    for flag in (["--require-signature"], ["--interval", "5s"]):
        alone = fakes.run("watch", str(fakes.file), *flag, code=1)
        assert f"{flag[0]} needs --git" in alone.err
    nowhere = fakes.run("watch", str(fakes.file), "--git", "origin/main", code=1)
    assert "lies in no git repository" in nowhere.err
