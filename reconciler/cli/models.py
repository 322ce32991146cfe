"""The verb that shows what the file names: list.

In: the desired file of this root. Out: a table or JSON on stdout. It takes no lock and changes
nothing; of files that are not here it asks the hub their size.
"""

from __future__ import annotations

import os
from dataclasses import asdict

import typer

from reconciler.app import open_root
from reconciler.cli.verbs import (
    JsonOption,
    NoColorOption,
    OfflineOption,
    RootOption,
    make_output,
    verb,
)
from reconciler.core.listing import WANTED, ModelRow, model_rows, on_disk_text
from reconciler.core.present import human_bytes
from reconciler.errors import ExitCode
from reconciler.observe import observe_files


def register(app: typer.Typer) -> None:
    """Add this verb to the app."""
    app.command("list")(list_models)


@verb
def list_models(
    root: RootOption = None,
    json: JsonOption = False,
    no_color: NoColorOption = False,
    offline: OfflineOption = False,
) -> ExitCode:
    """Show the models: what is wanted of each, and how much of it is on disk."""
    output = make_output(no_color=no_color, json=json)
    workspace = open_root(root, os.environ)
    desired = workspace.parse().desired
    drivers = workspace.drivers(desired, offline=offline)
    rows = model_rows(desired, observe_files(desired, drivers, (), lock=drivers.lock.read()))
    if json:
        output.document({"models": [asdict(row) for row in rows]})
        return ExitCode.OK
    header = ("NAME", "WANTED", "ON DISK", "SIZE", "QUANT", "PORT", "ALIASES", "SOURCE")
    output.table(header, [_cells(row) for row in rows])
    for row in rows:
        others = [f"{name} ({human_bytes(size)})" for name, size in row.quants.items()]
        if others:
            output.prose(f"{row.name} has {', '.join(others)}.")
        if row.reason:
            output.prose(f"{row.name}: {row.reason}.")
    return ExitCode.OK


def _cells(row: ModelRow) -> tuple[str, ...]:
    return (
        row.name,
        WANTED[row.state],
        on_disk_text(row),
        human_bytes(row.size_bytes) if row.size_bytes else "-",
        row.quant or "-",
        str(row.port or "-"),
        ",".join(row.aliases) or "-",
        row.source,
    )
