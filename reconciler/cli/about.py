"""The verbs about llm-reconcile itself: schema (of the desired file), version.

In: nothing. Out: text on stdout. They look at no root and at no machine.
"""

from __future__ import annotations

import json
from typing import Annotated

import typer

import reconciler
from reconciler.cli.verbs import make_output, verb
from reconciler.core.plan_schema import plan_document_schema
from reconciler.core.schema import desired_schema
from reconciler.errors import ExitCode


def register(app: typer.Typer) -> None:
    """Add these verbs to the app."""
    for function in (schema, version):
        app.command()(function)


@verb
def schema(
    of_plan: Annotated[
        bool, typer.Option("--plan", help="That of a plan's JSON form instead.")
    ] = False,
) -> ExitCode:
    """Print the JSON Schema of the desired file.

    For editors and other tools; both are also in schema/.
    """
    found = plan_document_schema() if of_plan else desired_schema()
    make_output().data(json.dumps(found, indent=2, ensure_ascii=False))
    return ExitCode.OK


@verb
def version() -> ExitCode:
    """Print the version of llm-reconcile."""
    tell_version()
    return ExitCode.OK


def tell_version() -> None:
    """The line of `version` and `--version`."""
    make_output().data(f"llm-reconcile {reconciler.__version__}")
