"""One HTTP question to a program of this machine, over its unix socket or its loopback port.

In: an address, `unix:/path.sock` or `host:port`. Out: a `Reply`, or an OSError that says what went
wrong. Plain sockets: an HTTP client takes up to 0.1 s to import and 1 ms to make, and hundreds of
servers are asked at once. It speaks what these programs answer, not all of HTTP: no chunks.
"""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass

MOST_BYTES = 16 * 2**20
"""What is asked for here is small; more than this is no answer."""
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})[ \r]")
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class NotReachedError(ConnectionError):
    """Nobody listens at the address."""


class BrokenAnswerError(ConnectionError):
    """The answer ended before it was whole, or is no HTTP."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer."""

    status: int
    body: bytes

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode(errors="replace")


def ask(address: str, path: str, timeout: float, body: Mapping[str, object] | None = None) -> Reply:
    """GET `path`, or POST `body` to it as JSON. `timeout`: seconds for all of it.

    Raises:
        NotReachedError: nobody listens there.
        TimeoutError: no whole answer in time.
        OSError: the answer broke off, or is no HTTP (`BrokenAnswerError`).
    """
    deadline = time.monotonic() + timeout
    with _connect(address, timeout) as connection:
        connection.sendall(_request(path, body))
        answer = b""
        while (reply := _read(answer)) is None:
            # settimeout(0) would mean: do not wait at all.
            connection.settimeout(max(deadline - time.monotonic(), 0.001))
            part = connection.recv(65536)
            answer += part
            if not part or len(answer) > MOST_BYTES:
                return _read_rest(answer)
        return reply


def _connect(address: str, timeout: float) -> socket.socket:
    is_path = address.startswith("unix:")
    host, _, port = address.rpartition(":")
    connection = socket.socket(socket.AF_UNIX if is_path else socket.AF_INET)
    connection.settimeout(timeout)
    try:
        connection.connect(address.removeprefix("unix:") if is_path else (host, int(port)))
    except OSError as error:
        connection.close()
        if isinstance(error, BlockingIOError):
            # A unix socket's way to say that its queue is full: it has long taken no connection.
            raise TimeoutError(f"{address} takes no connections") from error
        raise error if isinstance(error, TimeoutError) else NotReachedError(*error.args) from error
    return connection


def _request(path: str, body: Mapping[str, object] | None) -> bytes:
    content = b"" if body is None else json.dumps(body).encode()
    lines = [
        f"{'GET' if body is None else 'POST'} {path} HTTP/1.1",
        "Host: localhost",
        "Connection: close",
    ]
    if body is not None:
        lines += ["Content-Type: application/json", f"Content-Length: {len(content)}"]
    return "\r\n".join([*lines, "", ""]).encode() + content


def _read(answer: bytes, *, ended: bool = False) -> Reply | None:
    """The reply, if it is whole: as long as it says it is, or all there is (`ended`)."""
    head, separator, body = answer.partition(b"\r\n\r\n")
    if not separator:
        return None
    status, length = _STATUS.match(head), _LENGTH.search(head)
    if not status:
        raise BrokenAnswerError(f"no HTTP: {head[:40]!r}")
    if length is None:
        return Reply(int(status[1]), body) if ended else None
    return Reply(int(status[1]), body) if len(body) >= int(length[1]) else None


def _read_rest(answer: bytes) -> Reply:
    reply = _read(answer, ended=True)
    if reply is None:
        raise BrokenAnswerError("cut short")
    return reply
