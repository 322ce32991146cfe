"""A plan as Markdown, for a comment under a pull request.

In: a plan's JSON form. Out: text: the counts first, a row a change, what is long folded.
Whatever somebody else named (models, commands, reasons) is escaped: it must neither break the
table nor call anybody's name.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from reconciler.core.plan import Action
from reconciler.core.present import (
    JSON_ACTIONS,
    SIGNS,
    disk_text,
    downtime_text,
    drain_text,
    human_bytes,
)
from reconciler.core.selection import Selection
from reconciler.core.text import printable

MOST_ROWS = 12
"""More changes than this are folded."""
LONGEST = 60_000
"""Characters. A comment of GitHub's holds 65,536, and with one more it is refused as a whole."""
_SIGN_OF = {tuple(said): SIGNS[action] for action, said in reversed(JSON_ACTIONS.items())}
_NOTHING = tuple(JSON_ACTIONS[Action.NO_OP])
_HEAD = ("| | resource | what happens |", "|---|---|---|")
_SPECIAL = re.compile(r"([\\`*_\[\]#|~])")


def plan_markdown(document: Mapping[str, Any]) -> str:
    """The whole plan; ends with what it was made of.

    What a comment has no room for is left out, and that is said.
    """
    rows = [one for one in document["resource_changes"] if _is_shown(one)]
    lines = [f"### Plan for {_code(document['desired']['path'])}", "", *_seen(document)]
    if rows or document["guards"]:
        lines += [f"**{_counts(document)}**{_costs(document)}", ""]
    else:
        lines += [f"**No changes.** {_nothing(document)}", ""]
    for guard in document["guards"]:
        flag = f" If that is what you want: {_code(guard['flag'])}" if guard["flag"] else ""
        lines += [f"> **Refused:** {_escaped(guard['message'])}.{flag}", ""]
    end: list[str] = []
    drift = document["resource_drift"]
    if drift:
        said = [f"- {_code(one['address'])}: {_escaped(one['reason'])}" for one in drift]
        end += ["**Drift**, left as it is:", "", *said, ""]
    warnings = [f"- {_escaped(one['summary'])}" for one in document["diagnostics"]]
    end += _folded(f"{len(warnings)} warnings", warnings, is_long=len(warnings) > 3)
    end += [_footer(document)]
    room = LONGEST - sum(len(line) + 1 for line in (*lines, *end))
    return "\n".join([*lines, *_changes(rows, room), *end]) + "\n"


def _changes(rows: Sequence[Mapping[str, Any]], room: int) -> list[str]:
    """A table of them, and the fields of each folded; what there is no room for is told."""
    if not rows:
        return []
    table, left, room = _fitting([[_row(one)] for one in rows], room)
    lines = [*_HEAD, *table, "", *_left_out(f"{left} more resources", left)]
    folds = [
        _folded(f"<code>{html.escape(one['address'])}</code>", fields, is_long=True)
        for one in rows
        if (fields := _fields(one["change"]))
    ]
    fields, left, _ = _fitting(folds, room)
    lines += [*fields, *_left_out(f"the fields of {left} more resources", left)]
    return _folded(f"{len(rows)} resources", lines[:-1], is_long=len(rows) > MOST_ROWS)


def _fitting(parts: Iterable[Sequence[str]], room: int) -> tuple[list[str], int, int]:
    """The lines of the parts that there is room for, how many are left out, the room left."""
    lines: list[str] = []
    left = 0
    for part in parts:
        size = sum(len(line) + 1 for line in part)
        if size <= room:
            lines += part
            room -= size
        else:
            left += 1
    return lines, left, room


def _left_out(what: str, count: int) -> list[str]:
    if not count:
        return []
    return [f"A comment has no room for {what}: `plan` without `--format` shows all.", ""]


def _seen(document: Mapping[str, Any]) -> list[str]:
    """Of which machine it is, where that is not the one that it was made on."""
    taken = document["observed"].get("snapshot")
    if taken is None and _is_against_a_file(document):
        return ["No machine was looked at: this is what the change of the file does.", ""]
    if taken is None:
        return []
    where = f"{_code(taken['root'])} on {_code(taken['host'])}"
    return [f"Against a snapshot of {where}: {_escaped(taken['age'])}.", ""]


def _is_against_a_file(document: Mapping[str, Any]) -> bool:
    return bool(document["observed"].get("source") == "none")


def _is_shown(change: Mapping[str, Any]) -> bool:
    is_still = tuple(change["change"]["actions"]) == _NOTHING
    is_suspended = change["type"] == "instance" and change["action_reason"].startswith("suspended")
    return not is_still or bool(change["blocked"]) or is_suspended


