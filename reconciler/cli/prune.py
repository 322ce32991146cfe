"""The verb that takes out of the store what nobody needs: prune.

In: all desired files of a root and their lock files, what lies in the store, what live processes
have open. Out: a list, a question, free space. What goes is decided in `core.prune`; a desired file
that cannot be read means that nothing can be decided.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from reconciler.app import Workspace, needed_of, open_all, refuse_shared_store
from reconciler.cli.output import Output, ask, can_ask
from reconciler.cli.verbs import (
    JsonOption,
    LockTimeoutOption,
    NoColorOption,
    QuietOption,
    RootOption,
    VerboseOption,
    YesOption,
    interruptible,
    make_output,
    verb,
)
from reconciler.core.present import human_bytes
from reconciler.core.prune import all_of, loaded_by, prune
from reconciler.core.stored import Needed, Removal
from reconciler.drivers.base import Drivers
from reconciler.drivers.store import open_inodes, remove, stored_repos
from reconciler.errors import ExitCode, RefusedError, UsageError

Found = tuple[tuple[Path, Removal], ...]
"""What can go, and out of which store."""


def register(app: typer.Typer) -> None:
    """Add this verb to the app."""
    app.command("prune")(prune_store)


@verb
def prune_store(
    yes: YesOption = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would be removed.")
    ] = False,
    root: RootOption = None,
    json: JsonOption = False,
    no_color: NoColorOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    lock_timeout: LockTimeoutOption = 10.0,
) -> ExitCode:
    """Remove files from the store that neither a desired file nor a running server needs.

    Also old revisions, and downloads that ended over a week ago. Other caches are never touched.
    """
    output = make_output(no_color=no_color, quiet=quiet, json=json, verbose=verbose)
    workspaces = open_all(root, os.environ)
    main = workspaces[0].drivers(workspaces[0].parse().desired, offline=True)
    with interruptible(output) as interrupt:
        with main.state.run_lock(lock_timeout), interrupt.looking():
            found = _find(workspaces, main)
        _show(found, output, is_dry=dry_run)
        if not found or dry_run:
            return ExitCode.OK
        if not yes:
            with interrupt.asking():
                _confirm()
        with main.state.run_lock(lock_timeout):
            with interrupt.looking():
                again = _find(workspaces, main)
            if again != found:
                raise RefusedError(
                    "what can be removed changed meanwhile; nothing was removed",
                    hint="run it again to see what it is now",
                )
            freed = sum(
                remove([one for at, one in found if at == store], store)
                for store in dict.fromkeys(at for at, _ in found)
            )
    if json:
        output.event(event="done", bytes=freed)
    else:
        output.talk(f"Freed {human_bytes(freed)}.")
    return ExitCode.OK


def _find(workspaces: Sequence[Workspace], main: Drivers) -> Found:
    """What can go, of all stores that the desired files name.

    Raises:
        UsageError: other tools use one of them too.
    """
    needs, stores = [], set()
    for workspace in workspaces:
        desired = workspace.parse().desired
        refuse_shared_store(workspace, desired)
        needs.append(needed_of(workspace, desired))
        stores.add((workspace.root / desired.store).resolve())
    live = Needed(open=frozenset(open_inodes()) | loaded_by(main.runtime.list()))
    needed = all_of([*needs, live])
    now = main.clock.now()
    return tuple(
        (store, one) for store in sorted(stores) for one in prune(stored_repos(store), needed, now)
    )


def _show(found: Found, output: Output, *, is_dry: bool) -> None:
    total = sum(one.count for _, one in found)
    if output.json:
        removals = [asdict(one) | {"repo": one.label} for _, one in found]
        removals = [
            {("bytes" if key == "count" else key): value for key, value in one.items()}
            for one in removals
        ]
        output.event(event="prune", dry_run=is_dry, bytes=total, removals=removals)
        return
    if not found:
        output.prose("Nothing to remove.")
        return
    rows = [
        (one.label, one.name, human_bytes(one.count) if one.count else "-", one.reason)
        for _, one in found
    ]
    output.table(("REPOSITORY", "FILE", "SIZE", "WHY"), rows)
    output.prose(f"Remove {human_bytes(total)} from {', '.join({str(at): 0 for at, _ in found})}.")


def _confirm() -> None:
    if not can_ask():
        raise UsageError("there is no terminal to ask on", hint="add -y to remove without asking")
    if ask("Do you want to remove all this? (yes/no)") not in {"yes", "y"}:
        raise RefusedError("not confirmed; nothing was removed")
