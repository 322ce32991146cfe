"""A YAML file in the project's own layout: two columns a level, one space where one is meant.

In: the file's text. Out: the same with its comments and its order; only the space between things
changes, and 'this' becomes "this". What it says stays the same, token by token, or
it is not touched. Lines are never joined, divided or wrapped.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import yaml

from reconciler.core.layout_tokens import STEP, Level, Piece, pieces
from reconciler.core.yaml12 import read_yaml
from reconciler.errors import InvalidDesiredError

_LOADER: type = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_LINE_END = re.compile(r"\r\n?")
_SIMPLE = re.compile(r"'[^'\"\\\n]*'")


class UnusualLayoutError(ValueError):
    """The layout is not understood: nothing was changed."""


def formatted(name: str, content: bytes) -> bytes:
    """The file in our layout; applied to that, it changes nothing.

    Raises:
        InvalidDesiredError: it is no YAML that a desired file may be.
        UnusualLayoutError: it would not say the same any more.
    """
    document = read_yaml(name, content)
    if document.problems:
        raise InvalidDesiredError(document.problems)
    text = _LINE_END.sub("\n", content.decode("utf-8-sig"))
    made = _written(list(pieces(text)))
    if _meaning(made) != _meaning(text) or comments(made) != comments(text):
        raise UnusualLayoutError(name)
    return made.encode()


def comments(text: str) -> list[str]:
    """All comments, in their order."""
    lines = [line.strip() for piece in pieces(text) for line in piece.gap.split("\n")]
    return [line for line in lines if line.startswith("#")]


def _meaning(text: str) -> list[tuple[object, ...]]:
    """What is said, apart from how: all that the events hold but marks and quotes."""
    try:
        return [_said(event) for event in yaml.parse(text, Loader=_LOADER)]
    except yaml.YAMLError:
        return []


def _said(event: yaml.Event) -> tuple[object, ...]:
    names = ("anchor", "tag", "implicit", "value")
    return (type(event), *(getattr(event, name, None) for name in names))


def _written(found: Sequence[Piece]) -> str:
    """The text, piece by piece."""
    writer = _Writer()
    for piece in found:
        writer.take(piece)
    return "".join(f"{line}\n" for line in writer.lines) + writer.line


class _Writer:
    """Lines that are finished, and the one that is not."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.line = ""
        self._last: Piece | None = None
        self._base = 0
        """Where the line stands on which the outermost bracket was opened."""

    def take(self, piece: Piece) -> None:
        """Go on by a piece and the gap before it."""
        rows, last = piece.gap.split("\n"), self._last
        is_first = last is None or len(rows) > 1 or last.text.endswith("\n")
        if last is not None and not last.text.endswith("\n") and (is_first or not piece.text):
            self._end_line(last, rows.pop(0))
        if is_first:
            self._begin_line(piece, rows)
        elif last is not None and piece.text:
            self.line += _space(last.kind, piece.kind)
        if piece.kind in {"[", "{"} and not piece.depth:
            self._base = piece.indent if is_first else _floor(piece)
        *whole, self.line = (self.line + _laid(piece)).split("\n")
        self.lines += whole
        self._last = piece

    def _end_line(self, last: Piece, rest: str) -> None:
        """Close the line; its comment stays as far from it as it was."""
        if last.is_block_text:
            return  # a text that the file's end cuts off: a line end would be part of it
        if comment := rest.strip():
            self.line += " " * max(len(rest) - len(rest.lstrip()), 1) + comment
        self.lines.append(self.line)
        self.line = ""

    def _begin_line(self, piece: Piece, rows: Sequence[str]) -> None:
        """The lines between: comments, at most one empty one in a row; then the indentation."""
        indent = self._indent(piece)
        whole = rows if not piece.text else rows[:-1]
        is_empty = not self.lines
        for row in whole:
            if comment := row.strip():
                column = len(row) - len(row.lstrip())
                self.lines.append(" " * _comment_indent(column, piece, indent) + comment)
            elif not is_empty:
                self.lines.append("")
            is_empty = not row.strip()
        if piece.text:
            self.line = " " * indent
        elif is_empty and self.lines and whole and not self.lines[-1]:
            self.lines.pop()

    def _indent(self, piece: Piece) -> int:
        if not piece.depth:
            return piece.indent
        return self._base + STEP * (piece.depth - (piece.kind in {"]", "}"}))


def _floor(piece: Piece) -> int:
    """The column that everything in a value has to stand right of."""
    return piece.levels[-1].new if piece.levels else 0


def _comment_indent(column: int, following: Piece, indent: int) -> int:
    """Where a comment of its own line goes: along with what stands in the same column."""
    if following.depth:
        is_end = following.kind in {"]", "}"} and column != following.column
        return indent + STEP * is_end
    known = list(following.before)
    if following.text:
        known.insert(0, Level(following.column, indent, is_list=False))
    left = [level for level in known if level.old <= column]
    return max(left, key=lambda level: level.old).new if left else 0


def _space(left: str, right: str) -> str:
    """Between two things on one line."""
    if right == ":":
        return "" if left in {"text", "]", "}"} else " "
    if left in {":", "-", "?", "&"}:
        return " "
    return "" if right in {",", "]", "}"} or left in {"[", "{"} else " "


def _laid(piece: Piece) -> str:
    """The piece itself, with its further lines moved along."""
    if piece.kind != "text" or ("\n" not in piece.text and piece.text[0] != "'"):
        return piece.text
    if piece.is_block_text:
        return _moved(piece)
    if _SIMPLE.fullmatch(piece.text):
        return f'"{piece.text[1:-1]}"'
    first, *rest = piece.text.split("\n")
    start = " " * (_floor(piece) + STEP)
    return "\n".join([first, *(start + one.lstrip() if one.strip() else "" for one in rest)])


def _moved(piece: Piece) -> str:
    """A block text: all its lines moved by as much as what it belongs to."""
    level = piece.levels[-1] if piece.levels else Level(0, 0, is_list=False)
    by = level.new - level.old
    head, *rest = piece.text.split("\n")
    if by >= 0:
        moved = [" " * by + one if one else "" for one in rest]
    else:
        moved = [one[min(-by, len(one) - len(one.lstrip(" "))) :] for one in rest]
    return "\n".join([head.rstrip(), *moved])
