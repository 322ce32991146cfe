"""Reading /proc: who lives, since when, what it holds. Looks only, changes nothing.

In: pids and paths. Out: plain values; a process that vanishes meanwhile is simply not there. That
we cannot look (no descriptors left) is an OSError: it must not pass for a death.
A process's identity is (pid, start ticks); its start ticks never move, whatever the clock does.
"""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from reconciler.core.observed import ProcessRef
from reconciler.drivers.base import Cancel

_HIDDEN = (FileNotFoundError, ProcessLookupError, PermissionError)
_DELETED = " (deleted)"
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Stat:
    """What /proc/PID/stat says (proc(5)): fields 3, 4, 14 + 15, 20, 22."""

    state: str
    parent: int
    cpu_ticks: int
    threads: int
    start_ticks: int


def read_stat(pid: int) -> Stat | None:
    """The process's state; None when it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (*_HIDDEN, ValueError):
        return None
    # The command name may hold spaces and parentheses: fields start after the last one.
    fields = text[text.rfind(")") + 2 :].split()
    cpu = int(fields[11]) + int(fields[12])
    return Stat(fields[0], int(fields[1]), cpu, int(fields[17]), int(fields[19]))


def ref_of(pid: int) -> ProcessRef | None:
    """The identity of a live process; None when it is gone or only waits to be reaped.

    One whose first thread has ended is gone when the last one has: until then its locks, its ports
    and its memory, a card's too, are not free.
    """
    stat = read_stat(pid)
    if stat is None or (stat.state in "ZX" and stat.threads <= 1):
        return None
    return ProcessRef(pid, stat.start_ticks)


def lives(process: ProcessRef) -> bool:
    """Whether this very process lives. A zombie does not."""
    return ref_of(process.pid) == process


def age_s(process: ProcessRef) -> float:
    """Seconds since its start, whatever the wall clock does: both are counted from boot."""
    return uptime() - process.start_ticks / _TICKS_PER_SECOND


def started_at(process: ProcessRef, now: float) -> float:
    """Start of a process in seconds since the epoch, for people."""
    return now - age_s(process)


def uptime() -> float:
    """Seconds since the last boot, times of sleep too. /proc/uptime says it in steps of 10 ms."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def cpu_seconds(process: ProcessRef) -> float:
    """CPU time that a process has used so far, in user mode and in the kernel; 0 when gone."""
    stat = read_stat(process.pid)
    same = stat is not None and stat.start_ticks == process.start_ticks
    return stat.cpu_ticks / _TICKS_PER_SECOND if stat and same else 0.0


def boot_id() -> str:
    """The kernel's identity of this boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def own_pids() -> Iterator[int]:
    """All pids whose process belongs to this user."""
    uid = os.geteuid()
    with os.scandir("/proc") as entries:
        for entry in entries:
            if not entry.name.isdigit():
                continue
            try:
                if entry.stat().st_uid == uid:
                    yield int(entry.name)
            except OSError:
                continue


def all_pids() -> Iterator[int]:
    """All pids there are; what other users' processes have open cannot be seen."""
    with os.scandir("/proc") as entries:
        yield from (int(entry.name) for entry in entries if entry.name.isdigit())


def environments(name: str) -> Iterator[tuple[int, dict[str, str]]]:
    """The pids and environments of all processes of this user that have this variable."""
    sought = f"{name}=".encode()
    for pid in own_pids():
        raw = _raw_environment(pid)
        # Most have not, and parsing is more work than reading.
        if sought in raw and name in (found := _parsed(raw)):
            yield pid, found


def environment(pid: int) -> dict[str, str]:
    """The environment that a process was started with; empty when it cannot be read."""
    return _parsed(_raw_environment(pid))


