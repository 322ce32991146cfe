"""The verbs that only look: status, logs, version.

In: names and flags. Out: tables or JSON on stdout. They take no lock and change nothing.
"""

from __future__ import annotations

import os
import sys
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated

import typer

import reconciler
from reconciler.app import Workspace, open_root
from reconciler.cli.output import GREEN, RED, YELLOW, Output, table
from reconciler.cli.verbs import (
    JsonOption,
    NoColorOption,
    RootOption,
    interruptible,
    make_output,
    verb,
)
from reconciler.core.desired import MODEL_NAME, DesiredState
from reconciler.core.guards import Allowed
from reconciler.core.present import human_bytes, human_seconds
from reconciler.core.resolve import instance_names, model_of
from reconciler.core.status import (
    InstanceRow,
    gateway_phase,
    gateway_trouble,
    instance_rows,
    is_converged,
    status_values,
)
from reconciler.core.words import InstanceName, ModelName, Phase
from reconciler.drivers.base import Cancel
from reconciler.errors import ExitCode, InvalidDesiredError, UsageError
from reconciler.loop import Round, Scope, Wanted, look
from reconciler.observe import observe_servers

FOLLOW_POLL_S = 0.2
_PHASE_COLOURS = {
    Phase.READY: GREEN,
    Phase.STARTING: YELLOW,
    Phase.STOPPING: YELLOW,
    Phase.SUSPENDED: YELLOW,
    Phase.UNHEALTHY: RED,
    Phase.BLOCKED: RED,
    Phase.EXITED: RED,
}


def register(app: typer.Typer) -> None:
    """Add these verbs to the app."""
    for function in (status, logs, version):
        app.command()(function)


@verb
def status(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Only this model.", show_default=False)
    ] = None,
    root: RootOption = None,
    json: JsonOption = False,
    no_color: NoColorOption = False,
) -> ExitCode:
    """What runs, and what is not as wanted. Exits 3 when something is not."""
    output = make_output(no_color=no_color, json=json)
    workspace = open_root(root, os.environ)
    try:
        parsed = workspace.parse()
    except InvalidDesiredError:
        _live_only(workspace, output)
        raise
    scope = Scope(frozenset({known_model(name, parsed.desired)})) if name else None
    drivers = workspace.drivers(parsed.desired)
    wanted = Wanted(parsed.desired, parsed.marks)
    seen = look(wanted, workspace.site, drivers, Allowed(), scope)
    if json:
        output.document(status_values(parsed.desired, seen.observed, seen.plan))
    else:
        _status_text(parsed.desired, seen, workspace.site.desired, drivers.clock.now(), output)
    return ExitCode.OK if is_converged(seen.plan) else ExitCode.NOT_CONVERGED


def _live_only(workspace: Workspace, output: Output) -> None:
    """What runs, where the file cannot say what should: it stops nothing, and neither do we."""
    drivers = workspace.drivers(DesiredState(version=1))
    servers = observe_servers(drivers)
    if servers and not output.json:
        rows = [(one.instance, one.phase, str(one.ref.pid)) for one in servers]
        output.data(table(("NAME", "PHASE", "PID"), rows))
        output.talk("These go on running; the desired file cannot be read:")


def _status_text(desired: DesiredState, seen: Round, path: str, now: float, output: Output) -> None:
    rows = instance_rows(desired, seen.observed, seen.plan)
    if rows:
        header = ("NAME", "PHASE", "PID", "PORT", "QUANT", "UP", "MEMORY", "REASON")
        text = table(header, [_cells(row, now) for row in rows])
        lines = text.splitlines()
        terminal = sys.stdout.isatty()
        painted = [output.paint(lines[0], "1", terminal=terminal)]
        for row, line in zip(rows, lines[1:], strict=True):
            colour = _PHASE_COLOURS.get(row.phase, "")
            painted.append(
                line.replace(row.phase, output.paint(row.phase, colour, terminal=terminal), 1)
            )
        output.data("\n".join(painted))
    else:
        output.data(f"{path} wants no server, and none runs.")
    for row in rows:
        if row.next:
            output.data(f"{row.name}: {row.next}.")
    listen = f" on http://{desired.gateway.listen}" if desired.gateway else ""
    if desired.gateway or seen.observed.gateway.master:
        trouble = gateway_trouble(seen.plan)
        where = f", not as wanted: {trouble}" if trouble else listen
        output.data(f"Gateway: {gateway_phase(seen.observed, seen.plan)}{where}")
    if is_converged(seen.plan):
        output.data(f"The machine matches {path}.")
    else:
        output.data(f"Not as wanted: `llm-reconcile plan {path}` shows what apply would do.")


def _cells(row: InstanceRow, now: float) -> tuple[str, ...]:
    return (
        row.name,
        row.phase,
        str(row.pid or "-"),
        str(row.port or "-"),
        row.quant or "-",
        human_seconds(now - row.since) if row.since else "-",
        human_bytes(row.memory_bytes) if row.memory_bytes else "-",
        row.reason,
    )


def known_model(name: str, desired: DesiredState) -> ModelName:
    """The model of that name, or of that instance.

    Raises:
        UsageError: there is none; names the nearest.
    """
    model = model_of(InstanceName(name))
    if model in desired.models:
        return model
    near = get_close_matches(model, desired.models, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(sorted(desired.models))}"
    raise UsageError(f"no model is called {name}", hint=hint)


@verb
def logs(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A model, or an instance NAME[1].")],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as it grows.")] = False,
    lines: Annotated[
        int, typer.Option("--lines", "-n", min=0, help="How many of the last lines.")
    ] = 100,
    root: RootOption = None,
    no_color: NoColorOption = False,
) -> ExitCode:
    """The output of a model's server."""
    output = make_output(no_color=no_color)
    workspace = open_root(root, os.environ)
    path = Path(workspace.site.log_file(InstanceName(name)))
    if not MODEL_NAME.fullmatch(model_of(InstanceName(name))) or not path.exists():
        parsed = workspace.parse()
        model = known_model(name, parsed.desired)
        known = instance_names(model, parsed.desired.models[model])
        if InstanceName(name) not in known and known:
            raise UsageError(f"no instance is called {name}", hint=f"there are: {', '.join(known)}")
        raise UsageError(f"{name} has no log yet", hint="it was never started here: apply first")
    content = path.read_bytes()
    tail = content.decode(errors="replace").split("\n")
    tail = (tail[:-1] if tail[-1] == "" else tail)[-lines:] if lines else []
    if tail:
        output.data("\n".join(tail))
    if not follow:
        return ExitCode.OK
    with interruptible(output, say="") as interrupt:
        _follow(path, len(content), interrupt.event)
        return interrupt.code


def _follow(path: Path, start: int, cancel: Cancel) -> None:
    """Print what is added, through rotations, until Ctrl-C."""
    position, inode = path.stat().st_size if start > path.stat().st_size else start, -1
    while not cancel.is_set():
        try:
            with path.open("rb") as file:
                seen = os.fstat(file.fileno())
                # A new file under the name, or a shorter one: begin at its start.
                if inode not in {-1, seen.st_ino} or seen.st_size < position:
                    position = 0
                inode = seen.st_ino
                file.seek(position)
                added = file.read()
                position += len(added)
        except FileNotFoundError:
            added = b""
        if added:
            sys.stdout.write(added.decode(errors="replace"))
            sys.stdout.flush()
        cancel.wait(FOLLOW_POLL_S)


@verb
def version() -> ExitCode:
    """The version of llm-reconcile."""
    make_output().data(f"llm-reconcile {reconciler.__version__}")
    return ExitCode.OK
