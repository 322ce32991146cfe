"""A file on its way: `<digest>.reconcile.incomplete`, the journal beside it, the lock on it.

In: bytes at places. Out: which are here, after any kill. The journal names only what is written, so
a kill costs what was not noted yet; a file is never spliced from two (after a loss of power the
hash tells). Of several processes one holds the lock and fetches. The hub's own client names its
partials likewise, and old versions of it append to `<digest>.incomplete`: hence the further word.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from collections.abc import Iterator
from pathlib import Path

from reconciler.core.ranges import (
    MIB,
    Journal,
    Span,
    length,
    merged,
    parse_journal,
    prefix,
    span_line,
)
from reconciler.drivers import effects
from reconciler.drivers.base import Cancel

NOTE_EVERY = MIB
POLL_S = 0.1


def partial_of(target: Path) -> Path:
    """Where a file is until it is whole."""
    return target.with_name(f"{target.name}.reconcile.incomplete")


def journal_of(target: Path) -> Path:
    """Where it is noted what of a file is written."""
    return target.with_name(f"{target.name}.reconcile.journal")


def came(target: Path, size: int) -> tuple[int, int]:
    """What earlier downloads left of a file: bytes that are right, room on disk that is taken.

    Of a file that is in place and only lacks its link it is all.
    """
    if is_here(target, size):
        return size, size
    try:
        held = partial_of(target).stat().st_blocks * 512
    except FileNotFoundError:
        return 0, 0
    found = _read(journal_of(target), size)
    return (length(found.spans) if found else 0), held


def is_here(target: Path, size: int) -> bool:
    """Whether a file is in place, as far as its size tells."""
    return target.is_file() and target.stat().st_size == size


@contextlib.contextmanager
def held(target: Path, size: int, stop: Cancel) -> Iterator[int | None]:
    """Hold the partial of a file and yield its descriptor; None when the file is here.

    Waits while another process holds it; None, too, when we are to stop.
    """
    path = partial_of(target)
    while not (is_here(target, size) or stop.is_set()):
        descriptor = effects.open_partial(path)
        try:
            if _is_locked(descriptor) and _has_name(descriptor, path):
                if is_here(target, size):
                    # Its last holder finished between our look and our making of a new one.
                    effects.unlink(path)
                    continue
                with effects.named(path):
                    yield descriptor
                return
        finally:
            os.close(descriptor)
        stop.wait(POLL_S)
    yield None


def _is_locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _has_name(descriptor: int, path: Path) -> bool:
    """Whether the locked file still has its name: its last holder may have finished it."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


class Partial:
    """The bytes of a file that are here, from one version of it. Once closed it takes no more."""

    def __init__(self, target: Path, descriptor: int, size: int) -> None:
        self._journal_path = journal_of(target)
        self._descriptor = descriptor
        self._journal: int | None = None
        self._noted = threading.Condition()
        self._reading = threading.Lock()
        self._writers: list[Writer] = []
        self._is_open = True
        self._writing = 0
        self.size = size
        self.etag = ""
        self.spans: tuple[Span, ...] = ()
        found = _read(self._journal_path, size)
        if found is not None:
            self.spans = found.spans
            self._begin_journal(found.etag)
        self.done = self.found = length(self.spans)

    def _begin_journal(self, etag: str) -> None:
        """Write it anew: short, and without the half line that a kill may have left."""
        self.etag = etag
        text = Journal(self.size, etag, self.spans).text
        effects.write_atomic(self._journal_path, text, mode=0o644)
        self._journal = effects.open_journal(self._journal_path)

    def identify(self, etag: str) -> bool:
        """Say under which ETag bytes come; False when others are here."""
        with self._noted:
            if self._journal is None and self._is_open:
                self._begin_journal(etag)
            return etag == self.etag

    def writer(self, begin: int) -> Writer:
        """Somebody who writes from there on, one byte after the other."""
        writer = Writer(self, begin)
        with self._noted:
            self._writers.append(writer)
        return writer

    def write(self, writer: Writer, content: bytes | memoryview) -> bool:
        """Add to what this one wrote; False once closed. All of them may write at once."""
        with self._noted:
            if not self._is_open:
                return False
            self._writing += 1
        count = 0
        try:
            effects.write_at(self._descriptor, content, writer.at)
            count = len(content)
        finally:
            self._wrote(writer, count)
        return True

    def _wrote(self, writer: Writer, count: int) -> None:
        with self._noted:
            self._writing -= 1
            writer.at += count
            self.done += count
            if not self._is_open:
                self._noted.notify_all()
            elif writer.at - writer.noted >= NOTE_EVERY:
                self._note(writer)

    def finish(self, writer: Writer) -> None:
        """Note the rest of what this one wrote."""
        with self._noted:
            if self._is_open:
                self._note(writer)
                self._writers.remove(writer)

    def _note(self, writer: Writer) -> None:
        if self._journal is not None and writer.at > writer.noted:
            span = (writer.noted, writer.at)
            effects.append(self._journal, span_line(span))
            self.spans = merged((*self.spans, span))
            writer.noted = writer.at
            self._noted.notify_all()

    def beyond(self, at: int) -> int:
        """Wait until more than this is here from the start on, and say how much; 0 once closed."""
        with self._noted:
            self._noted.wait_for(lambda: not self._is_open or prefix(self.spans) > at)
            return prefix(self.spans) if self._is_open else 0

    def read(self, buffer: memoryview, at: int) -> int:
        """Read what is here; how many bytes came, 0 once closed."""
        with self._reading:
            return os.preadv(self._descriptor, [buffer], at) if self._is_open else 0

    def close(self) -> None:
        """Note what was written and take no more; the descriptor is its holder's to close."""
        with self._reading, self._noted:
            self._is_open = False
            self._noted.wait_for(lambda: self._writing == 0)
            # A full disk has no room for notes either: what is not noted is fetched again.
            with contextlib.suppress(OSError):
                for writer in self._writers:
                    self._note(writer)
            self._noted.notify_all()
            if self._journal is not None:
                os.close(self._journal)
                self._journal = None


class Writer:
    """One connection's place in a partial."""

    def __init__(self, partial: Partial, begin: int) -> None:
        self._partial = partial
        self.at = self.noted = begin

    def write(self, content: bytes | memoryview) -> bool:
        """Write the next bytes; False when they are not wanted any more."""
        return self._partial.write(self, content)

    def finish(self) -> None:
        """It writes no more."""
        self._partial.finish(self)


def _read(path: Path, size: int) -> Journal | None:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None
    return parse_journal(text, size)
