"""What the bytes of files were found to be: each is hashed once, not at every start.

In: a file's identity and the hash that its bytes had. Out: the same, as long as it is that file.
It is a memory, no truth: where it is lost or cannot be read, files are hashed again before a
server starts on them. What was found wrong is kept also when its file has gone: a server may
still have it loaded.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from reconciler.core.observed import ObservedFile, is_other
from reconciler.drivers import effects, locks
from reconciler.drivers.hub_cache import identity_of


@dataclass(frozen=True, slots=True)
class _Entry:
    digest: str
    path: str
    is_right: bool


class Verified:
    """The memory of one root. Without a folder it lasts as long as this program runs."""

    def __init__(self, folder: Path | None = None) -> None:
        self._path = folder / "verified.json" if folder else None
        self._known: dict[str, _Entry] = {}
        self._read_at: tuple[int, int] | None = None

    def hashes(self) -> Mapping[str, str]:
        """Identity -> the hash that its bytes had."""
        return {identity: entry.digest for identity, entry in self._entries().items()}

    def hash_of(self, identity: str) -> str:
        """The hash that the bytes of this file had; empty where that is not known."""
        entry = self._entries().get(identity)
        return entry.digest if entry else ""

    def remember(self, path: Path, identity: str, digest: str, *, is_right: bool) -> None:
        """Note what the bytes of a file are, and forget right ones that have gone.

        Raises:
            OSError: it cannot be noted.
        """
        entry = _Entry(digest, os.path.realpath(path), is_right)
        if self._path is None:
            self._known[identity] = entry
            return
        effects.make_folder(self._path.parent)
        # A download holds no run lock.
        with locks.only_writer(self._path.parent):
            known = {
                one: known for one, known in self._entries().items() if not _is_gone(one, known)
            }
            if known.get(identity) == entry:
                return
            known[identity] = entry
            files = {one: asdict(known) for one, known in sorted(known.items())}
            effects.write_atomic(self._path, json.dumps({"files": files}, indent=1) + "\n")

    def arrived(self, path: Path, digest: str) -> None:
        """Note what a download hashed on its way; without a digest nobody did.

        What cannot be noted is hashed again; it came all the same.
        """
        if digest:
            with contextlib.suppress(OSError):
                self.remember(path, identity_of(path), digest, is_right=True)

    def make_room(self, path: Path, digest: str) -> None:
        """Remove what is known to have wrong bytes; who has those mapped keeps them.

        Raises:
            OSError: it cannot be removed.
        """
        if path.is_file() and is_other(self.hash_of(identity_of(path)), digest):
            effects.unlink(path)

    def _entries(self) -> dict[str, _Entry]:
        if self._path is None:
            return self._known
        try:
            seen = self._path.stat()
            stamp = (seen.st_ino, seen.st_mtime_ns)
            if stamp != self._read_at:
                self._known = _parsed(self._path.read_text(encoding="utf-8"))
                self._read_at = stamp
        except OSError:
            self._known, self._read_at = {}, None
        return self._known


def judged(file: ObservedFile, verified: Verified) -> ObservedFile:
    """The same file, with what its bytes are where that is known to be wrong."""
    found = verified.hash_of(file.identity)
    return replace(file, wrong=found) if is_other(found, file.digest) else file


def _parsed(text: str) -> dict[str, _Entry]:
    """What it says; nothing where it says nothing that can be understood."""
    try:
        files = json.loads(text)["files"]
        return {
            str(identity): _Entry(
                str(one["digest"]), str(one["path"]), is_right=one["is_right"] is True
            )
            for identity, one in files.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def _is_gone(identity: str, entry: _Entry) -> bool:
    if not entry.is_right:
        return False
    try:
        return identity_of(Path(entry.path)) != identity
    except OSError:
        return True
