"""The model files of a machine in memory: which are here, with which bytes, what is known of it.

In: steps that fetch and verify. Out: what `observe` would see of files. What is fetched can be
replaced by wrong ones at any time; nobody knows before a step reads them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from builders import files_of

from reconciler.core.desired import Model, Source
from reconciler.core.observed import FileStatus, ObservedFiles
from reconciler.core.plan import VerifyFiles

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

    def _identity(self, key: str) -> str:
        edition = self.editions.get(key, 0)
        return f"1:{key}-{edition}:140:{edition}"
