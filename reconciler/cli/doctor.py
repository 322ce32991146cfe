"""The verb that says what is missing on this machine, and what to do about it: doctor.

In: perhaps a desired file or a root. Out: a line a check, or JSON on stdout; an exit code.
It takes no lock and changes nothing.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from reconciler.cli.output import GREEN, RED, YELLOW, Output
from reconciler.cli.verbs import JsonOption, NoColorOption, RootOption, make_output, verb
from reconciler.core.doctor import Mark, doctor_text, doctor_values, examine, is_healthy
from reconciler.errors import ExitCode
from reconciler.survey import survey

_COLOURS = {Mark.OK: GREEN, Mark.WARN: YELLOW, Mark.BAD: RED}


def register(app: typer.Typer) -> None:
    """Add this verb to the app."""
    app.command()(doctor)


@verb
def doctor(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE",
            help="A desired file: also say what it needs. Default: the one of the root here.",
            show_default=False,
        ),
    ] = None,
    root: RootOption = None,
    json: JsonOption = False,
    no_color: NoColorOption = False,
) -> ExitCode:
    """Say what is missing on this machine, and what to do.

    Works without a desired file, and with a broken one. Exits 3 when something is missing that is
    needed; what is only worth a look (warn) does not count.
    """
    output = make_output(no_color=no_color, json=json)
    checks = examine(survey(file, root, os.environ))
    if json:
        output.document(doctor_values(checks))
    else:
        _show(doctor_text(checks), output)
    return ExitCode.OK if is_healthy(checks) else ExitCode.NOT_CONVERGED


def _show(text: str, output: Output) -> None:
    """The marks in colour, where there are colours."""
    terminal = sys.stdout.isatty()
    lines = []
    for line in text.splitlines():
        word = line.partition(" ")[0]
        colour = _COLOURS[Mark(word)] if word in set(Mark) else ""
        lines.append(output.paint(word, colour, terminal=terminal) + line[len(word) :])
    output.data("\n".join(lines))
