"""The verbs about llm-reconcile itself: schema (of the desired file), version.

In: nothing. Out: text on stdout. They look at no root and at no machine.
"""

from __future__ import annotations

import json

import typer

import reconciler
from reconciler.cli.verbs import make_output, verb
from reconciler.core.schema import desired_schema
from reconciler.errors import ExitCode


def register(app: typer.Typer) -> None:
    """Add these verbs to the app."""
    for function in (schema, version):
        app.command()(function)


@verb
def schema() -> ExitCode:
    """Print the JSON Schema of the desired file.

    For editors and other tools; it is also in schema/desired.schema.json.
    """
    make_output().data(json.dumps(desired_schema(), indent=2, ensure_ascii=False))
    return ExitCode.OK


@verb
def version() -> ExitCode:
    """Print the version of llm-reconcile."""
    tell_version()
    return ExitCode.OK


def tell_version() -> None:
    """The line of `version` and `--version`."""
    make_output().data(f"llm-reconcile {reconciler.__version__}")
