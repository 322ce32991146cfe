"""A plan from one desired state to another, on a machine that nobody looks at (`plan --against`).

In: a workspace and what is wanted; the name of a file, or of a commit of the same file. Out: a
`Round` whose machine is as that other state says. It is for reviews, where there is no machine:
nothing is observed, and no hub is asked.
"""

from __future__ import annotations

from pathlib import Path

from reconciler.app import Workspace
from reconciler.core.assumed import applied
from reconciler.core.guards import Allowed
from reconciler.core.lock_reader import read_lock
from reconciler.core.lockfile import Lock
from reconciler.core.parse import SourceText, parse_desired
from reconciler.core.plan_lock import refuse_changes
from reconciler.drivers.desired_files import lock_path, read_sources, shown
from reconciler.drivers.git_files import GitFiles
from reconciler.drivers.lock_file import LockFileOnDisk
from reconciler.drivers.templates import load_templates
from reconciler.errors import UsageError
from reconciler.look import Round, Wanted, replan


def look_against(other: str, wanted: Wanted, workspace: Workspace, allowed: Allowed) -> Round:
    """What `wanted` changes where the state called `other` is in force.

    Raises:
        UsageError: it is neither a file nor a commit, or that commit has no such file.
        GitError: git gives no answer.
        InvalidDesiredError: it, or one of the two lock files, has mistakes; or the newer one would
            have to change, and must not.
    """
    sources, before = _other(other, workspace)
    now = lock_at(workspace.desired_path, workspace.root)
    locks = (before, now)
    if wanted.locked:
        refuse_changes(wanted.desired, now, wanted.marks, workspace.site.lock)
    templates = load_templates(workspace.root)
    desired = parse_desired(sources).desired
    seen = applied(desired, wanted.desired, workspace.site, locks, templates)
    return replan(wanted, workspace.site, seen, allowed)


def _other(name: str, workspace: Workspace) -> tuple[tuple[SourceText, ...], Lock]:
    path = Path(name)
    if name and path.exists():
        return read_sources(path, workspace.root), lock_at(path, workspace.root)
    git = GitFiles(workspace.site, workspace.desired_path)
    found = git.content(git.commit_of(name))
    if isinstance(found, str):
        raise UsageError(f"{name}: {found}", hint="name a commit that has it, or another file")
    at = tuple(SourceText(f"{name}:{one.name}", one.content) for one in found.sources)
    text = (found.lock or "").encode(errors="surrogateescape")
    return at, read_lock(f"{name}:{workspace.site.lock}", text) if text else {}


def lock_at(desired: Path, root: Path) -> Lock:
    """The pins beside a desired file.

    Raises:
        InvalidDesiredError: that lock file has mistakes.
    """
    path = lock_path(desired)
    return LockFileOnDisk(path, shown(path, root)).read()
