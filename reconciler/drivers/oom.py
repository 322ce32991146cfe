"""How often the kernel ended something of our cgroup for lack of memory. Looks only.

In: /proc/self/cgroup, the cgroup file system. Out: the count, and the file that says it. Servers
are born into the cgroup of whoever starts them, which a later run need not be in.
"""

from __future__ import annotations

import re
from pathlib import Path

from reconciler.drivers import slots

_KILLS = re.compile(r"^oom_kill (\d+)$", re.MULTILINE)


def counter(
    own: Path = Path("/proc/self/cgroup"), top: Path = Path("/sys/fs/cgroup")
) -> tuple[int, str] | None:
    """The count now, and its file; None where no cgroup of ours counts."""
    for line in _text(own).splitlines():
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            file = top / "memory" / path.strip("/") / "memory.oom_control"
        elif not controllers:
            file = top / path.strip("/") / "memory.events"
        else:
            continue
        if (found := count(str(file))) is not None:
            return found, str(file)
    return None


def count(file: str) -> int | None:
    """What the file says; None where it cannot be read: a cgroup goes with its last process."""
    found = _KILLS.search(_text(Path(file)))
    return int(found[1]) if found else None


def rose(note: slots.Note) -> bool | None:
    """Whether there were such ends since the note was begun; None: that is not known."""
    now = count(note.oom_counter) if note.oom_counter else None
    return None if now is None else now > note.oom_kills


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
