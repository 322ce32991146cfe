"""What of a store nobody needs any more.

In: what lies in the store, what is wanted of it, what live processes have open. Out: what can go,
in an order in which a kill at any moment leaves nothing that looks whole and is not: references
first, then links, then the bytes. Nothing here looks at a disk.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from reconciler.core.desired import DesiredState, Model, Source
from reconciler.core.lockfile import Lock, Pin
from reconciler.core.observed import ObservedFiles, ObservedServer
from reconciler.core.quants import QuantError, choose
from reconciler.core.stored import URLS, Inode, Link, Needed, Removal, StoredRepo, folder_name
from reconciler.core.words import ModelName, ModelState

WEEK_S = 7 * 86400.0
"""A partial is kept so long: its download may go on."""


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
    digests = {(folder_name(pin.repo), file.digest) for pin in held for file in pin.files}
    sources = (model.source for name, model in models.items() if name not in absent)
    digests |= {(URLS, source.sha256) for source in sources if source.url and source.sha256}
    unknown: set[str] = set()
    for name, seen in files.items():
        repo = models[name].source.repo
        if repo is not None:
            pins |= {(repo, seen.commit, file.name) for file in seen.files}
            digests |= {(folder_name(repo), file.digest) for file in seen.files if file.digest}
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
    held = {one.blob for one in kept} | _digests(needed, stored.repo)
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


def _digests(needed: Needed, folder: str) -> set[str]:
    return {digest for where, digest in needed.digests if where == folder}


def _stays(repo: str, link: Link, needed: Needed) -> bool:
    return (repo, link.commit, link.name) in needed.files or link.inode in needed.open


def folder_of(source: Source) -> str:
    """What a store calls the folder where a source's files lie."""
    return folder_name(source.repo) if source.repo else URLS


def files_of(model: Model, pin: Pin | None, stored: StoredRepo) -> StoredRepo:
    """The part of a repository that is one model's: what is pinned, and all its quants.

    Whatever commit they are of. References are no model's own: `leavings` says which can go.
    """
    names, digests = _pinned(model, pin)
    commits = {one.commit for one in stored.links}
    chosen = {commit: names | _chosen(model, stored, commit) for commit in commits}
    links = tuple(one for one in stored.links if one.name in chosen[one.commit])
    digests |= {one.blob for one in links}
    return replace(
        stored,
        references=(),
        links=links,
        blobs=tuple(one for one in stored.blobs if one.digest in digests),
        partials=tuple(one for one in stored.partials if _digest(one.path) in digests),
    )


def _pinned(model: Model, pin: Pin | None) -> tuple[set[str], set[str]]:
    if model.source.sha256:
        return set(), {model.source.sha256}
    if pin is None or pin.repo != model.source.repo:
        return set(), set()
    return {file.name for file in pin.files}, {file.digest for file in pin.files}


def _chosen(model: Model, stored: StoredRepo, commit: str) -> set[str]:
    """The names that the model's quants have among the files of a commit."""
    sizes = {one.name: one.count for one in stored.links if one.commit == commit}
    found: set[str] = set()
    for quant in {model.quant, *model.quants}:
        try:
            chosen = choose(sizes, model.model_copy(update={"quant": quant}))
        except QuantError:
            continue
        found |= {name for name, _ in chosen}
    return found


def _digest(partial: str) -> str:
    return partial.rpartition("/")[2].partition(".")[0]


def leavings(own: StoredRepo, stored: StoredRepo, needed: Needed) -> tuple[Removal, ...]:
    """What of a model's own files can go, in order; and references to what is then empty."""
    others = [one for one in stored.links if one not in own.links]
    kept = Needed(
        files=frozenset((stored.repo, one.commit, one.name) for one in others),
        digests=frozenset(
            (stored.repo, one.digest) for one in stored.blobs if one not in own.blobs
        ),
    )
    needed = all_of([needed, kept])
    # Its partials go whatever their age, as long as nobody needs what they are to be.
    awaited = _digests(needed, stored.repo)
    partials = tuple(one for one in own.partials if _digest(one.path) not in awaited)
    commits = {one.commit for one in own.links}
    references = tuple(one for one in stored.references if one.commit in commits)
    mine = replace(stored, references=references, partials=partials)
    return tuple(_of(mine, needed, math.inf)) if stored.repo not in needed.repos else ()