def _counts(document: Mapping[str, Any]) -> str:
    counts = document["summary"]
    words = {"add": "to add", "change": "to change", "replace": "to replace", "remove": "to remove"}
    parts = [f"{counts[key]} {said}" for key, said in words.items()]
    parts += [f"{counts['unchanged']} unchanged"]
    parts += [f"{counts['blocked']} blocked"] if counts["blocked"] else []
    return ", ".join(parts) + "."


def _costs(document: Mapping[str, Any]) -> str:
    kinds = {"Download": "download_bytes", "Verify": "verify_bytes", "Free": "freed_bytes"}
    impacts = [one["impact"] for one in document["resource_changes"]]
    sums = {verb: sum(one[key] for one in impacts) for verb, key in kinds.items()}
    said = [f"{verb} {human_bytes(count)}." for verb, count in sums.items() if count]
    # As a plan was saved before it told of disks.
    disks = (
        disk_text(_code(one["folder"]), one["free_bytes"], one["free_after_bytes"])
        for one in document.get("disks", ())
    )
    return "".join(f" {one}" for one in (*said, *disks) if one)


def _nothing(document: Mapping[str, Any]) -> str:
    said = document["selection"]
    selection = Selection(frozenset(said["targets"]), frozenset(said["excludes"]))
    if selection.is_partial:
        return f"There is nothing to do for {_escaped(selection.words)}."
    if said["destroy"]:
        return "Nothing of this root runs."
    if _is_against_a_file(document):
        return "There is nothing to do."
    return f"The machine matches {_code(document['desired']['path'])}."


def _row(change: Mapping[str, Any]) -> str:
    return f"| {_sign(change)} | {_code(change['address'])} | {_said(change)} |"


def _sign(change: Mapping[str, Any]) -> str:
    return "`!`" if change["blocked"] else f"`{_SIGN_OF[tuple(change['change']['actions'])]}`"


def _said(change: Mapping[str, Any]) -> str:
    reason, impact = _escaped(change["action_reason"]), change["impact"]
    if change["blocked"]:
        stays = f", {reason}" if change["action_reason"] != change["blocked"] else ""
        return f"**blocked**{stays}: {_escaped(change['blocked'])}"
    kinds = {"download": "download_bytes", "verify": "verify_bytes", "remove": "freed_bytes"}
    costs = [f"{human_bytes(impact[key])} to {verb}" for verb, key in kinds.items() if impact[key]]
    # As a plan was saved before it told of them.
    costs.append(drain_text(change["type"], impact.get("drain_s")))
    costs.append(downtime_text(impact["downtime_s"], impact.get("hold_s")))
    return ", ".join([reason, *(one for one in costs if one)])


def _fields(change: Mapping[str, Any]) -> list[str]:
    """Its fields before and after, as a diff."""
    before, after = change["before"] or {}, change["after"] or {}
    lines = list(_diff(before, after, change["replace_paths"]))
    ticks = max((len(run) for line in lines for run in re.findall(r"`+", line)), default=0)
    fence = "`" * max(3, ticks + 1)
    return [f"{fence}diff", *lines, fence] if lines else []


def _diff(
    before: Mapping[str, str], after: Mapping[str, str], forces: Sequence[str]
) -> Iterator[str]:
    for path in sorted(before.keys() | after.keys()):
        mark = "  # forces restart" if path in forces else ""
        for sign, side in (("-", before), ("+", after)):
            if path in side:
                value = printable(side[path])
                yield f"{sign} {path}: {value}{mark if sign == '+' or path not in after else ''}"


def _folded(title: str, lines: Sequence[str], *, is_long: bool) -> list[str]:
    if not is_long or not lines:
        return [*lines, ""] if lines else []
    return [f"<details><summary>{title}</summary>", "", *lines, "", "</details>", ""]


def _footer(document: Mapping[str, Any]) -> str:
    digest = document["desired"]["sha256"][:12]
    return f"<sub>Made {document['timestamp']}; the file's sha256 begins with {digest}.</sub>"


def _escaped(text: str) -> str:
    """Foreign text in one line: no markup, no cell, and nobody is mentioned."""
    plain = html.escape(" ".join(text.split()), quote=False)
    return _SPECIAL.sub(r"\\\1", plain).replace("@", "@&#8203;")


def _code(text: str) -> str:
    """A name as code: no ticks and no bars can be in it."""
    return f"<code>{_escaped(text)}</code>"
