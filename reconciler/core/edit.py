"""One value of a model changed in the text of a desired file; all else stays as it was written.

In: a file's text, a model, what to set or remove. Out: the new text, with every comment but those
inside of what was replaced. The text is cut at the places that the YAML reader tells, never written
anew; if it then says anything else than was wanted, nothing comes out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from reconciler.core.desired import Model
from reconciler.core.parse import SourceText
from reconciler.core.text import without_keys
from reconciler.core.validate import plain
from reconciler.core.yaml12 import ListNode, MapNode, Node, ScalarNode, read_yaml, resolve
from reconciler.core.yaml_text import Raw, Value, flow_text, scalar_text
from reconciler.errors import UsageError

_LOADER: type = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_ORDER = list(Model.model_fields)


@dataclass(frozen=True, slots=True)
class Change:
    """One thing to set, or to remove."""

    path: tuple[str, ...]
    """A field of a model, or a field and a key in it."""
    text: str | None
    """The value as YAML on one line; None: remove it."""
    value: object = None
    """The same as a plain value."""

    @property
    def shown(self) -> str:
        """For people; a variable's value may be a secret, and so may be what a URL ends with."""
        name = ".".join(self.path)
        if self.text is None:
            return f"{name}-"
        return f"{name}={'...' if self.path[0] == 'env' else without_keys(self.text)}"


def parse_change(words: str) -> Change:
    """`quant=Q8_0`, `params.temp=0.5`; `params.temp-` or `params.temp=null` removes.

    Raises:
        UsageError: it is none of these.
    """
    name, equals, text = words.partition("=")
    if not equals and name.endswith("-"):
        name, text = name[:-1], "null"
    elif not equals:
        raise UsageError(f"{words} sets nothing", hint="write KEY=VALUE, or KEY- to remove it")
    path = tuple(name.split(".", 1))
    if not all(path):
        raise UsageError(f"{words} names no field", hint="like quant=Q8_0 or params.temp=0.5")
    if not text.strip():
        return Change(path, '""', "")
    node = _value_of(text)
    if isinstance(node, ScalarNode) and resolve(node) is None:
        return Change(path, None)
    return Change(path, flow_text(_written(node)), plain(node))


def _value_of(text: str) -> Node:
    """As YAML reads it; what it cannot read is a text."""
    root = read_yaml("", f"v: {text}".encode())
    if root.problems or not isinstance(root.root, MapNode) or root.root.items.keys() != {"v"}:
        return ScalarNode("", 1, 1, text, plain=False)
    return root.root.items["v"].value


def _written(node: Node) -> Value:
    if isinstance(node, MapNode):
        return {key: _written(entry.value) for key, entry in node.items.items()}
    if isinstance(node, ListNode):
        return [_written(item) for item in node.items]
    meant = resolve(node)
    if isinstance(meant, str | bool):
        return meant
    return Raw(node.text)  # numbers stay as written


def edited(source: SourceText, model: str, changes: Sequence[Change]) -> bytes:
    """The file with these changes of one of its models.

    Raises:
        UsageError: what is to be removed is not there, or the place cannot be edited.
    """
    text = source.content.decode("utf-8-sig")
    for change in changes:
        before = _said(text)
        text = _Place(text, source.name, model).changed(change)
        wanted = _with(before, model, change)
        if _said(text) != wanted:
            raise _by_hand(source.name, change)
    return text.encode()


def _by_hand(name: str, change: Change) -> UsageError:
    said = f"`{'.'.join(change.path)}` cannot be changed where it stands"
    return UsageError(said, hint=f"edit {name} by hand")


def _said(text: str) -> dict[str, Any]:
    root = read_yaml("", text.encode()).root
    values = plain(root) if root else None
    return values if isinstance(values, dict) else {}


def _with(values: dict[str, Any], model: str, change: Change) -> dict[str, Any]:
    """What is to be said afterwards."""
    own = dict(values["models"][model])
    field, *inner = change.path
    part = dict(own.get(field) or {}) if inner else own
    key = inner[0] if inner else field
    if change.text is None:
        del part[key]
    else:
        part[key] = change.value
    if inner:
        own[field] = part
        if not part:
            del own[field]
    return {**values, "models": {**values["models"], model: own}}


def _mapping(node: yaml.Node | None) -> yaml.MappingNode:
    """What the reading of the desired file has found to be one."""
    if not isinstance(node, yaml.MappingNode):
        raise TypeError("no mapping")
    return node


@dataclass(frozen=True, slots=True)
class _Pair:
    """A key with its value, by their places in the text."""

    start: int
    colon: int
    """Behind the colon."""
    first: int
    """Where the value begins, and where it ends: behind the colon where there is none."""
    end: int
    node: yaml.Node


