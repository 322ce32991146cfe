"""The hub's cache layout on disk: what of a repository lies in it, and which bytes those are.

In: a cache's folder, a repository, a commit or a pin. Out: files with their identity, pins of what
is here. The layout is shared with the hub's own client, llama.cpp and others: a snapshot's file is
a link to a blob that has its hash for a name. No weights are read, only headers.
"""

from __future__ import annotations

import mmap
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from reconciler.core.gguf import Facts, GgufError, Header, facts_of, read_header
from reconciler.core.lockfile import FileRole, LockedFile, Pin
from reconciler.core.observed import ObservedFile
from reconciler.core.stored import folder_name

COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def repo_folder(cache: str, repo: str) -> Path:
    """Where a cache keeps a repository."""
    return Path(cache) / folder_name(repo)


def snapshot(cache: str, repo: str, commit: str) -> Path:
    """Where a cache keeps a repository's files as they are at a commit."""
    return repo_folder(cache, repo) / "snapshots" / commit


def commit_of(cache: str, repo: str, revision: str) -> str:
    """The commit that a cache knows a revision by; empty if it does not."""
    if COMMIT.fullmatch(revision):
        return revision
    try:
        return (repo_folder(cache, repo) / "refs" / revision).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def names_in(folder: Path) -> Iterator[str]:
    """All files of a snapshot."""
    for path in folder.rglob("*"):
        if path.is_file():
            yield path.relative_to(folder).as_posix()


def observed_file(path: Path, name: str) -> ObservedFile:
    """A file that is here, with its identity.

    Raises:
        OSError: it is not.
    """
    seen = path.stat()
    return ObservedFile(name, seen.st_size, identity_in(seen))


def identity_of(path: Path) -> str:
    """What tells a file from every other one, and from itself with other bytes.

    Raises:
        OSError: it is not there.
    """
    return identity_in(path.stat())


def identity_in(seen: os.stat_result) -> str:
    """The same of one that was looked at."""
    return f"{seen.st_dev:x}:{seen.st_ino}:{seen.st_size}:{seen.st_mtime_ns}"


def pinned_file(folder: Path, file: LockedFile) -> ObservedFile:
    """A pinned file as a snapshot has it; without an identity where it has it not, or other bytes.

    What tells other bytes is their size and the blob's name.
    """
    missing = ObservedFile(file.name, file.size, digest=file.digest)
    try:
        seen = observed_file(folder / file.name, file.name)
    except OSError:
        return missing
    known = digest_of(folder / file.name)
    if seen.size != file.size or (known and known != file.digest):
        return missing
    return replace(seen, digest=file.digest)


def local_pin(wanted: Pin, folder: Path) -> Pin | None:
    """A pin of what a snapshot has, with its facts; None where that cannot be told for certain."""
    files = tuple(_locked(folder, file) for file in wanted.files)
    facts = _facts(folder, files)
    if facts is None or not all(file.digest for file in files):
        return None
    return replace(wanted, files=files, facts=facts)


def _locked(folder: Path, file: LockedFile) -> LockedFile:
    digest = digest_of(folder / file.name)
    is_sha256 = bool(_SHA256.fullmatch(digest))
    return replace(file, sha256=digest if is_sha256 else "", git_sha1="" if is_sha256 else digest)


def digest_of(path: Path) -> str:
    """The name of the blob that a snapshot's file leads to, if it is a hash."""
    name = path.readlink().name if path.is_symlink() else ""
    return name if _SHA256.fullmatch(name) or COMMIT.fullmatch(name) else ""


def _facts(folder: Path, files: tuple[LockedFile, ...]) -> Facts | None:
    """What the headers say; None where one of them is none, or its file is cut off."""
    headers = []
    for file in files:
        header = header_of(folder / file.name)
        if header is None or header.least_size > file.size:
            return None
        if file.role is FileRole.WEIGHTS:
            headers.append(header)
    return facts_of(headers)


def header_of(path: Path) -> Header | None:
    """The header of a file that is here; None where it has none."""
    try:
        with (
            path.open("rb") as opened,
            mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data,
        ):
            return read_header(data)
    except (GgufError, OSError, ValueError):
        return None
