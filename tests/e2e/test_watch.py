"""A watch keeps the machine as the file says, whatever dies: the real command, real processes."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from waiting import eventually

from e2e import machine
from e2e.lab import Lab


@dataclass
class Watcher:
    """A watch of a lab's root."""

    lab: Lab
    child: subprocess.Popen[str]
    said: Path

    @property
    def events(self) -> list[dict[str, Any]]:
        lines = self.said.read_text().splitlines()
        return [json.loads(line) for line in lines if line.endswith("}")]

    def heard(self, kind: str, about: str = "") -> bool:
        return any(one["event"] == kind and about in str(one) for one in self.events)

    def until(self, kind: str, about: str = "") -> None:
        eventually(lambda: self.heard(kind, about), f"{kind} {about}: {self.said.read_text()}")

    def until_ends(self, count: int) -> None:
        """Until so many ends of servers were seen."""
        eventually(lambda: sum(one["event"] == "exited" for one in self.events) == count)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.child.send_signal(number)
        return self.child.wait(30)

    def again(self, *words: str) -> Watcher:
        return watching(self.lab, *words)


def watching(lab: Lab, *words: str, **options: Any) -> Watcher:
    said = lab.folder / f"watch.{time.monotonic_ns()}"
    with said.open("w") as out:
        argv = ("watch", str(lab.file), "--json", *words)
        child = lab.popen(*argv, stdout=out, stderr=out, **options)
    return Watcher(lab, child, said)


@pytest.fixture
def two(fakes: Lab) -> Iterator[Watcher]:
    """A watch with two servers that are ready."""
    fakes.write({"a": {}, "b": {}})
    watcher = watching(fakes)
    all_ready(watcher, "a", "b")
    yield watcher
    watcher.child.kill()


def all_ready(watcher: Watcher, *names: str) -> None:
    def ready() -> bool:
        return all(watcher.lab.ask(f"/api/{name}/health").status == 200 for name in names)

    def settled() -> bool:
        try:
            return set(watcher.lab.pids()) == set(names) and ready()
        except OSError:
            return False

    eventually(settled, f"{names} are ready: {watcher.said.read_text()}")


def test_it_makes_all_ready_and_starts_again_what_dies(two: Watcher) -> None:
    before = two.lab.pids()
    machine.kill([before["a"]])
    eventually(lambda: two.lab.servers().get("a", [before["a"]]) != [before["a"]])
    all_ready(two, "a", "b")
    assert two.lab.pids()["b"] == before["b"]
    row = two.lab.status()["instances"][0]
    assert row["restarts"] == 1
    eventually(lambda: machine.zombies(two.child.pid) == [], "who ended is reaped")


def test_a_second_death_is_waited_out_and_an_operator_need_not_wait(two: Watcher) -> None:
    for count in (1, 2):
        machine.kill([two.lab.pids()["a"]])
        two.until_ends(count)
        if count == 1:
            all_ready(two, "a", "b")
    row = two.lab.status(code=3)["instances"][0]
    assert row["phase"] == "exited"
    assert "ended 2 times" in row["reason"]
    assert "next start in" in row["reason"]
    two.lab.run("restart", "a")
    all_ready(two, "a", "b")


def test_the_same_final_cause_three_times_is_given_up_until_the_file_changes(fakes: Lab) -> None:
    # Its first three starts end at once; back-offs are those of a journal whose waits are over.
    fakes.write({"a": {"args": {"fake-exit-loading": 1}}, "b": {}})
    watcher = watching(fakes)
    watcher.until("exited", "instance.a")
    fakes.write({"a": {}, "b": {}})
    all_ready(watcher, "a", "b")
    assert watcher.end() == 0


def test_a_save_is_followed_and_one_pid_changes(two: Watcher) -> None:
    before = two.lab.pids()
    two.lab.write({"a": {"params": {"ctx_size": 256}}, "b": {}})
    eventually(lambda: two.lab.servers().get("a") not in (None, [before["a"]]))
    all_ready(two, "a", "b")
    assert two.lab.pids()["b"] == before["b"]


def test_a_broken_or_deleted_file_stops_nothing_and_is_followed_again(two: Watcher) -> None:
    before, text = two.lab.pids(), two.lab.file.read_text()
    two.lab.file.write_text("models: {")
    two.until("trouble", "YAML syntax")
    two.lab.file.unlink()
    two.until("trouble", "there is no such file; name a desired file (*.yaml)")
    machine.kill([before["a"]])
    all_ready(two, "a", "b")
    two.lab.file.write_text(text)
    two.until("over", "followed again")
    assert two.lab.pids()["b"] == before["b"]


