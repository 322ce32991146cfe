"""A plan as text and as JSON. Pure: the same plan gives the same bytes.

In: a `Plan`, guards. Out: text in Terraform's manners (without colour; `cli` adds it by the sign
at a line's start), or plain values for JSON. Values are masked before they get here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from reconciler.core.plan import (
    Action,
    ApplyGateway,
    AwaitReady,
    Change,
    Detail,
    FetchFiles,
    Guard,
    Plan,
    RemoveFiles,
    RemoveRender,
    ResourceType,
    StartServer,
    Step,
    StepEffect,
    StopGateway,
    StopServer,
    VerifyFiles,
    WritePins,
    WriteRender,
)
from reconciler.core.text import printable
from reconciler.errors import Diagnostic

SIGNS = {
    Action.NO_OP: " ",
    Action.CREATE: "+",
    Action.UPDATE: "~",
    Action.REPLACE: "-/+",
    Action.SURGE: "+/-",
    Action.DELETE: "-",
    Action.ADOPT: ">",
}
JSON_ACTIONS = {
    Action.NO_OP: ["no-op"],
    Action.CREATE: ["create"],
    Action.UPDATE: ["update"],
    Action.ADOPT: ["update"],
    Action.REPLACE: ["delete", "create"],
    Action.SURGE: ["create", "delete"],
    Action.DELETE: ["delete"],
}
"""Terraform's set; what we adopt is in its eyes updated in place."""

DONE_WORDS: Mapping[type[StepEffect], str] = {
    WritePins: "written",
    FetchFiles: "downloaded",
    VerifyFiles: "verified",
    RemoveFiles: "removed",
    StopServer: "stopped",
    StartServer: "ready",
    AwaitReady: "ready",
    ApplyGateway: "live",
    StopGateway: "stopped",
    WriteRender: "written",
    RemoveRender: "removed",
}
"""What a step has done, once it is done."""

FORMAT_VERSION = "1.0"
_KIB = 1024
_LONGEST_VALUE = 60


def human_bytes(count: float) -> str:
    """Bytes with a binary unit and one decimal: `4.9 GiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < _KIB:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= _KIB
    return f"{count:.1f} TiB"


def human_seconds(seconds: float) -> str:
    """Seconds as `45 s`, `3m20s`, `2h05m` or `3d4h`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02}m"
    return f"{whole // 86400}d{whole % 86400 // 3600}h"


def plan_text(
    plan: Plan, guards: Sequence[Guard] = (), *, nothing: str = "", tell_guards: bool = True
) -> str:
    """The whole plan for a terminal; ends with the line of counts.

    `nothing`: what is said of no changes, where it is not that the machine matches the file.
    `tell_guards` False: who shows the text says of them what there is to say.
    """
    shown = [change for change in plan.changes if _is_shown(change)]
    lines = [line for change in shown for line in [*_change_lines(change), ""]]
    if plan.is_noop and not plan.blocked and not guards:
        lines.append(f"No changes. {nothing or _nothing(plan)}")
    else:
        lines += [_summary_line(plan), *_after_lines(plan)]
    lines += [line for warning in plan.warnings for line in ("", _warning_line(warning))]
    for guard in guards if tell_guards else ():
        lines += ["", f"Refused: {guard.message}."]
        if guard.flag:
            lines.append(f"  If that is what you want: {guard.flag}")
    return "\n".join(lines) + "\n"


def _nothing(plan: Plan) -> str:
    if plan.only:
        return f"There is nothing to do for {plan.only}."
    return f"The machine matches {plan.desired}."


def _warning_line(warning: Diagnostic) -> str:
    end = "" if warning.summary.endswith("?") else "."
    return f"Warning: {warning}{end}"


def _is_shown(change: Change) -> bool:
    is_still = change.action is Action.NO_OP and not change.blocked and not change.drift
    return not is_still or is_suspended(change)


def is_suspended(change: Change) -> bool:
    """Whether somebody has stopped it."""
    return change.type is ResourceType.INSTANCE and change.reason.startswith("suspended")


def _change_lines(change: Change) -> list[str]:
    sign = "!" if change.blocked or change.drift else SIGNS[change.action]
    lines = [f"{sign:>3} {change.address:<32} {_headline(change)}".rstrip()]
    if len(change.obstacles) > 1:
        lines += [f"      - {reason}" for reason in change.obstacles]
    lines += [f"      {detail_text(detail)}" for detail in change.details]
    if drain := drain_text(change.type, change.impact.drain_s):
        cut = "" if change.type is ResourceType.GATEWAY else "; longer ones are cut"
        lines.append(f"      {drain}{cut}")
    if said := downtime_text(change.impact.downtime_s, change.impact.hold_s):
        lines.append(f"      {said}")
    return lines


def _headline(change: Change) -> str:
    if change.blocked:
        stays = f", {change.reason}" if change.reason != change.blocked else ""
        count = len(change.obstacles)
        return f"blocked{stays}{f', for {count} reasons:' if count > 1 else f': {change.blocked}'}"
    impact = change.impact
    costs = {
        "download": impact.download_bytes,
        "verify": impact.verify_bytes,
        "remove": impact.freed_bytes,
    }
    said = [f"{human_bytes(count)} to {verb}" for verb, count in costs.items() if count]
    if said:
        return ", ".join((change.reason, *said))
    return f"{change.reason}; drift: {change.drift}" if change.drift else change.reason


