"""What a watch leaves alone, and what it sees: the bars of BARS.md that are about it."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from typing import Any

import pytest
from proof_tools import own_mount
from waiting import eventually

from e2e import machine
from e2e.client import ask_socket
from e2e.lab import Lab
from e2e.rest import assert_at_rest
from e2e.test_no_changes import everything
from e2e.test_watch import all_ready, watching
from reconciler.core.vitals import parse_counters
from reconciler.drivers.file_events import QUIET_MS

COUNT = 20
SAVES, SAVED_IN_S = 50, 5.0
STALL_S = 0.75 * QUIET_MS / 1000
"""Nearly what a save is quiet for before it is told."""
OFTEN = {"probe": {"liveness": "1s"}}
PATIENCE_S = 120.0


def counters(pid: int) -> dict[str, float]:
    """What a server counts, asked of itself."""
    return dict(parse_counters(ask_socket(machine.listens_on(pid), "/metrics").decode()))


def rounds(lab: Lab) -> int:
    """How often the watch has looked."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(lab.state / "watch.sock"))
        return int(json.loads(client.makefile().read())["rounds"])


def is_looked_at(pid: int, count: int) -> Callable[[], bool]:
    """Whether others than us have asked it for its counters so often from now on."""
    asked, first = 0, counters(pid)["fake_looks_total"]

    def holds() -> bool:
        nonlocal asked
        asked += 1
        return counters(pid)["fake_looks_total"] - first - asked >= count

    return holds


def test_where_all_is_as_wanted_nothing_is_touched(fakes: Lab) -> None:
    """BARS 1, over some probe periods and a round that is asked for."""
    fakes.write({"a": OFTEN, "b": OFTEN})
    watcher = watching(fakes)
    all_ready(watcher, "a", "b")
    pids, nginx = fakes.pids(), fakes.nginx()
    eventually(lambda: all(counters(pid)["tokens_predicted_total"] for pid in pids.values()))
    eventually(is_looked_at(pids["a"], 2))
    before, heard = everything(fakes), watcher.events
    born = {pid: machine.stat(pid)[19] for pid in (*pids.values(), *nginx.workers)}
    seen = rounds(fakes)
    watcher.child.send_signal(signal.SIGHUP)
    eventually(lambda: rounds(fakes) > seen)
    eventually(is_looked_at(pids["a"], 4))
    assert everything(fakes) == before
    assert watcher.events == heard
    assert (fakes.pids(), fakes.nginx()) == (pids, nginx)
    assert {pid: machine.stat(pid)[19] for pid in born} == born


def test_twenty_are_adopted_and_a_stream_goes_on(fakes: Lab) -> None:
    """BARS 10, also where `run/` is gone."""
    fakes.write({f"m{number}": {} for number in range(COUNT)})
    fakes.apply()
    pids, nginx = fakes.pids(), fakes.nginx()
    with fakes.stream("m0") as stream:
        stream.take(1)
        for is_run_deleted in (False, True):
            if is_run_deleted:
                shutil.rmtree(fakes.root / "run")
            watcher = watching(fakes)
            watcher.until("accepted", f"0 to change, {COUNT} unchanged")
            eventually(lambda: len(list((fakes.root / "run").glob("*.pid"))) == COUNT)
            watcher.child.kill()
            watcher.child.wait()
            stream.take(5)
    assert (fakes.pids(), fakes.nginx()) == (pids, nginx)
    assert not any(row["restarts"] for row in fakes.status()["instances"])


def test_who_is_wedged_is_replaced_once_and_nobody_else(fakes: Lab) -> None:
    """BARS 15: its other answers live on; one that sleeps is not woken, a busy one goes on."""
    wedge = fakes.folder / "wedge"
    wedge.touch()
    fakes.write(
        {
            "stuck": {"args": {"fake-wedge-once": str(wedge)}, **OFTEN},
            "asleep": {"args": {"sleep-idle-seconds": 60}, **OFTEN},
            "busy": {"args": {"fake-token-seconds": 0.2}, **OFTEN},
        }
    )
    watcher = watching(fakes)
    all_ready(watcher, "asleep", "busy", "stuck")
    before = fakes.pids()
    with fakes.stream("busy") as stream:
        stream.take(1)
        assert json.loads(ask_socket(machine.listens_on(before["stuck"]), "/health"))
        eventually(lambda: watcher.heard("wedged", "instance.stuck"), "wedged", PATIENCE_S)
        eventually(lambda: fakes.servers().get("stuck") not in (None, [before["stuck"]]))
        all_ready(watcher, "asleep", "busy", "stuck")
        after = fakes.pids()
        # It has shown that it works, and is looked at again and again.
        eventually(lambda: counters(after["stuck"])["tokens_predicted_total"] > 0)
        eventually(is_looked_at(after["stuck"], 4))
        stream.take(1)
    assert fakes.pids() == {**before, "stuck": after["stuck"]}
    assert counters(after["asleep"])["tokens_predicted_total"] == 0
    assert sum(one["event"] == "wedged" for one in watcher.events) == 1


