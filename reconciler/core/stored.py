"""A store, as it lies on disk in the hub's cache layout, and what can be taken out of it.

In: nothing; these are plain values, of what drivers see and `core.prune` decides. A snapshot's file
is a link to a blob, which has its hash for a name; a reference is a branch with its commit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from reconciler.core.words import ModelName

Inode = tuple[int, int]
"""Device and number."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A branch or tag, and the commit that it was."""

    path: str
    commit: str


@dataclass(frozen=True, slots=True)
class Link:
    """A file of a snapshot: a link to a blob, or (`blob` empty) a file itself."""

    path: str
    commit: str
    name: str
    blob: str
    count: int
    """Bytes of its own."""
    inode: Inode | None
    """Of what it leads to; None where that is gone."""


@dataclass(frozen=True, slots=True)
class Blob:
    """Bytes, named by their hash."""

    path: str
    digest: str
    count: int
    inode: Inode


@dataclass(frozen=True, slots=True)
class Partial:
    """A file on its way, or what is noted of one."""

    path: str
    count: int
    changed_at: float


@dataclass(frozen=True, slots=True)
class StoredRepo:
    """What a store has of a repository, or of all URLs."""

    repo: str
    """Its folder's name: `models--org--name`, or `urls`."""
    references: tuple[Reference, ...] = ()
    links: tuple[Link, ...] = ()
    blobs: tuple[Blob, ...] = ()
    partials: tuple[Partial, ...] = ()

    @property
    def has_files(self) -> bool:
        """There is something of worth in it: references alone are not."""
        return bool(self.links or self.blobs or self.partials)


@dataclass(frozen=True, slots=True)
class Needed:
    """What must stay."""

    files: frozenset[tuple[str, str, str]] = frozenset()
    """Repository's folder, commit, name."""
    digests: frozenset[tuple[str, str]] = frozenset()
    """Repository's folder, hash: also of bytes that no link leads to yet."""
    repos: frozenset[str] = frozenset()
    """Repositories of which all stays: what is wanted of them cannot be told."""
    open: frozenset[Inode] = frozenset()
    """What live processes have open or mapped."""


URLS = "urls"
"""What a store calls the folder of files that came from URLs."""


def folder_name(repo: str) -> str:
    """What a store calls a repository's folder."""
    return f"models--{repo.replace('/', '--')}"


@dataclass(frozen=True, slots=True)
class Removal:
    """One thing that can go."""

    repo: str
    path: str
    name: str
    """For people."""
    count: int
    """Bytes that this frees."""
    reason: str

    @property
    def label(self) -> str:
        """The repository, for people."""
        return self.repo.removeprefix("models--").replace("--", "/", 1)


@dataclass(frozen=True, slots=True)
class ObservedStore:
    """What is seen of the store where a model's files are to go: of others nothing is looked at."""

    repos: Mapping[ModelName, StoredRepo] = field(default_factory=dict)
    """What lies there where the files came from of models that say `state: absent`; of those that
    still have any. Of others nobody need be asked, each time, what he has open."""
    elsewhere: Mapping[str, Needed] = field(default_factory=dict)
    """What other desired files of this root need, by their names."""
    open: Mapping[Inode, frozenset[int]] = field(default_factory=dict)
    """What live processes have open or mapped, and their pids."""
    doubt: str = ""
    """Why it cannot be told what else needs it; empty when it can."""
