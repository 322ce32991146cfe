"""One HTTP question: the answer is whole, or an error that says what was wrong with it."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from waiting import free_port

from reconciler.drivers import local_http
from reconciler.drivers.local_http import BrokenAnswerError, NotReachedError, Reply, ask

PATIENCE_S = 30.0
HURRY_S = 0.3


def request_on(connection: socket.socket) -> bytes:
    """A whole request: its head and its body may come apart."""
    said = b""
    while part := connection.recv(65536):
        said += part
        head, blank, body = said.partition(b"\r\n\r\n")
        length = re.search(rb"Content-Length: (\d+)", head)
        if blank and len(body) >= (int(length[1]) if length else 0):
            break
    return said


@contextmanager
def other_side(*parts: bytes, pause_s: float = 0.0) -> Iterator[tuple[str, list[bytes]]]:
    """Answers one question with these parts, and leaves the connection open; what it was asked."""
    listener = socket.create_server(("127.0.0.1", 0))
    asked: list[bytes] = []
    leave = threading.Event()

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            asked.append(request_on(connection))
            for part in parts:
                connection.sendall(part)
                if leave.wait(pause_s):
                    return
            if parts and not parts[-1]:
                return
            leave.wait(PATIENCE_S)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    with listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}", asked
        leave.set()
        thread.join()


END = b""
"""As the last part: the connection is closed after it."""


@pytest.mark.parametrize(
    ("parts", "reply"),
    [
        ((b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",), Reply(200, b"ok")),
        ((b"HTTP/1.0 503 No\r\ncontent-length:0\r\n\r\n",), Reply(503, b"")),
        ((b"HTTP/1.1 200\r\nContent-Length: 4\r\n\r", b"\n12", b"34"), Reply(200, b"1234")),
        ((b"HTTP/1.1 200 OK\r\n\r\nto the ", b"end", END), Reply(200, b"to the end")),
        (
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"2\r\nok\r\n0\r\n\r\n"),
            Reply(200, b"ok"),
        ),
    ],
)
def test_a_whole_answer_is_taken_as_soon_as_it_is_whole(
    parts: tuple[bytes, ...], reply: Reply
) -> None:
    with other_side(*parts, pause_s=0.01) as (address, _):
        assert ask(address, "/", PATIENCE_S) == reply


@pytest.mark.parametrize(
    "parts",
    [
        (END,),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\ncut", END),
        (b"SSH-2.0-x\r\n\r\n",),
        (b"HTTP/1.1 ok\r\n\r\n", END),
    ],
)
def test_what_is_no_whole_answer_is_an_error(parts: tuple[bytes, ...]) -> None:
    with other_side(*parts) as (address, _), pytest.raises(BrokenAnswerError):
        ask(address, "/", PATIENCE_S)


def test_an_answer_without_an_end_is_not_read_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_http, "MOST_BYTES", 10)
    with (
        other_side(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nmore than ten") as (address, _),
        pytest.raises(BrokenAnswerError) as broken,
    ):
        ask(address, "/", PATIENCE_S)
    assert str(broken.value.__cause__) == "no end"


def test_an_answer_that_drips_does_not_get_more_time() -> None:
    drops = [b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", *[b"."] * 100]
    with other_side(*drops, pause_s=0.02) as (address, _), pytest.raises(TimeoutError):
        ask(address, "/", HURRY_S)


def test_nobody_there() -> None:
    with pytest.raises(NotReachedError, match="refused"):
        ask(f"127.0.0.1:{free_port()}", "/", PATIENCE_S)


def test_what_is_sent() -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    with other_side(answer) as (address, asked):
        ask(address, "/health", PATIENCE_S)
    first, *headers = asked[0].split(b"\r\n")
    assert first == b"GET /health HTTP/1.1"
    assert {b"Host: localhost", b"Connection: close"} <= set(headers)
    with other_side(answer) as (address, asked):
        ask(address, "/completion", PATIENCE_S, {"prompt": "ä"})
    head, _, body = asked[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /completion HTTP/1.1\r\n")
    assert f"Content-Length: {len(body)}".encode() in head.split(b"\r\n")
    assert json.loads(body) == {"prompt": "ä"}


def test_text_of_any_bytes() -> None:
    assert Reply(200, b"a\xff").text == "a\ufffd"
