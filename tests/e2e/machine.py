"""Looking at the machine without the product's own eyes: processes, locks, files, ports.

In: a root, paths. Out: plain values read from /proc and the file system.
It must not use `reconciler`: it is the witness.
"""

from __future__ import annotations

import itertools
import os
import select
import signal
import socket
import threading
from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from waiting import PATIENCE_S

LOOKS_UNTIL_FOREIGN = 500
"""More than 5 s: by then a process has long executed what it was started for."""

_PORTS = itertools.count(os.getpid() * 61)
_MOST_PROMISED = 50
_promised: deque[socket.socket] = deque()


def free_port() -> int:
    """A port that nobody has; outside the range that the kernel gives to clients.

    Nor will another process of these tests be given it before it is listened on: a name that goes
    with us stands for the latest of them.
    """
    for number in _PORTS:
        port = 12000 + number % 18000
        promise = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            promise.bind(f"\0llm-reconcile-test-port-{port}")
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", port))
        except OSError:
            promise.close()
            continue
        _promised.append(promise)
        if len(_promised) > _MOST_PROMISED:
            _promised.popleft().close()
        return port
    raise AssertionError("no port is free")


def listens(port: int) -> bool:
    """Whether somebody accepts connections there."""
    try:
        socket.create_connection(("127.0.0.1", port), 1.0).close()
    except OSError:
        return False
    return True


def environment(pid: int) -> dict[str, str]:
    try:
        raw = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return {}
    pairs = (part.decode(errors="replace").partition("=") for part in raw.split(b"\0") if part)
    return {name: value for name, _, value in pairs}


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    except OSError:
        return ""


