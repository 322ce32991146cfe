"""`service` under a real systemd: whatever becomes of the watch, servers and nginx go on."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from waiting import eventually

from e2e import machine
from e2e.lab import FAKE_ENGINE, Lab
from e2e.systemd import Systemd

OFTEN = "[Service]\nRestartSec=100ms\nWatchdogSec=6s\n"
SLOW = {"args": {"fake-token-seconds": 0.05}}


@pytest.fixture
def systemd(short_folder: Path) -> Iterator[Systemd]:
    with Systemd(short_folder / "systemd") as booted:
        yield booted


@pytest.fixture
def lab(systemd: Systemd, short_folder: Path, tiny_model: Path) -> Iterator[Lab]:
    """A root whose verbs find that systemd."""
    made = Lab(short_folder / "lab", tiny_model, engine=dict(FAKE_ENGINE))
    # Whoever comes into a mount namespace stands at its root.
    made.under = (*systemd.under, "env", f"--chdir={made.root}")
    made.write({"a": SLOW, "b": {}})
    yield made
    assert made.close() == []


def is_ready(lab: Lab, name: str) -> bool:
    try:
        return lab.ask(f"/api/{name}/health").status == 200
    except OSError:
        return False


@pytest.mark.needs("systemd")
def test_whatever_becomes_of_the_watch_its_servers_go_on(lab: Lab, systemd: Systemd) -> None:
    file = str(lab.file)
    lab.run("service", "install", "--system", file)
    told = lab.run("service", "status", "--system", file, "--json").json
    unit = told["unit"]
    assert (told["enabled"], told["active"]) == ("enabled", "active")
    eventually(lambda: is_ready(lab, "a") and is_ready(lab, "b"), "all are ready")
    pids, nginx, main = lab.pids(), lab.nginx(), systemd.show(unit, "MainPID")
    machine.end([pids["b"]])
    eventually(lambda: is_ready(lab, "b"), "what died is started again")
    assert (lab.pids()["a"], lab.nginx()) == (pids["a"], nginx)
    assert systemd.show(unit, "MainPID") == main
    pids = lab.pids()

    def restarts() -> int:
        return int(systemd.show(unit, "NRestarts")) if systemd.is_active(unit) else 0

    with lab.stream("a") as stream:
        systemd.drop_in(unit, OFTEN)
        lab.run("service", "install", "--system", file)
        assert systemd.show(unit, "MainPID") not in {main, "0"}
        systemd.signal(unit, signal.SIGKILL)
        eventually(lambda: restarts() > 0, "a watch that was killed is started again")
        known = restarts()
        systemd.signal(unit, signal.SIGSTOP)
        eventually(lambda: restarts() > known, "one that hangs is ended, and started again")
        stream.take(3)
    assert (lab.pids(), lab.nginx()) == (pids, nginx)

    lab.run("service", "uninstall", "--system", file)
    assert systemd.show(unit, "LoadState") == "not-found"
    assert "not installed" in lab.run("service", "status", "--system", file, code=3).out
    assert (lab.pids(), lab.nginx()) == (pids, nginx)
