"""The verb that checks desired files, each by itself: validate.

In: files. Out: all that is wrong with them, on stderr or as one JSON document. Alone it looks at
nothing but the files; with --engine also at the help of the engine that they would be served by.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from reconciler.app import check_file, find_engine
from reconciler.cli.output import Output
from reconciler.cli.verbs import JsonOption, NoColorOption, RootOption, make_output, verb
from reconciler.core.desired import DesiredState
from reconciler.core.engine_check import check_engine
from reconciler.core.observed_engine import ObservedEngine
from reconciler.core.parse import ParsedDesired
from reconciler.core.words import EngineKind
from reconciler.errors import Diagnostic, ExitCode, InvalidDesiredError, Severity


@dataclass(frozen=True, slots=True)
class _Checked:
    """One desired file, and what was found."""

    path: str
    desired: DesiredState | None
    """None: it does not say what is desired."""
    found: tuple[Diagnostic, ...]
    engine: ObservedEngine | None = None
    """None: none was looked for."""

    @property
    def errors(self) -> tuple[Diagnostic, ...]:
        return tuple(one for one in self.found if one.severity is Severity.ERROR)


def register(app: typer.Typer) -> None:
    """Add this verb to the app."""
    app.command()(validate)


@verb
def validate(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE", help="Desired files, or directories of them.")
    ],
    engine: Annotated[
        bool,
        typer.Option("--engine", help="Look up flags and variables in the engine's help, too."),
    ] = False,
    root: RootOption = None,
    json: JsonOption = False,
    no_color: NoColorOption = False,
) -> ExitCode:
    """Check desired files, each by itself; nothing on the machine is looked at.

    With --engine, `params`, `args` and `env` are looked up in the --help of the engine that would
    serve the models here. No server has to run, and none is started.
    """
    output = make_output(no_color=no_color, json=json)
    checked = [_check(file, root, with_engine=engine) for file in files]
    is_valid = not any(one.errors for one in checked)
    if json:
        output.document({"valid": is_valid, "files": [_values(one) for one in checked]})
    else:
        for one in checked:
            _tell(one, output)
    return ExitCode.OK if is_valid else ExitCode.ERROR


def _check(file: Path, root: Path | None, *, with_engine: bool) -> _Checked:
    try:
        name, parsed = check_file(file, root, Path.cwd())
    except InvalidDesiredError as error:
        return _Checked(str(file), None, error.diagnostics)
    if not with_engine:
        return _Checked(name, parsed.desired, parsed.warnings)
    engine = find_engine(file, root, parsed.desired, os.environ)
    found = (*parsed.warnings, *_beside(engine, parsed))
    return _Checked(name, parsed.desired, found, engine)


def _beside(engine: ObservedEngine, parsed: ParsedDesired) -> tuple[Diagnostic, ...]:
    if engine.kind is None:
        places = (parsed.marks.get(path) for path in (("engine", "command"), ("engine", "kind")))
        place = next((one for one in places if one), None)
        return (Diagnostic(Severity.ERROR, engine.reason, place),)
    return check_engine(parsed.desired, engine, parsed.marks)


def _tell(checked: _Checked, output: Output) -> None:
    for one in checked.found:
        if one.severity is Severity.WARNING:
            output.talk(f"warning: {one}")
    if checked.errors:
        output.error(InvalidDesiredError(checked.errors))
    elif checked.desired:
        output.prose(f"{checked.path} is valid: {_amount(checked.desired)}{_for(checked.engine)}.")


def _amount(desired: DesiredState) -> str:
    models = len(desired.models)
    gateway = f"gateway on {desired.gateway.listen}" if desired.gateway else "no gateway"
    return f"{models} model{'' if models == 1 else 's'}, {gateway}"


def _for(engine: ObservedEngine | None) -> str:
    if engine is None:
        return ""
    is_embedded = engine.kind is EngineKind.EMBEDDED
    name = "the embedded engine" if is_embedded else engine.command[0]
    return f"; {name} takes all flags"


def _values(checked: _Checked) -> dict[str, object]:
    engine = checked.engine
    return {
        "path": checked.path,
        "valid": not checked.errors,
        "engine": {"kind": engine.kind, "command": engine.command}
        if engine and engine.kind
        else None,
        "diagnostics": [
            {
                "severity": one.severity,
                "summary": one.summary,
                "hint": one.hint,
                "range": str(one.position or ""),
            }
            for one in checked.found
        ],
    }