def arguments(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_bytes().decode().rstrip("\0").split("\0")


def catches(pid: int, number: signal.Signals) -> bool:
    """Whether it has a handler of its own for this signal (proc(5): SigCgt)."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("SigCgt:"):
            return bool(int(line.split()[1], 16) >> (number - 1) & 1)
    return False


def stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the third on (state, parent, ...); empty when gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return []
    return text[text.rfind(")") + 2 :].split()


def lives(pid: int) -> bool:
    """Whether it runs; a zombie does not."""
    fields = stat(pid)
    return bool(fields) and fields[0] not in "ZX"


def parent(pid: int) -> int:
    """0 when it is gone."""
    return int((stat(pid) or ["", "0"])[1])


def listens_on(pid: int) -> str:
    """A server's `--host`: the path of its socket, or an address."""
    words = command_line(pid).split()
    return words[words.index("--host") + 1]


def zombies(parent: int) -> list[int]:
    return [pid for pid in pids() if stat(pid)[:2] == ["Z", str(parent)]]


def pids() -> list[int]:
    with os.scandir("/proc") as entries:
        return [int(entry.name) for entry in entries if entry.name.isdigit()]


def labelled(root: Path) -> dict[str, list[int]]:
    """Instance -> the live engine processes that carry its label."""
    found: dict[int, str] = {}
    for pid in pids():
        env = environment(pid)
        if env.get("LLM_RECONCILE_ROOT") == str(root) and lives(pid):
            found[pid] = env.get("LLM_RECONCILE_INSTANCE", "?")
    return servers(found)


def servers(labels: Mapping[int, str]) -> dict[str, list[int]]:
    """Instance -> its engines; the helper process of an engine bears its label too."""
    found: dict[str, list[int]] = {}
    for pid, instance in sorted(labels.items()):
        if parent(pid) not in labels:
            found.setdefault(instance, []).append(pid)
    return found


def mentioning(text: str) -> list[int]:
    """The live processes whose command line has this text in it."""
    return [pid for pid in pids() if text in command_line(pid) and lives(pid)]


def holders(path: Path) -> list[int]:
    """The live processes that have a file open."""
    try:
        wanted = path.stat()
    except FileNotFoundError:
        return []
    return [pid for pid in sorted(pids()) if _holds(pid, wanted) and lives(pid)]


def _holds(pid: int, wanted: os.stat_result) -> bool:
    try:
        with os.scandir(f"/proc/{pid}/fd") as entries:
            return any(_is(entry, wanted) for entry in entries)
    except OSError:
        return False


def _is(entry: os.DirEntry[str], wanted: os.stat_result) -> bool:
    try:
        return os.path.samestat(entry.stat(), wanted)
    except OSError:
        return False


def written(path: Path) -> tuple[int, int]:
    """Which file it is, and when that was written. Its atime is moved by whoever reads it."""
    status = path.stat()
    return status.st_ino, status.st_mtime_ns


def open_files(pid: int) -> set[str]:
    """The paths that a process has open."""
    found = set()
    with os.scandir(f"/proc/{pid}/fd") as entries:
        for entry in entries:
            try:
                found.add(str(Path(entry.path).readlink()))
            except OSError:
                continue
    return found


def kill(processes: Iterable[int], number: signal.Signals = signal.SIGKILL) -> None:
    for pid in processes:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def end(processes: Iterable[int]) -> None:
    """Kill them, and wait until nothing is left of them.

    A dying process loses its environment before its sockets: a moment long it passes for dead, and
    takes a connection all the same, which then breaks off. On a busy machine it passes for alive
    for a tenth of a second, and more.
    """
    with ExitStack() as stack:
        descriptors = []
        for pid in processes:
            with suppress(ProcessLookupError):
                descriptors.append(os.pidfd_open(pid))
                stack.callback(os.close, descriptors[-1])
        for one in descriptors:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(one, signal.SIGKILL)
        for one in descriptors:
            assert select.select([one], [], [], PATIENCE_S)[0], "one of them does not end"


Snapshot = dict[str, tuple[int, ...]]


def snapshot(*folders: Path, without: Iterable[str] = ("logs",)) -> Snapshot:
    """All that is below some folders, with inode, mode, size, mtime and ctime."""
    found: Snapshot = {}
    left_out = set(without)
    for top in folders:
        for where, names, files in os.walk(top):
            names[:] = [name for name in names if name not in left_out]
            for path in [Path(where), *(Path(where, each) for each in files + names)]:
                seen = path.lstat()
                found[str(path)] = (
                    seen.st_ino,
                    seen.st_mode,
                    seen.st_size if path.is_file() else 0,
                    seen.st_mtime_ns,
                    seen.st_ctime_ns,
                )
    return found


class Twins:
    """Looks for two live servers of one instance, all the time, in a thread of its own."""

    def __init__(self, root: Path, most: Mapping[str, int] | None = None) -> None:
        self._root = str(root)
        self._most = most or {}
        self._foreign: dict[int, int] = {}
        self._ours: dict[int, str] = {}
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.seen: list[str] = []
        self.looks = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end.set()
        self._thread.join()
        if error is None:
            self.none_yet()
            assert self.looks > 10

    def none_yet(self) -> None:
        """Fail if two were seen."""
        assert not self.seen

    def _watch(self) -> None:
        while not self._end.wait(0.01):
            self.looks += 1
            for instance, found in servers(self._labels()).items():
                # A scan takes a moment: only who lives after it counts as living at once.
                still = [pid for pid in found if lives(pid)]
                if len(still) > self._most.get(instance, 1):
                    self.seen.append(f"{instance}: {still}")

    def _labels(self) -> dict[int, str]:
        """Pid -> instance. Whom it knows is not asked again, neither a server nor a stranger."""
        ours: dict[int, str] = {}
        foreign: dict[int, int] = {}
        for pid in pids():
            looks = self._foreign.get(pid, 0)
            label = self._ours.get(pid)
            if label is None and looks < LOOKS_UNTIL_FOREIGN:
                env = environment(pid)
                if env.get("LLM_RECONCILE_ROOT") == self._root:
                    label = env.get("LLM_RECONCILE_INSTANCE", "?")
            if label is None:
                foreign[pid] = looks + 1
            else:
                ours[pid] = label
        self._foreign, self._ours = foreign, ours
        return {pid: label for pid, label in ours.items() if lives(pid)}
