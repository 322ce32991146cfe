"""The part of a plan for `renders`: write, put back, tell of, remove, or leave alone.

In: desired and observed state, the plan in the making. Out: its changes and steps. A file is
compared by its content alone. It waits for no server: it follows what is wanted, not what runs.
What an editor put into a file is never shown: it may be a secret.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from difflib import SequenceMatcher
from itertools import zip_longest
from posixpath import normpath

from reconciler.core.desired import DesiredState, Render
from reconciler.core.draft import Draft
from reconciler.core.engine import MASK
from reconciler.core.observed import ObservedState
from reconciler.core.plan import Action, Change, Detail, RemoveRender, ResourceType, WriteRender
from reconciler.core.read_renders import taken_places, why_not
from reconciler.core.render_view import render_context
from reconciler.core.renders import ObservedRender, RenderNote, attempt_of, digest_of
from reconciler.core.site import Site
from reconciler.core.templating import TemplateFailedError, fill_in
from reconciler.core.text import PASSWORD
from reconciler.core.words import RENDER_ADDRESS
from reconciler.errors import Position

MOST_LINES = 40
"""Of a larger difference only the beginning is shown."""
LARGEST_DIFF = 2000
"""Lines; the comparison takes time that grows with their square."""
_SECRET_LINE = re.compile(r"(?i)(token|key|secret|pass(word|wd|phrase)?|credential|auth|bearer)\w*")
_BORDER = re.compile(r"[\s\"'`=:,;()<>\[\]{}]+")
"""What stands around a key in the files of most programs."""


def plan_renders(
    draft: Draft,
    desired: DesiredState,
    site: Site,
    observed: ObservedState,
    marks: Mapping[tuple[str | int, ...], Position],
) -> None:
    """Plan all files; nothing, where they were not looked at."""
    if observed.renders is None:
        return
    context = render_context(desired, site) if desired.renders else {}
    taken = taken_places(desired, desired.gateway, (site.desired,), site.root)
    taken |= {normpath(site.state).removeprefix(f"{site.root}/"): "our own state is kept there"}
    for number, render in enumerate(desired.renders):
        seen = observed.renders[render.dest]
        if why := why_not(render.dest, taken):
            seen = replace(seen, obstacle=f"a render must not write {render.dest}: {why}")
        if seen.obstacle and (where := marks.get(("renders", number, "dest"))):
            seen = replace(seen, obstacle=f"{where}: {seen.obstacle}")
        try:
            text = _text(render, seen, context)
        except TemplateFailedError as error:
            where = marks.get(("renders", number, "template"))
            # A mistake in a template has its own place; that there is none, the desired file's.
            at = f"{where}: " if where and seen.template is None else ""
            _say(draft, render.dest, Action.NO_OP, _staying(seen), obstacle=f"{at}{error}")
            continue
        keys = frozenset(one.digest for one in observed.secrets.keys or ())
        _plan_file(draft, render, seen, text, keys, is_watch=observed.now is not None)
    wanted = {one.dest for one in desired.renders}
    for dest, seen in sorted(observed.renders.items()):
        if dest not in wanted and seen.note:
            _plan_removal(draft, dest, seen, seen.note)


def _text(render: Render, seen: ObservedRender, context: Mapping[str, object]) -> str:
    if seen.template is None:
        raise TemplateFailedError(seen.problem)
    return fill_in(((render.template, seen.template),), render.template, context)


def _staying(seen: ObservedRender) -> str:
    return "stays as it is" if seen.digest else "not written"


def _plan_file(
    draft: Draft,
    render: Render,
    seen: ObservedRender,
    text: str,
    keys: frozenset[str],
    *,
    is_watch: bool,
) -> None:
    note = seen.note or RenderNote()
    action, reason = _decide(render, seen, note, digest_of(text))
    obstacle = "" if action is Action.NO_OP else seen.obstacle
    if not obstacle and is_watch and note.failed == attempt_of(render, text):
        # Whoever watches does not try the same again and again; an operator's apply does.
        obstacle = f"{note.reason}; it is tried again when it changes, or by `apply`"
    if obstacle:
        _say(draft, render.dest, Action.NO_OP, _staying(seen), obstacle=obstacle)
        return
    details: tuple[Detail, ...] = ()
    if action is Action.UPDATE and seen.text is not None:
        is_ours = note.is_ours(seen.digest)
        details = tuple(differing_lines(seen.text, text, is_ours=is_ours, keys=keys))
    _say(draft, render.dest, action, reason, details)
    if action is not Action.NO_OP:
        effect = WriteRender(render, text, seen.digest)
        draft.step(f"{RENDER_ADDRESS}{render.dest}", effect, reason, set())


def _decide(
    render: Render, seen: ObservedRender, note: RenderNote, wanted: str
) -> tuple[Action, str]:
    if not seen.digest:
        return Action.CREATE, "it was removed by hand" if note.written else "not there"
    if seen.digest == wanted:
        # Without a note nothing of ours was cut short: somebody has brought the file along.
        is_due = seen.note and note.told != wanted and render.reload
        return (Action.UPDATE, "not told of yet") if is_due else (Action.NO_OP, "up to date")
    if note.is_ours(seen.digest):
        return Action.UPDATE, "what it says has changed"
    if not note.written:
        return Action.UPDATE, "there is another file, not written by us; a copy of it is kept"
    return Action.UPDATE, "edited by hand: it is put back, and a copy of the edit kept"


def _plan_removal(draft: Draft, dest: str, seen: ObservedRender, note: RenderNote) -> None:
    """As Terraform removes what it has made; an edited file is the editor's."""
    is_ours = bool(seen.digest) and note.is_ours(seen.digest) and not seen.obstacle
    reason = "no longer in the file"
    if not is_ours:
        why = "edited by hand, left alone" if seen.digest else seen.obstacle or "it is gone already"
        reason = f"{reason}; {why}"
    _say(draft, dest, Action.DELETE, reason)
    effect = RemoveRender(dest, is_ours, seen.digest)
    draft.step(f"{RENDER_ADDRESS}{dest}", effect, reason, set())


