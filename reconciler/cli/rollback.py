"""The verb that goes back to an earlier desired state: rollback.

In: the number of a generation, or none. Out: its plan, a question; then the desired file and the
lock file as they were, and an apply of them with all its guards. What the file said, and nobody
applied, is kept beside it.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated

import typer

from reconciler.app import Workspace, open_root
from reconciler.cli.apply import Run, perform
from reconciler.cli.output import Output
from reconciler.cli.verbs import (
    AllowDestroyOption,
    AllowProtectedOption,
    JsonOption,
    LimitRateOption,
    LockTimeoutOption,
    NoColorOption,
    OfflineOption,
    ParallelismOption,
    QuietOption,
    RootOption,
    VerboseOption,
    YesOption,
    download_limits,
    make_output,
    verb,
)
from reconciler.core.generations import (
    Generation,
    Restoration,
    generation_values,
    going_back_to,
    restoration,
)
from reconciler.core.git_branch import Fetched
from reconciler.core.guards import Allowed
from reconciler.core.history import commit_of
from reconciler.core.parse import parse_desired
from reconciler.drivers.base import Drivers
from reconciler.drivers.git_branch import GitBranch, followed_branch
from reconciler.drivers.git_commit import commit, is_in_work_tree
from reconciler.drivers.lock_file import KeptLockFile
from reconciler.drivers.restoring import ASIDE, files_here, restore
from reconciler.errors import ExitCode, UsageError
from reconciler.look import Wanted

HEADER = ("NUMBER", "APPLIED", "WHO", "COMMIT", "FILE", "")


@dataclass(frozen=True, slots=True)
class Return:
    """One way back."""

    workspace: Workspace
    target: Generation
    kept: Sequence[Generation]
    commits: bool
    branch: GitBranch | None
    """What this root follows; None: its file."""

    def files(self) -> Restoration:
        """What it does to files, as they are now."""
        workspace = self.workspace
        here = files_here(workspace.desired_path, workspace.root)
        return restoration(self.target, workspace.site.lock, here, self.kept)


def register(app: typer.Typer) -> None:
    """Add this verb to the app."""
    app.command()(rollback)


@verb
def rollback(
    to: Annotated[
        int | None,
        typer.Option("--to", metavar="N", min=1, help="The generation (default: the one before)."),
    ] = None,
    listed: Annotated[bool, typer.Option("--list", help="Only show what is kept.")] = False,
    commits: Annotated[
        bool, typer.Option("--commit", help="Let git commit the files that change, and no others.")
    ] = False,
    yes: YesOption = False,
    root: RootOption = None,
    json: JsonOption = False,
    no_color: NoColorOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    allow_destroy: AllowDestroyOption = 0,
    allow_protected: AllowProtectedOption = None,
    lock_timeout: LockTimeoutOption = 10.0,
    parallelism: ParallelismOption = None,
    limit_rate: LimitRateOption = None,
    offline: OfflineOption = False,
) -> ExitCode:
    """Go back to a desired state that was applied before.

    Shows the plan, asks, writes the desired file and its lock file as they were, and applies them.
    """
    output = make_output(no_color=no_color, quiet=quiet, json=json, verbose=verbose)
    workspace = open_root(root, os.environ)
    kept = workspace.generations.all()
    if listed:
        return _list(kept, output)
    if commits and not is_in_work_tree(workspace.desired_path):
        raise UsageError(
            f"--commit: {workspace.site.desired} lies in no git repository", hint="leave it out"
        )
    target = going_back_to(kept, workspace.site.desired, to)
    follows = followed_branch(workspace.site)
    branch = GitBranch(workspace.site, workspace.desired_path, follows) if follows else None
    way = Return(workspace, target, kept, commits, branch)
    parsed = parse_desired(way.target.sources)
    limits = download_limits(parallelism, limit_rate)
    drivers = workspace.drivers(parsed.desired, limits, offline=offline)
    changes = _tell(way, output)
    lock = KeptLockFile(way.target.lock, workspace.site.lock)
    run = Run(
        workspace,
        Wanted(parsed.desired, parsed.marks, parsed.warnings, sources=parsed.sources),
        replace(drivers, lock=lock) if changes else drivers,
        verb="rollback",
        allowed=Allowed(allow_destroy, frozenset(allow_protected or ())),
        yes=yes,
        lock_timeout=lock_timeout,
        question="Do you want to go back to this? (yes/no)",
        prepare=partial(_go_back, way, drivers, output) if changes else None,
    )
    return perform(run, output)


def _tell(way: Return, output: Output) -> bool:
    """Say what is to come; whether that changes any file."""
    target = way.target
    where = f", commit {commit}" if (commit := commit_of(target.origin)) != "-" else ""
    output.talk(
        f"Going back to generation {target.number} of {target.file}"
        f" ({_when(target)}, {target.origin.who}{where})."
    )
    if way.branch:
        output.talk(f"  commit and push to {way.branch.branch}")
        return True
    files = way.files()
    for name in files.names:
        output.talk(f"  {'write' if name in files.writes else 'remove'} {name}")
    for name in files.aside:
        said = f"what {name} says now was never applied: it is kept as {name}{ASIDE}"
        output.talk(f"warning: {said}")
    return bool(files.names)


def _go_back(way: Return, drivers: Drivers, output: Output) -> Drivers:
    """Write the files; what was typed while the question stood is kept, too."""
    if way.branch:
        return _push(way, way.branch, drivers, output)
    root, files = way.workspace.root, way.files()
    for name in restore(files, root):
        output.talk(f"Kept {name}")
    if way.commits:
        _commit(way, files, output)
    return drivers


def _push(way: Return, branch: GitBranch, drivers: Drivers, output: Output) -> Drivers:
    """Let the branch say it; the working tree is somebody's own."""
    target, records = way.target, way.workspace.records
    commit = branch.push(target.sources, target.lock, _message(target))
    branch.accept(commit)
    output.talk(f"Pushed {commit[:12]} to {branch.branch}")
    records.fetched = Fetched(commit, target.sources, target.lock)
    lock = KeptLockFile(target.lock, way.workspace.site.lock)
    return replace(drivers, lock=lock, records=records)


def _message(target: Generation) -> str:
    return (
        f"Roll back {target.file} to generation {target.number}\n\n"
        f"It was applied at {_when(target)} by {target.origin.who}"
        f" (commit {commit_of(target.origin)})."
    )


def _commit(way: Return, files: Restoration, output: Output) -> None:
    paths = [(way.workspace.root / name).resolve() for name in files.names]
    if paths and (why := commit(paths, _message(way.target))):
        # The machine comes first: the files are as they should be, and can be committed by hand.
        output.say(f"warning: git made no commit: {why}")


def _list(kept: Sequence[Generation], output: Output) -> ExitCode:
    """What is kept, the newest first."""
    if output.json:
        output.document({"generations": [generation_values(one) for one in kept[::-1]]})
    elif not kept:
        output.prose("Nothing that was applied here is kept yet.")
    else:
        output.table(HEADER, [_cells(one, kept[-1]) for one in kept[::-1]])
    return ExitCode.OK


def _cells(one: Generation, newest: Generation) -> tuple[str, ...]:
    told = "applied last" if one is newest else "the same" if one.sha256 == newest.sha256 else ""
    return (
        str(one.number),
        _when(one),
        one.origin.who,
        commit_of(one.origin),
        one.file,
        told,
    )


def _when(one: Generation) -> str:
    # In the time zone of whoever reads it.
    moment = datetime.datetime.fromtimestamp(one.at, datetime.UTC).astimezone()
    return moment.strftime("%Y-%m-%d %H:%M:%S")
