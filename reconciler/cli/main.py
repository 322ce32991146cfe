"""The `llm-reconcile` command: all verbs in one typer app.

In: argv. Out: an exit code. Typer's own usage errors exit 2, which here means "changes": they
are turned into 1.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from typing import Annotated

import typer

from reconciler.errors import ExitCode

ABOUT = "One YAML file says which models run here; this makes it so, and shows beforehand how."
EXIT_CODES = (
    "Exit codes: 0 fine; 1 error, nothing done; 2 `plan` or `drift` with --detailed-exitcode: "
    "changes; 3 ran, but not all wanted is ready; 4 refused by a guard, nothing done; 5 another "
    "run holds the lock; 130 or 143 interrupted."
)
MODULES: Mapping[str, tuple[str, ...]] = {
    "validate": ("validate",),
    "plan": ("plan", "show"),
    "drift": ("drift",),
    "apply": ("apply", "down"),
    "watch": ("watch",),
    "events": ("events",),
    "status": ("status",),
    "health": ("health", "metrics"),
    "logs": ("logs",),
    "control": ("stop", "start", "restart"),
    "download": ("download",),
    "update": ("update",),
    "verify": ("verify",),
    "models": ("list",),
    "prune": ("prune",),
    "history": ("history",),
    "rollback": ("rollback",),
    "importing": ("import",),
    "editing": ("fmt", "set"),
    "service": ("service",),
    "doctor": ("doctor",),
    "about": ("schema", "version"),
}
"""Modules of `cli` -> their verbs, in the order of the help."""


def command_line(verb: str | None = None) -> typer.Typer:
    """The app: all of it, or what is needed for a verb, as the imports are most of its time."""
    app = typer.Typer(
        name="llm-reconcile",
        help=ABOUT,
        epilog=EXIT_CODES,
        no_args_is_help=True,
        add_completion=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )
    its = [module for module, verbs in MODULES.items() if verb in verbs]
    for module in its or MODULES:
        importlib.import_module(f"reconciler.cli.{module}").register(app)
    app.callback()(_options)
    return app


def _tell_version(_context: typer.Context, asked: str | None) -> None:
    if asked:
        importlib.import_module("reconciler.cli.about").tell_version()
        raise typer.Exit


VersionOption = Annotated[
    bool | None,
    typer.Option("--version", help="Print the version.", callback=_tell_version, is_eager=True),
]


def _options(version: VersionOption = None) -> None:
    """Nothing else: what goes before a verb is done by its callback."""


def run(app: typer.Typer) -> None:
    """Run the command line; always ends in SystemExit."""
    try:
        app()
    except SystemExit as done:
        own = isinstance(done.code, ExitCode)
        usage = not own and done.code == ExitCode.CHANGES
        sys.exit(ExitCode.ERROR if usage else done.code)
