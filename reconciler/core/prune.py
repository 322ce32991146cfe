"""What of a store nobody needs any more.

In: what lies in the store, what is wanted of it, what live processes have open. Out: what can go,
in an order in which a kill at any moment leaves nothing that looks whole and is not: references
first, then links, then the bytes. Nothing here looks at a disk.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from reconciler.core.desired import DesiredState
from reconciler.core.lockfile import Lock
from reconciler.core.observed import ObservedFiles, ObservedServer
from reconciler.core.words import ModelName, ModelState

WEEK_S = 7 * 86400.0
"""A partial is kept so long: its download may go on."""

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


@dataclass(frozen=True, slots=True)
class Needed:
    """What must stay."""

    files: frozenset[tuple[str, str, str]] = frozenset()
    """Repository's folder, commit, name."""
    digests: frozenset[str] = frozenset()
    repos: frozenset[str] = frozenset()
    """Repositories of which all stays: what is wanted of them cannot be told."""
    open: frozenset[Inode] = frozenset()
    """What live processes have open or mapped."""


URLS = "urls"
"""What a store calls the folder of files that came from URLs."""


def folder_name(repo: str) -> str:
    """What a store calls a repository's folder."""
    return f"models--{repo.replace('/', '--')}"


def needed_by(
    desired: DesiredState, lock: Lock, files: Mapping[ModelName, ObservedFiles]
) -> Needed:
    """What one desired file and its lock file need, as far as the look at the disk tells.

    A model that says `state: absent` needs nothing, whatever is pinned of it.
    """
    models = desired.models
    absent = {name for name, model in models.items() if model.state is ModelState.ABSENT}
    held = [pin for name, pin in lock.items() if name not in absent]
    pins = {(pin.repo, pin.commit, file.name) for pin in held for file in pin.files}
    digests = {file.digest for pin in held for file in pin.files}
    sources = (model.source for name, model in models.items() if name not in absent)
    digests |= {source.sha256 for source in sources if source.url and source.sha256}
    unknown: set[str] = set()
    for name, seen in files.items():
        repo = models[name].source.repo
        if repo is not None:
            pins |= {(repo, seen.commit, file.name) for file in seen.files}
            digests |= {file.digest for file in seen.files if file.digest}
            unknown |= set() if seen.files else {repo}
    return Needed(
        frozenset((folder_name(repo), commit, name) for repo, commit, name in pins),
        frozenset(digests),
        frozenset(map(folder_name, unknown)),
    )


def loaded_by(servers: Iterable[ObservedServer]) -> frozenset[Inode]:
    """The files that servers noted as theirs, whether they still have them open or not."""
    loaded = {one for server in servers for one in server.files.split(",") if one}
    parts = (one.split(":") for one in loaded)
    return frozenset((int(part[0], 16), int(part[1])) for part in parts)


def all_of(needs: Iterable[Needed]) -> Needed:
    """All that any of them needs."""
    needs = tuple(needs)
    return Needed(
        frozenset(one for need in needs for one in need.files),
        frozenset(one for need in needs for one in need.digests),
        frozenset(one for need in needs for one in need.repos),
        frozenset(one for need in needs for one in need.open),
    )


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


def prune(repos: Iterable[StoredRepo], needed: Needed, now: float) -> tuple[Removal, ...]:
    """All that can go, in the order in which it is to go."""
    return tuple(
        one
        for stored in sorted(repos, key=lambda one: one.repo)
        if stored.repo not in needed.repos
        for one in _of(stored, needed, now)
    )


def _of(stored: StoredRepo, needed: Needed, now: float) -> Iterator[Removal]:
    kept = [one for one in stored.links if _stays(stored.repo, one, needed)]
    commits = {one.commit for one in kept} | {
        commit for repo, commit, _ in needed.files if repo == stored.repo
    }
    for reference in stored.references:
        if reference.commit not in commits:
            name = reference.path.rpartition("/refs/")[2]
            yield Removal(stored.repo, reference.path, name, 0, "an old revision")
    gone = [one for one in stored.links if one not in kept]
    for link in gone:
        old = link.commit not in commits
        reason = "an old revision" if old else "no desired file wants it"
        yield Removal(stored.repo, link.path, link.name, link.count, reason)
    held = {one.blob for one in kept} | needed.digests
    names = {one.blob: one.name for one in gone}
    for blob in stored.blobs:
        if blob.digest not in held and blob.inode not in needed.open:
            name = names.get(blob.digest, blob.digest)
            yield Removal(stored.repo, blob.path, name, blob.count, "nothing refers to it")
    for partial in stored.partials:
        if now - partial.changed_at > WEEK_S:
            name = partial.path.rpartition("/")[2]
            reason = "its download ended over a week ago"
            yield Removal(stored.repo, partial.path, name, partial.count, reason)


def _stays(repo: str, link: Link, needed: Needed) -> bool:
    return (repo, link.commit, link.name) in needed.files or link.inode in needed.open
