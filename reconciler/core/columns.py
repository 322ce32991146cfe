"""A table that fits a terminal: which column gives way, and where the words of the last one go.

In: rows of cells, the first of them the header, and a width. Out: a grid, and each row's lines.
Names are shortened and long texts go on below; only where that is not enough a line is cut.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

_GAP = 2
_NAME = 16
"""A first column is not made narrower than this."""
_TEXT = 32
"""A last column that is wider than this holds sentences: they are broken between words."""
_BELOW = " " * 4


@dataclass(frozen=True)
class Grid:
    """How wide each column is; whether the last one stands below its row."""

    widths: tuple[int, ...]
    is_last_below: bool = False

    def start(self, column: int) -> int:
        """Where a column begins in its line."""
        return sum(room + _GAP for room in self.widths[:column])


def grid(rows: Sequence[Sequence[str]], width: int) -> Grid:
    """The columns of these rows in lines of that width."""
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    if _length(widths) > width and widths[-1] > _TEXT:
        left = width - _length(widths[:-1]) - _GAP
        if left < _TEXT:
            return Grid((*_narrowed(widths[:-1], width), width - len(_BELOW)), is_last_below=True)
        widths[-1] = left
    return Grid(tuple(_narrowed(widths, width)))


def row_lines(row: Sequence[str], grid: Grid, width: int) -> list[str]:
    """One row; nothing stands at the ends of lines."""
    *cells, last = row
    *rooms, room = grid.widths
    begin = "".join(
        f"{_cut(cell, one).ljust(one)}{' ' * _GAP}" for cell, one in zip(cells, rooms, strict=True)
    )
    fits = len(last) <= room
    wrapped = [last] if fits else textwrap.wrap(last, room, break_on_hyphens=False)
    if grid.is_last_below:
        return [_cut(begin.rstrip(), width), *(_BELOW + one for one in wrapped if one)]
    first, *others = wrapped
    indent = " " * len(begin)
    return [_cut((begin + first).rstrip(), width), *(indent + one for one in others)]


def _narrowed(widths: Sequence[int], width: int) -> list[int]:
    """The first column gives way, as far as it may."""
    first, *others = widths
    room = first - max(_length(widths) - width, 0)
    return [min(first, max(room, _NAME)), *others]


def _length(widths: Sequence[int]) -> int:
    return sum(widths) + _GAP * (len(widths) - 1)


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"
