"""Connections that are kept from request to request: redirects, proxies, reading into one buffer.

In: a URL and headers. Out: an `Answer`: its status, its headers, its bytes as they come.
The standard library's client: a larger one took twice the CPU for each byte (`make bench` shows
what is left). Proxies: `proxies`. Nothing here knows what the bytes are.
"""

from __future__ import annotations

import http
import ssl
from collections.abc import Callable, Iterator, Mapping
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection, IncompleteRead
from types import TracebackType
from typing import Self
from urllib.parse import SplitResult, urljoin, urlsplit

from reconciler.drivers.fetch.order import Limits
from reconciler.drivers.fetch.proxies import Proxy, proxy_for
from reconciler.errors import HubError

BLOCK = 1 << 20
"""Bytes that are read at once, at most: a quarter of it is slower by a fifth on a fast network."""
MOST_REDIRECTS = 8
MOST_KEPT = 4
_REDIRECTS = {
    http.HTTPStatus.MOVED_PERMANENTLY,
    http.HTTPStatus.FOUND,
    http.HTTPStatus.SEE_OTHER,
    http.HTTPStatus.TEMPORARY_REDIRECT,
    http.HTTPStatus.PERMANENT_REDIRECT,
}
_SECRET = {"authorization", "cookie"}
_PORTS = {"http": 80, "https": 443}

Origin = tuple[str, str, int]


class Answer:
    """What came back; its bytes are read once, and only as long as the next request waits."""

    def __init__(self, response: HTTPResponse, buffer: memoryview) -> None:
        self._response = response
        self._buffer = buffer
        self.status = response.status
        self.url = ""
        """Whose answer it is, after all redirects."""
        self.length = response.length
        """Bytes of the body; None where the answer does not say."""
        self.is_whole = False
        """All of it was read: the connection can take another request."""

    def header(self, name: str, default: str = "") -> str:
        """What it says under this name."""
        return self._response.headers.get(name, default)

    def blocks(self) -> Iterator[memoryview]:
        """The body; each block is gone when the next is asked for.

        Raises:
            HTTPException: it broke off.
            OSError: the connection did, or brought nothing in time.
        """
        # Unlike the response itself, the stream below hands out what has come: no block is waited
        # for in full. It must not read on into the next answer.
        left, stream = self.length, self._response.fp
        while left is None or left > 0:
            room = self._buffer if left is None else self._buffer[:left]
            count = self._response.readinto(room) if left is None else stream.readinto1(room)
            if not count:
                break
            yield room[:count]
            left = None if left is None else left - count
        if left:
            raise IncompleteRead(b"", left)
        self._response.close()
        self.is_whole = True


class Connections:
    """For one request at a time; a context that closes them."""

    def __init__(self, limits: Limits, context: Callable[[], ssl.SSLContext]) -> None:
        self._limits = limits
        self._context = context
        self._kept: dict[Origin, HTTPConnection] = {}
        self._buffer = memoryview(bytearray(BLOCK))
        self._current: tuple[Origin, Answer] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        for one in self._kept.values():
            one.close()

    def get(self, url: str, headers: Mapping[str, str]) -> Answer:
        """Ask for a URL, and for those that it redirects to.

        A secret goes to the URL's own host, never on to another one.

        Raises:
            HTTPException: what answers speaks no HTTP, or ended in the middle of it.
            OSError: it cannot be reached, or sent nothing in time.
            HubError: it sends on without end, or the proxy is of an unknown kind.
        """
        first = _origin(urlsplit(url))
        for _ in range(MOST_REDIRECTS):
            parts = urlsplit(url)
            origin = _origin(parts)
            if origin != first:
                headers = {name: headers[name] for name in headers if name.lower() not in _SECRET}
            answer = self._ask(origin, parts, headers)
            answer.url = url
            location = answer.header("Location")
            if answer.status not in _REDIRECTS or not location:
                return answer
            if answer.length is not None and answer.length <= BLOCK:
                # Read to its end, its connection serves on; a longer body is not worth that.
                for _block in answer.blocks():
                    pass
            url = urljoin(url, location)
            if origin[0] == "https" and urlsplit(url).scheme == "http":
                raise HubError(
                    f"{first[1]} sends on from https to http, where anybody could listen",
                    hint="use another server, or another URL of this one",
                    retryable=False,
                )
        raise HubError(f"{first[1]} sends on and on", hint="try again later")

    def _ask(self, origin: Origin, parts: SplitResult, headers: Mapping[str, str]) -> Answer:
        self._settle()
        is_kept = origin in self._kept
        try:
            return self._answer(origin, parts, headers)
        except (ConnectionError, TimeoutError, HTTPException) as error:
            if not is_kept or isinstance(error, TimeoutError):
                raise
            # Kept connections end when their server tires of them, unseen until they are used.
            return self._answer(origin, parts, headers)

    def _settle(self) -> None:
        """Leave the last answer: a connection that still brings some of it takes no request."""
        if self._current and not self._current[1].is_whole:
            self._drop(self._current[0])
        self._current = None

    def _drop(self, origin: Origin) -> None:
        if one := self._kept.pop(origin, None):
            one.close()

    def _answer(self, origin: Origin, parts: SplitResult, headers: Mapping[str, str]) -> Answer:
        path = parts._replace(scheme="", netloc="", fragment="").geturl() or "/"
        proxy = proxy_for(*origin)
        if proxy and origin[0] == "http":
            path = parts._replace(fragment="").geturl()
            headers = {**headers, **proxy.headers}
        try:
            connection = self._connection(origin, proxy)
            connection.request("GET", path, headers=dict(headers))
            answer = Answer(connection.getresponse(), self._buffer)
        except (OSError, HTTPException):
            self._drop(origin)
            raise
        self._current = (origin, answer)
        return answer

    def _connection(self, origin: Origin, proxy: Proxy | None) -> HTTPConnection:
        if origin in self._kept:
            return self._kept[origin]
        scheme, host, port = origin
        to, at = (proxy.host, proxy.port) if proxy else (host, port)
        patience = self._limits.connect_s
        one = (
            HTTPSConnection(to, at, timeout=patience, context=self._context())
            if scheme == "https"
            else HTTPConnection(to, at, timeout=patience)
        )
        if proxy and scheme == "https":
            one.set_tunnel(host, port, proxy.headers)
        one.connect()
        one.sock.settimeout(self._limits.stall_s)
        while len(self._kept) >= MOST_KEPT:
            self._drop(next(iter(self._kept)))
        self._kept[origin] = one
        return one


def _origin(parts: SplitResult) -> Origin:
    try:
        return parts.scheme, parts.hostname or "", parts.port or _PORTS[parts.scheme]
    except (KeyError, ValueError) as error:
        raise HubError(
            f"this is no address to fetch from: {parts.scheme}://{parts.hostname}",
            hint="check `source.url`, or HF_ENDPOINT",
        ) from error
