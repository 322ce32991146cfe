"""Reads a log as one text, whatever becomes of its files meanwhile.

In: the path of a log. Out: its last lines, of its older parts too, then what is added to it. A log
is moved aside before a start, and its oldest part while its server runs; what was not read by then
is read where it is now.
"""

from __future__ import annotations

import codecs
import os
from itertools import takewhile
from pathlib import Path

from reconciler.drivers.server_logs import LOGS_KEPT, first_data, older

_BLOCK_BYTES = 2**16


class LogReader:
    """One reader of a log, and how far it has come."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._position = 0
        self._inode = self._aside = -1

    def last(self, count: int) -> str:
        """The last lines; `more` goes on behind them.

        Raises:
            OSError: it cannot be read.
        """
        self._inode, self._aside = _inode(self._path), _inode(older(self._path, 1))
        found, self._position = _end(self._path, count)
        for number in range(1, LOGS_KEPT + 1):
            missing = count - found.count(b"\n")
            if missing < 0 or not older(self._path, number).exists():
                break
            found = _end(older(self._path, number), missing)[0] + found
        lines = found.split(b"\n")
        # What ends with a line's end has no line behind it.
        kept = count + 1 if lines[-1] == b"" else count
        return self._decoder.decode(b"\n".join(lines[-kept:] if count else []))

    def more(self) -> str:
        """What was added since; empty too while there is no such file."""
        try:
            with self._path.open("rb") as file:
                missed = self._moved(os.fstat(file.fileno()))
                file.seek(self._position)
                added = file.read()
        except FileNotFoundError:
            return ""
        self._position += len(added)
        return self._decoder.decode(missed + added)

    def _moved(self, seen: os.stat_result) -> bytes:
        """Follow what we read to where it is now; what of it is aside by now and was not read."""
        inode, self._inode = self._inode, seen.st_ino
        if inode == seen.st_ino and seen.st_size >= self._position:
            return b""
        position, self._position = self._position, 0
        if inode != seen.st_ino:
            # Moved aside as a whole, before a start; or removed.
            part = older(self._path, 1)
            self._aside = _inode(part)
            return _from(part, position) if self._aside == inode else b""
        # Parts of it were set aside, and the rest has moved to the front by as much; or, without
        # any, somebody has emptied it.
        missed = b""
        for part in self._new_parts():
            if position < (size := part.stat().st_size):
                missed += _from(part, position)
            position = max(0, position - size)
            self._position, self._aside = position, _inode(part)
        return missed

    def _new_parts(self) -> list[Path]:
        """The parts that were set aside since, the oldest first."""
        parts = [older(self._path, number) for number in range(1, LOGS_KEPT + 1)]
        new = takewhile(lambda part: _inode(part) not in {-1, self._aside}, parts)
        return list(new)[::-1]


def _inode(path: Path) -> int:
    """Which file it is; -1 where there is none."""
    try:
        return path.stat().st_ino
    except OSError:
        return -1


def _from(path: Path, position: int) -> bytes:
    with path.open("rb") as file:
        file.seek(position)
        return file.read()


def _end(path: Path, count: int) -> tuple[bytes, int]:
    """More than so many lines of a file's end, if it has them; and its size."""
    blocks: list[bytes] = []
    with path.open("rb") as file:
        size = at = file.seek(0, os.SEEK_END)
        begin, newlines = first_data(file.fileno()), 0
        while at > begin and newlines <= count:
            start = max(begin, at - _BLOCK_BYTES)
            file.seek(start)
            blocks.append(file.read(at - start))
            at, newlines = start, newlines + blocks[-1].count(b"\n")
    return b"".join(reversed(blocks)), size
