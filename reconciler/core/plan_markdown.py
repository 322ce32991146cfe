"""A plan as Markdown, for a comment under a pull request.

In: a plan's JSON form. Out: text: the counts first, a row a change, what is long folded.
Whatever somebody else named (models, commands, reasons) is escaped: it must neither break the
table nor call anybody's name.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from reconciler.core.plan import Action
from reconciler.core.present import JSON_ACTIONS, SIGNS, disk_text, downtime_text, human_bytes
from reconciler.core.selection import Selection
from reconciler.core.text import printable

MOST_ROWS = 12
"""More changes than this are folded."""
_SIGN_OF = {tuple(said): SIGNS[action] for action, said in reversed(JSON_ACTIONS.items())}
_NOTHING = tuple(JSON_ACTIONS[Action.NO_OP])
_SPECIAL = re.compile(r"([\\`*_\[\]#|~])")


def plan_markdown(document: Mapping[str, Any]) -> str:
    """The whole plan; ends with what it was made of."""
    rows = [one for one in document["resource_changes"] if _is_shown(one)]
    lines = [f"### Plan for {_code(document['desired']['path'])}", "", *_seen(document)]
    if rows or document["guards"]:
        lines += [f"**{_counts(document)}**{_costs(document)}", ""]
    else:
        lines += [f"**No changes.** {_nothing(document)}", ""]
    for guard in document["guards"]:
        flag = f" If that is what you want: {_code(guard['flag'])}" if guard["flag"] else ""
        lines += [f"> **Refused:** {_escaped(guard['message'])}.{flag}", ""]
    lines += _folded(f"{len(rows)} resources", _table(rows), is_long=len(rows) > MOST_ROWS)
    for one in rows:
        if fields := _fields(one["change"]):
            lines += _folded(f"<code>{html.escape(one['address'])}</code>", fields, is_long=True)
    drift = document["resource_drift"]
    if drift:
        said = [f"- {_code(one['address'])}: {_escaped(one['reason'])}" for one in drift]
        lines += ["**Drift**, left as it is:", "", *said, ""]
    warnings = [f"- {_escaped(one['summary'])}" for one in document["diagnostics"]]
    lines += _folded(f"{len(warnings)} warnings", warnings, is_long=len(warnings) > 3)
    return "\n".join([*lines, _footer(document)]) + "\n"


def _seen(document: Mapping[str, Any]) -> list[str]:
    """Of which machine it is, where that is not the one that it was made on."""
    taken = document["observed"].get("snapshot")
    if taken is None:
        return []
    where = f"{_code(taken['root'])} on {_code(taken['host'])}"
    return [f"Against a snapshot of {where}: {_escaped(taken['age'])}.", ""]


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
    return f"The machine matches {_code(document['desired']['path'])}."


def _table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    if not rows:
        return []
    lines = [f"| {_sign(one)} | {_code(one['address'])} | {_said(one)} |" for one in rows]
    return ["| | resource | what happens |", "|---|---|---|", *lines]


def _sign(change: Mapping[str, Any]) -> str:
    return "`!`" if change["blocked"] else f"`{_SIGN_OF[tuple(change['change']['actions'])]}`"


def _said(change: Mapping[str, Any]) -> str:
    if change["blocked"]:
        return f"**blocked**: {_escaped(change['blocked'])}"
    impact = change["impact"]
    kinds = {"download": "download_bytes", "verify": "verify_bytes", "remove": "freed_bytes"}
    costs = [f"{human_bytes(impact[key])} to {verb}" for verb, key in kinds.items() if impact[key]]
    costs.append(downtime_text(impact["downtime_s"], impact.get("hold_s")))
    return ", ".join([_escaped(change["action_reason"]), *(one for one in costs if one)])


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
