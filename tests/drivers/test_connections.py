"""Connections for downloads: kept, redirected, through proxies, in every framing of HTTP/1."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.client import HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from certificates import Certificate, make_certificate

from reconciler.drivers.fetch.connections import BLOCK, MOST_KEPT, Answer, Connections
from reconciler.drivers.fetch.order import Limits
from reconciler.errors import HubError

BODY = bytes(range(256)) * 4000
SECRET = {"Authorization": "Bearer x", "Cookie": "y", "User-Agent": "z"}


@dataclass
class Host:
    """Answers by path, and remembers what it was asked."""

    port: int = 0
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    connections: set[tuple[str, int]] = field(default_factory=set)
    elsewhere: str = ""
    tunnels_to: int = 0
    """The port that everybody gets who asks for a tunnel."""

    def url(self, path: str, name: str = "127.0.0.1") -> str:
        return f"http://{name}:{self.port}{path}"


def relay(source: socket.socket, to: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while part := source.recv(1 << 16):
            to.sendall(part)
        to.shutdown(socket.SHUT_WR)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    host: Host

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_CONNECT(self) -> None:
        self._note()
        if not self.host.tunnels_to:
            self.send_error(502)
            return
        self.send_response(200)
        self.end_headers()
        with socket.create_connection(("127.0.0.1", self.host.tunnels_to)) as there:
            pairs = ((self.connection, there), (there, self.connection))
            threads = [threading.Thread(target=relay, args=pair, daemon=True) for pair in pairs]
            for one in threads:
                one.start()
            for one in threads:
                one.join()
        self.close_connection = True

    def do_GET(self) -> None:
        self._note()
        match self.path.rpartition("/")[2]:
            case "round" | "away" | "nowhere" as name:
                there = {"round": "/round", "nowhere": "ftp://host/file"}
                location = there.get(name, self.host.elsewhere)
                self._send(302, {"Location": location, "Content-Length": "3"}, b"abc")
            case "talkative":
                self.close_connection = True
                there = {"Location": self.host.elsewhere, "Content-Length": str(2 * BLOCK)}
                self._send(302, there, b"begun")
            case "chunked":
                self._send(200, {"Transfer-Encoding": "chunked"})
                for part in (BODY[:100], BODY[100:]):
                    self.wfile.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
                self.wfile.write(b"0\r\n\r\n")
            case "endless":
                self.close_connection = True
                self._send(200, {"Connection": "close"}, BODY)
            case "short":
                self.close_connection = True
                self._send(200, {"Content-Length": "9"}, b"four")
            case "once":
                # It says nothing of it, as servers that tire of a connection do.
                self.close_connection = True
                self._send(200, {"Content-Length": "4"}, b"once")
            case "hang":
                self.close_connection = True
            case _:
                self._send(200, {"Content-Length": str(len(BODY))}, BODY)

    def _note(self) -> None:
        self.host.asked.append((self.command, self.path, dict(self.headers.items())))
        self.host.connections.add(self.client_address)

    def _send(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that left is none of the test's business."""


@contextlib.contextmanager
def running(certificate: Certificate | None = None) -> Iterator[Host]:
    host = Host()
    with _Server(("127.0.0.1", 0), type("_Bound", (_Handler,), {"host": host})) as server:
        if certificate:
            server.socket = certificate.serve.wrap_socket(server.socket, server_side=True)
        host.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield host
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    with running() as one:
        yield one


@pytest.fixture
def connections() -> Iterator[Connections]:
    with Connections(Limits(stall_s=5), ssl.create_default_context) as found:
        yield found


def body(answer: Answer) -> bytes:
    return b"".join(bytes(block) for block in answer.blocks())


def test_one_connection_serves_many_requests(host: Host, connections: Connections) -> None:
    for _ in range(3):
        answer = connections.get(host.url("/x"), {"Range": "bytes=0-1"})
        assert (answer.status, answer.length) == (200, len(BODY))
        assert body(answer) == BODY
    assert len(host.connections) == 1
    assert host.asked[0][2]["Range"] == "bytes=0-1"


def test_an_answer_that_is_left_early_takes_its_connection_with_it(
    host: Host, connections: Connections
) -> None:
    next(connections.get(host.url("/x"), {}).blocks())
    assert body(connections.get(host.url("/x"), {})) == BODY
    assert len(host.connections) == 2


def test_a_server_that_tired_of_a_connection_is_asked_over_a_new_one(
    host: Host, connections: Connections
) -> None:
    for _ in range(3):
        assert body(connections.get(host.url("/once"), {})) == b"once"
    assert len(host.connections) == 3


def test_a_new_connection_that_ends_without_an_answer_is_an_error(
    host: Host, connections: Connections
) -> None:
    with pytest.raises(ConnectionError):
        connections.get(host.url("/hang"), {})
    assert len(host.asked) == 1


@pytest.mark.parametrize("framing", ["chunked", "endless"])
def test_bodies_of_unknown_length(host: Host, connections: Connections, framing: str) -> None:
    answer = connections.get(host.url(f"/{framing}"), {})
    assert answer.length is None
    assert body(answer) == BODY
    assert body(connections.get(host.url("/x"), {})) == BODY


