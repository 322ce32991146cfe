"""Values as YAML text, the way that a person would write them.

In: a plain value. Out: the shortest text that reads back as that value by YAML 1.2 (and by our
own reader), with quotes only where they are needed. Comments, order and layout of a whole file
are the matter of whoever puts the pieces together.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from reconciler.core.yaml12 import ScalarNode, resolve

Scalar = str | int | float | bool
Value = Scalar | Sequence["Value"] | Mapping[str, "Value"]

# What can stand without quotes everywhere, in `{...}` too: no indicator, nothing like a comment.
_PLAIN = re.compile(r"[A-Za-z0-9_./+-][A-Za-z0-9_./+@%=()-]*(?: [A-Za-z0-9_./+@%=()-]+)*")
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t"}


class Raw(str):
    """A flag's value or a variable's: passed on as written, so that numbers need no quotes."""

    __slots__ = ()


def scalar_text(value: Scalar) -> str:
    """One value."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str):
        return repr(value)
    meant = resolve(ScalarNode("", 0, 0, value, plain=True)) if value else None
    fits = not isinstance(meant, bool | None) if isinstance(value, Raw) else meant == value
    return value if fits and _is_plain(value) else _quoted(value)


def _is_plain(text: str) -> bool:
    return _PLAIN.fullmatch(text) is not None and (text[0] != "-" or text[1:2].isdigit())


def _quoted(text: str) -> str:
    if '"' in text and "'" not in text and text.isprintable():
        return f"'{text}'"
    return f'"{"".join(map(_escaped, text))}"'


def _escaped(one: str) -> str:
    if one in _ESCAPES:
        return _ESCAPES[one]
    return one if one.isprintable() else f"\\U{ord(one):08x}"


def flow_text(value: Value) -> str:
    """A value in one line, lists and mappings in brackets."""
    if isinstance(value, Mapping):
        inner = ", ".join(f"{scalar_text(key)}: {flow_text(one)}" for key, one in value.items())
        return f"{{{inner}}}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"[{', '.join(map(flow_text, value))}]"
    return scalar_text(value)
