"""The verb that shows what was done to this root: history.

In: the records that runs have left. Out: a table or JSON on stdout, the newest first. It takes no
lock, looks at no server and changes nothing.
"""

from __future__ import annotations

import datetime
import os
from typing import Annotated

import typer

from reconciler.app import open_root
from reconciler.cli.output import CYAN, GREEN, RED, YELLOW
from reconciler.cli.verbs import JsonOption, NoColorOption, RootOption, make_output, verb
from reconciler.core.history import (
    Ending,
    Record,
    changes_text,
    commit_text,
    record_values,
    took_text,
)
from reconciler.errors import ExitCode

HEADER = ("NUMBER", "WHEN", "WHO", "VERB", "COMMIT", "GENERATION", "OUTCOME", "TOOK", "CHANGES")
_COLOURS = {
    Ending.APPLIED: GREEN,
    Ending.FAILED: RED,
    Ending.KILLED: RED,
    Ending.RUNNING: CYAN,
}


def register(app: typer.Typer) -> None:
    """Add this verb to the app."""
    app.command()(history)


@verb
def history(
    number: Annotated[
        int, typer.Option("--number", "-n", metavar="N", min=1, help="So many of the last runs.")
    ] = 20,
    root: RootOption = None,
    json: JsonOption = False,
    no_color: NoColorOption = False,
) -> ExitCode:
    """Show the runs that changed something here, the newest first.

    Who, when, on which commit, what changed, and how it ended.
    """
    output = make_output(no_color=no_color, json=json)
    last = open_root(root, os.environ).records.history()[-number:][::-1]
    if json:
        output.document({"records": [record_values(one) for one in last]})
    elif not last:
        output.prose("No run has changed anything here yet.")
    else:
        colours = [_COLOURS.get(one.outcome, YELLOW) for one in last]
        column = HEADER.index("OUTCOME")
        output.table(HEADER, [_cells(one) for one in last], column, colours)
    return ExitCode.OK


def _cells(record: Record) -> tuple[str, ...]:
    # In the time zone of whoever reads it.
    when = datetime.datetime.fromtimestamp(record.at, datetime.UTC).astimezone()
    said = changes_text(record)
    return (
        str(record.number),
        when.strftime("%Y-%m-%d %H:%M:%S"),
        record.origin.who,
        record.verb,
        commit_text(record),
        str(record.generation or "-"),
        record.outcome,
        took_text(record),
        f"{said} ({record.message})" if record.message else said,
    )
