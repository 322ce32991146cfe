"""The verb that shows what a watch saw happen and did: events.

In: a name and flags. Out: a table or JSON on stdout, the newest last, and what is added to it. It
takes no lock and changes nothing; it needs no desired file to show what is there.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import closing
from typing import Annotated

import typer

from reconciler.app import Workspace, open_root
from reconciler.cli.names import complete_instance, known_instances, known_model
from reconciler.cli.output import GREEN, RED, YELLOW, Output
from reconciler.cli.verbs import (
    JsonOption,
    NoColorOption,
    RootOption,
    interruptible,
    make_output,
    verb,
)
from reconciler.core.events import HEADER, Event, EventKind, event_cells, event_values
from reconciler.drivers.event_log import EventLog, EventReader
from reconciler.errors import ExitCode

FOLLOW_POLL_S = 0.2
EVENT_COLOURS: dict[str, str] = {
    EventKind.EXITED: RED,
    EventKind.WEDGED: RED,
    EventKind.GIVEN_UP: RED,
    EventKind.TROUBLE: RED,
    EventKind.FAILED: RED,
    EventKind.BLOCKED: YELLOW,
    EventKind.OVER: GREEN,
    EventKind.APPLIED: GREEN,
}


def register(app: typer.Typer) -> None:
    """Add this verb to the app."""
    app.command()(events)


@verb
def events(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="Only of this model, or this instance NAME[1].",
            show_default=False,
            autocompletion=complete_instance,
        ),
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as they come.")] = False,
    number: Annotated[
        int, typer.Option("--number", "-n", metavar="N", min=0, help="So many of the last ones.")
    ] = 50,
    root: RootOption = None,
    json: JsonOption = False,
    no_color: NoColorOption = False,
) -> ExitCode:
    """Show what a watch saw happen and did, the newest last.

    With --json, one event a line.
    """
    output = make_output(no_color=no_color, json=json)
    workspace = open_root(root, os.environ)
    path = workspace.site.event_log
    with closing(EventReader(path)) as reader:
        log = EventLog(path)
        last = log.last(number, name)
        if name is not None and not last:
            name = _meant(name, workspace)
            last = log.last(number, name)
        _show(last, output)
        if not follow:
            if not last and not json:
                output.prose("No watch has told of anything here yet.")
            return ExitCode.OK
        with interruptible(output, say="") as interrupt:
            while not interrupt.event.is_set():
                for one in reader.more():
                    # What came while the last ones were read is among them.
                    if one.concerns(name) and one not in last:
                        _add(one, output)
                interrupt.event.wait(FOLLOW_POLL_S)
            return interrupt.code


def _meant(name: str, workspace: Workspace) -> str:
    """The name without one: that of an alias, or of a server to which nothing happened yet.

    Raises:
        UsageError: there is no such model or instance.
    """
    desired = workspace.parse().desired
    known_instances(name, desired)
    return name if "[" in name else known_model(name, desired)


def _show(last: Sequence[Event], output: Output) -> None:
    if output.json:
        for one in last:
            output.event(**event_values(one))
    elif last:
        colours = [EVENT_COLOURS.get(one.kind, "") for one in last]
        output.table(HEADER, [event_cells(one) for one in last], HEADER.index("KIND"), colours)


def _add(event: Event, output: Output) -> None:
    """One that came after the table."""
    if output.json:
        output.event(**event_values(event))
    else:
        output.data("  ".join(event_cells(event)))
