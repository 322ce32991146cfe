"""What the machine refused, in plain words: the file, the reason, what to do next.

In: an OSError, as it comes out of `drivers.effects` or of reading. Out: a message and a hint.
Every layer that ends such an error for the user says it in these words.
"""

from __future__ import annotations

import errno

from reconciler.core.text import with_hint
from reconciler.errors import ReconcileError

_HINTS = {
    errno.ENOSPC: "make room on that disk, then do it again",
    errno.EDQUOT: "make room in your quota of that disk, then do it again",
    errno.EACCES: "let this user read and write there, then do it again",
    errno.EPERM: "let this user read and write there, then do it again",
    errno.EROFS: "make that file system writable, then do it again",
    errno.EIO: "that disk, or what it hangs on, is failing: the kernel's log says more (`dmesg`)",
    errno.EMFILE: "raise the limit of open files (`ulimit -n`), then do it again",
    errno.ENFILE: "the whole machine has too many files open: end something, then do it again",
    errno.ENOMEM: "free some memory, then do it again",
    errno.EAGAIN: "raise the limit of processes (`ulimit -u`), or end some, then do it again",
}


def explain_os(error: OSError) -> tuple[str, str]:
    """The message, `FILE: reason`, and what to do next."""
    reason = error.strerror or " ".join(map(str, error.args)) or type(error).__name__
    message = f"{error.filename}: {reason}" if error.filename else reason
    return message, _HINTS.get(error.errno or 0, "try it by hand, then do this again")


def in_one_line(error: ReconcileError | OSError) -> str:
    """What is wrong, and what to do next."""
    if isinstance(error, OSError):
        return with_hint(*explain_os(error))
    return with_hint(error.message, error.hint)
