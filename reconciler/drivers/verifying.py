"""Reading files to find out what their bytes are.

In: files with the hashes that they must have. Out: what was found is remembered; wrong bytes are
an error that names both hashes. This, and a download on its way, are the only places where whole
files are read: no plan and no look does.
"""

from __future__ import annotations

import io
import os
import time
from dataclasses import replace
from pathlib import Path

from reconciler.core.observed import ObservedFile
from reconciler.core.plan import VerifyFiles
from reconciler.core.transfers import FileProgress
from reconciler.drivers.base import Cancel, Told
from reconciler.drivers.fetch.order import SHA256_DIGITS, HashKind, new_hash
from reconciler.drivers.hub_cache import identity_in
from reconciler.drivers.verified import Verified
from reconciler.errors import InterruptedRunError, StepError

BLOCK = 4 << 20
REPORT_EVERY_S = 0.25


def verify(effect: VerifyFiles, memory: Verified, progress: Told, cancel: Cancel) -> None:
    """Hash these files and remember the result.

    Raises:
        StepError: bytes are wrong, or changed meanwhile.
        InterruptedRunError: the run is to end; of the file that was being read nothing is kept.
        OSError: one cannot be read.
    """
    reading = _Reading(effect.files, memory, progress, cancel)
    found = [reading.check(Path(effect.folder, file.name), file) for file in effect.files]
    if wrong := [said for said in found if said]:
        raise StepError(
            "; ".join(wrong),
            hint="`apply` fetches anew what it can; a file of `source.path` is yours to replace",
            retryable=False,
        )


def verify_unknown(effect: VerifyFiles, memory: Verified, progress: Told, cancel: Cancel) -> None:
    """Hash those of these files of which nobody knows that they are right. Raises as `verify`."""
    files = tuple(one for one in effect.files if memory.hash_of(one.identity) != one.digest)
    verify(replace(effect, files=files), memory, progress, cancel)


class _Reading:
    """Files that are read one after the other, and how far that is."""

    def __init__(
        self, files: tuple[ObservedFile, ...], memory: Verified, progress: Told, cancel: Cancel
    ) -> None:
        self._files = files
        self._memory = memory
        self._progress = progress
        self._cancel = cancel
        self._done = dict.fromkeys((file.name for file in files), 0)
        self._told = time.monotonic()

    def check(self, path: Path, file: ObservedFile) -> str:
        """Hash a file and remember it; what is wrong with it, empty when nothing is."""
        self._tell()
        with path.open("rb", buffering=0) as opened:
            before = os.fstat(opened.fileno())
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
            found = self._hash(opened, file, before.st_size)
            identity = identity_in(os.fstat(opened.fileno()))
        if identity != identity_in(before):
            raise StepError(f"{path} changed while it was verified", hint="do it again")
        self._memory.remember(path, identity, found, is_right=found == file.digest)
        self._tell()
        return "" if found == file.digest else wrong_bytes(path, found, file.digest)

    def _hash(self, opened: io.FileIO, file: ObservedFile, size: int) -> str:
        hashed = new_hash(_kind(file.digest), size)
        buffer = memoryview(bytearray(BLOCK))
        while length := opened.readinto(buffer):
            if self._cancel.is_set():
                raise InterruptedRunError(f"interrupted while {file.name} was verified")
            hashed.update(buffer[:length])
            self._done[file.name] += length
            if time.monotonic() - self._told >= REPORT_EVERY_S:
                self._tell()
        return hashed.hexdigest()

    def _tell(self) -> None:
        self._told = time.monotonic()
        done = self._done
        self._progress(
            tuple(
                FileProgress(one.name, done[one.name], one.size, done[one.name])
                for one in self._files
            )
        )


def wrong_bytes(path: Path, found: str, digest: str) -> str:
    """That a file is not what it must be, in words."""
    return f"{path} has wrong bytes: its {_kind(digest)} is {found}, not {digest}"


def _kind(digest: str) -> HashKind:
    return HashKind.SHA256 if len(digest) == SHA256_DIGITS else HashKind.GIT
