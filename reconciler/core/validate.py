"""One part of the tree against its pydantic model, with mistakes in plain words.

In: a mapping node and the type it should become. Out: the typed value, or None and a diagnostic
at the key or value at fault for everything that does not fit.
No word of pydantic's may reach a user; the types themselves are `core.desired`'s.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from reconciler.core.desired import Model
from reconciler.core.findings import Findings, nearest
from reconciler.core.marks import walk
from reconciler.core.yaml12 import (
    Entry,
    ListNode,
    MapNode,
    Node,
    ScalarNode,
    describe,
    resolve,
    shown,
)

T = TypeVar("T", bound=BaseModel)

_EXPECTED = {
    "int_type": "a whole number",
    "string_type": "text",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "enum": "{expected}",
    "greater_than": "more than {gt:g}",
    "greater_than_equal": "{ge} or more",
    "less_than_equal": "{le} or less",
}
"""pydantic's error types -> what a user is told to write."""


_WRITTEN = {
    "source": "write {path: FILE}, {repo: ORG/NAME}, or {url: URL, sha256: SUM}",
    "aliases": "write [NAME], also for a single one",
    "params": "write {FLAG: VALUE}, like {ctx_size: 8192}",
    "args": "write {FLAG: VALUE}, like {n-gpu-layers: 99}",
    "env": "write {NAME: VALUE}",
}
"""Keys that people write in another shape: how it is written here."""
_SHAPES = frozenset({"tuple_type", "dict_type", "model_type"})

_STAND_IN = {"source": {"path": "-"}}


def plain(node: Node) -> object:
    """The node as plain values; lists become tuples."""
    if isinstance(node, ScalarNode):
        return resolve(node)
    if isinstance(node, ListNode):
        return tuple(plain(item) for item in node.items)
    return {key: plain(entry.value) for key, entry in node.items.items()}


def validate(
    kind: type[T], owner: Entry, values: object, findings: Findings, *, partial: bool = False
) -> T | None:
    """Make `kind` of `values`, which were read from `owner`'s value.

    `partial` is for `defaults`, which may leave out what each model has to say.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)
    for detail in details:
        if not (partial and _is_incomplete(detail)):
            _explain(detail, kind, owner, findings)
    return None


def salvage(values: object) -> Model | None:
    """A model without its bad fields, so that the good ones can still be compared with others.

    Only for finding further mistakes: one that needs this is never applied.
    """
    if not isinstance(values, dict):
        return None
    good = {}
    for field, value in values.items():
        with suppress(ValidationError):
            Model.model_validate(_STAND_IN | {field: value})
            good[field] = value
    return Model.model_validate(good | _STAND_IN)


def _is_incomplete(detail: ErrorDetails) -> bool:
    return detail["loc"] in {(), ("source",)} and detail["type"] in {"missing", "value_error"}


def _explain(detail: ErrorDetails, kind: type[BaseModel], owner: Entry, findings: Findings) -> None:
    loc, problem = detail["loc"], detail["type"]
    entry, where, _ = walk(owner, loc)
    name = shown(entry.key.text)
    if problem == "extra_forbidden":
        _unknown(entry.key, kind, loc, findings)
    elif problem == "missing":
        if isinstance(entry.value, MapNode) and entry.value.whole:
            findings.error(where, f"`{name}`: the required key `{loc[-1]}` is missing")
    elif (said := _said(detail)).startswith("expected"):
        summary = f"`{name}`: {said}, found {_found(entry)}{_meant(detail, entry.value)}"
        findings.error(entry.value.position, summary, _hint(problem, entry))
    else:
        # pydantic says of a mapping's key `[key]` behind it.
        findings.error(entry.key.position if loc[-1:] == ("[key]",) else where, f"`{name}`: {said}")


def _found(entry: Entry) -> str:
    """What stands there instead; what somebody wrote for `env` may be a secret."""
    node = entry.value
    secret = entry.key.text == "env" and isinstance(node, ScalarNode) and resolve(node) is not None
    return "a single value" if secret else describe(node)


def _said(detail: ErrorDetails) -> str:
    context = detail.get("ctx", {})
    if detail["type"] == "value_error":
        return str(context["error"])
    expected = _EXPECTED.get(detail["type"], "another value")
    context["expected"] = str(context.get("expected", "")).replace("'", "")
    return f"expected {expected.format(**context)}"


def _meant(detail: ErrorDetails, node: Node) -> str:
    if detail["type"] != "enum" or not isinstance(node, ScalarNode):
        return ""
    return nearest(node.text, re.findall(r"[\w-]{3,}", _said(detail).removeprefix("expected ")))


def _hint(problem: str, entry: Entry) -> str:
    node = entry.value
    if problem in _SHAPES:
        return _WRITTEN.get(entry.key.text, "")
    if not isinstance(node, ScalarNode) or resolve(node) is None:
        return ""
    if problem == "string_type":
        return "put it in quotes to make it text"
    if problem in {"int_type", "bool_type"} and not node.plain:
        return "take the quotes away"
    return ""


def _unknown(
    key: ScalarNode, kind: type[BaseModel], loc: tuple[int | str, ...], findings: Findings
) -> None:
    for part in loc[:-1]:
        kind = _inner(kind, str(part))
    known = [field.alias or name for name, field in kind.model_fields.items()]
    near = nearest(key.text, known)
    hint = "" if near else f"known here: {', '.join(known)}"
    if kind is Model and not near:
        hint += "; llama-server's options belong under `params` or `args`"
    findings.error(key.position, f"unknown key `{shown(key.text)}`{near}", hint)


def _inner(kind: type[BaseModel], name: str) -> type[BaseModel]:
    annotation = kind.model_fields[name].annotation
    inner = (annotation, *get_args(annotation))  # of `Tls | None`, the first
    return next(
        (one for one in inner if isinstance(one, type) and issubclass(one, BaseModel)), kind
    )
