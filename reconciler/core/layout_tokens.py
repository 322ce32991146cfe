"""A YAML text as tokens and what stands between them, each with its place in the text.

In: a text. Out: what is seen of it, token by token: how deep it lies, by the old indentation and by
the new one (two columns a level). Nothing is changed here; `layout` writes the lines.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import yaml

_LOADER: type = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
STEP = 2
"""Columns of a level."""

_OPENS = (yaml.FlowMappingStartToken, yaml.FlowSequenceStartToken)
_CLOSES = (yaml.FlowMappingEndToken, yaml.FlowSequenceEndToken)
_STARTS = (yaml.BlockMappingStartToken, yaml.BlockSequenceStartToken)


@dataclass(frozen=True, slots=True)
class Level:
    """A block mapping or list: the column where its keys or dashes stand, and will."""

    old: int
    new: int
    is_list: bool
    is_dented: bool = True
    """False: a list whose dashes stand below the key that it belongs to."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A token that is seen, with the gap in front of it."""

    kind: str
    gap: str
    text: str
    column: int
    """Where it starts."""
    before: tuple[Level, ...]
    """The levels that are open in the gap."""
    levels: tuple[Level, ...]
    """Those that it stands in."""
    is_key: bool
    depth: int
    """Brackets around it."""

    @property
    def indent(self) -> int:
        """The column where it is to stand as the first of its line, outside brackets."""
        if not self.levels:
            return 0
        top = self.levels[-1]
        return top.new if self.is_key or self.kind in {"-", ":"} else top.new + STEP

    @property
    def is_block_text(self) -> bool:
        """A text below a `|` or `>`, whose lines end with it."""
        return self.kind == "text" and self.text[:1] in {"|", ">"}


@dataclass(slots=True)
class _State:
    levels: list[Level] = field(default_factory=list)
    depth: int = 0


def pieces(text: str) -> Iterator[Piece]:
    """All tokens that are seen, and at the end one that is empty."""
    state = _State()
    at, is_key = 0, False
    before: tuple[Level, ...] = ()
    for token in yaml.scan(text, Loader=_LOADER):
        start, end = token.start_mark.index, token.end_mark.index
        if isinstance(token, yaml.KeyToken):
            is_key = True
        _enter(token, state)
        if start == end and not isinstance(token, yaml.StreamEndToken):
            continue
        depth = state.depth - isinstance(token, _OPENS) + isinstance(token, _CLOSES)
        yield Piece(
            _kind(token, text[start:end]),
            text[at:start],
            text[start:end],
            token.start_mark.column,
            before,
            tuple(state.levels),
            is_key,
            depth,
        )
        at, before, is_key = end, tuple(state.levels), False


def _kind(token: yaml.Token, text: str) -> str:
    if isinstance(token, yaml.ScalarToken):
        return "text"
    if isinstance(token, yaml.AnchorToken | yaml.AliasToken | yaml.TagToken):
        return "&"
    if isinstance(token, yaml.DirectiveToken):
        return "%"
    return text


def _enter(token: yaml.Token, state: _State) -> None:
    """Follow the levels and brackets; a list below its own key has no token of its own."""
    levels = state.levels
    top = levels[-1] if levels else None
    if isinstance(token, _OPENS):
        state.depth += 1
    elif isinstance(token, _CLOSES):
        state.depth -= 1
    elif isinstance(token, _STARTS):
        new = top.new + STEP if top else 0
        is_list = isinstance(token, yaml.BlockSequenceStartToken)
        levels.append(Level(token.start_mark.column, new, is_list))
    elif isinstance(token, yaml.BlockEntryToken) and top and not top.is_list:
        levels.append(Level(top.old, top.new + STEP, is_list=True, is_dented=False))
    elif isinstance(token, yaml.KeyToken | yaml.BlockEndToken):
        if top and not top.is_dented and not state.depth:
            levels.pop()
        if isinstance(token, yaml.BlockEndToken):
            levels.pop()
