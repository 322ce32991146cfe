"""Noticing that files were saved, in a thread of its own: by the kernel's events, and by the clock.

In: which folders matter, and whom to wake. Out: a call each time something in them may have
changed. A folder that goes and comes again, or that has no events (some mounts), is noticed by the
clock. It reads nothing: whether anything differs is for the one who wakes to see.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import watchfiles

QUIET_MS, BURST_MS = 200, 5000
"""A save is told once nothing came for so long; a burst of saves is told after so long."""
STEP_MS = QUIET_MS // 2
BACKSTOP_MS = 10_000


class FileEvents:
    """A thread that tells of changes in folders, until it is stopped."""

    def __init__(self, folders: Callable[[], Iterable[Path]], told: Callable[[], None]) -> None:
        self._folders, self._told = folders, told
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="files", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, without waiting for it."""
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.is_set():
            # No inotify instance is left, a folder vanished just now, a link leads to itself.
            with contextlib.suppress(OSError, RuntimeError):
                if known := _identities(self._folders()):
                    self._follow(known)
                    continue
            self._stop.wait(1.0)
            self._told()

    def _follow(self, known: dict[Path, tuple[int, int]]) -> None:
        listening = _Listening(self._stop, self._told)
        changes = watchfiles.watch(
            *known,
            watch_filter=None,
            debounce=QUIET_MS,
            step=STEP_MS,
            stop_event=listening,
            # It is found to be over at the end of a step: of the second one.
            rust_timeout=QUIET_MS - STEP_MS // 2,
            yield_on_timeout=True,
            raise_interrupt=False,
            recursive=False,
        )
        burst = _Burst()
        for some in changes:
            if burst.is_over(anything=bool(some)):
                self._told()
                if _identities(self._folders()) != known:
                    return


class _Burst:
    """When to tell. For `watchfiles` a file that is saved again and again has changed once."""

    def __init__(self) -> None:
        self._told_at = time.monotonic()
        self._began_at: float | None = None

    def is_over(self, *, anything: bool) -> bool:
        """Whether to tell now, when something came or nothing did for `QUIET_MS`."""
        now = time.monotonic()
        if anything and self._began_at is None:
            self._began_at = now
        if self._began_at is None:
            is_over = now - self._told_at >= BACKSTOP_MS / 1000
        else:
            is_over = not anything or now - self._began_at >= BURST_MS / 1000
        if is_over:
            self._told_at, self._began_at = now, None
        return is_over


class _Listening:
    """The `stop_event` of one listening, for which `watchfiles` asks again and again.

    The first time it listens already: what was saved just before had no event, and is told of then.
    """

    def __init__(self, stop: threading.Event, told: Callable[[], None]) -> None:
        self._stop, self._told = stop, told
        self._has_begun = False

    def is_set(self) -> bool:
        """Whether it is to end."""
        if not self._has_begun:
            self._has_begun = True
            self._told()
        return self._stop.is_set()


def _identities(folders: Iterable[Path]) -> dict[Path, tuple[int, int]]:
    """The folders that are there, and which ones they are: one made anew has no events yet."""
    found = {}
    for folder in folders:
        try:
            status = folder.stat()
        except OSError:
            continue
        found[folder] = (status.st_dev, status.st_ino)
    return found
