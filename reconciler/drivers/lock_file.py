"""The lock file on disk: read whole, replaced whole.

In: pins. Out: pins, or `InvalidDesiredError`. A write reads what is there now and changes no more
than it is told to. Its text is `core.lockfile`'s, and what is wrong in one `core.lock_reader`'s.
"""

from __future__ import annotations

import glob
from collections.abc import Mapping
from pathlib import Path

from reconciler.core.lock_reader import read_lock
from reconciler.core.lockfile import Lock, Pin, render_lock
from reconciler.core.words import ModelName
from reconciler.drivers import effects, locks
from reconciler.errors import Diagnostic, InvalidDesiredError, Severity


class KeptLockFile:
    """A lock file that lies in no folder: one that was kept, or that a commit has."""

    def __init__(self, text: str | None, name: str) -> None:
        self._text, self._name = text, name

    def read(self) -> Lock:
        """Its pins; none where there was no such file."""
        if self._text is None:
            return {}
        return read_lock(self._name, self._text.encode(errors="surrogateescape"))

    def text(self) -> str | None:
        """All that it says, as it is written; None where there was no such file."""
        return self._text

    def write(self, pins: Mapping[ModelName, Pin | None]) -> None:
        """Put these pins in, or take them out; no file changes."""
        self._text = render_lock(_changed(self.read(), pins))


class LockFileOnDisk:
    """The real `LockFile` of `drivers.base`; `name` is what messages call it."""

    def __init__(self, path: Path, name: str) -> None:
        self._path = path
        self._name = name

    def read(self) -> Lock:
        """Its pins; none where there is no such file."""
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            return {}
        except OSError as error:
            summary = f"{self._name}: it cannot be read: {error.strerror}"
            raise InvalidDesiredError((Diagnostic(Severity.ERROR, summary),)) from error
        return read_lock(self._name, content)

    def text(self) -> str | None:
        """All that it says, as it is written; None where there is no such file."""
        try:
            return self._path.read_text(encoding="utf-8", errors="surrogateescape")
        except FileNotFoundError:
            return None

    def write(self, pins: Mapping[ModelName, Pin | None]) -> None:
        """Put these pins in, or take them out; the others stay as they are."""
        # A name that is a link leads to where the file is meant to lie.
        target = self._path.resolve()
        # Steps do it at once, and a download holds no run lock.
        with locks.only_writer(target.parent):
            effects.sweep(target.parent, f".{glob.escape(target.name)}.*.tmp")
            text = render_lock(_changed(self.read(), pins))
            effects.write_atomic(target, text, mode=0o644)


def _changed(lock: Lock, pins: Mapping[ModelName, Pin | None]) -> Lock:
    return {name: pin for name, pin in {**lock, **pins}.items() if pin is not None}
