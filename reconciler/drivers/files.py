"""Model files: on disk by path, from the hub, or from a URL.

In: a model of the desired state. Out: `ObservedFiles`. A foreign or truncated file is told by its
GGUF header; the weights themselves are not read here.
"""

from __future__ import annotations

import mmap
import os
import re
import threading
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from reconciler.core.desired import Model, Source
from reconciler.core.gguf import GgufError, least_size
from reconciler.core.lockfile import Pin
from reconciler.core.observed import FileStatus, ObservedFile, ObservedFiles
from reconciler.core.plan import FetchFiles, VerifyFiles
from reconciler.core.present import human_bytes
from reconciler.core.resources import ObservedDisk
from reconciler.drivers.base import Cancel, Told
from reconciler.drivers.fetch.partial import came
from reconciler.drivers.hub import Hub
from reconciler.drivers.hub_cache import identity_of, observed_file
from reconciler.drivers.urls import UrlFiles
from reconciler.drivers.verified import judged
from reconciler.drivers.verifying import verify, wrong_bytes

_SHARD = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")


class ModelFiles:
    """The real `Files` of `drivers.base`."""

    def __init__(self, root: str, store: str, hub: Hub) -> None:
        self._root = root
        self._store = store
        self._hub = hub
        self._urls = UrlFiles(store, hub.allowance, hub.verified, offline=hub.is_offline)
        self._sound: set[tuple[Path, str]] = set()
        self._reading = threading.Lock()

    def inspect(self, model: Model, pin: Pin | None = None, *, deep: bool) -> ObservedFiles:
        """How the files of a model stand; `deep` also reads their headers."""
        source = model.source
        if source.path is not None:
            found = self._by_path(source.path, source.sha256 or "")
        elif source.url is not None:
            found = self._with_partials(self._urls.inspect(source), source)
        else:
            found = self._with_partials(self._hub.inspect(model, pin), source)
        if not deep or found.status is not FileStatus.PRESENT:
            return found
        checked = self._checked(found)
        if checked.status is FileStatus.BAD and source.url is not None:
            # Of a file from a URL no size is pinned: that it was cut off shows here alone.
            doubted = self._urls.doubted(source, checked)
            return self._with_partials(doubted, source) if doubted else checked
        return checked

    def _checked(self, found: ObservedFiles) -> ObservedFiles:
        """A good header is read once, however many models share the file."""
        for file in found.files:
            path = Path(found.folder, file.name)
            with self._reading:
                if (path, file.identity) in self._sound:
                    continue
                if reason := _defect(path, file.size):
                    return replace(found, status=FileStatus.BAD, reason=reason)
                self._sound.add((path, file.identity))
        return found

    def _with_partials(self, found: ObservedFiles, source: Source) -> ObservedFiles:
        """What earlier downloads left of the files that are missing."""
        if found.status is not FileStatus.MISSING:
            return found
        files, held = [], 0
        for file in found.files:
            bytes_here, room = (0, 0)
            # Where wrong bytes lie, none have come of the right ones.
            if not (file.is_here or file.wrong) and file.digest:
                bytes_here, room = came(self._fetched(source, file), file.size)
            files.append(replace(file, came=bytes_here))
            held += max(room - bytes_here, 0)
        return replace(found, files=tuple(files), held_bytes=held)

    def _fetched(self, source: Source, file: ObservedFile) -> Path:
        """Where what is fetched comes to lie, or lies already."""
        if source.url is not None:
            return self._urls.fetched(file.digest)
        repo = source.repo or ""
        return self._hub.lying(repo, file) or self._hub.fetched(repo, file.digest)

    def _by_path(self, declared: str, sha256: str) -> ObservedFiles:
        first = Path(self._root, declared)
        match = _SHARD.search(first.name)
        if match and int(match[1]) != 1:
            return ObservedFiles(
                FileStatus.BAD,
                path=str(first),
                spec_id=str(first),
                reason=f"{first} is not the first shard: name {_shards(first)[0].name}",
            )
        files: list[ObservedFile] = []
        for path in _shards(first):
            try:
                files.append(observed_file(path, str(path)))
            except OSError as error:
                return ObservedFiles(
                    FileStatus.BAD,
                    path=str(first),
                    spec_id=str(first),
                    reason=f"{path} cannot be read: {error.strerror}",
                )
            if not path.is_file():
                return ObservedFiles(
                    FileStatus.BAD, str(first), str(first), reason=f"{path} is not a file"
                )
        files[0] = judged(replace(files[0], digest=sha256), self._hub.verified)
        found = ObservedFiles(FileStatus.PRESENT, str(first), str(first), tuple(files))
        if wrong := files[0].wrong:
            return replace(found, status=FileStatus.BAD, reason=wrong_bytes(first, wrong, sha256))
        return found

    def fetch(self, fetch: FetchFiles, progress: Told, cancel: Cancel) -> None:
        """Download a model's missing files."""
        driver = self._urls if fetch.source.url else self._hub
        driver.fetch(fetch, progress, cancel)

    def latest(self, model: Model, pin: Pin | None) -> ObservedFiles:
        """The same by what the model's revision is on the hub now."""
        if model.source.repo is None:
            return self.inspect(model, deep=False)
        return self._with_partials(self._hub.latest(model, pin), model.source)

    def verify(self, effect: VerifyFiles, progress: Told, cancel: Cancel) -> None:
        """Read files whole, and remember which bytes they have."""
        verify(effect, self._hub.verified, progress, cancel)

    def identity(self, paths: Iterable[str]) -> str:
        """One text for files that are here now; empty where one is not."""
        try:
            return ",".join(identity_of(Path(path)) for path in paths)
        except OSError:
            return ""

    def hashes(self) -> Mapping[str, str]:
        """Identity of a file -> the hash that its bytes were once found to have."""
        return self._hub.verified.hashes()

    def learn(self, pin: Pin, cancel: Cancel) -> Pin:
        """The same pin with what the headers of its files say of the model."""
        return self._hub.learn(pin, cancel)

    def disk(self, model: Model) -> ObservedDisk:
        """The file system of the model's folder in the store (or where it will be made)."""
        source = model.source
        folder = self._urls.folder if source.url else self._hub.folder(source.repo or "")
        there = folder
        while not there.exists():
            there = there.parent
        seen = os.statvfs(there)
        return ObservedDisk(
            there.stat().st_dev,
            str(folder.resolve().parent if folder.is_symlink() else folder.parent),
            seen.f_bavail * seen.f_frsize,
            seen.f_blocks * seen.f_frsize,
        )


def _shards(first: Path) -> list[Path]:
    """All shards that the name of the first one promises."""
    match = _SHARD.search(first.name)
    if not match:
        return [first]
    stem, total = first.name[: match.start()], max(1, int(match[2]))
    return [
        first.with_name(f"{stem}-{number:05}-of-{total:05}.gguf") for number in range(1, total + 1)
    ]


def _defect(path: Path, size: int) -> str:
    """What is wrong with a GGUF file as far as its header tells; empty when nothing is."""
    if size == 0:
        return f"{path} is empty"
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            least = least_size(data)
    except GgufError as error:
        return f"{path}: {error}"
    except OSError as error:
        return f"{path} cannot be read: {error.strerror}"
    if size < least:
        return (
            f"{path} is truncated: {human_bytes(size)} of at least {human_bytes(least)}; "
            "fetch it again"
        )
    return ""
