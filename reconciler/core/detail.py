"""Everything about one instance: what `status NAME` shows.

In: its row, its server or its planned launch, files, last exit, the end of its log. Out: an
`InstanceDetail`, as lines for a terminal and as plain values.
Values of its environment are masked as in a plan; nothing here looks at the machine.
"""

from __future__ import annotations

import datetime
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from reconciler.core.cards import asks_for_cards
from reconciler.core.conditions import Condition
from reconciler.core.downtime import LastStart
from reconciler.core.engine import masked, user_flags_of
from reconciler.core.launch import Launch
from reconciler.core.observed import (
    LastExit,
    ObservedFiles,
    ObservedServer,
    ObservedState,
)
from reconciler.core.plan import Plan, StartServer
from reconciler.core.present import human_bytes, human_seconds
from reconciler.core.resolve import model_of
from reconciler.core.site import Site
from reconciler.core.status import InstanceRow
from reconciler.core.text import printable
from reconciler.core.words import InstanceName, Phase

LOG_LINES = 10
"""As many as `systemctl status` shows."""
_LABEL_WIDTH = 12


@dataclass(frozen=True, slots=True)
class InstanceDetail:
    """One instance, with all that is known of it."""

    row: InstanceRow
    command: tuple[str, ...]
    """As it runs; of one that does not run, as it would be started; empty when neither is known."""
    env: tuple[tuple[str, str], ...]
    """What the file gives it, with values masked that may be secrets."""
    address: str
    slot: str
    files: ObservedFiles | None
    gpu_memory_bytes: int | None
    last_start: LastStart | None
    last_exit: LastExit | None
    log: str
    """Path of its log."""
    log_tail: tuple[str, ...]
    conditions: tuple[Condition, ...] = ()


def command_of(name: InstanceName, observed: ObservedState, plan: Plan) -> tuple[str, ...]:
    """The command line of an instance: as it runs, else as the plan would start it."""
    server = serving(name, observed)
    if server:
        return (*server.command, *server.argv)
    launch = _planned(name, plan)
    return (*launch.command, *launch.argv) if launch else ()


def serving(name: InstanceName, observed: ObservedState) -> ObservedServer | None:
    """The live copy of an instance that requests go to, or would."""
    copies = [one for one in observed.servers if one.instance == name]
    return min(copies, key=lambda one: (not one.routed, one.ref)) if copies else None


def _planned(name: InstanceName, plan: Plan) -> Launch | None:
    for step in plan.steps:
        if isinstance(step.effect, StartServer) and step.effect.launch.instance == name:
            return step.effect.launch
    return None


def detail(
    row: InstanceRow,
    observed: ObservedState,
    plan: Plan,
    site: Site,
    *,
    gpu_memory_bytes: int | None,
    log_tail: str,
) -> InstanceDetail:
    """Put together what is known of the instance of `row`."""
    name = InstanceName(row.name)
    server, launch = serving(name, observed), _planned(name, plan)
    env = server.env if server else launch.env if launch else ()
    at = server or launch
    return InstanceDetail(
        row=row,
        command=command_of(name, observed, plan),
        env=tuple((key, masked(key, value)) for key, value in env),
        address=at.address if at else "",
        slot=at.slot if at else "",
        files=observed.files.get(model_of(name)),
        gpu_memory_bytes=gpu_memory_bytes,
        last_start=observed.journal.starts.get(name),
        last_exit=observed.last_exit(name),
        log=site.log_file(name),
        log_tail=tuple(printable(line) for line in log_tail.splitlines()[-LOG_LINES:]),
    )


def detail_values(one: InstanceDetail) -> dict[str, object]:
    """What `status NAME --json` adds to the instance's row."""
    ended, start = one.last_exit, one.last_start
    return {
        "command": list(one.command),
        "env": dict(one.env),
        "address": one.address or None,
        "files": [
            {"name": file.name, "size_bytes": file.size, "on_disk": file.is_here}
            for file in (one.files.files if one.files else ())
        ],
        "gpu_memory_bytes": one.gpu_memory_bytes,
        "last_exit": ended
        and {
            "at": ended.at,
            "reason": ended.reason,
            "seen": ended.seen,
            "final": ended.final,
            "hint": ended.hint,
        },
        "start_s": start and start.seconds,
        "log": one.log,
        "log_tail": list(one.log_tail),
    }