def detail_text(detail: Detail) -> str:
    """One field's difference in a line."""
    before, after = _short(detail.before), _short(detail.after)
    if before == after and detail.before and detail.after and detail.before != detail.after:
        before, after = _where_they_differ(printable(detail.before), printable(detail.after))
    mark = "  # forces restart" if detail.forces_restart else ""
    if detail.before is None and not detail.forces_restart:
        return f"{detail.path}: {after}"
    return f"{detail.path}: {before} -> {after}{mark}"


def _short(value: str | None) -> str:
    if value is None:
        return "(none)"
    text = printable(value)
    return text if len(text) <= _LONGEST_VALUE else f"…{text[-_LONGEST_VALUE:]}"


def _where_they_differ(before: str, after: str) -> tuple[str, str]:
    """Of two long values that end alike: what stands around their first difference."""
    pairs = enumerate(zip(before, after, strict=False))
    shorter = min(len(before), len(after))
    first = next((at for at, (one, other) in pairs if one != other), shorter)
    start = max(0, first - _LONGEST_VALUE // 3)
    end = start + _LONGEST_VALUE
    lead = "…" if start else ""
    return (
        f"{lead}{before[start:end]}{'…' if len(before) > end else ''}",
        f"{lead}{after[start:end]}{'…' if len(after) > end else ''}",
    )


def about(seconds: float) -> str:
    """How long something takes, roughly."""
    return f"about {human_seconds(seconds)}" if seconds >= 1 else "less than a second"


def drain_text(kind: str, drain_s: float | None) -> str:
    """How long running requests get before a stop; empty where none is waited for."""
    if not drain_s:
        return ""
    refused = ", new ones are refused" if kind == ResourceType.GATEWAY else ""
    return f"running requests get {human_seconds(drain_s)} to finish{refused}"


def downtime_text(seconds: float | None, hold_s: float | None) -> str:
    """How long nobody answers, and what becomes of requests meanwhile; empty where all goes on."""
    if not seconds:
        return ""
    said = f"{about(seconds)} of downtime"
    if hold_s is None:
        return said
    if not hold_s:
        return f"{said}, requests get 503"
    if hold_s >= seconds:
        return f"{said}, requests wait"
    time = f"up to {human_seconds(hold_s)}" if hold_s >= 1 else "less than a second"
    return f"{said}, requests wait {time}, then get 503"


def disk_text(folder: str, free_bytes: int, free_after_bytes: int) -> str:
    """What room there is and will be; empty where there is too little: of that a guard speaks."""
    if free_after_bytes < 0:
        return ""
    free, after = human_bytes(free_bytes), human_bytes(free_after_bytes)
    return f"Disk: {free} free in {folder}, {after} afterwards."


def _summary_line(plan: Plan) -> str:
    counts = plan.summary
    line = (
        f"Plan: {counts.add} to add, {counts.change} to change, {counts.replace} to replace, "
        f"{counts.remove} to remove, {counts.unchanged} unchanged"
    )
    return f"{line}, {counts.blocked} blocked." if counts.blocked else f"{line}."


_GATEWAY_WORDS = {
    Action.CREATE: "start",
    Action.UPDATE: "reload",
    Action.REPLACE: "restart",
    Action.DELETE: "stop",
}


def _after_lines(plan: Plan) -> list[str]:
    costs = {
        "Download": plan.download_bytes,
        "Verify": plan.verify_bytes,
        "Free": plan.freed_bytes,
    }
    said = [f"{verb} {human_bytes(count)}." for verb, count in costs.items() if count]
    disks = (
        disk_text(printable(one.folder), one.free_bytes, one.free_after_bytes) for one in plan.disks
    )
    said += [one for one in disks if one]
    renders = [one for one in plan.changes if one.type is ResourceType.RENDER]
    removed = sum(one.action is Action.DELETE for one in renders)
    written = sum(one.action in {Action.CREATE, Action.UPDATE} for one in renders)
    if written or removed:
        said.append(f"Renders: {written} to write, {removed} to remove.")
    return said + [
        f"Gateway: {_GATEWAY_WORDS[change.action]}."
        for change in plan.changes
        if change.type is ResourceType.GATEWAY and change.action in _GATEWAY_WORDS
    ]


def plan_values(plan: Plan, guards: Sequence[Guard] = ()) -> dict[str, object]:
    """The plan's own part of its JSON form; `app` adds time, file hash and fingerprint."""
    return {
        "format_version": FORMAT_VERSION,
        "resource_changes": [_change_values(change, plan.steps) for change in plan.changes],
        "resource_drift": [
            {"address": change.address, "type": change.type, "reason": change.drift}
            for change in plan.changes
            if change.drift
        ],
        "guards": [asdict(guard) for guard in guards],
        "disks": [asdict(one) for one in plan.disks],
        "summary": asdict(plan.summary),
    }


def _change_values(change: Change, steps: Sequence[Step]) -> dict[str, object]:
    numbers = {step.number: step.address for step in steps}
    own = [step for step in steps if step.address == change.address]
    first = {need for step in own for need in (*step.needs, *step.after)}
    needs = {numbers[need] for need in first & numbers.keys()} - {change.address}
    before = {detail.path: detail.before for detail in change.details if detail.before is not None}
    after = {detail.path: detail.after for detail in change.details if detail.after is not None}
    return {
        "address": change.address,
        "type": change.type,
        "name": change.name,
        "change": {
            "actions": JSON_ACTIONS[change.action],
            "before": before or None,
            "after": after or None,
            "replace_paths": [d.path for d in change.details if d.forces_restart],
        },
        "action_reason": change.reason,
        "blocked": change.blocked or None,
        "depends_on": sorted(needs),
        "impact": asdict(change.impact),
    }
