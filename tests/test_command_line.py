"""The app of all verbs, and that of one: which modules are imported for it."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from reconciler.cli.main import MODULES, command_line


@pytest.mark.parametrize("module", MODULES)
def test_a_module_has_the_verbs_that_are_said_of_it(module: str) -> None:
    app = typer.Typer()
    importlib.import_module(f"reconciler.cli.{module}").register(app)
    commands = [
        one.name or getattr(one.callback, "__name__", "") for one in app.registered_commands
    ]
    groups = [one.name for one in app.registered_groups]
    assert (*commands, *groups) == MODULES[module]


def test_a_verb_imports_no_other() -> None:
    code = (
        "import sys; from reconciler.cli.main import command_line; command_line('plan');"
        "print(*(name for name in sys.modules if name.startswith('reconciler.')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported = set(done.stdout.split())
    assert "reconciler.cli.plan" in imported
    assert not imported & {"reconciler.cli.watch", "reconciler.watch", "reconciler.cli.importing"}


@pytest.mark.parametrize("word", ["aply", "--help", "", None])
def test_what_is_no_verb_is_answered_by_all(word: str | None) -> None:
    verbs = [verb for its in MODULES.values() for verb in its]
    told = CliRunner().invoke(command_line(word), ["--help"]).output
    assert all(f"  {verb} " in told for verb in verbs)
    said = CliRunner().invoke(command_line(word), ["aply"]).output
    assert "apply" in said
