"""fallocate(2) itself: the room on disk that a part of a file takes, or does not.

In: an open file, what is to become of which part. Out: nothing, or an OSError. The C library's
posix_fallocate is another thing: where a file system cannot, it writes the whole file once.
"""

from __future__ import annotations

import errno
import os

KEEP_SIZE = 1
"""FALLOC_FL_KEEP_SIZE (linux/falloc.h): a file's size stays that of what was written."""
PUNCH_HOLE = 2
"""FALLOC_FL_PUNCH_HOLE: the part takes no room any more, and reads as zeros; with KEEP_SIZE."""
COLLAPSE_RANGE = 8
"""FALLOC_FL_COLLAPSE_RANGE: the part is taken out; what follows moves to its place."""


def fallocate(descriptor: int, mode: int, start: int, size: int) -> None:
    """Do that with `size` bytes from `start` on.

    Raises:
        OSError: EOPNOTSUPP where this file system cannot; EINVAL where such a part cannot be.
    """
    import ctypes  # noqa: PLC0415 - 2 ms that only a download or a full log need pay

    libc = ctypes.CDLL(None, use_errno=True)
    libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    while libc.fallocate(descriptor, mode, start, size) != 0:
        code = ctypes.get_errno()
        if code != errno.EINTR:
            raise OSError(code, os.strerror(code))
