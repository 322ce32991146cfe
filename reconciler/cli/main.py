"""The `llm-reconcile` command: all verbs in one typer app.

In: argv. Out: an exit code. Typer's own usage errors exit 2, which here means "changes": they
are turned into 1.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from reconciler.cli import (
    about,
    apply,
    control,
    doctor,
    download,
    health,
    history,
    logs,
    models,
    prune,
    status,
    update,
    verify,
)
from reconciler.errors import ExitCode

app = typer.Typer(
    name="llm-reconcile",
    help="One YAML file says which models run here; this makes it so, and shows beforehand how.",
    epilog="Exit codes: 0 fine; 1 error, nothing done; 2 `plan --detailed-exitcode` with changes; "
    "3 ran, but not all wanted is ready; 4 refused by a guard, nothing done; 5 another run holds "
    "the lock; 130 or 143 interrupted.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
for group in (
    apply,
    status,
    health,
    logs,
    control,
    download,
    update,
    verify,
    models,
    prune,
    history,
    doctor,
    about,
):
    group.register(app)


def _tell_version(_context: typer.Context, asked: str | None) -> None:
    if asked:
        about.tell_version()
        raise typer.Exit


VersionOption = Annotated[
    bool | None,
    typer.Option("--version", help="Print the version.", callback=_tell_version, is_eager=True),
]


@app.callback()
def _options(version: VersionOption = None) -> None:
    """Nothing else: what goes before a verb is done by its callback."""


def main() -> None:
    """Run the command line; always ends in SystemExit."""
    try:
        app()
    except SystemExit as done:
        own = isinstance(done.code, ExitCode)
        usage = not own and done.code == ExitCode.CHANGES
        sys.exit(ExitCode.ERROR if usage else done.code)
