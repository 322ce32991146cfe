"""Cuts the log of a running server: its oldest part becomes NAME.log.1 and goes from NAME.log.

In: a log that its server holds open for appending. Out: parts of LOG_LIMIT_BYTES, .1 the newest.
That descriptor cannot be swapped and the server shall not be asked, so the kernel takes the part
out of the file (ext4, xfs), or where it cannot, gives back only its room (tmpfs, btrfs, others:
offsets stay, and its place is a hole). A part has its new name, on disk, before it goes from the
old one: no line is lost at any moment; who is killed in between leaves that one part twice.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from reconciler.drivers import effects, server_logs
from reconciler.drivers.allocation import COLLAPSE_RANGE, KEEP_SIZE, PUNCH_HOLE, fallocate

KEPT_BYTES = 2**18
"""So much of its end stays in a log: four times what anybody reads of it to show its end."""
_BLOCK_BYTES = 2**20
_FAR_BYTES = 2**30
_CANNOT = {errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}


def trim(log: Path, before: Callable[[], None]) -> None:
    """Set full parts of a log aside, the oldest first. The caller holds the run lock.

    `before` is called before a part goes: offsets into the log lose their meaning.
    """
    size = log.stat().st_size if log.is_file() else 0
    if size < _full():
        return
    with _opened(log) as descriptor:
        # Asked far behind its end, where there is nothing to give back.
        if not _can(descriptor, PUNCH_HOLE | KEEP_SIZE, size + _FAR_BYTES, _BLOCK_BYTES):
            return
        # So many at most: who writes faster than we copy must not hold us for ever.
        for _ in range(size // server_logs.LOG_LIMIT_BYTES):
            start = server_logs.first_data(descriptor)
            if os.fstat(descriptor).st_size - start < _full():
                break
            server_logs.make_room(log)
            part = server_logs.older(log, 1)
            _set_aside(descriptor, start, server_logs.LOG_LIMIT_BYTES, part)
            try:
                before()
                _drop(descriptor, start, server_logs.LOG_LIMIT_BYTES, log)
            except OSError:
                # It still has it: copies of it must not push older parts out, time after time.
                effects.unlink(part)
                raise


def _full() -> int:
    return server_logs.LOG_LIMIT_BYTES + KEPT_BYTES


@contextlib.contextmanager
def _opened(log: Path) -> Iterator[int]:
    descriptor = os.open(log, os.O_RDWR | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _can(descriptor: int, mode: int, start: int, size: int) -> bool:
    """Let the kernel do it; False where this file system cannot."""
    try:
        fallocate(descriptor, mode, start, size)
    except OSError as error:
        if error.errno in _CANNOT:
            return False
        raise
    return True


def _set_aside(descriptor: int, start: int, size: int, target: Path) -> None:
    """Copy a part to a file of its own, whole or not at all, durably."""
    with effects.effect("copy", target), effects.beside(target) as temporary:
        copy = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            at = 0
            while at < size:
                block = os.pread(descriptor, min(_BLOCK_BYTES, size - at), start + at)
                if not block:
                    raise OSError(errno.ENODATA, "it became shorter meanwhile")
                effects.write_at(copy, block, at)
                at += len(block)
            os.fsync(copy)
        finally:
            os.close(copy)
        temporary.replace(target)
        effects.sync_folder(target.parent)


def _drop(descriptor: int, start: int, size: int, log: Path) -> None:
    """Take a part out of a log: all in one moment, between two writes of its server."""
    with effects.effect("trim", log):
        if start > 0 or not _can(descriptor, COLLAPSE_RANGE, start, size):
            fallocate(descriptor, PUNCH_HOLE | KEEP_SIZE, start, size)
