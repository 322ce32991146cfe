"""The parts of a model that the engine gets as written: `params`, `args`, `env`.

In: their nodes, after `defaults` were merged. Out: flags and variables as text (`1.0` stays
`1.0`), and every mistake in them. Values of `env` never appear in a message: they may be secret.
"""

from __future__ import annotations

import re

from reconciler.core.engine import LABEL_PREFIX, flag_name, owned_advice
from reconciler.core.fields import FlagValue
from reconciler.core.findings import Findings
from reconciler.core.yaml12 import Entry, ListNode, MapNode, Node, ScalarNode, resolve, shown

FLAG_ZONES = ("params", "args")
WRITTEN = (*FLAG_ZONES, "env")

_FLAG_KEY = re.compile(r"-{0,2}[A-Za-z][A-Za-z0-9_.-]*")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_FLAG_VARIABLES = ("LLAMA_ARG_NO_ENDPOINT_", "LLAMA_ARG_ENDPOINT_", "LLAMA_ARG_", "LLAMA_")
"""llama-server reads flags from variables too: `LLAMA_ARG_HOST`, `LLAMA_ARG_ENDPOINT_SLOTS`."""


def zone(model: MapNode, name: str) -> dict[str, Entry]:
    """The entries of one of the parts; nothing if it is missing or no mapping."""
    entry = model.items.get(name)
    return entry.value.items if entry and isinstance(entry.value, MapNode) else {}


def read_written(model: MapNode, findings: Findings) -> dict[str, object]:
    """`params`, `args` and `env` as values; a part that is no mapping is left to the schema."""
    values: dict[str, object] = {}
    seen: dict[str, tuple[str, Entry]] = {}
    for name in FLAG_ZONES:
        entries = sorted(zone(model, name).items())
        for _, entry in entries:
            _check_flag(name, entry, seen, findings)
        flags = {key: _flag(entry, findings) for key, entry in entries}
        values[name] = {key: flag for key, flag in flags.items() if flag is not None}
    values["env"] = {key: _variable(e, findings) for key, e in sorted(zone(model, "env").items())}
    return {name: value for name, value in values.items() if _is_map(model, name)}


def _is_map(model: MapNode, name: str) -> bool:
    return name in model.items and isinstance(model.items[name].value, MapNode)


def _check_flag(
    name: str, entry: Entry, seen: dict[str, tuple[str, Entry]], findings: Findings
) -> None:
    key = entry.key
    if not _FLAG_KEY.fullmatch(key.text):
        _no_name(key, "a flag", findings)
        return
    flag = flag_name(key.text)
    if advice := owned_advice(flag):
        findings.error(key.position, f"the flag `{shown(key.text)}` is not yours to set: {advice}")
    zone_before, before = seen.setdefault(flag, (name, entry))
    if before is entry:
        return
    first, second = sorted((before.key, key), key=lambda node: node.position)
    summary = (
        f"`{shown(second.text)}` and `{shown(first.text)}` (line {first.line}) are the same flag"
        if zone_before == name
        else f"the flag `{shown(second.text)}` is in `params` and in `args` (line {first.line} too)"
    )
    findings.error(second.position, summary, "keep one of them")


def _name(key: ScalarNode) -> str:
    """A key as it may be shown: written as `NAME=value` it may hold a secret."""
    name, equals, _ = key.text.partition("=")
    return f"{shown(name)}=…" if equals else shown(name)


def _no_name(key: ScalarNode, of_what: str, findings: Findings) -> None:
    hint = "write `name: value`" if "=" in key.text else ""
    findings.error(key.position, f"`{_name(key)}` is not the name of {of_what}", hint)


def _flag(entry: Entry, findings: Findings) -> FlagValue | None:
    node = entry.value
    if isinstance(node, ScalarNode):
        value = resolve(node)
        return value if isinstance(value, bool) else _text(entry, node, findings)
    if isinstance(node, ListNode) and node.items:
        texts = [_text(entry, item, findings) for item in node.items]
        return tuple(text for text in texts if text is not None)
    found = "an empty list" if isinstance(node, ListNode) else "a mapping"
    findings.error(
        entry.key.position,
        f"`{_name(entry.key)}`: expected text, a number, true, false or a list, found {found}",
    )
    return None


def _text(entry: Entry, node: Node, findings: Findings) -> str | None:
    name = _name(entry.key)
    if not isinstance(node, ScalarNode):
        found = "a list" if isinstance(node, ListNode) else "a mapping"
        findings.error(node.position, f"`{name}`: expected text or a number, found {found}")
        return None
    if resolve(node) is None:
        hint = 'write "" for an empty text, or true for a flag without a value'
        findings.error(node.position, f"`{name}` has no value", hint)
    if "\0" in node.text:
        findings.error(node.position, f"`{name}` must not hold a NUL character")
    return node.text


def _variable(entry: Entry, findings: Findings) -> str:
    name, node = _name(entry.key), entry.value
    where = entry.key.position
    if not _VARIABLE.fullmatch(entry.key.text):
        _no_name(entry.key, "a variable", findings)
    elif entry.key.text.startswith(LABEL_PREFIX):
        findings.error(
            where, f"`{name}`: names that start with {LABEL_PREFIX} are the reconciler's"
        )
    elif advice := _owned_variable(entry.key.text):
        findings.error(where, f"the variable `{name}` is not yours to set: {advice}")
    if not isinstance(node, ScalarNode):
        found = "a list" if isinstance(node, ListNode) else "a mapping"
        findings.error(where, f"`{name}`: expected text, found {found}")
        return ""
    if resolve(node) is None:
        findings.error(node.position, f"`{name}` has no value", 'write "" for an empty one')
    if "\0" in node.text:
        findings.error(node.position, f"`{name}` must not hold a NUL character")
    return node.text


def _owned_variable(name: str) -> str | None:
    for prefix in _FLAG_VARIABLES:
        if name.startswith(prefix):
            return owned_advice(flag_name(name.removeprefix(prefix).lower()))
    return None
