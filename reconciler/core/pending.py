"""What a run left undone, for people: the page, /api/status, metrics.

In: a plan's changes, and why some of them are not made. Out: a `Status`, and its JSON text.
It decides nothing: the next run looks at the machine, and never at this.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass

from reconciler.core.plan import Action, Change, ResourceType
from reconciler.core.resolve import model_of
from reconciler.core.text import printable
from reconciler.core.words import InstanceName, ModelName

BLOCKED = "blocked"
"""The action of what cannot be made as wanted now."""
LONGEST_REASON = 500


@dataclass(frozen=True, slots=True)
class Noted:
    """A change as it is written down."""

    type: ResourceType
    name: str
    action: str
    """One of `Action`, or `BLOCKED`."""
    reason: str

    @property
    def model(self) -> ModelName | None:
        """Whose it is; None for what concerns the whole root."""
        is_ones = self.type in {ResourceType.INSTANCE, ResourceType.MODEL_FILE}
        return model_of(InstanceName(self.name)) if is_ones else None


@dataclass(frozen=True, slots=True)
class Coming:
    """A file that is on its way."""

    model: ModelName
    file: str
    bytes: int
    """So much of it is here."""
    of: int


@dataclass(frozen=True, slots=True)
class Status:
    """What is pending."""

    at: float | None = None
    """When that was so, in seconds since the epoch; None: no run has said anything yet."""
    file: str | None = None
    """The desired file that it is about."""
    pending: tuple[Noted, ...] = ()


def noted(change: Change, reason: str = "") -> Noted:
    """A change, with its own reason or another one."""
    action = BLOCKED if change.blocked else change.action.value
    text = printable(reason or change.reason)[:LONGEST_REASON]
    return Noted(change.type, change.name, action, text)


def changed(changes: Iterable[Change]) -> tuple[Noted, ...]:
    """The changes that a run is to make."""
    made = (one for one in changes if one.action is not Action.NO_OP and not one.blocked)
    return tuple(noted(one) for one in made)


def pending_of(changes: Iterable[Change], left: Mapping[str, str]) -> tuple[Noted, ...]:
    """The changes that were not made; `left` says why, by their addresses."""
    return tuple(noted(one, left[one.address]) for one in changes if one.address in left)


def merged(
    old: Status, new: Status, looked_at: Iterable[Change], models: Collection[ModelName]
) -> Status:
    """The status after a run that was about these models alone: of others the old one holds."""
    if old.file != new.file:
        return new
    seen = {(one.type, one.name) for one in looked_at}
    kept = [
        one for one in old.pending if (one.type, one.name) not in seen and one.model not in models
    ]
    pending = sorted((*kept, *new.pending), key=lambda one: (one.type, one.name))
    return Status(new.at, new.file, tuple(pending))


def status_text(status: Status) -> str:
    """As JSON, in one line."""
    return json.dumps(asdict(status)) + "\n"


@dataclass(frozen=True, slots=True)
class Watching:
    """A watch, as people see it."""

    since: float
    """When it began, in seconds since the epoch."""
    trouble: str = ""
    """Why the desired file cannot be followed as it is now."""
    held: str = ""
    """Why the desired file, though it can be understood, is not followed."""


def watching_text(watching: Watching, process: tuple[int, int]) -> str:
    """What the watch of this process is at, as JSON: when it dies, there is none."""
    values = asdict(watching)
    said = {name: printable(values[name])[:LONGEST_REASON] for name in ("trouble", "held")}
    return json.dumps({"process": process, **values, **said}) + "\n"


def coming_text(files: Iterable[Coming], at: float, process: tuple[int, int]) -> str:
    """What one process fetches at that time, as JSON: when it dies, nobody does any more."""
    downloads = [asdict(one) | {"at": at} for one in files]
    return json.dumps({"process": process, "downloads": downloads}) + "\n"


def read_status(text: str) -> Status:
    """The opposite; of what cannot be understood nothing is known."""
    try:
        values = json.loads(text)
        pending = tuple(read_noted(one) for one in values["pending"])
        return Status(values["at"], values["file"], pending)
    except (ValueError, KeyError, TypeError, AttributeError):
        return Status()


def read_noted(values: Mapping[str, str]) -> Noted:
    """A change that was written down.

    Raises:
        KeyError, TypeError, ValueError: it is none.
    """
    kind = ResourceType(values["type"])
    return Noted(kind, values["name"], values["action"], values["reason"])
