"""The verb that says where everything stands: status, for the whole root or for one model.

In: names and flags. Out: a table, all about one model, or JSON on stdout. It takes no lock and
changes nothing; with --wait it looks again until all that is asked about is ready.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Annotated

import typer

from reconciler.app import Workspace, open_root
from reconciler.cli.names import OptionalInstance, chosen
from reconciler.cli.output import GREEN, RED, YELLOW, Output
from reconciler.cli.snapshot import SnapshotOption, refuse_place, write_snapshot
from reconciler.cli.verbs import (
    Interrupt,
    JsonOption,
    NoColorOption,
    OfflineOption,
    RootOption,
    TimeoutOption,
    interruptible,
    make_output,
    verb,
)
from reconciler.core.conditions import Condition, condition_values, conditions_of
from reconciler.core.desired import DesiredState
from reconciler.core.detail import (
    LOG_LINES,
    InstanceDetail,
    command_of,
    detail,
    detail_lines,
    detail_values,
)
from reconciler.core.guards import Allowed
from reconciler.core.observed import ObservedServer
from reconciler.core.planner import lost_roots
from reconciler.core.present import human_bytes, human_seconds
from reconciler.core.resolve import instance_names
from reconciler.core.status import (
    InstanceRow,
    gateway_phase,
    gateway_trouble,
    instance_rows,
    is_converged,
    remarks,
    status_values,
)
from reconciler.core.words import InstanceName, ModelName, Phase
from reconciler.drivers.base import Drivers
from reconciler.errors import ExitCode, InvalidDesiredError, UsageError
from reconciler.look import Keeping, Round, Scope, Wanted, look
from reconciler.observe import observe_servers

WAIT_POLL_S = 0.2
FULL_LOOK_EVERY_S = 5.0
_PHASE_COLOURS = {
    Phase.READY: GREEN,
    Phase.STARTING: YELLOW,
    Phase.STOPPING: YELLOW,
    Phase.SUSPENDED: YELLOW,
    Phase.UNHEALTHY: RED,
    Phase.BLOCKED: RED,
    Phase.EXITED: RED,
}


class WaitFor(StrEnum):
    """What `--wait` waits for."""

    READY = "ready"


@dataclass(frozen=True, slots=True)
class Look:
    """What one call of `status` is about."""

    workspace: Workspace
    wanted: Wanted
    drivers: Drivers
    model: ModelName | None
    instances: frozenset[InstanceName] | None
    """Only these, of what is wanted or lives; None: all."""
    watch: Mapping[str, object] | None
    """What the watch says of itself; None: there is none."""

    def take(self) -> Round:
        """Look at the machine."""
        scope = Scope(frozenset({self.model})) if self.model else None
        keeping = Keeping() if self.watch else None
        return look(self.wanted, self.workspace.site, self.drivers, Allowed(), scope, keeping)

    def rows(self, seen: Round) -> tuple[InstanceRow, ...]:
        """The rows that are asked for."""
        rows = instance_rows(self.wanted.desired, seen.observed, seen.plan)
        if self.instances is None:
            return rows
        return tuple(row for row in rows if row.name in self.instances)

    def conditions(self, seen: Round) -> dict[str, tuple[Condition, ...]]:
        """The conditions of each of them."""
        newest = self.drivers.generations.newest()
        number = newest.number if newest else None
        return conditions_of(self.rows(seen), seen.observed, seen.plan, number)


def register(app: typer.Typer) -> None:
    """Add this verb to the app."""
    app.command()(status)


@verb
def status(
    name: OptionalInstance = None,
    wait: Annotated[
        WaitFor | None,
        typer.Option("--wait", help="Wait until all of it is ready, or cannot become so."),
    ] = None,
    timeout: TimeoutOption = None,
    argv: Annotated[
        bool, typer.Option("--argv", help="Only the command line of each server.")
    ] = False,
    snapshot: SnapshotOption = None,
    root: RootOption = None,
    json: JsonOption = False,
    no_color: NoColorOption = False,
    offline: OfflineOption = False,
) -> ExitCode:
    """Show what runs, and what is not as wanted.

    With NAME, everything about that model. Exits 3 when something is not as wanted.
    """
    output = make_output(no_color=no_color, json=json)
    if timeout is not None and wait is None:
        raise UsageError("--timeout goes with --wait", hint="add: --wait ready")
    if snapshot:
        if name or wait or argv or json:
            said = "--snapshot writes down all of the root, and shows nothing"
            raise UsageError(said, hint="leave NAME, --wait, --argv and --json out")
        refuse_place(snapshot)
    workspace = open_root(root, os.environ)
    try:
        parsed = workspace.parse()
    except InvalidDesiredError:
        _live_only(workspace, output)
        raise
    wanted = Wanted(parsed.desired, parsed.marks)
    if snapshot:
        write_snapshot(snapshot, workspace, wanted, output, offline=offline)
        return ExitCode.OK
    at = _look(workspace, wanted, name, offline=offline)
    seen = at.take()
    code = ExitCode.OK if is_converged(seen.plan) else ExitCode.NOT_CONVERGED
    if wait:
        with interruptible(output, say="") as interrupt:
            seen, code = _wait(at, seen, timeout, output, interrupt)
    if argv:
        _commands(at, seen, output)
    elif json:
        output.document(_values(at, seen))
    elif at.model is None:
        _overview(at, seen, output)
    else:
        _about(at, at.model, seen, output)
    return code


def _look(workspace: Workspace, wanted: Wanted, name: str | None, *, offline: bool) -> Look:
    drivers = workspace.drivers(wanted.desired, offline=offline)
    if name is None:
        return Look(workspace, wanted, drivers, None, None, workspace.watch())
    return Look(workspace, wanted, drivers, *chosen(name, wanted.desired), workspace.watch())


def _live_only(workspace: Workspace, output: Output) -> None:
    """What runs, where the file cannot say what should: it stops nothing, and neither do we."""
    drivers = workspace.drivers(DesiredState(version=1))
    servers = observe_servers(drivers)
    if servers and not output.json:
        rows = [(one.instance, one.phase, str(one.ref.pid)) for one in servers]
        output.table(("NAME", "PHASE", "PID"), rows)
        output.talk("These go on running; the desired file cannot be read:")


def _values(at: Look, seen: Round) -> dict[str, object]:
    rows = {row.name for row in at.rows(seen)}
    details = {one.row.name: detail_values(one) for one in _details(at, seen)} if at.model else {}
    values = status_values(at.wanted.desired, seen.observed, seen.plan)
    values["watch"] = at.watch
    conditions = at.conditions(seen)
    instances = values["instances"]
    if isinstance(instances, list):
        values["instances"] = [
            {
                **one,
                "conditions": condition_values(conditions[one["name"]]),
                **details.get(one["name"], {}),
            }
            for one in instances
            if one["name"] in rows
        ]
    return values


def _details(at: Look, seen: Round) -> tuple[InstanceDetail, ...]:
    memory = at.drivers.gpus.memory_by_pid()
    pids = {one.ref.pid: one.pids for one in seen.observed.servers}
    conditions = at.conditions(seen)
    return tuple(
        replace(
            detail(
                row,
                seen.observed,
                seen.plan,
                at.workspace.site,
                gpu_memory_bytes=sum(memory.get(pid, 0) for pid in pids.get(row.pid or 0, ()))
                or None,
                log_tail=at.drivers.runtime.log_tail(InstanceName(row.name), LOG_LINES),
            ),
            conditions=conditions[row.name],
        )
        for row in at.rows(seen)
    )


def _commands(at: Look, seen: Round, output: Output) -> None:
    found = {
        row.name: list(command_of(InstanceName(row.name), seen.observed, seen.plan))
        for row in at.rows(seen)
    }
    if output.json:
        output.document(found)
        return
    for name, command in found.items():
        said = shlex.join(command) if command else "# no server runs, and none would be started"
        output.data(f"# {name}\n{said}" if len(found) > 1 else said)


def _about(at: Look, name: ModelName, seen: Round, output: Output) -> None:
    now = at.drivers.clock.now()
    details = _details(at, seen)
    blocks = []
    for one in details:
        first, *rest = detail_lines(one, now)
        blocks.append("\n".join([_painted(first, one.row.phase, output), *rest]))
    if blocks:
        output.prose("\n\n".join(blocks))
    else:
        model = at.wanted.desired.models[name]
        output.prose(f"{name} wants no server (state: {model.state}, replicas: {model.replicas}).")


def _painted(line: str, phase: Phase, output: Output) -> str:
    colour = _PHASE_COLOURS.get(phase, "")
    head, _, tail = line.partition(str(phase))
    return f"{head}{output.paint(phase, colour, terminal=sys.stdout.isatty())}{tail}"


def _overview(at: Look, seen: Round, output: Output) -> None:
    desired, path = at.wanted.desired, at.workspace.site.desired
    rows = at.rows(seen)
    if rows:
        _table(rows, at.drivers.clock.now(), output)
    else:
        output.prose(f"{path} wants no server, and none runs.")
    for text in remarks(rows, seen.plan):
        output.prose(text)
    listen = f" on {desired.gateway.url}" if desired.gateway else ""
    if desired.gateway or seen.observed.gateway.master:
        trouble = gateway_trouble(seen.plan)
        where = f", not as wanted: {trouble}" if trouble else listen
        output.prose(f"Gateway: {gateway_phase(seen.observed, seen.plan)}{where}")
    if at.watch:
        _tell_watch(at.watch, at.drivers.clock.now(), output)
    for warning in lost_roots(seen.observed):
        output.talk(f"warning: {warning}", YELLOW)
    if is_converged(seen.plan):
        output.prose(f"The machine matches {path}.")
    else:
        output.prose(
            f"Not as wanted: `llm-reconcile plan {at.workspace.typed}` shows what there is to do."
        )


def _tell_watch(watch: Mapping[str, object], now: float, output: Output) -> None:
    since = watch.get("since")
    up = f" for {human_seconds(now - since)}" if isinstance(since, float) else ""
    output.prose(f"Watched by pid {watch.get('pid')}{up}.")
    for word in ("trouble", "held"):
        if said := watch.get(word):
            output.say(f"  {word}: {said}", YELLOW)


def _table(rows: Sequence[InstanceRow], now: float, output: Output) -> None:
    header = ("NAME", "PHASE", "PID", "PORT", "QUANT", "UP", "MEMORY")
    colours = [_PHASE_COLOURS.get(row.phase, "") for row in rows]
    output.table(header, [_cells(row, now) for row in rows], 1, colours)


def _cells(row: InstanceRow, now: float) -> tuple[str, ...]:
    return (
        row.name,
        row.phase,
        str(row.pid or "-"),
        str(row.port or "-"),
        row.quant or "-",
        human_seconds(now - row.since) if row.since else "-",
        human_bytes(row.memory_bytes) if row.memory_bytes else "-",
    )


def _wait(
    at: Look, seen: Round, timeout: float | None, output: Output, interrupt: Interrupt
) -> tuple[Round, ExitCode]:
    """Look until all is ready or the time is up; without a time-out, until nothing moves."""
    names = _awaited(at)
    began, looked = at.drivers.clock.monotonic(), -FULL_LOOK_EVERY_S
    while True:
        servers = {one.instance: one for one in observe_servers(at.drivers) if one.routed}
        pending = [name for name in names if _phase(servers, name) is not Phase.READY]
        holder = at.drivers.state.run_holder()
        moves = holder or any(_phase(servers, name) is Phase.STARTING for name in pending)
        waited = at.drivers.clock.monotonic() - began
        # What is ready may yet be replaced: as long as somebody works here, look less often.
        if not moves or (not pending and waited >= looked + FULL_LOOK_EVERY_S):
            seen, looked = at.take(), waited
            if is_converged(seen.plan) and _all_ready(at, seen, names):
                return seen, ExitCode.OK
            if not moves and timeout is None:
                return seen, ExitCode.NOT_CONVERGED
        if timeout is not None and waited >= timeout:
            late = ", ".join(pending) or "not all is as wanted"
            output.say(f"Not ready after {timeout:g} s: {late}", YELLOW)
            return at.take(), ExitCode.NOT_CONVERGED
        output.progress(f"  waiting for {', '.join(pending) or holder} ({human_seconds(waited)})")
        if interrupt.event.wait(WAIT_POLL_S):
            return seen, interrupt.code


def _awaited(at: Look) -> tuple[InstanceName, ...]:
    """The instances that shall become ready; of what an operator stopped, only what was named.

    Raises:
        UsageError: the file wants none of them to run.
    """
    journal = at.drivers.state.read().at(at.drivers.clock.now())
    stopped = set() if at.model else journal.suspended.keys()
    models = at.wanted.desired.models
    names = tuple(
        name
        for key, model in models.items()
        if at.model in {None, key} and key not in stopped
        for name in instance_names(ModelName(key), model)
        if at.instances is None or name in at.instances
    )
    if not names:
        what = at.model or at.workspace.site.desired
        raise UsageError(
            f"{what} wants no server, so nothing would ever be ready",
            hint="let the file say `state: running` and at least one replica",
        )
    return names


def _phase(servers: dict[InstanceName, ObservedServer], name: InstanceName) -> Phase:
    return servers[name].phase if name in servers else Phase.ABSENT


def _all_ready(at: Look, seen: Round, names: Sequence[InstanceName]) -> bool:
    ready = {row.name for row in at.rows(seen) if row.phase is Phase.READY}
    return ready >= set(names)
