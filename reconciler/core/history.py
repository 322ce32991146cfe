"""The history of a root: one record for each run that changed something or tried to.

In: what a run says of itself, the lines of the file of records. Out: `Record`s, lines, rows for a
table. A run says that it begins and how it ended, so a number may have two lines: the later counts.
A line that was torn is none. It reads no file and no clock.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from itertools import takewhile

from reconciler.core.pending import Noted, read_noted
from reconciler.core.plan import ResourceType
from reconciler.core.present import SIGNS, human_seconds

MOST_RECORDS = 1000
LARGEST_FILE = 2**20
"""Bytes. A larger file is written anew with its last records, at most half as much."""
MOST_CHANGES = 100
"""Of a run with more changes the rest is only counted."""
LONGEST_MESSAGE = 300
_NUMBER = re.compile(r'^\{"number": (\d+)', re.MULTILINE)
_SHOWN_CHANGES = 6
_SHORT_COMMIT = 12


class Ending(StrEnum):
    """How a run ended."""

    RUNNING = "running"
    """It has not, as far as is known."""
    APPLIED = "applied"
    BLOCKED = "blocked"
    """All was done that could be; something could not."""
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    SUPERSEDED = "superseded"
    """Another run wanted something else while its files were on their way."""
    KILLED = "killed"
    """It never said how it ended, and does not live any more."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Who runs, and which state of the desired file it is."""

    who: str
    commit: str | None = None
    """The commit that is checked out; None: it does not have the file, or git cannot say."""
    dirty: bool = False
    """The file differs from what that commit has."""
    spec: str | None = None
    """The sha256 of the file's content; None: it cannot be read."""
    process: tuple[int, int] = (0, 0)
    """The run's pid and start ticks, to see whether it lives."""


@dataclass(frozen=True, slots=True)
class Record:
    """One run."""

    number: int
    """From 1 on; 0: it has none yet."""
    at: float
    """When it began to change things, in seconds since the epoch."""
    verb: str
    file: str
    origin: Origin
    changes: tuple[Noted, ...] = ()
    more: int = 0
    """How many further changes are not written down."""
    outcome: Ending = Ending.RUNNING
    seconds: float | None = None
    message: str = ""
    """Why not all is as wanted, in short."""
    generation: int | None = None
    """The number under which what it applies is kept; None: it is not."""

    def ended(self, outcome: Ending, seconds: float, message: str) -> Record:
        """The same run after its end."""
        text = message[:LONGEST_MESSAGE]
        return replace(self, outcome=outcome, seconds=round(seconds, 1), message=text)


def begun(at: float, verb: str, file: str, origin: Origin, changes: tuple[Noted, ...]) -> Record:
    """A run that begins with these changes to make."""
    kept = changes[:MOST_CHANGES]
    return Record(0, at, verb, file, origin, kept, len(changes) - len(kept))


def record_values(record: Record) -> dict[str, object]:
    """As people get to see it: flat, without what only we need."""
    values = asdict(record)
    values |= values.pop("origin")
    del values["process"]
    return values


def record_line(record: Record) -> str:
    """As JSON, in one line."""
    values = record_values(record) | {"process": record.origin.process}
    return json.dumps(values) + "\n"


def read_records(text: str) -> tuple[Record, ...]:
    """All records, the oldest first."""
    found = {one.number: one for line in text.splitlines() if (one := _read(line))}
    return tuple(found[number] for number in sorted(found))


def _read(line: str) -> Record | None:
    try:
        values = json.loads(line)
        pid, ticks = values["process"]
        return Record(
            number=int(values["number"]),
            at=float(values["at"]),
            verb=str(values["verb"]),
            file=str(values["file"]),
            origin=Origin(
                who=str(values["who"]),
                commit=values["commit"],
                dirty=values["dirty"],
                spec=values["spec"],
                process=(int(pid), int(ticks)),
            ),
            changes=tuple(read_noted(one) for one in values["changes"]),
            more=int(values["more"]),
            outcome=Ending(values["outcome"]),
            seconds=values["seconds"],
            message=str(values["message"]),
            generation=values.get("generation"),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def next_number(text: str) -> int:
    """The number of the next record."""
    return max((int(number) for number in _NUMBER.findall(text)), default=0) + 1


def shortened(text: str) -> str:
    """The last records of a file that has become too large, a line each."""
    lines = [record_line(one) for one in read_records(text)[-MOST_RECORDS:]]
    sizes, room = iter(lines[::-1]), LARGEST_FILE // 2

    def fits(line: str) -> bool:
        nonlocal room
        room -= len(line)
        return room >= 0

    return "".join([*takewhile(fits, sizes)][::-1])


def changes_text(record: Record) -> str:
    """What changed, in a few words: `-/+ a, + b, ~ gateway`."""
    signs = {str(action): sign for action, sign in SIGNS.items()}
    instances = {one.model for one in record.changes if one.type is ResourceType.INSTANCE}
    # That its files came or went is said by the instance already.
    told = [
        one
        for one in record.changes
        if one.type is not ResourceType.MODEL_FILE or one.model not in instances
    ]
    words = [f"{signs.get(one.action, '!')} {_name(one)}" for one in told[:_SHOWN_CHANGES]]
    rest = len(told) - len(words) + record.more
    return ", ".join([*words, f"{rest} more"] if rest else words)


def _name(change: Noted) -> str:
    return f"files of {change.name}" if change.type is ResourceType.MODEL_FILE else change.name


def commit_text(record: Record) -> str:
    """The commit as people type it, `*` behind it where the file was another one."""
    return commit_of(record.origin)


def commit_of(origin: Origin) -> str:
    """The same, of where it came from."""
    commit = origin.commit
    return f"{commit[:_SHORT_COMMIT]}{'*' if origin.dirty else ''}" if commit else "-"


def took_text(record: Record) -> str:
    """How long it took."""
    return "-" if record.seconds is None else human_seconds(record.seconds)
