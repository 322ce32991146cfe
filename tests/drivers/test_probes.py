"""Asking a server over HTTP: whatever answers, or does not, is one of four healths."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from waiting import free_port

from reconciler.drivers.base import Health
from reconciler.drivers.probes import HttpProber

HURRY_S = 0.2
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
NONE_IN_HAND = """\
# HELP llamacpp:requests_processing Number of requests processing.
# TYPE llamacpp:requests_processing gauge
llamacpp:requests_processing 0
llamacpp:requests_deferred 0
"""
LOADING = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"


def whole_request(connection: socket.socket) -> bytes:
    """Read a request to the end of its body, or as much as there is."""
    text = b""
    while part := connection.recv(65536):
        text += part
        head, _, body = text.partition(b"\r\n\r\n")
        length = re.search(rb"Content-Length: (\d+)", head)
        if b"\r\n\r\n" in text and len(body) >= int(length[1] if length else 0):
            break
    return text


@contextlib.contextmanager
def answering(listener: socket.socket, answer: bytes | None) -> Iterator[list[bytes]]:
    """Give each connection this answer; None takes the connection and never answers."""
    seen: list[bytes] = []
    kept: list[socket.socket] = []

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                kept.append(connection)
                seen.append(whole_request(connection))
                if answer is not None:
                    connection.sendall(answer)
                    connection.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        listener.close()
        for connection in kept:
            connection.close()


@pytest.fixture(params=["port", "socket"])
def place(request: pytest.FixtureRequest, short_folder: Path) -> tuple[str, socket.socket]:
    """An address of either kind, and the socket that listens there."""
    if request.param == "port":
        listener = socket.create_server(("127.0.0.1", 0))
        return f"127.0.0.1:{listener.getsockname()[1]}", listener
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(short_folder / "x.sock"))
    listener.listen()
    return f"unix:{short_folder}/x.sock", listener


@pytest.mark.parametrize(
    ("answer", "health"),
    [
        (OK, Health.READY),
        (LOADING, Health.LOADING),
        (None, Health.SILENT),
        (b"", Health.SILENT),
        (b"garbage\r\n\r\n", Health.SILENT),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\ncut", Health.SILENT),
        (b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n", Health.SILENT),
        (b"HTTP/1.1 302 F\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n", Health.SILENT),
    ],
)
def test_what_an_answer_means(
    place: tuple[str, socket.socket], answer: bytes | None, health: Health
) -> None:
    address, listener = place
    with answering(listener, answer):
        assert HttpProber().health(address, HURRY_S if answer is None else 10) is health


def test_it_asks_for_health(place: tuple[str, socket.socket]) -> None:
    address, listener = place
    with answering(listener, OK) as seen:
        HttpProber().health(address)
    assert seen[0].startswith(b"GET /health HTTP/1.1\r\n")


def test_nobody_listens(short_folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(short_folder / "dead.sock"))
    for address in (
        f"127.0.0.1:{free_port()}",
        f"unix:{short_folder}/none.sock",
        f"unix:{short_folder}/dead.sock",
    ):
        assert HttpProber().health(address) is Health.REFUSED
        assert HttpProber().in_flight(address) is None


def test_who_no_longer_takes_connections_is_silent(short_folder: Path) -> None:
    path = str(short_folder / "full.sock")
    with socket.socket(socket.AF_UNIX) as listener, contextlib.ExitStack() as stack:
        listener.bind(path)
        listener.listen(1)
        for _ in range(8):
            client = stack.enter_context(socket.socket(socket.AF_UNIX))
            client.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                client.connect(path)
        assert HttpProber().health(f"unix:{path}", HURRY_S) is Health.SILENT
        assert HttpProber().in_flight(f"unix:{path}") is None


def test_proxies_of_the_environment_are_not_asked(
    place: tuple[str, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, listener = place
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with answering(listener, OK):
        assert HttpProber().health(address) is Health.READY


def test_many_are_asked_at_once(short_folder: Path) -> None:
    ready, silent = socket.create_server(("127.0.0.1", 0)), socket.create_server(("127.0.0.1", 0))
    addresses = [f"127.0.0.1:{one.getsockname()[1]}" for one in (ready, silent)]
    nowhere = f"unix:{short_folder}/none.sock"
    with answering(ready, OK), answering(silent, b"?\r\n"):
        found = HttpProber().health_all([*addresses, nowhere, addresses[0]])
    assert found == {
        addresses[0]: Health.READY,
        addresses[1]: Health.SILENT,
        nowhere: Health.REFUSED,
    }


def test_nobody_to_ask() -> None:
    assert HttpProber().health_all([]) == {}


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("llamacpp:requests_processing 2\nllamacpp:requests_deferred 3\n", 5),
        (NONE_IN_HAND, 0),
        ("llamacpp:tokens_predicted_total 9\n", None),
        ("", None),
    ],
)
def test_requests_in_hand_are_counted(
    place: tuple[str, socket.socket], text: str, count: int | None
) -> None:
    address, listener = place
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(text)}\r\n\r\n"
    with answering(listener, f"{head}{text}".encode()) as seen:
        assert HttpProber().in_flight(address) == count
    assert seen[0].startswith(b"GET /metrics ")


@pytest.mark.parametrize("answer", [LOADING, b"garbage\r\n\r\n", b""])
def test_requests_in_hand_may_be_unknown(place: tuple[str, socket.socket], answer: bytes) -> None:
    address, listener = place
    with answering(listener, answer):
        assert HttpProber().in_flight(address) is None


def said(status: str, text: str) -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode()


def test_counters_are_all_that_it_counts(place: tuple[str, socket.socket]) -> None:
    address, listener = place
    with answering(listener, said("200 OK", NONE_IN_HAND)):
        assert HttpProber().counters(address) == {
            "requests_processing": 0.0,
            "requests_deferred": 0.0,
        }


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ('[{"id": 0}, {"n_prompt_tokens_processed": 5, "next_token": [{"n_decoded": 3}]}]', 8),
        ('[{"n_prompt_tokens_processed": "x", "next_token": {"n_decoded": 3}}]', 0),
        ("[]", 0),
        ("[7]", None),
        ('{"error": 1}', None),
        ("no", None),
    ],
)
def test_progress_is_what_the_slots_are_through_with(
    place: tuple[str, socket.socket], text: str, tokens: int | None
) -> None:
    address, listener = place
    with answering(listener, said("200 OK", text)) as seen:
        assert HttpProber().progress(address) == tokens
    assert seen[0].startswith(b"GET /slots ")


@pytest.mark.parametrize(
    ("text", "sleeps"),
    [('{"is_sleeping": true}', True), ('{"is_sleeping": 1}', False), ("[]", False), ("?", False)],
)
def test_who_sleeps_says_so(place: tuple[str, socket.socket], text: str, *, sleeps: bool) -> None:
    address, listener = place
    with answering(listener, said("200 OK", text)) as seen:
        assert HttpProber().is_sleeping(address) is sleeps
    assert seen[0].startswith(b"GET /props ")


@pytest.mark.parametrize(
    ("answer", "trouble"),
    [
        (said("200 OK", "{}"), ""),
        (said("500 No", "{}"), "it answered HTTP 500 when asked for a token"),
        (said("501 No", "{}"), "it answered HTTP 501 when asked for a token"),
        (b"", "it broke off while it made a token (no whole answer)"),
        (None, "it made no token in 0.2 s"),
    ],
)
def test_a_token_is_made_or_not(
    place: tuple[str, socket.socket], answer: bytes | None, trouble: str
) -> None:
    address, listener = place
    with answering(listener, answer) as seen:
        found = HttpProber().make_token(address, HURRY_S if answer is None else 10)
    assert found.trouble == trouble
    assert found.seconds > 0
    assert seen[0].startswith(b"POST /completion ")


def test_who_cannot_complete_is_asked_to_embed(place: tuple[str, socket.socket]) -> None:
    address, listener = place
    with answering(listener, said("501 No", "{}")) as seen:
        HttpProber().make_token(address, 10)
    assert [line.split(b" ")[1] for line in seen] == [b"/completion", b"/embedding"]
