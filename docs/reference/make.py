"""Write the pages of the reference that the code itself can tell: `make reference`.

In: the types of the desired file, of a plan's JSON, of exit codes and of events, with the
docstrings below their fields; the metrics that the gateway has. Out: fields.md, plan-json.md,
exit-codes.md, events.md and a table in metrics.md beside this; a test asks whether they are
current. What only people can tell stands in the other pages.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum, StrEnum
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from reconciler.core import desired, events
from reconciler.core.desired import (
    RESERVED_NAMES,
    DesiredState,
    Engine,
    Gateway,
    Model,
    Probe,
    Render,
    Source,
    Tls,
)
from reconciler.core.events import EventKind
from reconciler.core.plan_schema import plan_document_schema
from reconciler.core.schema import field_docs
from reconciler.core.words import Effect
from reconciler.errors import ExitCode

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parents[1]
HEAD = "<!-- Written by docs/reference/make.py: an edit here is lost. -->\n"
FROM_HERE = "<!-- Of templates/metrics.js, by docs/reference/make.py -->"
TO_HERE = "<!-- to here -->"
FIELDS_HEAD = """\
# All fields

Of the desired file, `version: 1`. [The desired file](desired-state.md) says how they work together.
A time is written `30s`, `5m` or `1h30m`, a size `241GB` or `4.9GiB`. The last column is what a
change of the field does to what runs; `plan` says it of your change.
"""
EXIT_CODES = """\
# Exit codes

Of all verbs.

{table}
A pull request fails on 1 (the file is wrong) and 4 (a guard says no); a script that waits for
models goes on at 0 and looks at `llm-reconcile status` at 3.
"""
EVENTS = """\
# Events

