"""Model files: on disk by path, or from the hub.

In: a model of the desired state. Out: `ObservedFiles`. A foreign or truncated file is told by its
GGUF header; the weights themselves are not read here.
"""

from __future__ import annotations

import mmap
import re
import shutil
from dataclasses import replace
from pathlib import Path

from reconciler.core.desired import Model
from reconciler.core.gguf import GgufError, least_size
from reconciler.core.lockfile import Pin
from reconciler.core.observed import FileStatus, ObservedFile, ObservedFiles
from reconciler.core.plan import FetchFiles
from reconciler.core.present import human_bytes
from reconciler.drivers.base import Cancel, Told
from reconciler.drivers.fetch.partial import held_bytes
from reconciler.drivers.hub import Hub
from reconciler.drivers.hub_cache import observed_file

_SHARD = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")


class ModelFiles:
    """The real `Files` of `drivers.base`."""

    def __init__(self, root: str, store: str, hub: Hub) -> None:
        self._root = root
        self._store = store
        self._hub = hub

    def inspect(self, model: Model, pin: Pin | None = None, *, deep: bool) -> ObservedFiles:
        """How the files of a model stand; `deep` also reads their headers."""
        source = model.source
        if source.path is not None:
            found = self._by_path(source.path)
        else:
            found = self._hub.inspect(model, pin)
        if deep and found.status is FileStatus.PRESENT:
            return _checked(found)
        return found

    def _by_path(self, declared: str) -> ObservedFiles:
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
        return ObservedFiles(FileStatus.PRESENT, str(first), str(first), tuple(files))

    def fetch(self, fetch: FetchFiles, progress: Told, cancel: Cancel) -> None:
        """Download a model's missing files."""
        self._hub.fetch(fetch, progress, cancel)

    def learn(self, pin: Pin, cancel: Cancel) -> Pin:
        """The same pin with what the headers of its files say of the model."""
        return self._hub.learn(pin, cancel)

    def disk_free(self) -> int:
        """Free bytes on the file system of the store (or where it will be made).

        What partials hold counts as free: their files' sizes are still to be fetched in full as
        far as a plan knows, and the room for them is taken already.
        """
        folder = Path(self._store)
        while not folder.exists():
            folder = folder.parent
        return shutil.disk_usage(folder).free + held_bytes(Path(self._store))


def _shards(first: Path) -> list[Path]:
    """All shards that the name of the first one promises."""
    match = _SHARD.search(first.name)
    if not match:
        return [first]
    stem, total = first.name[: match.start()], max(1, int(match[2]))
    return [
        first.with_name(f"{stem}-{number:05}-of-{total:05}.gguf") for number in range(1, total + 1)
    ]


def _checked(found: ObservedFiles) -> ObservedFiles:
    # A file that is named by its path is that path.
    folder = found.path.removesuffix(found.files[0].name)
    for file in found.files:
        reason = _defect(Path(folder, file.name), file.size)
        if reason:
            return replace(found, status=FileStatus.BAD, reason=reason)
    return found


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
