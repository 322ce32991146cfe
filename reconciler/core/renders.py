"""Renders as they were found: the user's own generated files, their templates, our notes of them.

In: what `drivers.renders` read. Out: frozen values that the planner decides by, and the text of
our notes. A note says what we wrote and told of, so that an edit by hand is known as one, and a
run that was killed before it told of a file is made up for.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from reconciler.core.desired import Render


@dataclass(frozen=True, slots=True)
class RenderNote:
    """What we know of a file that we have written. Digests; empty: there is none."""

    written: str = ""
    """What was written last, or was about to be."""
    told: str = ""
    """What was written and told of (`reload`)."""
    before: str = ""
    """What of ours it held before that: a run that was killed may have left it there."""
    failed: str = ""
    """An attempt that went wrong (`attempt_of`); it is tried again when it is another one."""
    reason: str = ""
    """Why it went wrong."""

    def is_ours(self, digest: str) -> bool:
        """Whether what a file holds was written by us."""
        return digest in {self.written, self.told, self.before}


@dataclass(frozen=True, slots=True)
class ObservedRender:
    """One file that is to be made, or that we have made."""

    template: str | None = None
    """The template's text; None where there is none (`problem`), or none is wanted."""
    problem: str = ""
    """Why the template cannot be had."""
    digest: str = ""
    """Of what the file holds; empty: it is not there."""
    text: str | None = None
    """What it holds, where that is text of a size that people read."""
    obstacle: str = ""
    """Why it cannot be written: a folder is in its place, for example."""
    note: RenderNote | None = None


ObservedRenders = Mapping[str, ObservedRender]
"""By `dest`."""


def digest_of(content: str | bytes) -> str:
    """What a file is known by."""
    data = content.encode() if isinstance(content, str) else content
    return hashlib.sha256(data).hexdigest()


def attempt_of(render: Render, text: str) -> str:
    """What an attempt to write a file is known by: its content, and what is run for it."""
    return digest_of("\0".join((text, render.check or "", render.reload or "")))


def notes_text(notes: Mapping[str, RenderNote]) -> str:
    """All notes as JSON."""
    return json.dumps({name: asdict(one) for name, one in notes.items()}, indent=1, sort_keys=True)


def read_notes(text: str) -> dict[str, RenderNote]:
    """The opposite; of what cannot be understood nothing is known."""
    try:
        return {str(name): RenderNote(**values) for name, values in json.loads(text).items()}
    except (ValueError, TypeError, AttributeError):
        return {}
