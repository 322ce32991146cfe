"""Who holds a TCP port: strangers by name, ours by instance, whatever stands in the way."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from ipaddress import IPv4Address
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest
from waiting import eventually, free_port

from reconciler.core.observed import PortHolder
from reconciler.drivers import ports
from reconciler.drivers.ports import Listener, TcpPorts, read_listeners

ANY = str(IPv4Address(0))
LISTEN = """
import os, socket, sys
listener = socket.create_server((sys.argv[1], 0))
port, worker = listener.getsockname()[1], "worker" in sys.argv and os.fork()
if worker:
    listener.close()
if worker or "worker" not in sys.argv:
    print(port, flush=True)
if worker:
    os.wait()
sys.stdin.read()
"""


class Stranger(NamedTuple):
    port: int
    pid: int


@pytest.fixture
def strangers() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def stranger(stack: ExitStack, host: str, *more: str, title: str = sys.executable) -> Stranger:
    """Another program that listens there."""
    process = stack.enter_context(
        subprocess.Popen(
            [title, "-I", "-S", "-c", LISTEN, host, *more],
            executable=sys.executable,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
    )
    assert process.stdout is not None
    return Stranger(int(process.stdout.readline()), process.pid)


def holder_of(port: int, host: str = "127.0.0.1", **ours: int) -> PortHolder | None:
    named = {pid: name for name, pid in ours.items()}
    return TcpPorts().holders({port: host}, named).get(port)


def test_nothing_wanted_is_nothing_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(ports, "listeners")
    assert TcpPorts().holders({}, {}) == {}


def test_a_free_port_has_no_holder() -> None:
    assert holder_of(free_port()) is None


def test_a_stranger_is_named(strangers: ExitStack) -> None:
    taken = stranger(strangers, "127.0.0.1")
    found = holder_of(taken.port)
    assert found is not None
    assert (found.port, found.pid, found.owner) == (taken.port, taken.pid, None)
    assert str(found).startswith(f"port {taken.port} is held by pid {taken.pid} ({sys.executable}")
    assert len(found.command) <= 120


def test_a_strangers_secrets_are_not_told(strangers: ExitStack) -> None:
    taken = stranger(strangers, "127.0.0.1", title="server --api-key sk-hers")
    found = holder_of(taken.port)
    assert found is not None
    assert found.command.startswith("server --api-key (not shown) ")


def test_ours_is_known_by_its_pid(strangers: ExitStack) -> None:
    taken = stranger(strangers, "127.0.0.1")
    found = holder_of(taken.port, m=taken.pid)
    assert found is not None
    assert found.owner == "m"


def test_a_worker_is_known_by_its_master(strangers: ExitStack) -> None:
    taken = stranger(strangers, "127.0.0.1", "worker")
    found = holder_of(taken.port, gateway=taken.pid)
    assert found is not None
    assert found.owner == "gateway"


@pytest.mark.parametrize(
    ("taken", "wanted", "in_the_way"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", ANY, True),
        (ANY, "127.0.0.1", True),
        ("127.0.0.1", "localhost", True),
        ("127.0.0.2", "127.0.0.1", False),
        ("127.0.0.1", "::1", False),
    ],
)
def test_what_stands_in_the_way(
    strangers: ExitStack, taken: str, wanted: str, in_the_way: bool
) -> None:
    port = stranger(strangers, taken).port
    assert (holder_of(port, wanted) is not None) is in_the_way


def seen(monkeypatch: pytest.MonkeyPatch, *sockets: tuple[str, int | None]) -> None:
    """Let the kernel say that these addresses are listened on, port 8001, by these pids."""
    found = [Listener(ip, 8001, str(number)) for number, (ip, _) in enumerate(sockets)]
    pids = {str(number): pid for number, (_, pid) in enumerate(sockets) if pid is not None}
    monkeypatch.setattr(ports, "listeners", lambda: found)
    monkeypatch.setattr(ports, "pids_of", lambda *_: pids)


@pytest.mark.parametrize(
    ("taken", "wanted", "in_the_way"),
    [
        ("::", "127.0.0.1", True),
        ("::1", "[::1]", True),
        ("::1", "[::]", True),
        ("127.0.0.1", "[::]", True),
        ("::1", "127.0.0.1", False),
    ],
)
def test_ipv6_as_the_file_writes_it(
    monkeypatch: pytest.MonkeyPatch, taken: str, wanted: str, in_the_way: bool
) -> None:
    seen(monkeypatch, (taken, None))
    assert (holder_of(8001, wanted) is not None) is in_the_way


def test_a_process_of_another_user_has_no_name(monkeypatch: pytest.MonkeyPatch) -> None:
    seen(monkeypatch, ("127.0.0.1", None))
    found = holder_of(8001)
    assert found == PortHolder(8001, None)
    assert str(found) == "port 8001 is held by a process of another user"


def test_a_named_holder_says_more_than_none(monkeypatch: pytest.MonkeyPatch) -> None:
    here = os.getpid()
    both = [("127.0.0.1", None), ("127.0.0.1", here)]
    for one in (both, both[::-1]):
        seen(monkeypatch, *one)
        found = holder_of(8001)
        assert found is not None
        assert found.pid == here


def test_our_own_holder_is_not_covered_by_a_stranger(monkeypatch: pytest.MonkeyPatch) -> None:
    seen(monkeypatch, ("127.0.0.1", os.getpid()), (ANY, 1))
    found = holder_of(8001, m=os.getpid())
    assert found is not None
    assert found.owner == "m"


def test_who_only_talks_does_not_listen() -> None:
    head = "  sl  local_address rem_address   st and so on"
    row = "   {}: {} 00000000:0000 {} 00000000:00000000 00:00000000 00000000  1000  0 {} 1 0"
    table = [
        head,
        row.format(0, "0100007F:1F41", "0A", 7),
        row.format(1, "0100007F:1F41", "01", 8),
        row.format(2, "00000000000000000000000001000000:0050", "0A", 9),
    ]
    found = list(read_listeners("\n".join(table)))
    assert found == [Listener("127.0.0.1", 8001, "7"), Listener("::1", 80, "9")]


def test_a_connection_of_ours_to_elsewhere_is_no_holder(strangers: ExitStack) -> None:
    taken = stranger(strangers, "127.0.0.1")
    with socket.create_connection(("127.0.0.1", taken.port)) as client:
        assert holder_of(client.getsockname()[1]) is None


def test_a_holder_that_has_gone_is_nobodys(monkeypatch: pytest.MonkeyPatch) -> None:
    seen(monkeypatch, ("127.0.0.1", 2**22 + 1))
    found = holder_of(8001, m=2**22 + 1)
    assert found is not None
    assert (found.command, found.owner) == ("", None)


def test_an_nginx_of_another_root_is_named_by_its_root(
    strangers: ExitStack, short_folder: Path
) -> None:
    """By its state folder, which its servers use too; nginx itself has no environment left."""
    title = f"nginx: master process /bin/nginx -p {short_folder}/state/gateway -c x.conf"
    taken = stranger(strangers, "127.0.0.1", "worker", title=title)
    assert holder_of(taken.port) is not None
    assert "gateway of" not in str(holder_of(taken.port))
    server = subprocess.Popen(
        [sys.executable, "-c", "input()", f"{short_folder}/state/s/a.sock"],
        env={"LLM_RECONCILE_ROOT": "/other/root"},
        stdin=subprocess.PIPE,
    )
    strangers.callback(server.communicate)
    eventually(
        lambda: "gateway of /other/root (nginx, pid" in str(holder_of(taken.port)), "it is named"
    )


@pytest.mark.parametrize(
    ("host", "is_there"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        (ANY, True),
        ("[::]", True),
        ("[::1]", True),
        ("localhost", True),
        ("box.lan", True),
        ("192.0.2.7", False),
        ("[2001:db8::7]", False),
    ],
)
def test_addresses_of_this_machine(host: str, is_there: bool) -> None:
    """192.0.2.0/24 and 2001:db8::/32 are nobody's (RFC 5737, RFC 3849)."""
    assert TcpPorts().has_address(host) is is_there


def test_an_address_of_an_interface() -> None:
    found = [one for each in psutil.net_if_addrs().values() for one in each]
    own = next(one.address for one in found if one.family == socket.AF_INET)
    assert TcpPorts().has_address(own)
