"""YAML 1.2 (core schema) as a tree of nodes, each knowing its place in the file.

In: the bytes of one file. Out: a `Document` with the tree and the mistakes found on the way.
libyaml only splits the text into events; what a scalar means is decided here, so that `on`,
`0123` and `12:30` stay what the user wrote. Anchors are followed within a budget. Built from
events and not with `compose`, whose recursion a deeply nested file can overflow.
It must not know anything about the desired state's keys.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import yaml

from reconciler.core.text import printable, without_keys
from reconciler.errors import Diagnostic, Position, Severity

MAX_DEPTH = 32
MAX_EXPANSION = 100_000
"""How many nodes aliases may add to a file; a thousand models sharing a block need about 10,000."""

_LOADER: type = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_STR_TAGS = ("!", "tag:yaml.org,2002:str")

# YAML's own control characters, and U+0085, U+2028, U+2029, U+FEFF: line ends for YAML 1.1 (and
# libyaml) that are none in 1.2 nor in an editor. In quotes they can be written as escapes.
_UNWANTED = re.compile(
    "[^\t\n\r\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
)
_LINE_END = re.compile(r"\r\n|\r|\n")
_SURROGATE = re.compile("[\ud800-\udfff]")

_WORDS: dict[str, bool | float | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **{sign + word: math.inf for sign in ("", "+") for word in (".inf", ".Inf", ".INF")},
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), -math.inf),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), math.nan),
}
_INT = re.compile(r"[-+]?[0-9]+")
_BASED = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NUMBER_START = frozenset("0123456789+-.")
_LONGEST_INT = 300
"""Digits; a longer number is only ever compared with limits, and 10**300 does for that."""

_HINTS = {
    "mapping values are not allowed": "is the indentation right? a text with `: ` in it needs "
    "quotes",
    "expected key": "is the line indented like its neighbours?",
    "expected '-' indicator": "is the line indented like its neighbours?",
    "could not find expected ':'": "is a `:` missing, or a closing quote?",
    "unexpected end of stream": "a quote is not closed",
    "',' or '}'": "is a `,` or the closing `}` missing?",
    "',' or ']'": "is a `,` or the closing `]` missing?",
}


@dataclass(slots=True)
class _Node:
    file: str
    line: int
    column: int
    size: int = field(default=1, kw_only=True)
    """Nodes in it, aliases followed."""
    height: int = field(default=1, kw_only=True)

    @property
    def position(self) -> Position:
        """Where the node starts."""
        return Position(self.file, self.line, self.column)


@dataclass(slots=True)
class ScalarNode(_Node):
    """One value; `text` as written (without quotes), `plain` if it had no quotes."""

    text: str
    plain: bool


@dataclass(slots=True)
class ListNode(_Node):
    """A list."""

    items: list[Node] = field(default_factory=list)


@dataclass(slots=True)
class Entry:
    """One key of a mapping and its value."""

    key: ScalarNode
    value: Node

    @property
    def position(self) -> Position:
        """Where a reader looks for it: a scalar's own place, else the key's."""
        node = self.value if isinstance(self.value, ScalarNode) else self.key
        return node.position


@dataclass(slots=True)
class MapNode(_Node):
    """A mapping; all keys are text."""

    items: dict[str, Entry] = field(default_factory=dict)
    whole: bool = True
    """False if entries were refused (merge keys): what is missing may stand there."""


Node: TypeAlias = ScalarNode | ListNode | MapNode


@dataclass(frozen=True, slots=True)
class Document:
    """A file that was read; without a root it cannot be looked at further."""

    root: Node | None
    problems: tuple[Diagnostic, ...]


def resolve(node: ScalarNode) -> str | int | float | bool | None:
    """What a scalar means by YAML 1.2's core schema."""
    text = node.text
    if not node.plain:
        return text
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in _NUMBER_START:
        return text
    if _INT.fullmatch(text):
        return int(text) if len(text) <= _LONGEST_INT else _huge(text)
    if _BASED.fullmatch(text):
        return int(text, 0) if len(text) <= _LONGEST_INT else _huge(text)
    return float(text) if _FLOAT.fullmatch(text) else text


def _huge(text: str) -> int:
    return int(f"{text[0].strip('0123456789')}1{'0' * _LONGEST_INT}")


