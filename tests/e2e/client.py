"""A small HTTP client: whole answers, and streams that are read piece by piece.

In: a port and a path. Out: `Answer`s, `Stream`s. One connection a request.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

PATIENCE_S = 30.0


@dataclass(frozen=True)
class Answer:
    """A whole answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        """The message of an error in OpenAI's shape."""
        return str(self.json["error"]["message"])


def ask(
    port: int,
    path: str,
    body: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
    trust: ssl.SSLContext | None = None,
) -> Answer:
    """One question; over TLS with `trust`."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    if trust:
        connection = http.client.HTTPSConnection(
            "127.0.0.1", port, timeout=PATIENCE_S, context=trust
        )
    with contextlib.closing(connection):
        text = None if body is None else json.dumps(body)
        connection.request("GET" if body is None else "POST", path, text, headers or {})
        reply = connection.getresponse()
        headers = {name.lower(): value for name, value in reply.getheaders()}
        return Answer(reply.status, headers, reply.read())


class _UnixConnection(http.client.HTTPConnection):
    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(PATIENCE_S)
        self.sock.connect(self.host)


def ask_socket(path: str, what: str) -> bytes:
    """Ask a server itself, past the gateway."""
    with contextlib.closing(_UnixConnection(path)) as connection:
        connection.request("GET", what, headers={"Host": "localhost"})
        return connection.getresponse().read()


class Stream:
    """A streamed completion; `pieces` yields its texts as they come."""

    def __init__(self, port: int, path: str, body: Mapping[str, Any]) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
        try:
            self._connection.request("POST", path, json.dumps({**body, "stream": True}))
            self._reply = self._connection.getresponse()
        except BaseException:
            self._connection.close()
            raise
        self.status = self._reply.status
        self.finished = False
        """Whether it ended with [DONE]."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._reply.close()
        self._connection.close()

    def pieces(self) -> Iterator[str]:
        """The texts, until the stream ends, well or not."""
        while line := self._reply.readline():
            if line.startswith(b"data: [DONE]"):
                self.finished = True
            elif line.startswith(b"data: "):
                event = json.loads(line[6:])
                if "choices" not in event:
                    # An error is told as an event, too.
                    return
                yield json.dumps(event["choices"])

    def take(self, count: int) -> None:
        """Read so many pieces."""
        source = self.pieces()
        for number in range(count):
            assert next(source, None) is not None, f"the stream ended after {number} pieces"

    def rest(self) -> int:
        """Read to the end, whatever it is; the number of pieces."""
        count = 0
        with contextlib.suppress(http.client.HTTPException, OSError):
            for _ in self.pieces():
                count += 1
        return count
