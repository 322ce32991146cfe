"""The JSON Schema of the desired file, for editors; `schema/desired.schema.json` is its output.

In: the types of `core.desired` and the docstrings of their fields. Out: plain values.
It must accept every file that the parser accepts. What several fields must agree on, only the
parser knows: an editor that is content proves nothing.
"""

from __future__ import annotations

import ast
import inspect
from types import ModuleType
from typing import Any

from reconciler.core import desired
from reconciler.core.desired import MODEL_NAME, DesiredState

Schema = dict[str, Any]
"""A piece of JSON Schema: whatever JSON holds."""

_COSTS = {"restart": "A change restarts the server.", "gateway": "A change reloads the gateway."}


def desired_schema() -> Schema:
    """The whole schema, draft 2020-12."""
    raw = DesiredState.model_json_schema()
    kinds: dict[str, Schema] = raw["$defs"]
    documented = {**kinds, "DesiredState": raw}
    for name, fields in field_docs(desired).items():
        for field, text in fields.items():
            alias = getattr(desired, name).model_fields[field].alias
            place = documented[name]["properties"][alias or field]
            place["description"] = f"{text} {_COSTS.get(place['effect'], '')}".strip()
    # What a model does not say, `defaults` may.
    kinds["Model"].pop("required")
    properties = raw["properties"]
    properties["version"] = {"const": 1, **_described(properties["version"])}
    properties["gateway"] = {
        "anyOf": [{"$ref": "#/$defs/Gateway"}, {"type": ["boolean", "null"]}],
        **_described(properties["gateway"]),
    }
    properties["models"]["propertyNames"] = {"pattern": f"^{MODEL_NAME.pattern}$"}
    properties["defaults"] = {
        "description": "Any field of a model, merged below each one.",
        "$ref": "#/$defs/Model",
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "llm-reconcile: desired state, version 1",
        "type": "object",
        "additionalProperties": False,
        "required": ["version", "models"],
        "properties": without_noise(properties),
        "$defs": without_noise(kinds),
    }


def _described(place: Schema) -> Schema:
    return {"description": place["description"]} if "description" in place else {}


def without_noise(value: object) -> object:
    """Without pydantic's titles, our own marks, and defaults that only a program understands."""
    if isinstance(value, list):
        return [without_noise(one) for one in value]
    if not isinstance(value, dict):
        return value
    return {key: without_noise(one) for key, one in value.items() if not _is_noise(key, one)}


def _is_noise(key: str, value: object) -> bool:
    is_mark = key in {"title", "effect"} and isinstance(value, str)
    return is_mark or (key == "default" and (value is None or isinstance(value, dict | list)))


def field_docs(module: ModuleType) -> dict[str, dict[str, str]]:
    """Of the classes of a module: class -> field -> the docstring below the field."""
    tree = ast.parse(inspect.getsource(module))
    return {
        node.name: _docs_of(node)
        for node in tree.body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    }


def _docs_of(kind: ast.ClassDef) -> dict[str, str]:
    found: dict[str, str] = {}
    for field, after in zip(kind.body, kind.body[1:], strict=False):
        match field, after:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                found[name] = " ".join(text.split())
            case _:
                pass
    return found