def shown(text: str, limit: int = 40) -> str:
    """Text as a message may show it: short, and nothing that a terminal would obey."""
    text = text if len(text) <= limit else f"{text[: limit - 1]}…"
    return printable(text)


def describe(node: Node) -> str:
    """What stands there, in words for a message."""
    if isinstance(node, MapNode):
        return "a mapping"
    if isinstance(node, ListNode):
        return "a list"
    match resolve(node):
        case None:
            return "nothing"
        case bool():
            return node.text
        case str():
            return f'the text "{shown(without_keys(node.text))}"'
        case _:
            return f"the number {shown(node.text)}"


def read_yaml(name: str, content: bytes) -> Document:
    """Read one file; `name` is what messages call it."""
    builder = _Builder(name)
    try:
        builder.run(_decode(name, content))
    except _UnreadableError as error:
        return Document(None, (*builder.problems, error.diagnostic))
    return Document(builder.root, tuple(builder.problems))


class _UnreadableError(Exception):
    def __init__(self, where: Position, summary: str, hint: str = "") -> None:
        self.diagnostic = Diagnostic(Severity.ERROR, summary, where, hint)


def _decode(name: str, content: bytes) -> str:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # The codec counts behind a byte order mark.
        bad = error.object[error.start]
        where = _place(name, error.object[: error.start].decode())
        raise _UnreadableError(
            where, f"byte 0x{bad:02x} is not UTF-8", "save the file as UTF-8"
        ) from None
    if found := _UNWANTED.search(text):
        where = _place(name, text[: found.start()])
        raise _UnreadableError(
            where,
            f"invisible character U+{ord(found[0]):04X}",
            'delete it; in a text in double quotes it can be written as "\\u...."',
        )
    return text


def _place(name: str, before: str) -> Position:
    lines = _LINE_END.split(before)
    return Position(name, len(lines), len(lines[-1]) + 1)


class _Mark(Protocol):
    line: int
    column: int


class _Event(Protocol):
    """What the events have that are used here, each some of it."""

    start_mark: _Mark
    anchor: Any
    tag: str | None
    value: str
    implicit: tuple[bool, bool]


def _context(error: Exception, where: Position) -> list[str]:
    """`while parsing a flow mapping that starts on line 5`, if libyaml says so."""
    mark = getattr(error, "context_mark", None)
    if mark is None:
        return []
    context = str(getattr(error, "context", ""))
    return [context] if mark.line + 1 == where.line else [f"{context} from line {mark.line + 1} on"]


@dataclass(slots=True)
class _Open:
    """A list or mapping whose end was not seen yet; `key` waits for its value."""

    node: ListNode | MapNode
    key: Node | None = None


