"""What was measured, as data: rows of numbers, ratios between rows, bars beside them.

In: plain numbers of several rounds. Out: frozen values with their median, least and most.
A ratio is taken round by round, between numbers of the same moment of the same machine, and only
then summed up. Nothing here runs or prints anything.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Unit(StrEnum):
    """What a row's numbers count; values are kept in SI base units."""

    SECONDS = "s"
    BYTES = "bytes"
    RATE = "requests/s"
    SPEED = "bytes/s"
    RATIO = "x"
    COUNT = ""


@dataclass(frozen=True, slots=True)
class Bar:
    """What a row's median should not exceed, or should reach; the row's own unit."""

    most: float | None = None
    least: float | None = None
    aim: float | None = None
    """A stricter bound that is hoped for."""

    def is_met(self, value: float) -> bool:
        """Whether a value keeps to it."""
        return (self.most is None or value <= self.most) and (
            self.least is None or value >= self.least
        )


@dataclass(frozen=True, slots=True)
class Row:
    """One thing that was measured, several times."""

    name: str
    unit: Unit
    values: tuple[float, ...]
    """One a round, in their order; none where it could not be measured."""
    bar: Bar | None = None
    note: str = ""
    """Why it was not measured, or what makes its numbers invalid."""

    @property
    def median(self) -> float:
        """The median of all rounds."""
        return statistics.median(self.values)


@dataclass(frozen=True, slots=True)
class Section:
    """One benchmark's part of the document."""

    title: str
    about: str
    """How it was measured, and what a reader should know before the numbers."""
    rows: tuple[Row, ...]


def not_measured(name: str, unit: Unit, why: str) -> Row:
    """A row that says why it has no numbers."""
    return Row(name, unit, (), note=f"not measured: {why}")


def ratio(name: str, over: Row, under: Row, bar: Bar | None = None) -> Row:
    """`over` divided by `under`, round by round."""
    lacking = [row.note or f"{row.name} has no numbers" for row in (over, under) if not row.values]
    if lacking:
        return Row(name, Unit.RATIO, (), bar, lacking[0])
    invalid = " ".join(dict.fromkeys(row.note for row in (over, under) if row.note))
    pairs = zip(over.values, under.values, strict=True)
    return Row(name, Unit.RATIO, tuple(a / b for a, b in pairs), bar, invalid)


def percentile(values: Sequence[float], share: float) -> float:
    """The least value that at least `share` (0 to 1) of all values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]
