"""The machine's own memory: how much there is, and how much of it processes of ours may have.

In: /proc and the cgroup file system. Out: `ObservedMemory`, without the graphics cards.
Looks only, and never fails: what cannot be read is 0 or None, and nothing is concluded from it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from reconciler.core.observed import ObservedMemory

_FIELD = re.compile(r"^(\w+):\s+(\d+) kB$", re.MULTILINE)


class LinuxMachine:
    """The real `Machine` of `drivers.base`."""

    def __init__(self, proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> None:
        self._proc = proc
        self._cgroups = cgroups

    def memory(self) -> ObservedMemory:
        """Memory and swap in all, and the least limit of the cgroups that we are in."""
        found = {name: int(kib) * 1024 for name, kib in _FIELD.findall(self._read("meminfo"))}
        return ObservedMemory(
            ram_bytes=found.get("MemTotal", 0),
            available_bytes=found.get("MemAvailable", 0),
            swap_bytes=found.get("SwapTotal", 0),
            limit_bytes=min(self._limits(), default=None),
        )

    def _read(self, name: str) -> str:
        try:
            return (self._proc / name).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""

    def _limits(self) -> Iterator[int]:
        """Of our own cgroup and all above it; servers that we start are born into the same."""
        for line in self._read("self/cgroup").splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers and "memory" not in controllers.split(","):
                continue
            top = self._cgroups / "memory" if controllers else self._cgroups
            name = "memory.limit_in_bytes" if controllers else "memory.max"
            folder = top / path.strip("/")
            for one in (folder, *folder.parents):
                yield from _number(one / name)
                if one == top:
                    break


def _number(path: Path) -> Iterator[int]:
    """The number in a file; nothing where there is none (`max`), or no such file."""
    try:
        text = path.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return
    if text.isdigit():
        yield int(text)