What a [watch](watch.md) saw happen and did: one JSON object a line in `logs/events.jsonl`, by
[`events --json`](cli.md#events), to `--notify-command` and to `--notify-url`.

## Kinds

{kinds}
A command or URL is told of all but `exited`, `done` and steps that failed: what becomes of these is
told.

## Keys

{keys}"""
PLAN_HEAD = """\
# A plan as JSON

What `plan --json` and `show --json` print and `plan --json-into` writes. `schema/plan.schema.json`
is the same for programs. A later version may add keys; what there is keeps its meaning as long as
`format_version` begins with `1.`

```sh
llm-reconcile plan desired/small.yaml --json | \\
  python3 -c 'import json, sys; print(json.load(sys.stdin)["summary"])'
```
"""

OF_MODELS = f"""\
NAME has 1 to 63 letters, digits, `.`, `_` or `-`, and begins with a letter or digit. It is none of
{", ".join(f"`{name}`" for name in sorted(RESERVED_NAMES))}.
All of these fields may stand in `defaults` too, and hold there for each model that does not say
them; `params`, `args` and `env` are merged key by key. A new name is a new server."""

SECTIONS: tuple[tuple[str, type[BaseModel], str], ...] = (
    ("The file", DesiredState, ""),
    ("engine", Engine, ""),
    ("gateway", Gateway, "`gateway: false` is none: each server listens on its model's port."),
    ("gateway.tls", Tls, ""),
    (
        "models.NAME",
        Model,
        OF_MODELS,
    ),
    ("models.NAME.source", Source, ""),
    ("models.NAME.probe", Probe, ""),
    ("renders[]", Render, "A change of any of them writes that file anew, and touches no server."),
)
COSTS = {
    Effect.RESTART: "restarts its servers",
    Effect.GATEWAY: "reloads nginx",
    Effect.NONE: "nothing",
}
TAKES = {
    "CheckWords": "a command with `{path}`",
    "Command": "a program: name or path",
    "Duration": "a time",
    "FilePath": "a path",
    "Flags": "flags by name",
    "InnerPath": "a path in the root",
    "Label": "text",
    "Listen": "`HOST:PORT` or a port",
    "Period": "a time above 0",
    "PlainPlace": "a path in the root",
    "Port": "1 to 65535",
    "Projector": "true, false, or text",
    "Repo": "`org/name`",
    "Sha256": "64 hex digits",
    "Startup": "a time, or `auto`",
    "Url": "a URL",
    "Variables": "variables by name",
    "Words": "a command",
    "bool": "true or false",
    "dict[Label, Size]": "sizes by quant",
    "dict[str, Model]": "[models](#modelsname)",
    "int": "a number",
    "tuple[Host, ...]": "a list of names",
    "tuple[Origin, ...]": "a list of origins",
    "tuple[Render, ...]": "a list of [files](#renders)",
    "tuple[str, ...]": "a list of names",
    "Engine": "[these](#engine)",
    "Gateway": "[these](#gateway), or `false`",
    "Probe": "[these](#modelsnameprobe)",
    "Source": "[these](#modelsnamesource)",
    "Tls": "[these](#gatewaytls)",
}
MORE = {
    "gateway.cors_origins": "gateway.md#browsers",
    "gateway.hold": "gateway.md#a-server-that-is-not-there",
    "gateway.keys_file": "gateway.md#keys",
    "gateway.tls": "gateway.md#tls",
    "models.NAME.args": "desired-state.md#flags",
    "models.NAME.params": "desired-state.md#flags",
    "models.NAME.probe.liveness": "watch.md",
    "models.NAME.quant": "desired-state.md#which-files",
    "models.NAME.rollout": "desired-state.md#a-new-version-that-fails",
    "models.NAME.source.repo": "lock-file.md",
    "models.NAME.source.url": "desired-state.md#a-file-with-a-url",
    "models.NAME.state": "desired-state.md#state-absent",
    "renders[].template": "renders.md",
}
"""Where more is said of a field."""
PLAIN = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "null",
    "object": "an object",
}


_OWN_METRIC = re.compile(r"\bown\(\s*'(\w+)',\s*'(\w+)',\s*'([^']+)'")


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """In Markdown."""
    lines = [list(head)]
    lines += [["---"] * len(lines[0]), *map(list, rows)]
    escaped = ((cell.replace("|", "\\|") for cell in line) for line in lines)
    return "".join(f"| {' | '.join(line)} |\n" for line in escaped)


def annotations(kind: type) -> dict[str, str]:
    """Of each field what it is, as it is written in the code, without `| None`."""
    [found] = ast.parse(inspect.getsource(kind)).body
    assert isinstance(found, ast.ClassDef)
    return {
        one.target.id: ast.unparse(one.annotation).removesuffix(" | None")
        for one in found.body
        if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name)
    }


def member_docs(kind: type[Enum]) -> dict[str, str]:
    """Of each member of an enum, by name, the docstring below it."""
    [found] = ast.parse(inspect.getsource(kind)).body
    assert isinstance(found, ast.ClassDef)
    docs: dict[str, str] = {}
    for member, after in zip(found.body, found.body[1:], strict=False):
        match member, after:
            case (
                ast.Assign(targets=[ast.Name(id=name)]),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                docs[name] = " ".join(text.split())
            case _:
                pass
    return docs


def fields_page() -> str:
    """Each field of the desired file: what it takes, what it means, what a change costs."""
    parts = [HEAD + FIELDS_HEAD]
    docs = field_docs(desired)
    for title, kind, intro in SECTIONS:
        heading = title if kind is DesiredState else f"`{title}`"
        parts.append(f"\n## {heading}\n\n" + (f"{intro}\n\n" if intro else ""))
        prefix = "" if kind is DesiredState else f"{title}."
        head = ("field", "meaning", "takes", "default", "a change")
        parts.append(table(head, field_rows(kind, docs[kind.__name__], prefix)))
    return "".join(parts)


def field_rows(kind: type[BaseModel], docs: Mapping[str, str], prefix: str) -> Iterator[list[str]]:
    """A row for each field of one part of the file."""
    written = annotations(kind)
    for name, field in kind.model_fields.items():
        shown = field.alias or name
        more = MORE.get(f"{prefix}{shown}")
        meaning = docs[name] + (f" [More]({more})." if more else "")
        assert isinstance(field.json_schema_extra, dict)
        cost = COSTS[Effect(str(field.json_schema_extra["effect"]))]
        cost = "that file" if kind is Render else cost
        yield [f"`{shown}`", meaning, takes(written[name]), default(field, written[name]), cost]


def takes(annotation: str) -> str:
    """What a field takes, in words."""
    kind = getattr(desired, annotation, None)
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return " or ".join(f"`{one.value}`" for one in kind)
    return TAKES[annotation]


def default(field: FieldInfo, annotation: str) -> str:
    """What holds where the file says nothing."""
    value = field.default
    if field.is_required():
        return "required"
    if annotation == "Startup":
        return "`auto`"
    if annotation in {"Duration", "Period"}:
        return f"`{int(value // 60)}m`" if value and value % 60 == 0 else f"`{int(value)}s`"
    if value is None or not isinstance(value, bool | int | str):
        return ""
    return f"`{str(value).lower()}`"


def exit_codes_page() -> str:
    """All exit codes."""
    docs = member_docs(ExitCode)
    rows = ([f"`{code.value}`", docs[code.name]] for code in ExitCode)
    return HEAD + EXIT_CODES.format(table=table(("code", "meaning"), rows))


def events_page() -> str:
    """Kinds of events, and what an event holds as JSON."""
    kinds = member_docs(EventKind)
    values = {
        **field_docs(events)["Event"],
        "model": "The model that it is about; null: it is about none.",
        "instance": "The instance that it is about, `NAME` or `NAME[1]`; null: about none.",
    }
    happened = ([f"`{one.value}`", kinds[one.name]] for one in EventKind)
    held = ([f"`{name}`", text] for name, text in values.items())
    return HEAD + EVENTS.format(
        kinds=table(("kind", "meaning"), happened), keys=table(("key", "meaning"), held)
    )


def plan_page() -> str:
    """Each key of a plan's JSON."""
    schema = plan_document_schema()
    kinds: dict[str, Any] = schema["$defs"]
    parts = [HEAD + PLAN_HEAD]
    for place, kind in plan_places(schema, kinds, ""):
        rows = (
            [f"`{name}`", meaning_of(one, kinds), kind_of(one, kinds)]
            for name, one in kind["properties"].items()
        )
        heading = f"`{place}`" if place else "The document"
        parts.append(f"\n## {heading}\n\n" + (f"{kind['description']}\n\n" if place else ""))
        parts.append(table(("key", "meaning", "holds"), rows))
    return "".join(parts)


def plan_places(
    kind: Mapping[str, Any], kinds: Mapping[str, Any], place: str
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """All objects of the document by where they are, each kind once."""
    yield place, kind
    seen: set[str] = set()
    for name, one in kind["properties"].items():
        reference = reference_of(one)
        inner = kinds.get(reference.rpartition("/")[2], {})
        if "properties" in inner and reference not in seen:
            seen.add(reference)
            same = [
                other
                for other, value in kind["properties"].items()
                if reference_of(value) == reference
            ]
            names = [f"{name}[]"] if "items" in one else same
            inside = f"{place}." if place else ""
            yield from plan_places(inner, kinds, ", ".join(f"{inside}{each}" for each in names))


def reference_of(value: Mapping[str, Any]) -> str:
    """The kind that a value is of, or each of a list's, or where it is not null; else nothing."""
    ways = (value, value.get("items", {}), *value.get("anyOf", ()))
    return next((str(one["$ref"]) for one in ways if "$ref" in one), "")


def meaning_of(value: Mapping[str, Any], kinds: Mapping[str, Any]) -> str:
    """What is said of a value, or else of what it is."""
    inner = kinds.get(reference_of(value).rpartition("/")[2], {})
    return str(value.get("description") or inner.get("description", ""))


def kind_of(value: Mapping[str, Any], kinds: Mapping[str, Any]) -> str:
    """What a value of the document is, in words."""
    if "$ref" in value:
        return kind_of(kinds[value["$ref"].rpartition("/")[2]], kinds)
    if "const" in value:
        return f"`{value['const']}`"
    if "enum" in value:
        return ", ".join(f"`{one}`" for one in value["enum"])
    if "anyOf" in value:
        return " or ".join(kind_of(one, kinds) for one in value["anyOf"])
    if value["type"] == "array":
        return f"a list: {kind_of(value['items'], kinds)}"
    if "additionalProperties" in value:
        return f"by name: {kind_of(value['additionalProperties'], kinds)}"
    return PLAIN[value["type"]]


def metrics_page() -> str:
    """The page of metrics, which people write, with a table of those that the gateway has."""
    script = (PROJECT / "templates" / "metrics.js").read_text(encoding="utf-8")
    rows = (
        [f"`llm_reconcile_{name}`", text, kind] for name, kind, text in _OWN_METRIC.findall(script)
    )
    page = (HERE / "metrics.md").read_text(encoding="utf-8")
    before, mark, rest = page.partition(FROM_HERE)
    _, end, after = rest.partition(TO_HERE)
    made = table(("metric", "meaning", "type"), rows)
    return f"{before}{mark}\n\n{made}\n{end}{after}"


def pages() -> dict[str, str]:
    """All pages by file name."""
    return {
        "fields.md": fields_page(),
        "plan-json.md": plan_page(),
        "exit-codes.md": exit_codes_page(),
        "events.md": events_page(),
        "metrics.md": metrics_page(),
    }


if __name__ == "__main__":
    for name, text in pages().items():
        (HERE / name).write_text(text, encoding="utf-8")
