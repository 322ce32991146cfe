"""The verb that fetches files and starts nothing: download.

In: names. Out: the models' files, an exit code. It holds no run lock: a download of hours must keep
nobody from stopping a server; of two runs that want the same file one fetches, and both use it.
"""

from __future__ import annotations

import os

import typer

from reconciler.app import Workspace, open_root
from reconciler.cli.names import NamesArgument, known_model
from reconciler.cli.output import Output
from reconciler.cli.reporting import Reporter, tell_end
from reconciler.cli.verbs import (
    AllOption,
    Interrupt,
    JsonOption,
    LimitRateOption,
    LockedOption,
    NoColorOption,
    OfflineOption,
    ParallelismOption,
    QuietOption,
    RootOption,
    VerboseOption,
    download_limits,
    interruptible,
    make_output,
    verb,
)
from reconciler.core.desired import DesiredState
from reconciler.core.observed import FileStatus
from reconciler.core.present import human_bytes
from reconciler.core.words import ModelName, ModelState
from reconciler.errors import ExitCode, RefusedError, UsageError
from reconciler.look import Round, Wanted, look_at_files
from reconciler.loop import ApplyReport, execute_files
from reconciler.recording import About, Recording
from reconciler.saving import plan_document

INTERRUPTED = "Interrupted: what has come is kept. Once more to leave at once."


def register(app: typer.Typer) -> None:
    """Add this verb to the app."""
    app.command()(download)


@verb
def download(
    names: NamesArgument = None,
    all_models: AllOption = False,
    parallelism: ParallelismOption = None,
    limit_rate: LimitRateOption = None,
    root: RootOption = None,
    json: JsonOption = False,
    no_color: NoColorOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    locked: LockedOption = False,
    offline: OfflineOption = False,
) -> ExitCode:
    """Fetch the files of models; start and stop nothing.

    Goes on where an earlier run ended, whatever ended it.
    """
    output = make_output(no_color=no_color, quiet=quiet, json=json, verbose=verbose)
    workspace = open_root(root, os.environ)
    parsed = workspace.parse()
    wanted = Wanted(parsed.desired, parsed.marks, parsed.warnings, locked=locked)
    models = _meant(names or [], wanted.desired, all_models=all_models)
    drivers = workspace.drivers(
        wanted.desired, download_limits(parallelism, limit_rate), offline=offline
    )
    with interruptible(output, INTERRUPTED) as interrupt:
        seen = look_at_files(wanted, workspace.site, drivers, models)
        _show(seen, wanted, workspace, output)
        if seen.guards:
            raise RefusedError("; ".join(guard.message for guard in seen.guards))
        recording = Recording(About("download", workspace.site.desired, frozenset()), drivers)
        recording.begin(seen.plan)
        tell = recording.hears(Reporter(output))
        report = execute_files(seen, drivers, tell, interrupt.event)
        recording.settle()
        recording.end(interrupted=interrupt.event.is_set())
        return _finish(seen, report, output, interrupt)


def _meant(names: list[str], desired: DesiredState, *, all_models: bool) -> frozenset[ModelName]:
    if all_models == bool(names):
        raise UsageError(
            "name models, or say --all", hint=f"there are: {', '.join(sorted(desired.models))}"
        )
    models = frozenset(known_model(name, desired) for name in names or desired.models)
    absent = sorted(one for one in models if desired.models[one].state is ModelState.ABSENT)
    if names and absent:
        raise UsageError(
            f"the file wants nothing of {absent[0]} here",
            hint="let it say `state: present`, or `running`",
        )
    return models - set(absent)


def _show(seen: Round, wanted: Wanted, workspace: Workspace, output: Output) -> None:
    if output.json:
        output.event(event="plan", **plan_document(seen, workspace, wanted))
        return
    for name, files in sorted(seen.observed.files.items()):
        missing = [file for file in files.files if not file.is_here]
        if files.status is FileStatus.PRESENT:
            output.talk(f"{name}: here, {human_bytes(files.size)}")
        elif files.status is FileStatus.MISSING and missing:
            count = f"{len(missing)} file{'s' if len(missing) > 1 else ''}"
            output.talk(f"{name}: {count}, {human_bytes(files.missing_bytes)} to download")


def _finish(seen: Round, report: ApplyReport, output: Output, interrupt: Interrupt) -> ExitCode:
    lacking = {
        name: files.reason
        for name, files in sorted(seen.observed.files.items())
        if files.status not in {FileStatus.PRESENT, FileStatus.MISSING}
    }
    is_done = report.converged and not lacking
    if output.json:
        output.event(event="done", converged=is_done, lacking=lacking)
    else:
        tell_end(report, output)
        for name, reason in lacking.items():
            output.say(f"{name}: {reason}")
    if interrupt.event.is_set():
        output.talk("Interrupted. The next download or apply goes on from there.")
        return interrupt.code
    if not is_done:
        output.say("Not all files are here. Mend the above, then do it again.")
        return ExitCode.NOT_CONVERGED
    if not output.json:
        output.talk("All files are here.")
    return ExitCode.OK
