"""Snapshots on the command line: `status --snapshot FILE`, `plan --observed FILE`.

In: where one is to be written or read; `-` is stdout or stdin. Out: a file that its owner alone can
read, or a `Snapshot`. What is in it is `core.snapshot`'s matter.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from reconciler.app import Workspace
from reconciler.cli.output import Output
from reconciler.core.snapshot import Snapshot, is_snapshot, read_snapshot, snapshot_text
from reconciler.drivers import effects
from reconciler.errors import UsageError
from reconciler.look import Wanted
from reconciler.saving import refuse_other_file
from reconciler.snapshots import take_snapshot

PIPE = Path("-")

SnapshotOption = Annotated[
    Path | None,
    typer.Option(
        "--snapshot",
        metavar="FILE",
        help="Write all that a plan observes there, for `plan --observed`; -: to stdout.",
    ),
]
ObservedOption = Annotated[
    Path | None,
    typer.Option(
        "--observed",
        metavar="SNAPSHOT",
        help="Look at no machine: plan for the one that `status --snapshot` was run on; -: stdin.",
    ),
]


def refuse_place(path: Path) -> None:
    """See that a snapshot may be written there.

    Raises:
        UsageError: there is something else, or no such folder.
    """
    if path != PIPE:
        refuse_other_file("--snapshot", path, is_snapshot, "snapshot")


def write_snapshot(
    path: Path, workspace: Workspace, wanted: Wanted, output: Output, *, offline: bool
) -> None:
    """Look at the machine, and write down what was seen.

    Raises:
        OSError: it cannot be written.
    """
    drivers = workspace.drivers(wanted.desired, offline=offline)
    text = snapshot_text(take_snapshot(workspace, wanted, drivers))
    if path == PIPE:
        output.data(text)
        return
    effects.write_atomic(path.absolute(), text, mode=0o600)
    output.talk(f"Wrote {path}. Elsewhere: llm-reconcile plan DESIRED --observed {path}")


def snapshot_at(path: Path) -> Snapshot:
    """The snapshot in a file.

    Raises:
        UsageError: it cannot be read, or is none.
    """
    if path == PIPE:
        return read_snapshot("the snapshot from stdin", sys.stdin.buffer.read())
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"--observed {path} cannot be read: {error.strerror}",
            hint="`llm-reconcile status --snapshot FILE` makes one, on the machine",
        ) from error
    return read_snapshot(str(path), content)