class _Builder:
    """Makes the tree out of libyaml's events."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.root: Node | None = None
        self.problems: list[Diagnostic] = []
        self._open: list[_Open] = []
        self._anchors: dict[str, Node] = {}
        self._expanded = 0
        self._documents = 0
        self._take: dict[type, Callable[[Any], None]] = {
            yaml.ScalarEvent: self._scalar,
            yaml.AliasEvent: self._alias,
            yaml.MappingStartEvent: self._start_map,
            yaml.SequenceStartEvent: self._start_list,
            yaml.MappingEndEvent: self._end,
            yaml.SequenceEndEvent: self._end,
            yaml.DocumentStartEvent: self._document,
        }

    def run(self, text: str) -> None:
        """Read all events."""
        try:
            loader = _LOADER(text)
            while not isinstance(event := loader.get_event(), yaml.StreamEndEvent):
                if take := self._take.get(type(event)):
                    take(event)
        except (yaml.YAMLError, ValueError, OverflowError) as error:
            raise self._syntax(error, text) from None

    def _syntax(self, error: Exception, text: str) -> _UnreadableError:
        mark = getattr(error, "problem_mark", None)
        where = self._position(mark) if mark else Position(self.name, 1, 1)
        what = getattr(error, "problem", None) or str(error)
        if mark and "cannot start any token" in what:
            if text[mark.index] == "\t":
                return _UnreadableError(where, "a tab cannot indent", "use spaces")
            found = shown(text[mark.index])
            return _UnreadableError(where, f"a text cannot start with {found}", "put it in quotes")
        summary = " ".join(["YAML syntax:", what, *_context(error, where)])
        hint = next((hint for said, hint in _HINTS.items() if said in summary), "")
        return _UnreadableError(where, summary, hint)

    def _position(self, mark: _Mark) -> Position:
        return Position(self.name, mark.line + 1, mark.column + 1)

    def _problem(self, where: Position, summary: str, hint: str = "") -> None:
        self.problems.append(Diagnostic(Severity.ERROR, summary, where, hint))

    def _document(self, event: _Event) -> None:
        self._documents += 1
        if self._documents > 1:
            where = self._position(event.start_mark)
            raise _UnreadableError(where, "a second document starts here; a file holds one")

    def _scalar(self, event: _Event) -> None:
        mark, text = event.start_mark, event.value
        plain = event.implicit[0] and event.tag is None
        node = ScalarNode(self.name, mark.line + 1, mark.column + 1, text, plain)
        node.size += len(text) // 100
        if event.tag is not None and event.tag not in _STR_TAGS:
            self._refuse_tag(node, event.tag)
        if not text.isascii() and _SURROGATE.search(text):
            self._problem(node.position, "half of a surrogate pair is not a character")
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        self._add(node)

    def _refuse_tag(self, node: Node, tag: str) -> None:
        tag = tag.replace("tag:yaml.org,2002:", "!!")
        self._problem(
            node.position, f"the tag `{shown(tag)}` is not allowed", "write the value plainly"
        )

    def _start_map(self, event: _Event) -> None:
        mark = event.start_mark
        self._start(event, MapNode(self.name, mark.line + 1, mark.column + 1))

    def _start_list(self, event: _Event) -> None:
        mark = event.start_mark
        self._start(event, ListNode(self.name, mark.line + 1, mark.column + 1))

    def _start(self, event: _Event, node: MapNode | ListNode) -> None:
        if event.tag is not None:
            self._refuse_tag(node, event.tag)
        self._check_depth(node, 1)
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        self._open.append(_Open(node))

    def _end(self, event: _Event) -> None:
        del event
        self._add(self._open.pop().node)

    def _alias(self, event: _Event) -> None:
        where = self._position(event.start_mark)
        target = self._anchors.get(event.anchor)
        if target is None:
            raise _UnreadableError(where, f"no anchor `&{shown(event.anchor)}` stands above")
        if any(frame.node is target for frame in self._open):
            raise _UnreadableError(where, f"`*{shown(event.anchor)}` stands inside its own anchor")
        node = copy(target)
        node.line, node.column = where.line, where.column
        self._check_depth(node, node.height)
        self._expanded += node.size
        if self._expanded > MAX_EXPANSION:
            raise _UnreadableError(
                where, f"aliases blow this file up beyond {MAX_EXPANSION:,} values"
            )
        self._add(node)

    def _check_depth(self, node: Node, height: int) -> None:
        if len(self._open) + height > MAX_DEPTH:
            raise _UnreadableError(node.position, f"nested deeper than {MAX_DEPTH} levels")

    def _add(self, node: Node) -> None:
        if not self._open:
            self.root = node
            return
        frame = self._open[-1]
        frame.node.size += node.size
        frame.node.height = max(frame.node.height, node.height + 1)
        if isinstance(frame.node, ListNode):
            frame.node.items.append(node)
        elif frame.key is None:
            frame.key = node
        else:
            self._entry(frame.node, frame.key, node)
            frame.key = None

    def _entry(self, parent: MapNode, key: Node, value: Node) -> None:
        if not isinstance(key, ScalarNode) or not isinstance(resolve(key), str):
            hint = "put it in quotes" if isinstance(key, ScalarNode) and key.text else ""
            self._problem(key.position, f"a key must be text, found {describe(key)}", hint)
            parent.whole = False
        elif key.plain and key.text == "<<":
            self._problem(
                key.position,
                "merge keys (`<<`) are not part of YAML 1.2",
                "what models share belongs in `defaults`",
            )
            parent.whole = False
        elif key.text in parent.items:
            first = parent.items[key.text].key
            self._problem(
                key.position, f"duplicate key `{shown(key.text)}`; first on line {first.line}"
            )
        else:
            parent.items[key.text] = Entry(key, value)
