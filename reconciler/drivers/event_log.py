"""The file of a watch's events: `logs/events.jsonl`, and its older parts.

In: events. Out: lines on disk, the last events, those that are added. One watch writes it (its lock
sees to that), from several threads. A full file is moved aside, so that all of it stays within
`LIMIT_BYTES * (LOGS_KEPT + 1)`. What cannot be written changes nothing: no event is worth a server.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from reconciler.core.events import Event, event_line, read_events
from reconciler.drivers import effects
from reconciler.drivers.server_logs import LOGS_KEPT, rotate

LIMIT_BYTES = 10 * 2**20


class EventLog:
    """The events of one root."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._writing = threading.Lock()

    def add(self, event: Event) -> None:
        """Write an event down, if that can be."""
        with self._writing, contextlib.suppress(OSError):
            effects.make_folder(self._path.parent, 0o755)
            rotate(self._path, LIMIT_BYTES)
            effects.append_line(self._path, self._closing() + event_line(event))

    def _closing(self) -> str:
        """What ends a line that a power cut has torn."""
        try:
            with self._path.open("rb") as file:
                if not file.seek(0, os.SEEK_END):
                    return ""
                file.seek(-1, os.SEEK_END)
                return "" if file.read() == b"\n" else "\n"
        except FileNotFoundError:
            return ""

    def last(self, count: int, name: str | None = None) -> tuple[Event, ...]:
        """The last events that concern this model or instance, the oldest first."""
        found: list[Event] = []
        for path in self._parts():
            with contextlib.suppress(FileNotFoundError):
                text = path.read_text(encoding="utf-8", errors="replace")
                found = [one for one in read_events(text) if one.concerns(name)] + found
            if len(found) >= count:
                break
        return tuple(found[-count:]) if count else ()

    def _parts(self) -> Iterator[Path]:
        """The newest first."""
        yield self._path
        for number in range(1, LOGS_KEPT + 1):
            yield self._path.with_name(f"{self._path.name}.{number}")


class EventReader:
    """Reads what is added from now on, also when the file is moved aside meanwhile."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._file: BinaryIO | None = None
        self._torn = b""
        self._open(os.SEEK_END)

    def close(self) -> None:
        """Read no more."""
        if self._file:
            self._file.close()
            self._file = None

    def more(self) -> tuple[Event, ...]:
        """The events that were added since the last call."""
        # Asked first: to a file that was moved aside by now nobody adds any more.
        is_moved = self._is_moved()
        added = self._torn + (self._file.read() if self._file else b"")
        if is_moved:
            self._open(os.SEEK_SET)
            added += self._file.read() if self._file else b""
        whole, end, self._torn = added.rpartition(b"\n")
        return read_events((whole + end).decode(errors="replace"))

    def _is_moved(self) -> bool:
        try:
            seen = self._path.stat()
        except FileNotFoundError:
            return False
        return self._file is None or os.fstat(self._file.fileno()).st_ino != seen.st_ino

    def _open(self, whence: int) -> None:
        self.close()
        with contextlib.suppress(FileNotFoundError):
            self._file = self._path.open("rb")
            self._file.seek(0, whence)
