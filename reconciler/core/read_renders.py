"""Reading `renders`: which files of the user's own are to be made, and may be.

In: the tree of the desired file. Out: each render with its place, and findings. What a render may
not write is what somebody else of us writes or reads: pid files, logs, desired files, templates,
fetched files, secrets. Whether a template is there only the disk knows: see `core.plan_renders`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from posixpath import normpath

from reconciler.core.desired import DesiredState, Gateway, Render
from reconciler.core.findings import Findings
from reconciler.core.marks import walk
from reconciler.core.validate import plain, validate
from reconciler.core.yaml12 import Entry, ListNode, MapNode, describe, shown
from reconciler.errors import Position

_OURS = {
    "desired": "what is wanted is read there",
    "logs": "servers and runs write there",
    "templates": "templates are read there",
}
"""Folders of the root that no render may write to."""


@dataclass(frozen=True, slots=True)
class ReadRender:
    """A render that is valid by itself, and where its `dest` stands."""

    render: Render
    where: Position


def read_renders(tree: MapNode, findings: Findings) -> tuple[ReadRender, ...]:
    """All that are valid one by one."""
    entry = tree.items.get("renders")
    if entry is None:
        return ()
    if not isinstance(entry.value, ListNode):
        summary = f"`renders`: expected a list, found {describe(entry.value)}"
        findings.error(entry.value.position, summary)
        return ()
    keys = [replace(entry.key, line=one.line, column=one.column) for one in entry.value.items]
    items = [Entry(key, node) for key, node in zip(keys, entry.value.items, strict=True)]
    read = ((item, validate(Render, item, plain(item.value), findings)) for item in items)
    return tuple(ReadRender(one, walk(item, ("dest",))[1]) for item, one in read if one)


def check_dests(
    renders: Sequence[ReadRender],
    base: DesiredState,
    gateway: Gateway | None,
    sources: Sequence[str],
    findings: Findings,
) -> None:
    """Each file is written by one render, and by nobody else."""
    taken = taken_places(base, gateway, sources)
    taken |= {normpath(one.render.template): "a template is read there" for one in renders}
    seen: dict[str, ReadRender] = {}
    for one in renders:
        dest = one.render.dest
        first = seen.setdefault(dest, one)
        if first is not one:
            summary = f"`{shown(dest)}` is written by two renders"
            findings.error(one.where, summary, f"the first one is at {first.where}")
        for above in _folders(dest):
            if above in seen:
                said = f"`{shown(dest)}` cannot lie in `{shown(above)}`, which is a file"
                findings.error(one.where, said, f"that one is written at {seen[above].where}")
        if why := why_not(dest, taken):
            hint = "choose another place, run/ for example"
            findings.error(one.where, f"a render must not write `{shown(dest)}`: {why}", hint)


def _folders(dest: str) -> list[str]:
    parts = dest.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]


def why_not(dest: str, taken: Mapping[str, str]) -> str:
    """Why a render must not write there; empty: it may."""
    folders = _folders(dest)
    if folders == ["run"] and dest.endswith(".pid"):
        return "a server's pid is written there"
    return next((why for place, why in taken.items() if place in {dest, *folders}), "")


def taken_places(
    base: DesiredState, gateway: Gateway | None, sources: Sequence[str], root: str = ""
) -> dict[str, str]:
    """What of the root is spoken for, in one spelling -> by whom.

    `root`: where it lies, if that is known; paths from / on that lead into it count too then.
    """
    found = ((normpath(place), why) for place, why in _taken(base, gateway, sources))
    return {place.removeprefix(f"{root}/") if root else place: why for place, why in found}


def _taken(
    base: DesiredState, gateway: Gateway | None, sources: Sequence[str]
) -> Iterator[tuple[str, str]]:
    yield from _OURS.items()
    for name in sources:
        yield name, "what is wanted is read there"
        yield f"{name.rpartition('.')[0]}.lock.yaml", "it is the lock file"
    yield base.store, "fetched files lie there (`store`)"
    for secret in (gateway.keys_file, *_files_of_tls(gateway)) if gateway else ():
        if secret is not None:
            yield secret, "the gateway reads its secrets there"


def _files_of_tls(gateway: Gateway) -> tuple[str, ...]:
    return (gateway.tls.cert, gateway.tls.key) if gateway.tls else ()
