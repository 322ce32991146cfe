"""What can go wrong between a hub's store of weights and us, and content too big to keep.

In: a fault for one coming request of `HubServer.faults`. Out: its answer, gone wrong that way.
`Made` is content that is made when it is asked for: files of any size from no memory.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import socket
import struct
import threading
from dataclasses import dataclass, field
from enum import Enum, auto
from http.server import BaseHTTPRequestHandler

BLOCK = 1 << 20


class Kind(Enum):
    """How a request ends."""

    STATUS = auto()
    """Another status than asked for (416, 429, 503, 403...), with `headers`."""
    STALL = auto()
    """After `after` bytes nothing more comes, and the connection stays."""
    SILENCE = auto()
    """Not even headers come."""
    RESET = auto()
    """After `after` bytes the connection is reset."""
    TRUNCATE = auto()
    """After `after` bytes the connection is closed in good order."""
    NO_RANGES = auto()
    """200 and the whole file, whatever was asked for."""
    FLIP = auto()
    """One bit of the answer is another one."""
    SHIFT = auto()
    """The answer says, truly, that it begins one byte later than was asked for."""
    SHORT = auto()
    """206 with fewer bytes than asked for, and it says so."""
    NO_SUCH_RANGE = auto()
    """206 without a Content-Range."""
    ELSEWHERE = auto()
    """A redirect to another host."""


@dataclass(frozen=True)
class Fault:
    """One request's bad luck."""

    kind: Kind
    after: int = 0
    status: int = 0
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Made:
    """Content of this size that is made on the fly; each seed has other bytes."""

    size: int
    seed: int = 0
    sha: str = ""
    """What the hub says its sha256 is; of the largest files nobody waits for the true one."""
    head: bytes = field(default=b"", repr=False)
    """How it begins: a model's header, at most a block."""

    def __len__(self) -> int:
        return self.size

    def part(self, begin: int, end: int) -> bytes:
        """These bytes, at most those of one block."""
        end = min(end, (begin // BLOCK + 1) * BLOCK)
        number = begin // BLOCK
        block = number.to_bytes(8, "big") + _noise(self.seed)[8:]
        if number == 0:
            block = self.head + block[len(self.head) :]
        return block[begin - number * BLOCK : end - number * BLOCK]


@functools.cache
def _noise(seed: int) -> bytes:
    return hashlib.shake_128(seed.to_bytes(8, "big")).digest(BLOCK)


Content = bytes | Made


def part(content: Content, begin: int, end: int) -> bytes:
    """Some bytes from there on, not beyond `end`."""
    if isinstance(content, Made):
        return content.part(begin, end)
    return content[begin : min(end, begin + BLOCK)]


@functools.cache
def sha_of(content: Content) -> str:
    if isinstance(content, Made) and content.sha:
        return content.sha
    digest = hashlib.sha256()
    at = 0
    while at < len(content):
        block = part(content, at, len(content))
        digest.update(block)
        at += len(block)
    return digest.hexdigest()


def flipped(block: bytes) -> bytes:
    return bytes([block[0] ^ 1]) + block[1:]


def reset(handler: BaseHTTPRequestHandler) -> None:
    """End a connection so that its other end sees a reset."""
    linger = struct.pack("ii", 1, 0)
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    handler.wfile.flush()
    for close in (handler.rfile.close, handler.wfile.close, handler.connection.close):
        with contextlib.suppress(OSError):
            close()
    handler.close_connection = True


def hang(handler: BaseHTTPRequestHandler, over: threading.Event) -> None:
    """Keep a connection without a word until the hub ends."""
    handler.wfile.flush()
    over.wait(60)
    handler.close_connection = True