def test_too_much_change_waits_until_an_operator_lets_it_through(two: Watcher) -> None:
    before = two.lab.pids()
    two.lab.write({})
    two.until("trouble", "held back")
    assert two.lab.pids() == before
    machine.kill([before["a"]])
    all_ready(two, "a", "b")
    two.lab.run("apply", str(two.lab.file), "-y", "--allow-destroy", "2")
    assert two.lab.servers() == {}
    two.until("over", "held back")
    assert two.lab.servers() == {}


def test_what_an_operator_does_is_not_undone(two: Watcher) -> None:
    two.lab.run("stop", "a")
    machine.kill([two.lab.pids()["b"]])
    all_ready(two, "b")
    assert "a" not in two.lab.servers()
    two.lab.run("start", "a")
    all_ready(two, "a", "b")
    two.lab.run("down", "-y")
    two.until("trouble", "all is down")
    two.lab.write({"a": {"params": {"ctx_size": 256}}, "b": {}})
    two.child.send_signal(signal.SIGHUP)
    assert two.lab.servers() == {}
    two.lab.apply()
    two.until("over", "it goes on")
    all_ready(two, "a", "b")


def test_it_can_be_killed_and_nobody_notices(two: Watcher) -> None:
    before = two.lab.pids()
    with two.lab.stream("a") as stream:
        pieces = stream.pieces()
        next(pieces)
        two.child.kill()
        two.child.wait()
        second = two.again()
        second.until("accepted")
        next(pieces)
    assert two.lab.pids() == before
    assert second.end() == 0
    assert two.lab.pids() == before


def test_nginx_is_seen_to_be_gone_and_comes_back(two: Watcher) -> None:
    master = two.lab.nginx().master
    assert master
    machine.kill([master])
    eventually(lambda: two.lab.nginx().master not in (None, master), two.said.read_text())
    all_ready(two, "a", "b")


def test_a_second_watch_is_refused_and_names_the_first(two: Watcher) -> None:
    done = two.lab.run("watch", str(two.lab.file), code=5)
    assert f"pid {two.child.pid}" in done.err
    assert "Watching" not in done.err
    two.child.kill()
    two.child.wait()
    third = two.again()
    third.until("accepted")
    assert third.end(signal.SIGINT) == 0


def test_a_loading_model_is_in_nobodys_way(two: Watcher) -> None:
    slow = {"args": {"fake-load-seconds": 600}}
    two.lab.write({"a": {}, "b": {}, "slow": slow})
    two.lab.wait_for("slow")
    machine.kill([two.lab.pids()["b"]])
    two.lab.run("stop", "a")
    eventually(lambda: set(two.lab.servers()) == {"b", "slow"}, two.said.read_text())
    two.lab.write({"b": {}})
    eventually(lambda: set(two.lab.servers()) == {"b"}, two.said.read_text())


def test_it_stops_the_servers_where_that_is_wanted(fakes: Lab) -> None:
    fakes.write({"a": {}})
    watcher = watching(fakes, "--stop-servers")
    all_ready(watcher, "a")
    assert watcher.end() == 0
    assert fakes.servers() == {}


def test_a_file_that_was_never_good_is_an_error(fakes: Lab) -> None:
    assert "no such file" in fakes.run("watch", "desired/y.yaml", code=1).err
    fakes.file.write_text("models: {")
    assert "x.yaml:2:1: YAML syntax" in fakes.run("watch", str(fakes.file), code=1).err


def test_the_gateway_tells_of_the_watch_and_counts_for_it(two: Watcher) -> None:
    lab = two.lab

    def watch() -> dict[str, Any]:
        return dict(lab.ask("/api/status").json["watch"] or {})

    def restarts() -> list[int | None]:
        return [one["restarts"] for one in lab.ask("/api/models").json["models"]]

    eventually(lambda: watch().get("pid") == two.child.pid)
    eventually(lambda: restarts() == [0, 0])
    machine.kill([lab.pids()["a"]])
    eventually(lambda: restarts() == [1, 0])
    text = lab.file.read_text()
    lab.file.write_text("models: {")
    eventually(lambda: "YAML syntax" in watch()["trouble"])
    assert watch()["held"] == ""
    lab.file.write_text(text)
    eventually(lambda: watch()["trouble"] == "")
    assert two.end() == 0
    assert watch() == {}