def test_a_body_that_breaks_off_is_an_error_after_what_came(
    host: Host, connections: Connections
) -> None:
    blocks = connections.get(host.url("/short"), {}).blocks()
    assert bytes(next(blocks)) == b"four"
    with pytest.raises(HTTPException):
        next(blocks)


def test_secrets_stay_with_the_first_host(host: Host, connections: Connections) -> None:
    host.elsewhere = host.url("/x?signed=1#part", "localhost")
    answer = connections.get(host.url("/away"), SECRET)
    assert body(answer) == BODY
    (_, _, first), (_, path, second) = host.asked
    assert path == "/x?signed=1"
    assert {name: first[name] for name in SECRET} == SECRET
    assert second["User-Agent"] == "z"
    assert not {"Authorization", "Cookie"} & second.keys()


def test_secrets_stay_on_the_first_host(host: Host, connections: Connections) -> None:
    host.elsewhere = "/x"
    body(connections.get(host.url("/away"), SECRET))
    assert [headers["Authorization"] for _, _, headers in host.asked] == ["Bearer x"] * 2
    assert len(host.connections) == 1


def test_what_a_redirect_says_at_length_is_not_read(host: Host, connections: Connections) -> None:
    host.elsewhere = "/x"
    assert body(connections.get(host.url("/talkative"), {})) == BODY


def test_redirects_without_end_and_into_nowhere(host: Host, connections: Connections) -> None:
    with pytest.raises(HubError, match="sends on and on"):
        connections.get(host.url("/round"), {})
    assert len(host.connections) == 1
    with pytest.raises(HubError, match="no address to fetch from: ftp://host"):
        connections.get(host.url("/nowhere"), {})


def test_few_connections_are_kept(connections: Connections, host: Host) -> None:
    with contextlib.ExitStack() as stack:
        hosts = [stack.enter_context(running()) for _ in range(MOST_KEPT + 1)]
        for one in (*hosts, *hosts):
            assert body(connections.get(one.url("/x"), {})) == BODY
        assert [len(one.connections) for one in hosts] == [2] * len(hosts)


# ---- TLS


@pytest.mark.needs("openssl")
def test_https_from_whom_we_trust(host: Host, tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path)
    with running(certificate) as safe, Connections(Limits(), lambda: certificate.trust) as one:
        for _ in range(2):
            assert body(one.get(f"https://localhost:{safe.port}/x", SECRET)) == BODY
        assert len(safe.connections) == 1
        with (
            Connections(Limits(), ssl.create_default_context) as other,
            pytest.raises(ssl.SSLCertVerificationError),
        ):
            other.get(f"https://localhost:{safe.port}/x", SECRET)
        assert len(safe.asked) == 2


@pytest.mark.needs("openssl")
def test_https_never_leads_to_http(host: Host, tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path)
    with running(certificate) as safe, Connections(Limits(), lambda: certificate.trust) as one:
        safe.elsewhere = host.url("/x")
        with pytest.raises(HubError, match="localhost sends on from https to http") as caught:
            one.get(f"https://localhost:{safe.port}/away", {})
        assert not caught.value.retryable
        assert host.asked == []


@pytest.mark.needs("openssl")
def test_https_through_a_tunnel(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{host.port}")
    certificate = make_certificate(tmp_path)
    with running(certificate) as safe, Connections(Limits(), lambda: certificate.trust) as one:
        host.tunnels_to = safe.port
        for _ in range(2):
            assert body(one.get("https://localhost/x", SECRET)) == BODY
        assert [path for _, path, _ in safe.asked] == ["/x", "/x"]
        assert [path for _, path, _ in host.asked] == ["localhost:443"]


# ---- proxies


def test_a_proxy_is_asked_for_whole_addresses(
    host: Host, connections: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", f"http://me:s%20ecret@127.0.0.1:{host.port}")
    assert body(connections.get("http://store.example/x?y=1", {})) == BODY
    [(_, path, headers)] = host.asked
    assert path == "http://store.example/x?y=1"
    assert headers["Host"] == "store.example"
    assert headers["Proxy-Authorization"] == "Basic bWU6cyBlY3JldA=="


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "ALL_PROXY"])
def test_a_proxy_makes_a_tunnel_for_https(
    host: Host, connections: Connections, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, f"me:secret@127.0.0.1:{host.port}")
    with pytest.raises(OSError, match="502"):
        connections.get("https://store.example/x", {"Authorization": "Bearer x"})
    [(command, path, headers)] = host.asked
    assert (command, path) == ("CONNECT", "store.example:443")
    assert headers["Proxy-Authorization"] == "Basic bWU6c2VjcmV0"
    assert "Authorization" not in headers


def test_no_proxy_for_some_hosts(
    host: Host, connections: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "store.example,127.0.0.1")
    assert body(connections.get(host.url("/x"), {})) == BODY
    assert host.asked[0][1] == "/x"