def has_alias(lab: Lab, alias: str) -> bool:
    """Whether the gateway is that of this save."""
    try:
        return alias in lab.ask("/v1/models").body.decode()
    except OSError:
        return False


def save(lab: Lab, alias: str) -> None:
    lab.write({"a": {"aliases": [alias], "args": {"fake-load-seconds": 1}}})


@pytest.mark.parametrize("at_rest", [True, False])
def test_many_saves_are_one_or_two_runs_and_the_last_one_wins(fakes: Lab, at_rest: bool) -> None:
    """BARS 25; also where a run ends in the middle of them, and all is looked at anew."""
    save(fakes, "first")
    watcher = watching(fakes)
    watcher.until("accepted")
    if at_rest:
        all_ready(watcher, "a")
    stalls, last = 0, time.monotonic()
    for number in range(SAVES):
        time.sleep(SAVED_IN_S / SAVES)
        save(fakes, f"save-{number}")
        # What comes after a pause is told by itself, and may be another run.
        now = time.monotonic()
        stalls, last = stalls + (now - last > STALL_S), now
    eventually(lambda: has_alias(fakes, f"save-{SAVES - 1}"), watcher.said.read_text())
    runs = sum(one["event"] == "accepted" for one in watcher.events) - 1
    assert 1 <= runs <= 2 + stalls


def test_each_way_to_save_is_seen(fakes: Lab) -> None:
    """BARS 25: as vim does it, git, and who swaps a link."""
    save(fakes, "first")
    texts = {}
    for way in ("vim", "git", "link", "first"):
        save(fakes, way)
        texts[way] = fakes.file.read_text()
    watcher = watching(fakes)
    all_ready(watcher, "a")

    def git(*words: str) -> None:
        who = ("-c", "user.name=n", "-c", "user.email=e@localhost", "-c", "commit.gpgsign=false")
        subprocess.run(["git", *who, *words], cwd=fakes.root, check=True, capture_output=True)

    git("init", "-b", "main")
    git("add", "desired/x.yaml")
    git("commit", "-m", "first")
    git("checkout", "-b", "other")

    backup = fakes.file.with_name("x.yaml~")
    fakes.file.rename(backup)
    fakes.file.write_text(texts["vim"])
    backup.unlink()
    eventually(lambda: has_alias(fakes, "vim"), watcher.said.read_text())

    fakes.file.write_text(texts["git"])
    git("commit", "-am", "git")
    eventually(lambda: has_alias(fakes, "git"), watcher.said.read_text())
    git("checkout", "main")
    eventually(lambda: has_alias(fakes, "first"), watcher.said.read_text())

    (fakes.root / "versions").mkdir()
    target = fakes.root / "versions" / "link.yaml"
    target.write_text(texts["link"])
    fakes.file.with_name("new").symlink_to(target)
    fakes.file.with_name("new").rename(fakes.file)
    eventually(lambda: has_alias(fakes, "link"), watcher.said.read_text())
    assert len(fakes.pids()) == 1


def test_ten_operators_at_once(fakes: Lab) -> None:
    """BARS 9: beside a watch too, one server each is left."""
    names = ("a", "b", "c", "d")
    fakes.write({name: {} for name in names})
    watcher = watching(fakes)
    all_ready(watcher, *names)
    verbs: list[tuple[str, ...]] = [("restart", name) for name in names]
    verbs += [("stop", "a"), ("start", "a"), ("stop", "b"), ("start", "b")]
    verbs += [("apply", str(fakes.file), "-y")] * 2
    with machine.Twins(fakes.root):
        going = [fakes.popen(*words, "--lock-timeout", "60") for words in verbs]
        done: list[Any] = [fakes.end(child) for child in going]
        # What another one has just stopped is not restarted.
        odd = [one.all for one in done if one.code not in {0, 3, 4} and "is stopped" not in one.err]
        assert odd == []
        fakes.run("start", "--all", "--lock-timeout", "60")
        all_ready(watcher, *names)
    assert watcher.end() == 0
    assert_at_rest(fakes, names)


@pytest.mark.needs("mounts")
@pytest.mark.parametrize("what", ["folder", "file"])
def test_a_save_is_followed_through_a_bind_mount(fakes: Lab, what: str) -> None:
    """Of a file that is mounted itself the folder hears nothing: the clock notices its saves."""
    fakes.write({"a": {}})
    elsewhere = fakes.folder / "elsewhere"
    elsewhere.mkdir()
    file = elsewhere / fakes.file.name
    file.write_text(fakes.file.read_text())
    source, target = (file, fakes.file) if what == "file" else (elsewhere, fakes.file.parent)
    watcher = watching(fakes, under=own_mount(str(source), str(target)))
    all_ready(watcher, "a")
    wanted = json.loads(file.read_text())
    wanted["models"]["b"] = wanted["models"]["a"]
    file.write_text(json.dumps(wanted))
    eventually(lambda: "b" in fakes.servers(), watcher.said.read_text(), PATIENCE_S)
    all_ready(watcher, "a", "b")
    assert watcher.end() == 0
