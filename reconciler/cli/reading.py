"""The desired file as verbs read it.

In: a workspace. Out: what is wanted, with its warnings told. It reads; what changes the machine
cannot be reached from here.
"""

from __future__ import annotations

from reconciler.app import Workspace
from reconciler.cli.output import Output
from reconciler.core.desired import DesiredState
from reconciler.errors import InvalidDesiredError
from reconciler.look import Wanted

NOTHING_RUNS = "Nothing of this root runs."


def read(workspace: Workspace, output: Output) -> Wanted:
    """The desired state, its warnings told.

    Raises:
        InvalidDesiredError: with every mistake in it.
    """
    parsed = workspace.parse()
    for warning in parsed.warnings:
        output.talk(f"warning: {warning}")
    return Wanted(parsed.desired, parsed.marks, parsed.warnings, sources=parsed.sources)


def read_or_nothing(workspace: Workspace, output: Output) -> Wanted:
    """The desired state; an empty one where the file is broken: stopping must always work."""
    try:
        return read(workspace, output)
    except InvalidDesiredError as error:
        output.talk(f"warning: {error.diagnostics[0]}")
        output.talk("warning: going on without the desired file, with default drain and grace")
        return Wanted(DesiredState(version=1), {}, stops=True)
