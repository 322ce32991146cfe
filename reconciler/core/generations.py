"""Generations: the desired states that were applied here, as they were written.

In: the texts of the desired file (or of the files of a directory) and of the lock file beside it.
Out: a `Generation`, its text in the state folder, which of them are kept, and what going back to
one does to the files. What was torn or changed by somebody else is none. It reads no file, and
parses no desired state: `core.parse` does.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from reconciler.core.history import Origin
from reconciler.core.parse import SourceText
from reconciler.errors import UsageError

MOST_KEPT = 20
LARGEST = 32 * 2**20
"""Bytes of all its files. A larger desired state is applied, and not kept."""
_BYTES = "surrogateescape"
"""So that bytes which are no text come back as they were."""


@dataclass(frozen=True, slots=True)
class Generation:
    """A desired state that passed its guards and was applied."""

    number: int
    """From 1 on; a later one is larger."""
    at: float
    """When it was applied, in seconds since the epoch."""
    file: str
    """The desired file or directory, as people know it."""
    sources: tuple[SourceText, ...]
    lock: str | None
    """The lock file's text; None: there was none."""
    origin: Origin = field(default_factory=lambda: Origin(""))

    def holds(self, file: str, sources: Sequence[SourceText], lock: str | None) -> bool:
        """Whether it is this very content."""
        return (self.file, self.sources, self.lock) == (file, tuple(sources), lock)

    @property
    def spec(self) -> str:
        """The sha256 of the desired file's content, as `Origin` has it."""
        return hashlib.sha256(b"".join(one.content for one in self.sources)).hexdigest()

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return sum(len(one.content) for one in self.sources) + len(self.lock or "")

    @property
    def sha256(self) -> str:
        """Over the names and contents of all its files."""
        return _digest(_values(self))


def generation_text(generation: Generation) -> str:
    """As it is kept."""
    values = _values(generation)
    return json.dumps({**values, "sha256": _digest(values)}, indent=1) + "\n"


def _head(generation: Generation) -> dict[str, object]:
    """Which one it is, and where it came from."""
    origin = generation.origin
    return {
        "number": generation.number,
        "at": generation.at,
        "who": origin.who,
        "commit": origin.commit,
        "dirty": origin.dirty,
        "file": generation.file,
    }


def _values(generation: Generation) -> dict[str, object]:
    files = [
        {"name": one.name, "content": one.content.decode(errors=_BYTES)}
        for one in generation.sources
    ]
    return {**_head(generation), "files": files, "lock": generation.lock}


def _digest(values: dict[str, object]) -> str:
    told = json.dumps([values["file"], values["files"], values["lock"]])
    return hashlib.sha256(told.encode()).hexdigest()


def read_generation(text: str) -> Generation | None:
    """What was kept; None where the text is none, or not as it was written."""
    try:
        values = json.loads(text)
        if values["sha256"] != _digest(values):
            return None
        return Generation(
            number=int(values["number"]),
            at=float(values["at"]),
            file=str(values["file"]),
            sources=tuple(
                SourceText(str(one["name"]), one["content"].encode(errors=_BYTES))
                for one in values["files"]
            ),
            lock=values["lock"],
            origin=Origin(str(values["who"]), values["commit"], bool(values["dirty"])),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def superseded(numbers: Collection[int]) -> tuple[int, ...]:
    """Those of which there are enough later ones."""
    return tuple(sorted(numbers)[:-MOST_KEPT])


def going_back_to(kept: Sequence[Generation], file: str, number: int | None) -> Generation:
    """The one with this number; without one, the last that was another one than the newest.

    Raises:
        UsageError: there is none, or it is of another desired file.
    """
    own = [one for one in kept if one.file == file]
    if number is not None:
        found = next((one for one in kept if one.number == number), None)
        if found and found.file != file:
            raise UsageError(
                f"generation {number} is of {found.file}, and this root follows {file}",
                hint=f"apply that one: `llm-reconcile apply {found.file} --switch-file`",
            )
        if not found:
            there = ", ".join(str(one.number) for one in own) or "none"
            raise UsageError(f"generation {number} is not kept", hint=f"there are: {there}")
        return found
    earlier = next((one for one in own[::-1] if one.sha256 != own[-1].sha256), None)
    if not earlier:
        raise UsageError(
            f"there is nothing to go back to: no other {file} was applied here"
            if own
            else f"there is nothing to go back to: nothing is kept of {file}",
            hint="`llm-reconcile rollback --list` shows what is kept; each `apply` adds to it",
        )
    return earlier


@dataclass(frozen=True, slots=True)
class Restoration:
    """What going back does to files; names are those of messages."""

    writes: Mapping[str, bytes]
    removes: tuple[str, ...]
    aside: tuple[str, ...]
    """Of these, what they say now was never applied: it is kept beside them."""

    @property
    def names(self) -> tuple[str, ...]:
        """All files that change."""
        return tuple(sorted({*self.writes, *self.removes}))


def restoration(
    target: Generation, lock: str, here: Mapping[str, bytes], kept: Sequence[Generation]
) -> Restoration:
    """From the files that are `here` to those of `target`; `lock` is the lock file's name."""
    wanted = _files(target, lock)
    known = {entry for one in kept for entry in _files(one, lock).items()}
    writes = {name: content for name, content in wanted.items() if here.get(name) != content}
    removes = tuple(sorted(here.keys() - wanted.keys()))
    changed = sorted(here.keys() & {*writes, *removes})
    aside = tuple(name for name in changed if (name, here[name]) not in known)
    return Restoration(writes, removes, aside)


def _files(generation: Generation, lock: str) -> dict[str, bytes]:
    files = {one.name: one.content for one in generation.sources}
    if generation.lock is not None:
        files[lock] = generation.lock.encode(errors=_BYTES)
    return files


def generation_values(generation: Generation) -> dict[str, object]:
    """As people get to see it: without what it says."""
    return {**_head(generation), "sha256": generation.sha256}
