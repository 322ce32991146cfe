"""The model files of a machine in memory: which are here, with which bytes, what is known of it.

In: steps that fetch and verify. Out: what `observe` would see of files. What is fetched can be
replaced by wrong ones at any time; nobody knows before a step reads them.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from builders import files_of, with_pin

from reconciler.core.desired import DesiredState, Model, Source
from reconciler.core.lockfile import Pin
from reconciler.core.observed import FileStatus, ObservedFiles, ObservedServer
from reconciler.core.plan import RemoveFiles, VerifyFiles
from reconciler.core.prune import folder_of, loaded_by
from reconciler.core.stored import Blob, Inode, Link, StoredRepo
from reconciler.core.words import ModelName, ModelState

RIGHT, WRONG = "5" * 64, "6" * 64
"""The hash that files must have, and another one."""


class ViolationError(AssertionError):
    """A plan did what must never be."""


class StepFailedError(Exception):
    """A step did not end well; those that need it are skipped."""


def require(holds: object, what: str) -> None:
    if not holds:
        raise ViolationError(what)


def key_of(source: Source) -> str:
    """What the files of a source are known by: of a URL by their hash alone."""
    return source.path or source.repo or source.sha256 or ""


def loaded(servers: Iterable[ObservedServer]) -> dict[Inode, frozenset[int]]:
    """The files that servers have loaded, and their pids."""
    return {inode: frozenset({one.ref.pid}) for one in servers for inode in loaded_by((one,))}


@dataclass
class Shelf:
    """All files."""

    files: dict[str, FileStatus] = field(default_factory=dict)
    """By source (`key_of`); what is not named here is on disk."""
    editions: dict[str, int] = field(default_factory=dict)
    """How often the files of a source were replaced by others."""
    spoiled: set[str] = field(default_factory=set)
    """The identities of files that have wrong bytes, whether that is known or not."""
    hashes: dict[str, str] = field(default_factory=dict)
    """What is known of bytes, by identity."""
    found_wrong: int = 0

    def inspect(self, model: Model) -> ObservedFiles:
        """How a model's files stand."""
        source = key_of(model.source)
        found = files_of(model, self.files.get(source, FileStatus.PRESENT))
        if found.status is not FileStatus.PRESENT or not model.source.is_fetched:
            return found
        file = replace(found.files[0], identity=self._identity(source), digest=RIGHT)
        if self.hashes.get(file.identity) == WRONG:
            file = replace(file, wrong=WRONG)
        status = FileStatus.MISSING if file.wrong else FileStatus.PRESENT
        return replace(found, status=status, files=(file,))

    def inspect_all(
        self, desired: DesiredState, pins: Mapping[ModelName, Pin]
    ) -> dict[ModelName, ObservedFiles]:
        """How the files of all models stand that are not to be absent."""
        return {
            ModelName(name): with_pin(self.inspect(model), model, pins.get(ModelName(name)))
            for name, model in desired.models.items()
            if model.state is not ModelState.ABSENT
        }

    def replace_file(self, key: str, *, wrong: bool) -> None:
        """Other bytes come to lie there."""
        self.editions[key] = self.editions.get(key, 0) + 1
        if wrong:
            self.spoiled.add(self._identity(key))

    def require_verified(self, model: Model) -> None:
        """A server starts on bytes that are known to be right, and on no others."""
        for file in self.inspect(model).files:
            right = self.hashes.get(file.identity) == file.digest
            require(right or not file.digest, f"{file.name}: starts on bytes nobody verified")

    def fetch(self, key: str) -> None:
        """The right bytes come to lie there, hashed on their way."""
        self.files[key] = FileStatus.PRESENT
        if self.hashes.get(self._identity(key)) != RIGHT:
            self.replace_file(key, wrong=False)
        self.hashes[self._identity(key)] = RIGHT

    def verify(self, effect: VerifyFiles) -> None:
        """Files are read."""
        for file in effect.files:
            require(file.identity not in self.hashes, f"{file.identity} is hashed twice")
            is_wrong = file.identity in self.spoiled
            self.hashes[file.identity] = WRONG if is_wrong else RIGHT
            if is_wrong:
                self.found_wrong += 1
                raise StepFailedError

    def stored(self, desired: DesiredState) -> dict[ModelName, StoredRepo]:
        """What lies in the store where the files of models come from that are to be absent."""
        return {
            ModelName(name): self._repo(model)
            for name, model in desired.models.items()
            if model.state is ModelState.ABSENT and model.source.is_fetched
            if self.files.get(key_of(model.source), FileStatus.PRESENT) is FileStatus.PRESENT
        }

    def _repo(self, model: Model) -> StoredRepo:
        key = key_of(model.source)
        inode = self.inode(key)
        link = Link(f"{key}/link", "c" * 40, f"{model.quant}.gguf", RIGHT, 0, inode)
        blob = Blob(f"{key}/blob", RIGHT, 140, inode)
        return StoredRepo(folder_of(model.source), (), () if model.source.url else (link,), (blob,))

    def remove(
        self, effect: RemoveFiles, desired: DesiredState, servers: Iterable[ObservedServer]
    ) -> None:
        """Files go; nobody else may want them, or have them loaded."""
        source = desired.models[effect.model].source
        key = key_of(source)
        require(self.inode(key) not in loaded(servers), f"{key}: removed under a server")
        others = [one for one in desired.models.values() if key_of(one.source) == key]
        unwanted = all(one.state is ModelState.ABSENT for one in others)
        require(unwanted, f"{key}: removed, though a model wants it")
        gone = [one.path for one in effect.removals]
        link, blob = f"{key}/link", f"{key}/blob"
        require(gone == ([blob] if source.url else [link, blob]), f"{key}: {gone}")
        self.files[key] = FileStatus.MISSING

    def inode(self, key: str) -> Inode:
        """Of the file that lies there now."""
        return 1, 1000 * zlib.crc32(key.encode()) + self.editions.get(key, 0)

    def _identity(self, key: str) -> str:
        device, number = self.inode(key)
        return f"{device}:{number}:140:{self.editions.get(key, 0)}"
