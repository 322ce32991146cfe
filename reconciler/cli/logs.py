"""The verb that shows what a server wrote: logs.

In: a name and flags. Out: the end of a log on stdout, and what is added to it. It takes no lock
and changes nothing; it needs no desired file to show a log that is there.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from reconciler.app import Workspace, open_root
from reconciler.cli.names import complete_instance, known_instances, known_model
from reconciler.cli.output import YELLOW, Output
from reconciler.cli.verbs import NoColorOption, RootOption, interruptible, make_output, verb
from reconciler.core.desired import MODEL_NAME
from reconciler.core.resolve import model_of
from reconciler.core.words import InstanceName
from reconciler.drivers.base import Cancel
from reconciler.drivers.log_reader import LogReader
from reconciler.errors import ExitCode, UsageError

FOLLOW_POLL_S = 0.2


def register(app: typer.Typer) -> None:
    """Add this verb to the app."""
    app.command()(logs)


@verb
def logs(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="A model, or an instance NAME[1].",
            autocompletion=complete_instance,
        ),
    ],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as it grows.")] = False,
    lines: Annotated[
        int, typer.Option("--lines", "-n", min=0, help="How many of the last lines.")
    ] = 100,
    root: RootOption = None,
    no_color: NoColorOption = False,
) -> ExitCode:
    """Show the output of a model's server."""
    output = make_output(no_color=no_color)
    workspace = open_root(root, os.environ)
    path = Path(workspace.site.log_file(InstanceName(name)))
    if not MODEL_NAME.fullmatch(model_of(InstanceName(name))) or not path.exists():
        path = _log_of(name, workspace, output)
    reader = LogReader(path)
    if tail := reader.last(lines):
        output.data(tail.removesuffix("\n"))
    if not follow:
        return ExitCode.OK
    with interruptible(output, say="") as interrupt:
        _follow(reader, interrupt.event)
        return interrupt.code


def _follow(reader: LogReader, cancel: Cancel) -> None:
    """Print what is added, through rotations, until Ctrl-C."""
    while not cancel.is_set():
        if added := reader.more():
            sys.stdout.write(added)
            sys.stdout.flush()
        cancel.wait(FOLLOW_POLL_S)


def _log_of(name: str, workspace: Workspace, output: Output) -> Path:
    """The log of a name without one: that of an alias, or a deleted one that is still written.

    Raises:
        UsageError: there is no such instance, or it has no log.
    """
    parsed = workspace.parse()
    model = known_model(name, parsed.desired)
    meant = InstanceName(name if "[" in name else model)
    known_instances(meant, parsed.desired)
    path = Path(workspace.site.log_file(meant))
    if path.exists():
        return path
    for server in workspace.drivers(parsed.desired).runtime.list():
        if server.instance == meant:
            output.talk(f"{path} was deleted; this is what its server still writes to it.", YELLOW)
            return Path(f"/proc/{server.ref.pid}/fd/1")
    raise UsageError(f"{name} has no log yet", hint=f"`llm-reconcile status {model}` says why")
