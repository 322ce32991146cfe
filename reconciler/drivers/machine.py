"""The machine itself: its memory, its kernel, its limits, and what its folders lie on.

In: /proc, the cgroup file system, getrlimit. Out: plain values of the core.
Looks only (a lock is tried on a file without a name), and never fails: what cannot be read is 0,
None or empty, and nothing is concluded from it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import resource
from collections.abc import Iterator, Sequence
from pathlib import Path

from reconciler.core.facts import Folder, Limits
from reconciler.core.resources import ObservedMemory
from reconciler.drivers import effects
from reconciler.drivers.programs import ask

_FIELD = re.compile(r"^(\w+):\s+(\d+) kB$", re.MULTILINE)
GIT_S = 5.0


class LinuxMachine:
    """The real `Machine` of `drivers.base`."""

    def __init__(
        self,
        proc: Path = Path("/proc"),
        cgroups: Path = Path("/sys/fs/cgroup"),
    ) -> None:
        self._proc = proc
        self._cgroups = cgroups

    # ---- memory

    def memory(self) -> ObservedMemory:
        """Memory and swap in all, and the least limit of the cgroups that we are in."""
        found = {name: int(kib) * 1024 for name, kib in _FIELD.findall(self._read("meminfo"))}
        return ObservedMemory(
            ram_bytes=found.get("MemTotal", 0),
            available_bytes=found.get("MemAvailable", 0),
            swap_bytes=found.get("SwapTotal", 0),
            limit_bytes=min(self._cgroup_limits(), default=None),
        )

    def _read(self, name: str) -> str:
        return _text(self._proc / name)

    def _cgroup_limits(self) -> Iterator[int]:
        """Of our own cgroup and all above it; servers that we start are born into the same."""
        for line in self._read("self/cgroup").splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers and "memory" not in controllers.split(","):
                continue
            top = self._cgroups / "memory" if controllers else self._cgroups
            name = "memory.limit_in_bytes" if controllers else "memory.max"
            folder = top / path.strip("/")
            for one in (folder, *folder.parents):
                text = _text(one / name).strip()
                if text.isdigit():
                    yield int(text)
                if one == top:
                    break

    # ---- kernel and limits

    def kernel(self) -> str:
        """Its release, `6.1.0`."""
        return os.uname().release

    def has_pidfd(self) -> bool:
        """Whether a process can be held by a descriptor (Linux 5.3; a sandbox may forbid it)."""
        try:
            os.close(os.pidfd_open(os.getpid()))
        except OSError:
            return False
        return True

    def limits(self) -> Limits:
        """What a process that we start may have."""
        kinds = (resource.RLIMIT_NOFILE, resource.RLIMIT_MEMLOCK, resource.RLIMIT_NPROC)
        soft = (resource.getrlimit(kind)[0] for kind in kinds)
        return Limits(*(None if one == resource.RLIM_INFINITY else one for one in soft))

    # ---- folders

    def folder(self, path: str, *, locks: bool = False, written: Sequence[str] = ()) -> Folder:
        """What a folder lies on; with `locks` also whether files can be made and locked there.

        `written`: folders in it where files have to be made, too.
        """
        there = _nearest(Path(path))
        free = None
        with contextlib.suppress(OSError):
            seen = os.statvfs(there)
            free = seen.f_bavail * seen.f_frsize
        problem = _lock_problem(there) if locks else ""
        problems = (_write_problem(_nearest(Path(path, one))) for one in written)
        problem = next(filter(None, problems), problem)
        return Folder(path, self._file_system(there), problem, free)

    def _file_system(self, path: Path) -> str:
        """The type of the mount that `path` lies on (proc(5): mountinfo, fields 5 and 9)."""
        real, best, found = os.path.realpath(path), "", ""
        for line in self._read("self/mountinfo").splitlines():
            before, _, after = line.partition(" - ")
            point = re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), before.split()[4])
            inside = real == point or real.startswith(point.rstrip("/") + "/")
            # Of two mounts on one point the later one counts.
            if inside and len(point) >= len(best):
                best, found = point, after.split()[0]
        return found

    def shows_in_git(self, path: str) -> bool:
        """Whether a folder lies in a checkout of git that does not ignore it."""
        words = ["git", "-C", str(_nearest(Path(path))), "check-ignore", "-q", path]
        try:
            # 0: it is ignored; 128: it lies in no checkout.
            return ask(words, timeout=GIT_S).code == 1
        except OSError:
            return False

    # ---- what engines read by themselves


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _nearest(path: Path) -> Path:
    """The folder itself, or the nearest one above it that is there."""
    return next(one for one in (path, *path.parents) if one.is_dir())


def _write_problem(folder: Path) -> str:
    try:
        with effects.scratch_file(folder):
            return ""
    except OSError as error:
        return f"no file can be made in {folder}: {error.strerror}"


def _lock_problem(folder: Path) -> str:
    """Why locks there cannot be relied on: no file can be made, or two may hold one lock."""
    try:
        with effects.scratch_file(folder) as first:
            fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
            second = os.open(f"/proc/self/fd/{first}", os.O_RDWR)
            try:
                fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return ""
            finally:
                os.close(second)
    except OSError as error:
        return f"no file can be made and locked in {folder}: {error.strerror}"
    return f"locks do not work in {folder}: two holders got the same one"
