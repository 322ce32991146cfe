"""Several files into one tree, and `defaults` below each model.

In: the trees of all files. Out: one tree of the same nodes, so that whatever comes from
`defaults` or from another file still knows the place where it was written.
It must not judge values; it only says what stands in two places, or in none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from reconciler.core.engine import flag_name
from reconciler.core.findings import Findings, nearest
from reconciler.core.written import FLAG_ZONES, WRITTEN, zone
from reconciler.core.yaml12 import Entry, ListNode, MapNode, ScalarNode, describe, resolve, shown

VERSION = 1
SECTIONS = ("version", "engine", "store", "gateway", "defaults", "models", "renders")
_NOTHING = "write `models: {}` if nothing should run"
_KEYED = (*WRITTEN, "probe")
"""What is merged key by key; all else is replaced as a whole."""


def check_version(root: MapNode, findings: Findings) -> bool:
    """The version decides how all else is read; without a known one nothing else is."""
    entry = root.items.get("version")
    if entry is None:
        hint = "write `version: 1` on the first line"
        findings.error(root.position, "the required key `version` is missing", hint)
        return False
    where = entry.value.position
    version = resolve(entry.value) if isinstance(entry.value, ScalarNode) else None
    if isinstance(version, bool) or not isinstance(version, int):
        summary = f"`version`: expected the number {VERSION}, found {describe(entry.value)}"
        findings.error(where, summary)
    elif version != VERSION:
        hint = "a newer llm-reconcile may read it"
        said = describe(entry.value).removeprefix("the number ")
        findings.error(where, f"version {said} is not known here, only 1", hint)
    return version == VERSION


def merge_files(roots: Sequence[MapNode], findings: Findings) -> MapNode:
    """One tree out of all files: models side by side, everything else in at most one file."""
    merged = replace(roots[0], items={})
    for root in roots:
        for name, entry in root.items.items():
            first = merged.items.setdefault(name, entry)
            if name not in SECTIONS:
                _unknown(entry, findings)
            elif name == "models":
                merged.items[name] = _models(first, entry, findings)
            elif first is not entry and name != "version":
                summary = f"`{name}` stands in two files; first at {first.key.position}"
                findings.error(entry.key.position, summary)
    if "models" not in merged.items and all(root.whole for root in roots):
        findings.error(merged.position, "the required key `models` is missing", _NOTHING)
    return merged


def _unknown(entry: Entry, findings: Findings) -> None:
    name = entry.key.text
    near = nearest(name, SECTIONS)
    hint = "" if near else f"known here: {', '.join(SECTIONS)}"
    findings.error(entry.key.position, f"unknown key `{shown(name)}`{near}", hint)


def _models(first: Entry, entry: Entry, findings: Findings) -> Entry:
    if not isinstance(entry.value, MapNode):
        summary = f"`models`: expected a mapping of models, found {describe(entry.value)}"
        is_list = isinstance(entry.value, ListNode) and entry.value.items
        hint = "write `NAME:` for each, without `-`" if is_list else _NOTHING
        findings.error(entry.value.position, summary, hint)
        return replace(first, value=_as_map(first))
    if first is entry:
        return entry
    together = _as_map(first)
    items = dict(together.items)
    for name, model in entry.value.items.items():
        before = items.setdefault(name, model)
        if before is not model:
            summary = (
                f"the model `{shown(name)}` stands in two files; first at {before.key.position}"
            )
            findings.error(model.key.position, summary)
    whole = together.whole and entry.value.whole
    return replace(first, value=replace(together, items=items, whole=whole))


def _as_map(entry: Entry) -> MapNode:
    if isinstance(entry.value, MapNode):
        return entry.value
    return MapNode(entry.value.file, entry.value.line, entry.value.column)


def with_defaults(model: MapNode, defaults: MapNode) -> MapNode:
    """`model` with everything from `defaults` that it does not say itself.

    A flag is the same flag however it is spelled, and wherever it stands: `ctx-size` in a model's
    `args` wins over `ctx_size` in the defaults' `params`.
    """
    own = {flag_name(key) for name in FLAG_ZONES for key in zone(model, name)}
    items = {name: _without(name, entry, own) for name, entry in defaults.items.items()}
    for name, entry in model.items.items():
        below = items.get(name)
        items[name] = _over(entry, below) if below and name in _KEYED else entry
    return replace(model, items=items, whole=model.whole and defaults.whole)


def _without(name: str, entry: Entry, flags: set[str]) -> Entry:
    if name not in FLAG_ZONES or not flags or not isinstance(entry.value, MapNode):
        return entry
    kept = {k: e for k, e in entry.value.items.items() if flag_name(k) not in flags}
    return replace(entry, value=replace(entry.value, items=kept))


def _over(entry: Entry, below: Entry) -> Entry:
    if not isinstance(entry.value, MapNode) or not isinstance(below.value, MapNode):
        return entry
    items = below.value.items | entry.value.items
    return replace(entry, value=replace(entry.value, items=items))