def _raw_environment(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except _HIDDEN:
        return b""


def _parsed(raw: bytes) -> dict[str, str]:
    pairs = (part.decode(errors="replace").partition("=") for part in raw.split(b"\0") if part)
    return {name: value for name, _, value in pairs}


def command_line(pid: int) -> tuple[str, ...]:
    """A process's arguments; empty when they cannot be read."""
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
    except _HIDDEN:
        return ()
    return tuple(part.decode(errors="replace") for part in raw.rstrip(b"\0").split(b"\0"))


def working_folder(pid: int) -> str:
    """Where a process stands; empty when that cannot be seen."""
    try:
        return str(Path(f"/proc/{pid}/cwd").readlink())
    except OSError:
        return ""


def resident_bytes(pid: int) -> int:
    """Resident memory, 0 when it cannot be read (proc(5): statm, second field, in pages)."""
    try:
        pages = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]
    except (*_HIDDEN, IndexError):
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def group_of(pid: int) -> Iterator[int]:
    """The processes of this user in the same process group, itself among them."""
    for one in own_pids():
        with contextlib.suppress(ProcessLookupError):
            if os.getpgid(one) == os.getpgid(pid):
                yield one


def loaded_bytes(pid: int) -> int:
    """A number that grows while a process reads, whatever way it does.

    What it has read (proc(5): io, rchar), had read from disk (read_bytes), and was resident of it
    at most (status, VmHWM). Each alone misses one way of loading; none of them ever shrinks.
    """
    try:
        io = Path(f"/proc/{pid}/io").read_text(encoding="ascii")
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace")
    except _HIDDEN:
        return 0
    fields = dict(line.split(":", 1) for line in (io + status).splitlines() if ":" in line)
    peak = fields.get("VmHWM", "0").split()[0]
    return int(fields["rchar"]) + int(fields["read_bytes"]) + int(peak) * 1024


def ancestors() -> Iterator[int]:
    """The processes that have started us: our parent, its parent, and so on."""
    stat = read_stat(os.getpid())
    while stat and stat.parent:
        yield stat.parent
        stat = read_stat(stat.parent)


def open_files(pid: int) -> Iterator[str]:
    """What a process's descriptors point at; a deleted file keeps its name."""
    try:
        descriptors = os.listdir(f"/proc/{pid}/fd")  # noqa: PTH208 - names only, a scan is hot
    except _HIDDEN:
        return
    for descriptor in descriptors:
        link = f"/proc/{pid}/fd/{descriptor}"
        try:
            yield os.readlink(link).removesuffix(_DELETED)  # noqa: PTH115 - as above
        except OSError:
            continue


def mapped_files(pid: int) -> Iterator[str]:
    """The files that a process has mapped; a deleted file keeps its name."""
    try:
        lines = Path(f"/proc/{pid}/maps").read_text(errors="replace").splitlines()
    except _HIDDEN:
        return
    # proc(5): the path is the sixth field, and the only one with spaces in it.
    paths = (line.split(maxsplit=5)[5] for line in lines if "/" in line)
    yield from dict.fromkeys(path.removesuffix(_DELETED) for path in paths)


def holders_of(path: str, among: Iterable[int] | None = None) -> tuple[ProcessRef, ...]:
    """All live processes of this user (or `among` these), but ourselves, that have `path` open.

    This is how the holder of an inherited flock is found; /proc/locks names the one that took it.
    """
    here = os.getpid()
    found = []
    for pid in own_pids() if among is None else among:
        if pid != here and path in open_files(pid):
            ref = ref_of(pid)
            if ref is not None:
                found.append(ref)
    return tuple(sorted(found))


def wait_gone(process: ProcessRef, timeout: float, cancel: Cancel) -> bool:
    """Wait for the end of a process, child or not; True when it is gone."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return True
    # Not select(): that takes no descriptor above 1023.
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    try:
        waited = 0.0
        while lives(process):
            if waited >= timeout or cancel.is_set():
                return False
            # A short slice, so that a cancelled run does not wait for a slow server.
            step = min(0.1, timeout - waited)
            waited += step
            if poller.poll(step * 1000):
                return True
    finally:
        os.close(descriptor)
    return True
