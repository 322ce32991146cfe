"""Going back: the desired file, or the files of a directory, and the lock file as they were.

In: a `Restoration`. Out: files, each replaced whole or not at all. What they said and nobody ever
applied is kept beside them first, so that nothing that somebody wrote is lost.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path

from reconciler.core.generations import Restoration
from reconciler.drivers import effects
from reconciler.drivers.desired_files import lock_path, read_sources, shown
from reconciler.errors import InvalidDesiredError

ASIDE = ".before-rollback"


def files_here(desired: Path, root: Path) -> Mapping[str, bytes]:
    """The content of the desired file (or files) and of the lock file, by name; none is no error.

    Raises:
        InvalidDesiredError: one of them cannot be read.
        OSError: the lock file cannot.
    """
    found: dict[str, bytes] = {}
    try:
        found = {one.name: one.content for one in read_sources(desired, root)}
    except InvalidDesiredError:
        # Going back must be possible from a file that was deleted, or a directory without any.
        if desired.is_file():
            raise
    lock = lock_path(desired)
    with contextlib.suppress(FileNotFoundError):
        found[shown(lock, root)] = lock.read_bytes()
    return found


def restore(restoration: Restoration, root: Path) -> tuple[str, ...]:
    """Make it so; returns what was kept beside them, as people know it.

    Raises:
        OSError: one of them cannot be written; those before it are.
    """
    aside = tuple(_keep(root / name) for name in restoration.aside)
    for name, content in restoration.writes.items():
        # A name that is a link leads to where the file is meant to lie.
        path = (root / name).resolve()
        mode = path.stat().st_mode & 0o777 if path.exists() else 0o644
        effects.make_folder(path.parent, 0o755)
        effects.write_atomic(path, content, mode)
    for name in restoration.removes:
        effects.unlink(root / name)
    return tuple(shown(path, root) for path in aside)


def _keep(path: Path) -> Path:
    """Copy a file beside itself, under a name that nothing has, or that has this content."""
    content, mode = path.read_bytes(), path.stat().st_mode & 0o777
    number, aside = 1, path.with_name(f"{path.name}{ASIDE}")
    while aside.exists() and aside.read_bytes() != content:
        number += 1
        aside = path.with_name(f"{path.name}{ASIDE}-{number}")
    if not aside.exists():
        effects.write_atomic(aside, content, mode)
    return aside
