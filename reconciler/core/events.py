"""Events: what a watch saw happen and did, one line each.

In: an event, lines of their file. Out: lines, `Event`s, rows for a table. A line that was torn is
none, and what a later version of ours adds to one is passed over. It reads no file and no clock;
nothing decides by an event.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from enum import StrEnum

from reconciler.core.resolve import model_of
from reconciler.core.text import printable
from reconciler.core.words import InstanceName

LONGEST_TEXT = 1000
HEADER = ("WHEN", "KIND", "ABOUT", "WHAT")
_OF_MODELS = ("instance.", "model_file.")


class EventKind(StrEnum):
    """What can happen; docs/reference/events.md is made of this."""

    ACCEPTED = "accepted"
    """Another desired state is in force: what there is to change."""
    APPLIED = "applied"
    """What became of it, once nothing was on its way any more: all is as wanted."""
    BLOCKED = "blocked"
    """The same: something cannot be done, and why."""
    FAILED = "failed"
    """Of a desired file: something failed, and is tried again. Of a resource: a step, and why."""
    DONE = "done"
    """A step of a resource: `ready (0.3 s)`, `stopped`, `downloaded`."""
    EXITED = "exited"
    """A server ended by itself, and why."""
    WEDGED = "wedged"
    """A server lives and does no work; it is replaced."""
    GIVEN_UP = "given up"
    """The same final cause three times in a row: not started again until something changes."""
    TROUBLE = "trouble"
    """Something keeps the watch from following the file: it is broken, a guard holds its plan."""
    OVER = "over"
    """That trouble is over."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened."""

    at: float
    """When, in seconds since the epoch."""
    kind: str
    """What happened, in a word; a later version may know more of them."""
    about: str
    """An address of a plan (`instance.glm-5`), or the desired file, or another thing."""
    text: str
    """What, for people."""
    count: int | None = None
    """Of an end: how many of them in a row it makes."""
    next_start: float | None = None
    """Of an end: when the next start is, in seconds since the epoch; nothing: it is not one, or
    there is no next start by itself."""

    @property
    def instance(self) -> str | None:
        """The instance that it is about."""
        kind, _, name = self.about.partition(".")
        return name if kind == "instance" else None

    @property
    def model(self) -> str | None:
        """The model that it is about."""
        is_ones = self.about.startswith(_OF_MODELS)
        return model_of(InstanceName(self.about.partition(".")[2])) if is_ones else None

    def concerns(self, name: str | None) -> bool:
        """Whether it is about this model or this instance; None: all are meant."""
        return name in {None, self.model, self.instance}


def event_values(event: Event) -> dict[str, object]:
    """As people get to see it."""
    values = asdict(event)
    return {**values, "model": event.model, "instance": event.instance}


def event_line(event: Event) -> str:
    """As JSON, in one line."""
    values = event_values(event)
    values["text"] = printable(event.text)[:LONGEST_TEXT]
    return json.dumps(values) + "\n"


def read_event(line: str) -> Event | None:
    """The opposite; None where it is no event."""
    try:
        values = json.loads(line)
        known = {one.name: values[one.name] for one in fields(Event)}
        return Event(**known) if _is_sound(known) else None
    except (ValueError, KeyError, TypeError):
        return None


def _is_sound(values: Mapping[str, object]) -> bool:
    at = values["at"]
    is_time = isinstance(at, int | float) and 0 <= at < 2**40
    return is_time and all(isinstance(values[one], str) for one in ("kind", "about", "text"))


def read_events(text: str) -> tuple[Event, ...]:
    """All events of a text, the oldest first."""
    return tuple(one for line in text.splitlines() if (one := read_event(line)))


def event_cells(event: Event, zone: datetime.tzinfo | None = None) -> tuple[str, ...]:
    """A row of a table; the time as it is in `zone`, else where this runs."""
    when = datetime.datetime.fromtimestamp(event.at, datetime.UTC).astimezone(zone)
    about = printable(event.about)
    return (when.strftime("%Y-%m-%d %H:%M:%S"), event.kind, about, printable(event.text))