def detail_lines(one: InstanceDetail, now: float) -> list[str]:
    """The instance as lines of text, in the manner of `systemctl status`."""
    lines = [f"{one.row.name}: {one.row.phase}{_uptime(one, now)}"]
    lines += [
        f"{label + ':' if label else '':>{_LABEL_WIDTH}} {value}"
        for label, value in _facts(one, now)
    ]
    if one.log_tail:
        lines += ["", f"The end of {one.log}:", *(f"  {line}" for line in one.log_tail)]
    return lines


def _uptime(one: InstanceDetail, now: float) -> str:
    if one.row.since is None:
        return ""
    ago = human_seconds(now - one.row.since)
    return f", up for {ago}" if one.row.phase is Phase.READY else f", started {ago} ago"


def _facts(one: InstanceDetail, now: float) -> Iterator[tuple[str, str]]:
    row = one.row
    if row.reason:
        yield "Reason", row.reason
    if row.next:
        yield "Next", f"{row.next}."
    yield from _conditions(one.conditions, now)
    yield "Model", _model(row)
    if row.pid is not None:
        yield "Server", f"pid {row.pid}, copy {one.slot}, spec {row.spec}"
        yield "Memory", _memory(one)
    if one.address:
        yield "Address", one.address
    yield from _files(one.files)
    if one.command:
        words = _command_lines(one.command)
        yield "Command" if row.pid is not None else "Would run", words[0]
        yield from (("", f"  {words}") for words in words[1:])
    for name, value in one.env:
        yield "Environment", f"{name}={value}"
    if one.last_start:
        yield "Last start", f"ready after {one.last_start.seconds:.1f} s"
    if one.last_exit:
        unseen = "" if one.last_exit.seen else "not seen; its log ends "
        yield "Last exit", f"{unseen}{_moment(one.last_exit.at, now)}: {one.last_exit.reason}"
        if one.last_exit.hint:
            yield "To do", one.last_exit.hint


def _conditions(conditions: Sequence[Condition], now: float) -> Iterator[tuple[str, str]]:
    label = "Conditions"
    for one in conditions:
        since = "" if one.since is None else f", since {_moment(one.since, now)}"
        yield label, f"{one.type}: {one.status} ({one.reason}{since})"
        label = ""


def _model(row: InstanceRow) -> str:
    parts = [row.model]
    parts += [f"quant {row.quant}"] if row.quant else []
    parts += [f"also called {', '.join(row.alias)}"] if row.alias else []
    parts += [f"port {row.port}"] if row.port else []
    return ", ".join(parts)


def _memory(one: InstanceDetail) -> str:
    host = f"{human_bytes(one.row.memory_bytes or 0)} of the host"
    if one.gpu_memory_bytes:
        return f"{host}, {human_bytes(one.gpu_memory_bytes)} on GPUs"
    # An engine that finds no card says so once, and serves from the CPU.
    is_amiss = one.row.phase is Phase.READY and asks_for_cards(user_flags_of(one.command))
    return f"{host}, none on GPUs as far as their drivers tell" if is_amiss else host


def _files(files: ObservedFiles | None) -> Iterator[tuple[str, str]]:
    if files is None:
        return
    label = "Files"
    for file in files.files:
        missing = "" if file.is_here else ", not here yet"
        yield label, f"{file.name} ({human_bytes(file.size)}{missing})"
        label = ""
    if not files.files:
        yield label, files.reason or files.status


def _command_lines(command: Sequence[str]) -> list[str]:
    """One flag a line, with its value, quoted as a shell reads it."""
    lines: list[list[str]] = [[]]
    for word in command:
        if word.startswith("--"):
            lines.append([])
        lines[-1].append(shlex.quote(word))
    return [printable(" ".join(words)) for words in lines if words]


def _moment(at: float, now: float) -> str:
    when = datetime.datetime.fromtimestamp(at, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return f"{when}, {human_seconds(max(0.0, now - at))} ago"