class _Place:
    """A model in its text."""

    def __init__(self, text: str, name: str, model: str) -> None:
        self.text = text
        self.name = name
        self._tokens = [
            (token.start_mark.index, token.end_mark.index)
            for token in yaml.scan(text, Loader=_LOADER)
            if token.start_mark.index != token.end_mark.index
        ]
        root = _mapping(yaml.compose(text, Loader=_LOADER))
        models = self._pairs(_mapping(self._pairs(root)["models"].node))
        self._model = _mapping(models[model].node)

    def changed(self, change: Change) -> str:
        """The text with that change."""
        field, *inner = change.path
        own = self._pairs(self._model)
        if not inner:
            return self._put(self._model, field, change)
        if field not in own or own[field].first == own[field].colon:
            if change.text is None:
                raise self._missing(change)
            whole = f"{{{scalar_text(inner[0])}: {change.text}}}"
            return self._put(self._model, field, Change((field,), whole))
        part = own[field].node
        if not isinstance(part, yaml.MappingNode):
            raise _by_hand(self.name, change)
        if change.text is None and self._pairs(part).keys() == {inner[0]}:
            return self._without(self._model, field)
        return self._put(part, inner[0], change)

    def _missing(self, change: Change) -> UsageError:
        said = f"`{'.'.join(change.path)}` is not said there"
        return UsageError(said, hint="what comes from `defaults` can only be set, or removed there")

    def _put(self, mapping: yaml.MappingNode, key: str, change: Change) -> str:
        pairs = self._pairs(mapping)
        if change.text is None:
            if key not in pairs:
                raise self._missing(change)
            return self._without(mapping, key)
        if key in pairs:
            return self._replaced(pairs[key], change.text)
        line = f"{scalar_text(key)}: {change.text}"
        return self._added(mapping, key, line)

    def _pairs(self, mapping: yaml.MappingNode) -> dict[str, _Pair]:
        """The keys of a mapping, in their order."""
        found: dict[str, _Pair] = {}
        is_flow = bool(mapping.flow_style)
        limits = [key.start_mark.index for key, _ in mapping.value[1:]]
        limits.append(mapping.end_mark.index - is_flow)
        for (key, value), limit in zip(mapping.value, limits, strict=False):
            inside = [one for one in self._tokens if key.end_mark.index <= one[0] < limit]
            if is_flow and inside and self.text[inside[-1][0]] == ",":
                inside.pop()
            colon = inside[0][1]
            first = inside[1][0] if inside[1:] else colon
            end = inside[-1][1]
            end -= len(self.text[first:end]) - len(self.text[first:end].rstrip("\r\n"))
            found[key.value] = _Pair(key.start_mark.index, colon, first, end, value)
        return found

    def _replaced(self, pair: _Pair, value: str) -> str:
        """Another value; a comment behind the key stays."""
        head, newline, _ = self.text[pair.colon : pair.first].partition("\n")
        note = f"  {head.strip()}" if newline and head.strip() else ""
        return f"{self.text[: pair.colon]} {value}{note}{self.text[pair.end :]}"

    def _added(self, mapping: yaml.MappingNode, key: str, line: str) -> str:
        pairs = self._pairs(mapping)
        if mapping.flow_style:
            at = list(pairs.values())[-1].end if pairs else mapping.start_mark.index + 1
            return f"{self.text[:at]}{', ' if pairs else ''}{line}{self.text[at:]}"
        above = list(pairs.values())[-1]
        if mapping is self._model and key in _ORDER:
            known = [name for name in pairs if name in _ORDER[: _ORDER.index(key)]]
            above = pairs[known[-1]] if known else above
        indent = " " * mapping.start_mark.column
        at = self._line_end(above.end)
        carriage = "\r" if self.text[:at].endswith("\r") else ""
        return f"{self.text[:at]}\n{indent}{line}{carriage}{self.text[at:]}"

    def _without(self, mapping: yaml.MappingNode, key: str) -> str:
        pairs = self._pairs(mapping)
        names = list(pairs)
        number, pair = names.index(key), pairs[key]
        if not mapping.flow_style:
            start = self.text.rfind("\n", 0, pair.start) + 1
            return self.text[:start] + self.text[self._line_end(pair.end) + 1 :]
        if number + 1 < len(names):
            return self.text[: pair.start] + self.text[pairs[names[number + 1]].start :]
        start = pairs[names[number - 1]].end if number else pair.start
        return self.text[:start] + self.text[pair.end :]

    def _line_end(self, at: int) -> int:
        found = self.text.find("\n", at)
        return len(self.text) if found < 0 else found
