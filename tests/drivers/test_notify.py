"""What the service manager is told, on real sockets of both kinds; without one nothing happens."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from reconciler.core.engine import PASSED_ENVIRONMENT
from reconciler.drivers import notify
from reconciler.drivers.notify import Notifier


@contextmanager
def manager(address: str) -> Iterator[socket.socket]:
    """Listens as a service manager does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(f"\0{address[1:]}" if address.startswith("@") else address)
        listener.settimeout(20)
        yield listener


def heard(listener: socket.socket) -> list[str]:
    return listener.recv(4096).decode().split("\n")


@pytest.fixture(params=["path", "abstract"])
def address(request: pytest.FixtureRequest, short_folder: Path) -> str:
    return str(short_folder / "n") if request.param == "path" else f"@llm-{uuid.uuid4().hex}"


def test_each_word_is_one_datagram(address: str) -> None:
    with manager(address) as listener:
        told = Notifier.from_environment({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "30000000"})
        told.ready("20 models are ready")
        assert heard(listener) == ["READY=1", "STATUS=20 models are ready"]
        told.ready()
        assert heard(listener) == ["READY=1"]
        told.status("glm-5 loads\nREADY=1")
        assert heard(listener) == ["STATUS=glm-5 loads\\nREADY=1"]
        told.watchdog()
        assert heard(listener) == ["WATCHDOG=1"]
        told.stopping()
        assert heard(listener) == ["STOPPING=1"]


@pytest.mark.parametrize(
    ("variables", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "1500000"}, 1.5),
        ({"WATCHDOG_USEC": "1500000", "WATCHDOG_PID": str(os.getpid())}, 1.5),
        ({"WATCHDOG_USEC": "1500000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_a_watchdog_is_fed_only_if_it_is_ours(
    variables: dict[str, str], seconds: float | None, short_folder: Path
) -> None:
    address = str(short_folder / "n")
    with manager(address) as listener:
        told = Notifier.from_environment({"NOTIFY_SOCKET": address, **variables})
        assert told.watchdog_s == seconds
        told.watchdog()
        told.stopping()
        expected = [["WATCHDOG=1"]] if seconds else []
        assert [heard(listener) for _ in (*expected, "stopping")] == [*expected, ["STOPPING=1"]]


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"WATCHDOG_USEC": "1000000"},
        {"NOTIFY_SOCKET": ""},
        {"NOTIFY_SOCKET": "vsock:2:1234"},
        {"NOTIFY_SOCKET": "/nowhere/at/all"},
        {"NOTIFY_SOCKET": "/" + "x" * 200},
        {"NOTIFY_SOCKET": "@nobody-listens-here"},
    ],
    ids=str,
)
def test_without_a_manager_nothing_happens(environment: dict[str, str]) -> None:
    told = Notifier.from_environment(environment)
    assert told.watchdog_s is None
    told.ready("here")
    told.status("here")
    told.watchdog()
    told.stopping()
    assert environment == {}


def test_a_manager_that_hangs_holds_nobody_up(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notify, "SEND_TIMEOUT_S", 0.01)
    with manager(address) as listener, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                other.sendto(b"STATUS=", listener.getsockname())
        Notifier(address).status("unheard")


def test_what_we_start_cannot_speak_for_us(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
    for name in names:
        monkeypatch.setenv(name, "1")
    Notifier.from_environment(os.environ)
    child = subprocess.run(["env"], capture_output=True, text=True, check=True)
    assert not [line for line in child.stdout.split("\n") if line.startswith(names)]
    assert not set(names) & set(PASSED_ENVIRONMENT)
