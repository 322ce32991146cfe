"""What is known of an engine: how it is started, which flags and variables it takes.

In: what a driver found, its help as `core.engine_help` reads it. Out: one frozen `ObservedEngine`.
It holds all that is asked of an engine before a server is started; it judges nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from reconciler.core.words import EngineKind
from reconciler.errors import Position


class ValueKind(StrEnum):
    """What a flag wants behind it, as far as the engine's help says so without doubt."""

    NOTHING = "nothing"
    """It is a switch."""
    NUMBER = "number"
    PAIR = "pair"
    """Two values, one behind the other."""
    CHOICE = "choice"
    LISTED = "listed"
    """One of some words, of which the help may not name all."""
    TEXT = "text"
    """Something, whatever it is."""


@dataclass(frozen=True, slots=True)
class FlagUsage:
    """The value that a flag takes."""

    kind: ValueKind
    words: tuple[str, ...] = ()
    """Of a choice, all there are; of a number, the words that may stand for one (`auto`); of a
    pair, what its two values are called."""
    is_whole: bool = False
    """Of a number: its default is written without a point, so that digits alone are read."""


@dataclass(frozen=True, slots=True)
class AmbientSetting:
    """What a file that an engine reads by itself sets."""

    key: str
    place: Position


@dataclass(frozen=True, slots=True)
class ObservedEngine:
    """The engine that new servers would start with."""

    kind: EngineKind | None = None
    """None: no engine was found; `reason` says what was looked for."""
    command: tuple[str, ...] = ()
    """How it is started: an absolute path, or the interpreter and module of the embedded one."""
    flags: Mapping[str, str] = field(default_factory=dict)
    """Every flag of its `--help` without dashes -> as it is spelled (`-c`, `--ctx-size`)."""
    removed: Mapping[str, str] = field(default_factory=dict)
    """Flags that it names only to say they are gone -> what it says."""
    usage: Mapping[str, FlagUsage] = field(default_factory=dict)
    """The value each flag takes; one whose help can be read in two ways is not in it."""
    same: Mapping[str, str] = field(default_factory=dict)
    """Every flag -> the one name of all that mean the same, or its opposite."""
    refused: Mapping[str, str] = field(default_factory=dict)
    """Flags that are not the user's, as far as only the help tells -> what to use instead."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """Variables that it reads -> the flag that they stand for; empty where it names none."""
    ambient: tuple[AmbientSetting, ...] = ()
    """What files of the machine set for every server of this engine."""
    reason: str = ""

    @property
    def pairs(self) -> frozenset[str]:
        """The flags that take two values at a time."""
        return frozenset(name for name, one in self.usage.items() if one.kind is ValueKind.PAIR)

    def all_of(self, flag: str) -> tuple[str, ...]:
        """All names of a flag, those that switch it off too."""
        known = self.same.get(flag)
        return tuple(name for name, one in self.same.items() if one == known)
