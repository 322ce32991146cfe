"""What `events` shows of a watch: the real command, real processes."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from waiting import eventually

from e2e import machine
from e2e.lab import Lab
from e2e.test_watch import Watcher, all_ready, watching


def told(lab: Lab, *words: str) -> list[dict[str, Any]]:
    lines = lab.run("events", "--json", *words).out.splitlines()
    return [json.loads(one) for one in lines]


def kinds(lab: Lab, *words: str) -> list[str]:
    return [one["kind"] for one in told(lab, *words)]


def test_what_a_watch_saw_is_shown_and_followed(fakes: Lab) -> None:
    fakes.write({"a": {"aliases": ["first"]}, "b": {}})
    assert fakes.run("events").out == "No watch has told of anything here yet.\n"
    assert told(fakes) == []
    follower = fakes.popen("events", "-f", "a", "--json", stdout=subprocess.PIPE)
    watcher = watching(fakes)
    all_ready(watcher, "a", "b")
    eventually(lambda: "applied" in kinds(fakes), "what became of it")
    assert kinds(fakes)[0] == "accepted"
    machine.kill([fakes.pids()["a"]])
    eventually(lambda: kinds(fakes, "first") == ["done", "exited", "done"])
    began, ended, again = told(fakes, "a")
    assert began["text"].startswith("ready (")
    assert (ended["model"], ended["instance"], ended["count"]) == ("a", "a", 1)
    assert ended["text"]
    assert ended["at"] <= again["at"]
    assert ended["next_start"] <= again["at"]
    assert kinds(fakes, "b") == ["done"]
    assert follower.stdout
    followed = [json.loads(follower.stdout.readline()) for _ in range(3)]
    assert followed == [began, ended, again]
    follower.terminate()
    assert follower.wait(30) == 143
    before = (fakes.root / "logs/events.jsonl").stat()
    table = fakes.run("events", "a", "-n", "2").out.splitlines()
    assert table[0].split() == ["WHEN", "KIND", "ABOUT", "WHAT"]
    assert [line.split()[2:4] for line in table[1:]] == [
        ["exited", "instance.a"],
        ["done", "instance.a"],
    ]
    rounds = idle_rounds(watcher)
    watcher.child.send_signal(1)
    eventually(lambda: idle_rounds(watcher) > rounds, "it has looked again")
    assert (fakes.root / "logs/events.jsonl").stat().st_mtime_ns == before.st_mtime_ns
    assert watcher.end() == 0


def idle_rounds(watcher: Watcher) -> int:
    return int(watcher.lab.status()["watch"]["rounds"])


def test_what_cannot_be_done_and_what_is_in_the_way_is_told(fakes: Lab) -> None:
    fakes.write({"a": {"args": {"no-such-flag": 1}}, "b": {}})
    watcher = watching(fakes)
    all_ready(watcher, "b")
    eventually(lambda: "blocked" in kinds(fakes))
    blocked = next(one for one in told(fakes) if one["kind"] == "blocked")
    assert blocked["about"] == "desired/x.yaml"
    assert "instance.a" in blocked["text"]
    assert "no-such-flag" in blocked["text"]
    fakes.file.write_text("models: {")
    eventually(lambda: kinds(fakes)[-1] == "trouble")
    fakes.write({"b": {}})
    eventually(lambda: kinds(fakes)[-1] == "applied")
    assert "over" in kinds(fakes)
    assert fakes.run("events", "nobody", code=1).err.startswith("error: no model is called nobody")
    assert watcher.end() == 0


def test_a_command_is_told_of_each_outcome_and_that_it_cannot_be_is_said_once(fakes: Lab) -> None:
    kept, tells = fakes.folder / "kept", fakes.folder / "tell"
    tells.write_text(f"#!/bin/sh\ncat >> {kept}\n")
    fakes.write({"a": {}})
    watcher = watching(fakes, "--notify-command", str(tells))

    def heard() -> list[str]:
        lines = kept.read_text().splitlines() if kept.exists() else []
        return [json.loads(one)["kind"] for one in lines]

    eventually(lambda: "applied" in kinds(fakes))
    # It may not be run yet.
    eventually(lambda: "trouble" in kinds(fakes))
    assert [one["about"] for one in told(fakes) if one["kind"] == "trouble"] == ["notify"]
    tells.chmod(0o755)
    fakes.write({"a": {"aliases": ["x"]}})
    eventually(lambda: heard() == ["accepted", "applied"])
    eventually(lambda: "over" in kinds(fakes))
    about = [one["about"] for one in told(fakes) if one["kind"] in {"trouble", "over"}]
    assert about == ["notify", "notify"]
    assert watcher.end() == 0


def test_an_address_that_is_none_is_refused(fakes: Lab) -> None:
    fakes.write({"a": {}})
    done = fakes.run("watch", str(fakes.file), "--notify-url", "ftp://a:s3cret@x/", code=1)
    assert "--notify-url is no http or https URL\n" in done.err
