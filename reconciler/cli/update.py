"""The verb that moves pins: update.

In: names, or none for all models of the hub. Out: the move as a plan, then what it leads to. It is
an apply of these models with the pins that their revisions have on the hub now; nothing else ever
moves one.
"""

from __future__ import annotations

import os
from dataclasses import replace

import typer

from reconciler.app import open_root
from reconciler.cli.apply import ApplyLockTimeoutOption, Run, perform, waits_s
from reconciler.cli.names import NamesArgument, known_model
from reconciler.cli.reading import read
from reconciler.cli.verbs import (
    AllowDestroyOption,
    AllowProtectedOption,
    JsonOption,
    LimitRateOption,
    NoColorOption,
    ParallelismOption,
    QuietOption,
    RootOption,
    VerboseOption,
    YesOption,
    download_limits,
    make_output,
    verb,
)
from reconciler.core.desired import DesiredState
from reconciler.core.guards import Allowed
from reconciler.core.words import ModelName, ModelState
from reconciler.errors import ExitCode, UsageError
from reconciler.look import Scope


def register(app: typer.Typer) -> None:
    """Add this verb to the app."""
    app.command()(update)


@verb
def update(
    names: NamesArgument = None,
    yes: YesOption = False,
    root: RootOption = None,
    json: JsonOption = False,
    no_color: NoColorOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    allow_destroy: AllowDestroyOption = 0,
    allow_protected: AllowProtectedOption = None,
    lock_timeout: ApplyLockTimeoutOption = None,
    parallelism: ParallelismOption = None,
    limit_rate: LimitRateOption = None,
) -> ExitCode:
    """Move pins to what their revisions are on the hub now.

    Shows which files change and what that replaces, asks, writes the lock file and carries it out.
    Without names it is about all models that come from the hub.
    """
    output = make_output(no_color=no_color, quiet=quiet, json=json, verbose=verbose)
    workspace = open_root(root, os.environ)
    wanted = read(workspace, output)
    models = _meant(names or [], wanted.desired)
    allowed = Allowed(allow_destroy, frozenset(allow_protected or ()))
    limits = download_limits(parallelism, limit_rate)
    run = Run(
        workspace,
        replace(wanted, moving=models),
        workspace.drivers(wanted.desired, limits),
        Scope(models),
        "update",
        allowed=allowed,
        yes=yes,
        lock_timeout=waits_s(workspace, lock_timeout),
        nothing="All files are those that are pinned.",
    )
    return perform(run, output)


def _meant(names: list[str], desired: DesiredState) -> frozenset[ModelName]:
    named = [known_model(name, desired) for name in names or desired.models]
    fitting = frozenset(
        name
        for name in named
        if desired.models[name].source.repo is not None
        and desired.models[name].state is not ModelState.ABSENT
    )
    if names and (other := sorted(set(named) - fitting)):
        raise UsageError(
            f"{other[0]} has no pin to move: its files do not come from the hub, or are not wanted"
        )
    return fitting
