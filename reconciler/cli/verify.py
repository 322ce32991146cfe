"""The verb that reads files again: verify.

In: names. Out: whether the bytes on disk are the pinned ones, remembered for every later plan. It
asks no hub, holds no run lock and changes no file; what is wrong is mended by the next apply.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

import typer

from reconciler.app import open_root
from reconciler.cli.names import NamesArgument, known_model
from reconciler.cli.output import GREEN, Output
from reconciler.cli.reporting import Reporter, tell_end
from reconciler.cli.verbs import (
    AllOption,
    JsonOption,
    NoColorOption,
    QuietOption,
    RootOption,
    interruptible,
    make_output,
    verb,
)
from reconciler.core.desired import DesiredState
from reconciler.core.observed import FileStatus, ObservedFiles
from reconciler.core.present import human_bytes
from reconciler.core.words import ModelName, ModelState
from reconciler.errors import ExitCode, UsageError
from reconciler.look import Wanted, look_to_verify
from reconciler.loop import ApplyReport, execute_files

INTERRUPTED = "Interrupted: what was verified is remembered. Once more to leave at once."


def register(app: typer.Typer) -> None:
    """Add this verb to the app."""
    app.command()(verify)


@verb
def verify(
    names: NamesArgument = None,
    all_models: AllOption = False,
    root: RootOption = None,
    json: JsonOption = False,
    no_color: NoColorOption = False,
    quiet: QuietOption = False,
) -> ExitCode:
    """Read the files of models again: do they hold the pinned bytes?

    Without NAME all that is here. Wrong bytes are remembered; `apply` fetches those files anew.
    """
    output = make_output(no_color=no_color, quiet=quiet, json=json)
    workspace = open_root(root, os.environ)
    parsed = workspace.parse()
    wanted = Wanted(parsed.desired, parsed.marks, parsed.warnings)
    models = _meant(names or [], wanted.desired, all_models=all_models)
    drivers = workspace.drivers(wanted.desired, offline=True)
    with interruptible(output, INTERRUPTED) as interrupt:
        seen = look_to_verify(wanted, workspace.site, drivers, models)
        notes = _notes(seen.observed.files)
        for name, note in notes.items():
            if not json:
                output.talk(f"{name}: {note}")
        report = execute_files(seen, drivers, Reporter(output), interrupt.event)
        return _finish(report, seen.plan.verify_bytes, notes, output, interrupt.code)


def _meant(names: list[str], desired: DesiredState, *, all_models: bool) -> frozenset[ModelName]:
    if all_models and names:
        raise UsageError("name models, or say --all", hint="leave one of them out")
    models = frozenset(known_model(name, desired) for name in names or desired.models)
    return frozenset(one for one in models if desired.models[one].state is not ModelState.ABSENT)


def _notes(files: Mapping[ModelName, ObservedFiles]) -> dict[str, str]:
    """Why files of a model are not verified."""
    notes: dict[str, str] = {}
    for name, seen in sorted(files.items()):
        here = [file for file in seen.files if file.identity]
        unknown = [file.name for file in here if not file.digest]
        if unknown:
            notes[name] = f"nothing says what {', '.join(unknown)} should hold"
        elif len(here) < len(seen.files):
            notes[name] = f"{len(seen.files) - len(here)} of its {len(seen.files)} files not here"
        elif not here:
            # Nobody was asked: why not is of no matter here.
            is_unknown = seen.status is FileStatus.UNKNOWN
            notes[name] = "its files are not here" if is_unknown else seen.reason
    return notes


def _finish(
    report: ApplyReport, count: int, notes: dict[str, str], output: Output, interrupted: ExitCode
) -> ExitCode:
    is_right = not report.failed
    if output.json:
        output.event(event="done", converged=is_right, bytes=count, not_verified=notes)
    else:
        tell_end(report, output)
    if report.cancelled:
        output.talk("Interrupted.")
        return interrupted
    if not is_right:
        output.say("What runs on wrong bytes serves until `apply` has replaced it.")
        return ExitCode.NOT_CONVERGED
    if not output.json:
        said = f"All {human_bytes(count)} are right." if count else "There was nothing to verify."
        output.talk(said, GREEN if count else "")
    return ExitCode.OK
