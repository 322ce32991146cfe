"""Finding and reading the desired file (or directory), and the root that it belongs to.

In: what the user typed. Out: source texts and paths. A file that cannot be read is an
`InvalidDesiredError`, so that an absent file is never taken for an empty desired state.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pathlib import Path

from reconciler.core.parse import SourceText
from reconciler.core.plan_file import is_plan
from reconciler.core.snapshot import is_snapshot
from reconciler.errors import (
    Diagnostic,
    InvalidDesiredError,
    Severity,
    StateFolderError,
    UsageError,
)

LOCK_NAME = "lock.yaml"
"""A directory's lock file, and the end of the name that a file's has."""


def read_sources(path: Path, root: Path) -> tuple[SourceText, ...]:
    """The file, or the `*.yaml` of the directory without its lock files, sorted by name.

    Raises:
        InvalidDesiredError: it is missing or cannot be read, or the directory holds none.
    """
    if path.is_dir():
        files = _yaml_files(path)
        if not files:
            raise _unreadable(path, root, "the directory holds no *.yaml file")
    else:
        files = [path]
    sources = []
    for file in files:
        try:
            content = file.read_bytes()
        except FileNotFoundError as error:
            if file.is_symlink():
                why = f"it is a link to {file.readlink()}, which is not there"
                raise _unreadable(file, root, why, "mend the link, or remove it") from error
            raise _unreadable(file, root, "there is no such file", _nearest(file, root)) from error
        except OSError as error:
            raise _unreadable(file, root, f"it cannot be read: {error.strerror}") from error
        if is_plan(content):
            hint = "`llm-reconcile show` shows it, `apply` carries it out"
            raise _unreadable(file, root, "this is a saved plan, and no desired file", hint)
        if is_snapshot(content):
            hint = "`llm-reconcile plan DESIRED --observed FILE` plans against it"
            raise _unreadable(file, root, "this is a snapshot, and no desired file", hint)
        sources.append(SourceText(shown(file, root), content))
    return tuple(sources)


def _yaml_files(folder: Path) -> list[Path]:
    return sorted(one for one in folder.glob("*.yaml") if not is_lock(one))


def is_lock(path: Path) -> bool:
    """Whether a file of this name is a lock file."""
    return path.name == LOCK_NAME or path.name.endswith(f".{LOCK_NAME}")


def lock_digest(desired: Path) -> str | None:
    """The sha256 of a desired file's lock file; None without one."""
    try:
        content = lock_path(desired).read_bytes()
    except FileNotFoundError:
        return None
    return hashlib.sha256(content).hexdigest()


def lock_path(desired: Path) -> Path:
    """The lock file of a desired file, or of a directory of them."""
    if desired.is_dir():
        return desired / LOCK_NAME
    stem = desired.stem if desired.suffix in {".yaml", ".yml"} else desired.name
    return desired.with_name(f"{stem}.{LOCK_NAME}")


def in_git(desired: Path, sources: Sequence[SourceText]) -> tuple[Path, dict[str, bytes]]:
    """The folder of the desired file, or of a directory's, and what its files hold by their names.

    Through a link: git knows the file that it leads to.
    """
    place = desired.resolve()
    if place.is_dir():
        return place, {Path(one.name).name: one.content for one in sources}
    return place.parent, {place.name: sources[0].content}


def _nearest(path: Path, root: Path) -> str:
    """What may be meant by a file that is not there: the nearest name, or all of `desired/`."""
    files = {*_yaml_files(path.parent), *_yaml_files(root / "desired")}
    names = {shown(file, root): file.name for file in sorted(files)}
    near = get_close_matches(path.name, names.values(), n=1)
    if near:
        return f"did you mean {next(text for text, name in names.items() if name == near[0])}?"
    return f"there are: {', '.join(names)}" if names else "name a desired file (*.yaml)"


def _unreadable(path: Path, root: Path, why: str, hint: str = "") -> InvalidDesiredError:
    diagnostic = Diagnostic(Severity.ERROR, f"{shown(path, root)}: {why}", hint=hint)
    return InvalidDesiredError((diagnostic,))


def shown(path: Path, root: Path) -> str:
    """A path as messages and the journal name it: relative to the root if it lies there."""
    # A link in the folder's path, or `..`, is the same file; a link of that name is what is meant.
    folder = path.is_dir() or path.name == ".."
    resolved = path.resolve() if folder else path.parent.resolve() / path.name
    return str(resolved.relative_to(root)) if resolved.is_relative_to(root) else str(resolved)


def refuse_another_user(root: Path) -> None:
    """Two users would each have a state folder, and so a copy of every server.

    Raises:
        StateFolderError: the servers of this root belong to somebody else.
    """
    for path in root.glob("run/*.pid"):
        with contextlib.suppress(FileNotFoundError):
            owner = path.stat().st_uid
            if owner != os.geteuid():
                raise StateFolderError(
                    f"the servers of {root} belong to another user (uid {owner}; see {path})",
                    hint="run as that user; if none of them runs any more, remove run/*.pid",
                )


def find_root(path: Path) -> Path:
    """The nearest folder upwards that holds a `desired/`, else the file's own folder."""
    # Without its `..`: the folders upwards are those of the file, not of where we stand.
    whole = Path(os.path.normpath(path.absolute()))
    own = whole if whole.is_dir() else whole.parent
    for folder in (own, *own.parents):
        if (folder / "desired").is_dir():
            return folder.resolve()
    return (own.parent if whole.is_dir() else own).resolve()


def root_from_here(folder: Path, is_known: Callable[[Path], bool]) -> Path:
    """The root that a verb without FILE works on: upwards from the current folder.

    Raises:
        UsageError: no folder upwards holds a `desired/`.
    """
    for candidate in (folder.absolute(), *folder.absolute().parents):
        if (candidate / "desired").is_dir() or is_known(candidate.resolve()):
            return candidate.resolve()
    raise UsageError(
        "no root here: no folder upwards holds a desired/, and to none of them was applied",
        hint="go to the root of your set-up, or name it with --root",
    )


def all_desired(root: Path, last_applied: str | None) -> tuple[Path, ...]:
    """All desired files of a root: the last applied one first, then what `desired/` holds.

    A folder in it is one too, of several files.
    """
    folder = root / "desired"
    applied = [root / last_applied] if last_applied is not None else []
    within = [path for path in sorted(folder.glob("*")) if path.is_dir() and _yaml_files(path)]
    files = [] if applied == [folder] else _yaml_files(folder)
    return tuple(dict.fromkeys([*applied, *files, *within]))


def only_desired(root: Path, last_applied: str | None) -> Path:
    """The desired file of a root: the last applied one, or the only one in `desired/`.

    Raises:
        UsageError: there is none, or several.
    """
    if last_applied is not None:
        return root / last_applied
    found = _yaml_files(root / "desired")
    if len(found) == 1:
        return found[0]
    names = ", ".join(one.name for one in found) or "no *.yaml"
    raise UsageError(
        f"nothing was applied to {root} yet, and its desired/ holds {names}",
        hint="run `llm-reconcile apply desired/FILE.yaml` first",
    )
