"""One request for a part of a file, and what its answer means.

In: a URL, a span. Out: bytes as they come, `Changed`, or a `HubError` that says whether to try
again. Nothing here retries or writes.
"""

from __future__ import annotations

import http
from collections.abc import Callable, Iterator
from http.client import HTTPException

from reconciler.core.ranges import Span, parse_content_range
from reconciler.core.text import printable
from reconciler.drivers.fetch.connections import Answer, Connections
from reconciler.drivers.fetch.order import Changed, Remote
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
        try:
            answer = connections.get(self._remote.url, self._headers())
            left = self._accepted(answer, identify)
            for block in answer.blocks():
                yield block[:left]
                left -= len(block)
                if left < 0:
                    raise self._failure("sent more than was asked for")
        except TimeoutError as error:
            raise self._failure("sent nothing in time") from error
        except (HTTPException, OSError) as error:
            said = isinstance(error, OSError) and error.strerror
            raise self._failure(
                f"cannot be reached ({printable(said or type(error).__name__)})"
            ) from error

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
        raise self._refusal(answer)

    def _refusal(self, answer: Answer) -> HubError:
        status = answer.status
        asked = answer.header("Retry-After")
        if status in {401, 403}:
            hint = "check HF_TOKEN, or run `hf auth login`"
            return DeniedError(f"{self._where} refuses us (HTTP {status})", hint=hint)
        said = f"{self._where} cannot be read: its hub answered HTTP {status}"
        kind = HubError if status in {408, 425, 429} or status >= 500 else DeniedError
        return kind(said, hint="try again later", asked_pause=asked)

    def _failure(self, said: str) -> HubError:
        hint = "check the network, HF_ENDPOINT and the proxy"
        return HubError(f"{self._where} {said}", hint=hint)
