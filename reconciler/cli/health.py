"""The verbs that ask the servers themselves: health (do they make tokens), metrics (what they did).

In: names and flags. Out: a table or JSON on stdout. They take no lock, wake no server that sleeps
and change nothing; `health` lets each idle server make one token.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import Annotated

import typer

from reconciler.app import open_root
from reconciler.cli.names import OptionalInstance, chosen
from reconciler.cli.output import GREEN, RED, YELLOW, Output
from reconciler.cli.verbs import (
    JsonOption,
    NoColorOption,
    RootOption,
    duration,
    leaving_at_once,
    make_output,
    verb,
)
from reconciler.core.desired import DesiredState
from reconciler.core.detail import serving
from reconciler.core.guards import Allowed
from reconciler.core.observed import ObservedServer
from reconciler.core.present import human_bytes, human_seconds
from reconciler.core.resolve import instance_names, model_of
from reconciler.core.status import InstanceRow, gateway_phase, gateway_trouble, instance_rows
from reconciler.core.vitals import (
    Usage,
    Verdict,
    Vitals,
    down,
    health_values,
    total,
    unasked,
    usage,
)
from reconciler.core.words import InstanceName, Phase
from reconciler.drivers.base import Drivers
from reconciler.errors import ExitCode
from reconciler.look import Round, Wanted, look
from reconciler.observe import PARALLEL_LOOKS, examine_all

TOKEN_TIMEOUT_S = 30.0
"""An idle server needs far less for one token, even a large model on a CPU."""
_COLOURS = {
    Verdict.OK: GREEN,
    Verdict.BUSY: GREEN,
    Verdict.ASLEEP: GREEN,
    Verdict.LOADING: YELLOW,
    Verdict.UNROUTED: YELLOW,
    Verdict.STOPPING: YELLOW,
    Verdict.SILENT: RED,
    Verdict.STUCK: RED,
    Verdict.DOWN: RED,
}


def register(app: typer.Typer) -> None:
    """Add these verbs to the app."""
    for function in (health, metrics):
        app.command()(function)


@dataclass(frozen=True, slots=True)
class Ward:
    """The instances that are asked about, and what was seen of them."""

    desired: DesiredState
    drivers: Drivers
    seen: Round
    rows: tuple[InstanceRow, ...]

    def server(self, row: InstanceRow) -> ObservedServer | None:
        """The live copy that requests go to."""
        return serving(InstanceName(row.name), self.seen.observed)

    def is_wanted(self, row: InstanceRow) -> bool:
        """Whether it should run: what the file does not want, or was stopped, may be down."""
        name = InstanceName(row.name)
        model = self.desired.models.get(model_of(name))
        suspended = model_of(name) in self.seen.observed.journal.suspended
        return bool(model and not suspended and name in instance_names(model_of(name), model))


def _open(name: str | None, root: RootOption) -> Ward:
    workspace = open_root(root, os.environ)
    parsed = workspace.parse()
    desired = parsed.desired
    model, only = (None, None) if name is None else chosen(name, desired)
    drivers = workspace.drivers(desired)
    seen = look(Wanted(desired, parsed.marks), workspace.site, drivers, Allowed())
    rows = tuple(
        row
        for row in instance_rows(desired, seen.observed, seen.plan)
        if model in {None, row.model} and (only is None or row.name in only)
    )
    return Ward(desired, drivers, seen, rows)


@verb
def health(
    name: OptionalInstance = None,
    timeout: Annotated[
        float,
        typer.Option(
            "--timeout",
            metavar="TIME",
            parser=duration,
            show_default=False,
            help="How long one token may take (default: 30s).",
        ),
    ] = TOKEN_TIMEOUT_S,
    root: RootOption = None,
    json: JsonOption = False,
    no_color: NoColorOption = False,
) -> ExitCode:
    """Let each idle server make one token.

    Asks nginx for an answer too. A server that is busy is not given more to do: it shows by its
    progress that it works. Exits 3 when something that should answer does not.
    """
    output = make_output(no_color=no_color, json=json)
    ward = _open(name, root)
    servers = [one for row in ward.rows if (one := ward.server(row))]
    with leaving_at_once(output):
        asked = examine_all(servers, ward.drivers, timeout, threading.Event())
    known = {one.instance: one for one in asked}
    vitals = [
        known.get(InstanceName(row.name)) or down(InstanceName(row.name), row.reason)
        for row in ward.rows
    ]
    bad = {
        one.instance
        for row, one in zip(ward.rows, vitals, strict=True)
        if not one.verdict.is_good and ward.is_wanted(row)
    }
    phase = gateway_phase(ward.seen.observed, ward.seen.plan)
    is_front = ward.desired.gateway is not None and name is None
    gateway_bad = is_front and phase is not Phase.READY
    if json:
        front = {"phase": phase, "healthy": not gateway_bad} if is_front else None
        healthy = not bad and not gateway_bad
        values = {"healthy": healthy, "instances": health_values(vitals), "gateway": front}
        output.document(values)
    else:
        _health_text(ward, vitals, output, name)
    return ExitCode.NOT_CONVERGED if bad or gateway_bad else ExitCode.OK


def _health_text(ward: Ward, vitals: Sequence[Vitals], output: Output, name: str | None) -> None:
    cells = [
        (
            one.instance,
            one.verdict,
            "-" if one.seconds is None else f"{1000 * one.seconds:.0f} ms",
            _count(one.running),
            _count(one.waiting),
        )
        for one in vitals
    ]
    header = ("NAME", "HEALTH", "1 TOKEN", "RUNNING", "WAITING")
    if cells:
        colours = [_COLOURS[one.verdict] for one in vitals]
        output.table(header, cells, 1, colours)
    else:
        output.data("No server runs, and none is wanted.")
    for one in vitals:
        if one.reason:
            output.prose(f"{one.instance}: {one.reason}.")
    if name is None and ward.desired.gateway:
        observed, plan = ward.seen.observed, ward.seen.plan
        trouble = gateway_trouble(plan)
        where = f", not as wanted: {trouble}" if trouble else f" on {ward.desired.gateway.url}"
        output.prose(f"Gateway: {gateway_phase(observed, plan)}{where}")


@verb
def metrics(
    name: OptionalInstance = None,
    root: RootOption = None,
    json: JsonOption = False,
    no_color: NoColorOption = False,
) -> ExitCode:
    """Show requests, tokens, speed and memory.

    What each server has done since its start, asked of the servers themselves.
    Exits 3 when a server that should run did not answer.
    """
    output = make_output(no_color=no_color, json=json)
    ward = _open(name, root)
    counters = _counters(ward)
    gpu = ward.drivers.gpus.memory_by_pid()
    rows = [
        usage(server, counters[row.name] or {}, sum(gpu.get(pid, 0) for pid in server.pids) or None)
        if (server := ward.server(row))
        else Usage(row.name)
        for row in ward.rows
    ]
    quiet = [
        row.name for row in ward.rows if ward.is_wanted(row) and counters.get(row.name) is None
    ]
    if json:
        found = {row.name: counters.get(row.name) for row in ward.rows}
        values = [{**asdict(row), "counters": found[row.name]} for row in rows]
        output.document({"instances": values, "total": asdict(total(rows))})
    else:
        _metrics_text(ward, rows, quiet, output)
    return ExitCode.NOT_CONVERGED if quiet else ExitCode.OK


def _counters(ward: Ward) -> dict[str, dict[str, float] | None]:
    """What each live server counts; None: it did not answer, or is not up yet."""

    def ask(server: ObservedServer) -> dict[str, float] | None:
        if unasked(server):
            return None
        found = ward.drivers.prober.counters(server.address)
        return None if found is None else dict(found)

    servers = {row.name: one for row in ward.rows if (one := ward.server(row))}
    if not servers:
        return {}
    with ThreadPoolExecutor(min(PARALLEL_LOOKS, len(servers))) as pool:
        return dict(zip(servers, pool.map(ask, servers.values()), strict=True))


def _metrics_text(ward: Ward, rows: Sequence[Usage], quiet: Sequence[str], output: Output) -> None:
    # No model can be called so.
    together = replace(total(rows), name="(all)")
    shown = [*rows, together] if len(rows) > 1 else list(rows)
    has_gpu = any(row.gpu_memory_bytes for row in rows)
    header = ["NAME", "RUN", "WAIT", "PROMPT", "TOK/S", "ANSWER", "TOK/S", "MEMORY"]
    cells = [
        [
            row.name,
            _count(row.running),
            _count(row.waiting),
            _count(row.prompt_tokens),
            _rate(row.prompt_tokens_per_second),
            _count(row.generated_tokens),
            _rate(row.generated_tokens_per_second),
            human_bytes(row.memory_bytes) if row.memory_bytes else "-",
            *([human_bytes(row.gpu_memory_bytes or 0)] if has_gpu else []),
        ]
        for row in shown
    ]
    if cells:
        output.table([*header, *(["GPU"] if has_gpu else [])], cells)
    else:
        output.data("No server runs, and none is wanted.")
    now = ward.drivers.clock.now()
    for row in ward.rows:
        if row.name in quiet:
            server = ward.server(row)
            since = f" (started {human_seconds(now - server.since)} ago)" if server else ""
            output.prose(f"{row.name}: {row.reason or row.phase}{since}.")


def _count(value: int | None) -> str:
    return "-" if value is None else f"{value}"


def _rate(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
