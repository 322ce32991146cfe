"""One HTTP question to a program of this machine, over its unix socket or its loopback port.

In: an address, `unix:/path.sock` or `host:port`. Out: a `Reply`, or an OSError that says what went
wrong. The standard library's client: a larger one takes 0.1 s to import and 1 ms to make, and
hundreds of servers are asked at once, by a verb that should take 0.4 s.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse

MOST_BYTES = 16 * 2**20
"""What is asked for here is small; more than this is no answer."""
_PART_BYTES = 65536


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
    client = HTTPConnection("localhost", timeout=timeout)
    client.sock = _connect(address, timeout)
    headers = {"Connection": "close", "Content-Type": "application/json"}
    try:
        if body is None:
            client.request("GET", path, headers={"Connection": "close"})
        else:
            client.request("POST", path, json.dumps(body).encode(), headers)
        response = client.getresponse()
        return Reply(response.status, _read(response, client.sock, deadline))
    except (HTTPException, ConnectionError) as error:
        raise BrokenAnswerError("no whole answer") from error
    finally:
        client.close()


def _read(response: HTTPResponse, connection: socket.socket | None, deadline: float) -> bytes:
    """The body, whole; each part gets only what is left of the time."""
    parts = b""
    while part := response.read1(_PART_BYTES):
        parts += part
        if len(parts) > MOST_BYTES:
            raise BrokenAnswerError("no end")
        if time.monotonic() > deadline:
            raise TimeoutError("no whole answer in time")
        if connection is not None:
            # settimeout(0) would mean: do not wait at all.
            connection.settimeout(max(deadline - time.monotonic(), 0.001))
    if response.length:
        raise BrokenAnswerError("cut short")
    return parts


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