def differing_lines(
    before: str, after: str, *, is_ours: bool, keys: frozenset[str] = frozenset()
) -> Iterator[Detail]:
    """The lines that differ, numbered as they will be; the old ones only where they were ours.

    What goes without another in its place is numbered as it was. `keys`: digests of the gateway's
    keys; a line with one of them is not shown.
    """
    old, new = before.splitlines(), after.splitlines()
    if max(len(old), len(new)) > LARGEST_DIFF:
        yield Detail("lines", str(len(old)), str(len(new)))
        return
    count = 0
    for tag, old_from, old_to, new_from, new_to in SequenceMatcher(
        None, old, new, autojunk=False
    ).get_opcodes():
        if tag == "equal":
            continue
        pairs = zip_longest(old[old_from:old_to], new[new_from:new_to])
        for offset, (was, will) in enumerate(pairs):
            count += 1
            if count <= MOST_LINES:
                shown = _shown(was, keys) if is_ours or was is None else MASK
                # Each has a name of its own: what is gone has no number among the new ones.
                name = f"line {new_from + offset + 1}"
                if will is None:
                    name = f"old line {old_from + offset + 1}"
                yield Detail(name, shown, _shown(will, keys))
    if count > MOST_LINES:
        yield Detail("further lines that differ", None, str(count - MOST_LINES))


def _shown(line: str | None, keys: frozenset[str]) -> str | None:
    return MASK if line and _is_secret(line, keys) else line


def _is_secret(line: str, keys: frozenset[str]) -> bool:
    if _SECRET_LINE.search(line) or PASSWORD.search(line):
        return True
    words = {*line.split(), *_BORDER.split(line)}
    return any(digest_of(word) in keys for word in words)


def holds_secret(text: str, keys: frozenset[str]) -> bool:
    """Whether a plan would hide any line of it. `keys`: digests of the gateway's keys."""
    return any(_is_secret(line, keys) for line in text.splitlines())


def _say(
    draft: Draft,
    dest: str,
    action: Action,
    reason: str,
    details: tuple[Detail, ...] = (),
    obstacle: str = "",
) -> None:
    obstacles = (obstacle,) if obstacle else ()
    address = f"{RENDER_ADDRESS}{dest}"
    kind = ResourceType.RENDER
    draft.changes.append(Change(address, kind, dest, action, reason, details, obstacles))
