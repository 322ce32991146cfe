"""Which bytes of a file are here and which are to be fetched, and the journal that says so.

In: spans (begin, end) of bytes, end not included; a journal's or a server's text. Out: the same.
A journal is a line of identity, then a line for each span that is written. A kill can cut its last
line short, which then counts for nothing. Nothing here opens a file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

Span = tuple[int, int]

MIB = 1 << 20
IN_FLIGHT_SHARE = 0.0018
"""Of a download, what may be asked for and not yet noted: ten kills lose less than 2 %."""
GOOD_CHUNK = 2 * MIB
"""Shorter requests cost more than a further connection gains: 1 ms of CPU each."""
LEAST_IN_FLIGHT = MIB // 2
"""Below it a distant server's answers would be too short to be fast: 10 MB/s at 50 ms away."""
LONGEST_CHUNK = 8 * MIB

_JOURNAL = re.compile(r"llm-reconcile partial 1 (\d+) ?(.*)")
_SPAN = re.compile(r"(\d+) (\d+)")
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


@dataclass(frozen=True, slots=True)
class Layout:
    """How a file is fetched: over how many connections, in requests of how many bytes."""

    connections: int
    chunk: int


def layout(total: int, files: int, connections: int) -> Layout:
    """For each of so many files at a time, at most so many connections, `total` bytes in all.

    A kill costs at most the share above, from 256 MiB a file on.
    """
    in_flight = max(int(total * IN_FLIGHT_SHARE) // files, LEAST_IN_FLIGHT)
    used = min(max(in_flight // GOOD_CHUNK, 1), connections)
    return Layout(used, min(in_flight // used, LONGEST_CHUNK))


def merged(spans: Iterable[Span]) -> tuple[Span, ...]:
    """The same bytes as few spans, in order; empty ones are left out."""
    result: list[Span] = []
    for begin, end in sorted(spans):
        if result and begin <= result[-1][1]:
            result[-1] = (result[-1][0], max(end, result[-1][1]))
        elif begin < end:
            result.append((begin, end))
    return tuple(result)


def gaps(spans: tuple[Span, ...], size: int) -> Iterator[Span]:
    """What a file of this size lacks, given what is here, merged."""
    at = 0
    for begin, end in spans:
        if begin > at:
            yield at, begin
        at = end
    if at < size:
        yield at, size


def pieces(missing: Iterable[Span], chunk: int) -> Iterator[Span]:
    """The missing bytes in order, in pieces of at most `chunk`."""
    for begin, end in missing:
        for at in range(begin, end, chunk):
            yield at, min(at + chunk, end)


def prefix(spans: tuple[Span, ...]) -> int:
    """How many bytes from the start on are here, given what is here, merged."""
    return spans[0][1] if spans and spans[0][0] == 0 else 0


def length(spans: Iterable[Span]) -> int:
    """How many bytes these are."""
    return sum(end - begin for begin, end in spans)


def parse_content_range(text: str) -> tuple[Span, int] | None:
    """Which bytes a server sends, and of how many; None for anything unclear."""
    match = _CONTENT_RANGE.fullmatch(text.strip())
    if match is None or int(match[2]) < int(match[1]):
        return None
    return (int(match[1]), int(match[2]) + 1), int(match[3])


@dataclass(frozen=True, slots=True)
class Journal:
    """What is written of a file: of which size, under which ETag of its server, which spans."""

    size: int
    etag: str
    spans: tuple[Span, ...]

    @property
    def text(self) -> str:
        """The journal as a file."""
        head = f"llm-reconcile partial 1 {self.size} {self.etag}\n"
        return head + "".join(span_line(span) for span in self.spans)


def span_line(span: Span) -> str:
    """A span's line in the journal."""
    return f"{span[0]} {span[1]}\n"


def parse_journal(text: str, size: int) -> Journal | None:
    """What a journal says of a file of this size; None when it is about another one.

    A line that makes no sense ends it: what was written after that is fetched again.
    """
    head, *lines = text.split("\n")[:-1] or [""]
    match = _JOURNAL.fullmatch(head)
    if match is None or int(match[1]) != size:
        return None
    spans: list[Span] = []
    for line in lines:
        found = _SPAN.fullmatch(line)
        if found is None or int(found[2]) > size:
            break
        spans.append((int(found[1]), int(found[2])))
    return Journal(size, match[2], merged(spans))
