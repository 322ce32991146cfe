"""The store's folder: what lies in it, in the hub's cache layout, and taking things out of it.

In: the store. Out: `StoredRepo`s, who uses their files; removals. What is a link that leads out of
the store is not followed: neither a repository's folder nor what a snapshot's file leads to.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from reconciler.core.stored import (
    URLS,
    Blob,
    Inode,
    Link,
    Needed,
    Partial,
    Reference,
    Removal,
    StoredRepo,
)
from reconciler.drivers import effects, proc

_ENDS = (".incomplete", ".reconcile.journal")


class ModelStore:
    """The real `Store` of `drivers.base_store`; `elsewhere` reads other desired files."""

    def __init__(self, folder: Path, elsewhere: Callable[[], Mapping[str, Needed]]) -> None:
        self._folder = folder
        self.elsewhere = elsewhere

    def repos(self, folders: Iterable[str]) -> Mapping[str, StoredRepo]:
        """What lies in these folders; what is linked from elsewhere is not ours."""
        paths = {name: self._folder / name for name in folders}
        return {
            name: _repo(path)
            for name, path in paths.items()
            if path.is_dir() and not path.is_symlink()
        }

    def open_files(self) -> Mapping[Inode, frozenset[int]]:
        """What processes of this user have open or mapped, and their pids."""
        return open_inodes()

    def remove(self, removals: Iterable[Removal]) -> int:
        """Take these out; the bytes freed."""
        return remove(removals, self._folder)


def stored_repos(store: Path) -> tuple[StoredRepo, ...]:
    """All repositories in a store, and what URLs brought."""
    paths = (*sorted(store.glob("models--*")), store / URLS)
    folders = (path for path in paths if not path.is_symlink())
    return tuple(_repo(path) for path in folders if path.is_dir())


def _repo(folder: Path) -> StoredRepo:
    blobs, partials = [], []
    for path in _entries(folder / "blobs"):
        try:
            seen = path.stat()
        except FileNotFoundError:
            # A download has just ended: it is another file now, and a wanted one.
            continue
        if path.name.endswith(_ENDS):
            partials.append(Partial(str(path), seen.st_blocks * 512, seen.st_mtime))
        else:
            inode = (seen.st_dev, seen.st_ino)
            blobs.append(Blob(str(path), path.name, seen.st_blocks * 512, inode))
    references = tuple(
        Reference(str(path), path.read_text(errors="replace").strip())
        for path in _entries(folder / "refs")
    )
    return StoredRepo(
        folder.name, references, tuple(_links(folder / "snapshots")), tuple(blobs), tuple(partials)
    )


def _entries(folder: Path) -> Iterator[Path]:
    """All files below a folder that are files themselves."""
    if not folder.is_symlink():
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not path.is_symlink():
                yield path


def _links(snapshots: Path) -> Iterator[Link]:
    for top, folders, files in os.walk(snapshots):
        # A link to a folder is a file of the snapshot to us: nothing behind it is.
        linked = [name for name in folders if Path(top, name).is_symlink()]
        for name in sorted([*files, *linked]):
            path = Path(top, name)
            commit, _, inner = path.relative_to(snapshots).as_posix().partition("/")
            own = path.lstat()
            blob = path.readlink().name if path.is_symlink() else ""
            inode: Inode | None = None
            with contextlib.suppress(OSError):
                inode = (path.stat().st_dev, path.stat().st_ino)
            yield Link(str(path), commit, inner, blob, 0 if blob else own.st_blocks * 512, inode)


def open_inodes() -> dict[Inode, frozenset[int]]:
    """What the processes of this user have open, or mapped, and their pids."""
    found: dict[Inode, frozenset[int]] = {}
    for pid in proc.own_pids():
        for path in (*proc.open_files(pid), *proc.mapped_files(pid)):
            with contextlib.suppress(OSError):
                seen = os.stat(path)  # noqa: PTH116 - there may be thousands
                inode = (seen.st_dev, seen.st_ino)
                found[inode] = found.get(inode, frozenset()) | {pid}
    return found


def remove(removals: Iterable[Removal], store: Path) -> int:
    """Take these out, one after the other, and folders that are then empty; the bytes freed."""
    freed = 0
    for one in removals:
        path = Path(one.path)
        if not _is_busy(path):
            effects.unlink(path)
            freed += one.count
            for folder in path.parents:
                if folder == store or not effects.remove_if_empty(folder):
                    break
    return freed


def _is_busy(path: Path) -> bool:
    """Whether a download holds a partial."""
    if not path.name.endswith(_ENDS[0]):
        return False
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
