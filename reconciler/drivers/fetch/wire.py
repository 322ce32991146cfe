"""One request for a part of a file, and what its answer means.

In: a URL, a span. Out: bytes as they come, `Changed`, or a `HubError` that says whether to try
again. Nothing here retries or writes.
"""

from __future__ import annotations

import http
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.client import HTTPException

from reconciler.core.ranges import Span, parse_content_range
from reconciler.core.text import printable
from reconciler.drivers.fetch.connections import Answer, Connections
from reconciler.drivers.fetch.order import Changed, Hints, Remote
from reconciler.errors import HubError


class DeniedError(HubError):
    """This URL is not (or no longer) to be read: the file must be located again."""


class Request:
    """Asks for a file's bytes from `begin` up to `end`."""

    def __init__(self, where: str, remote: Remote, span: Span, etag: str) -> None:
        self._where = where
        self._remote = remote
        self._begin, self._end = span
        self._etag = etag

    def blocks(
        self, connections: Connections, identify: Callable[[str], bool]
    ) -> Iterator[memoryview]:
        """The bytes, in order; perhaps fewer than asked for. A block lasts until the next one.

        `identify` is told the answer's ETag, and says whether it is that of the bytes before.

        Raises:
            Changed: the server has other bytes, or knows no ranges.
            DeniedError: it does not give them under this URL.
            HubError: they did not come (further).
        """
        with _translated(self._where, self._remote.hints):
            answer = connections.get(self._remote.url, self._headers())
            left = self._accepted(answer, identify)
            for block in answer.blocks():
                yield block[:left]
                left -= len(block)
                if left < 0:
                    raise self._failure("sent more than was asked for")

    def _headers(self) -> dict[str, str]:
        headers = {**self._remote.headers, "Accept-Encoding": "identity"}
        if (self._begin, self._end) != (0, self._remote.size):
            headers["Range"] = f"bytes={self._begin}-{self._end - 1}"
            if self._etag and not self._etag.startswith("W/"):
                headers["If-Range"] = self._etag
        return headers

    def _accepted(self, answer: Answer, identify: Callable[[str], bool]) -> int:
        """How many bytes of the wanted ones this answer brings."""
        status = answer.status
        etag = answer.header("ETag", self._etag)
        if status == http.HTTPStatus.PARTIAL_CONTENT:
            sent = parse_content_range(answer.header("Content-Range"))
            if sent is None or sent[0][0] != self._begin or sent[0][1] > self._end:
                raise self._failure("sent other bytes than those asked for")
            if sent[1] != self._remote.size or not identify(etag):
                raise Changed(ranges=True)
            return sent[0][1] - self._begin
        if status == http.HTTPStatus.OK:
            is_whole = (self._begin, self._end) == (0, self._remote.size)
            if is_whole and identify(etag):
                return self._end
            raise Changed(ranges=bool(self._etag) and etag != self._etag)
        if status == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise Changed(ranges=True)
        raise _refusal(self._where, answer, self._remote.hints)

    def _failure(self, said: str) -> HubError:
        return HubError(f"{self._where} {said}", hint=self._remote.hints.unreached)


def locate(connections: Connections, where: str, asked: Remote) -> Remote:
    """The same file with its size, at the URL that this one leads to; a byte of it is asked for.

    Raises:
        HubError: it is not to be had, or its size is not to be known.
    """
    headers = {**asked.headers, "Accept-Encoding": "identity", "Range": "bytes=0-0"}
    with _translated(where, asked.hints):
        answer = connections.get(asked.url, headers)
    size: int | None = None
    if answer.status == http.HTTPStatus.PARTIAL_CONTENT:
        sent = parse_content_range(answer.header("Content-Range"))
        size = sent[1] if sent else None
    elif answer.status == http.HTTPStatus.OK:
        size = answer.length
    else:
        error = _refusal(where, answer, asked.hints)
        error.retryable = not isinstance(error, DeniedError)
        raise error
    if size is None:
        raise HubError(
            f"{where}: its server does not say how large it is",
            hint="nobody can tell whether there is room: fetch it yourself and use `source.path`",
            retryable=False,
        )
    return replace(asked, url=answer.url, size=size)


def _refusal(where: str, answer: Answer, hints: Hints) -> HubError:
    """What an answer without the wanted bytes says."""
    status = answer.status
    if status in {401, 403}:
        return DeniedError(f"{where} refuses us (HTTP {status})", hint=hints.denied)
    said = f"{where} cannot be read: its server answered HTTP {status}"
    if status in {408, 425, 429} or status >= 500:
        asked = answer.header("Retry-After")
        return HubError(said, hint="try again later", asked_pause=asked)
    return DeniedError(said, hint=hints.gone)


@contextmanager
def _translated(where: str, hints: Hints) -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        raise HubError(f"{where} sent nothing in time", hint=hints.unreached) from error
    except (HTTPException, OSError) as error:
        said = printable((isinstance(error, OSError) and error.strerror) or type(error).__name__)
        raise HubError(f"{where} cannot be reached ({said})", hint=hints.unreached) from error
