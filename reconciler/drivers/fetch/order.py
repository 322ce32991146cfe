"""What is to be fetched, and how gently: the words between a source of files and the downloads.

In: a source's own way to find a file (`locate`). Out: plain values, and `Changed`.
Whoever gives a URL, a size and a hash can be fetched from; nothing here knows a hub.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Protocol


class Hash(Protocol):
    """The part of a hashlib object that is used."""

    def update(self, data: memoryview, /) -> None:
        """Take in more bytes."""
        ...

    def hexdigest(self) -> str:
        """The hash of all bytes so far."""
        ...


class HashKind(StrEnum):
    """How a file's bytes are named."""

    SHA256 = "sha256"
    GIT = "git-sha1"
    """Git's own, of small files: over `blob SIZE` and a zero byte, then the content."""


SHA256_DIGITS = 64


def new_hash(kind: HashKind, size: int) -> Hash:
    """A hash to be fed with the bytes of a file of this size."""
    if kind is HashKind.SHA256:
        return hashlib.sha256()
    return hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)


@dataclass(frozen=True, slots=True)
class Hints:
    """What to do about a source that fails, in the words of who named it."""

    denied: str = "check HF_TOKEN, or run `hf auth login`"
    gone: str = "try again later"
    """It has no such file (any more)."""
    unreached: str = "check the network, HF_ENDPOINT and the proxy"
    wrong: str = "try again later; a proxy or mirror on the way may be at fault"
    """It sends other bytes than it should."""


@dataclass(frozen=True, slots=True)
class Remote:
    """Where a file's bytes are now, and which they must be."""

    url: str
    size: int
    kind: HashKind
    digest: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """For the URL's own host; a secret among them never follows a redirect to another one."""
    hints: Hints = Hints()

    def new_hash(self) -> Hash:
        """A hash to be fed with the file's bytes."""
        return new_hash(self.kind, self.size)


@dataclass(frozen=True, slots=True)
class Order:
    """One file that is wanted."""

    where: str
    """Whose it is, as errors begin: `hub repository org/name`."""
    name: str
    size: int
    """As far as it is known before it is located."""
    folder: Path
    """Where it goes, named by its digest."""
    locate: Callable[[], Remote]
    """Find it (again: URLs expire). Raises HubError."""
    arrived: Callable[[Path, str], None]
    """Called once the whole file stands in the folder, with its hash if we brought it and know."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How hard to try, and how gently."""

    connections: int = 4
    """For each file, at most; small downloads take fewer (`core.ranges.layout`)."""
    chunk: int | None = None
    """Bytes of one request, on all connections; None for what fits the size of all."""
    files: int = 2
    """At a time."""
    stall_s: float = 30.0
    """A connection that brings no byte for so long is given up and made anew."""
    connect_s: float = 10.0
    tries: int = 7
    """Failures in a row, without a byte, until a file fails: half a minute of pauses."""
    first_pause_s: float = 0.5
    longest_pause_s: float = 30.0
    bytes_per_s: int | None = None
    """For all files together."""


class Changed(Exception):  # noqa: N818 - it is no error: the file starts again
    """The server has other bytes than those that are here, or knows no ranges."""

    def __init__(self, *, ranges: bool) -> None:
        super().__init__()
        self.ranges = ranges
        """Whether parts can be asked for at all."""
