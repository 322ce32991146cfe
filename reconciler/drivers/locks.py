"""File locks (flock): taken with a descriptor, gone with its last holder; no unlock by hand.

In: a path. Out: the open descriptor. It is inherited only by a child that it is passed to by
name (`effects.spawn(keep=...)`), and lives on with it; the run lock is never passed on.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from reconciler.drivers import effects


def take(path: str) -> int | None:
    """Take an exclusive lock and return its descriptor; None when somebody holds it."""
    effects.make_folder(os.path.dirname(path))  # noqa: PTH120 - plain text in, plain text out
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


@contextlib.contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Wait until nobody else is in here for this folder: the folder itself is the lock."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
