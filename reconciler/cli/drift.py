"""The verb that compares the machine with what was applied last: drift.

In: a root, or its desired file. Out: what differs. What the
desired file says by now plays no part: that is `plan`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from reconciler.app import Workspace, open_file, open_root
from reconciler.cli.output import Output
from reconciler.cli.verbs import (
    JsonOption,
    NoColorOption,
    OfflineOption,
    RootOption,
    make_output,
    verb,
)
from reconciler.core.drift import Drift, drift_lines, drift_of, drift_values
from reconciler.core.generations import Generation
from reconciler.core.guards import Allowed
from reconciler.core.parse import parse_desired
from reconciler.drivers.lock_file import KeptLockFile
from reconciler.drivers.rendered_files import rendered_files
from reconciler.errors import ExitCode, UsageError
from reconciler.look import Wanted, look, nothing_wanted

OptionalFile = Annotated[
    Path | None,
    typer.Argument(
        metavar="FILE", help="The desired file (default: the last applied).", show_default=False
    ),
]


def register(app: typer.Typer) -> None:
    """Add this verb to the app."""
    app.command()(drift)


@verb
def drift(
    file: OptionalFile = None,
    root: RootOption = None,
    json: JsonOption = False,
    no_color: NoColorOption = False,
    detailed_exitcode: Annotated[
        bool, typer.Option("--detailed-exitcode", help="Exit 2 where something differs.")
    ] = False,
    offline: OfflineOption = False,
) -> ExitCode:
    """Show what is not as it was applied last, whatever the file says by now.

    Changes nothing; `apply` mends it.
    """
    output = make_output(no_color=no_color, json=json)
    workspace = open_file(file, root, os.environ) if file else open_root(root, os.environ)
    found = show_drift(workspace, output, offline=offline)
    return ExitCode.CHANGES if detailed_exitcode and found else ExitCode.OK


def show_drift(workspace: Workspace, output: Output, *, offline: bool) -> tuple[Drift, ...]:
    """Show what differs.

    Raises:
        UsageError: the file was not applied here last.
    """
    newest = workspace.generations.newest()
    if newest is None or newest.file != workspace.site.desired:
        raise UsageError(
            f"{workspace.site.desired} was not applied here last: there is nothing to compare with",
            hint=f"`llm-reconcile plan {workspace.typed}` shows what differs from the file",
        )
    found, parts = _look(workspace, newest, offline=offline)
    _print(found, newest, parts, output)
    return found


def _look(
    workspace: Workspace, newest: Generation, *, offline: bool
) -> tuple[tuple[Drift, ...], list[str]]:
    """What differs, and what was applied in part since."""
    parsed, site = parse_desired(newest.sources), workspace.site
    drivers = workspace.drivers(parsed.desired, offline=offline)
    journal = drivers.state.read()
    is_down = journal.is_down
    desired = nothing_wanted(parsed.desired) if is_down else parsed.desired
    drivers = replace(drivers, lock=KeptLockFile(newest.lock, site.lock))
    wanted = Wanted(desired, parsed.marks, stops=is_down)
    seen = look(wanted, site, drivers, Allowed())
    lies = rendered_files(site, seen.observed.gateway.generation)
    return drift_of(desired, site, seen.observed, seen.plan, lies), sorted(journal.parts)


def _print(
    found: tuple[Drift, ...], newest: Generation, parts: Sequence[str], output: Output
) -> None:
    if output.json:
        applied: dict[str, object] = {"file": newest.file, "generation": newest.number}
        applied |= {"at": newest.at, "parts": parts}
        output.document({"applied": applied, "drift": drift_values(found)})
    else:
        output.plan("\n".join(drift_lines(found, newest.file, parts)))
