"""The desired file of what was imported, as a person would have written it.

In: an `Imported`. Out: YAML with what was remarked as comments, where it belongs. It must not
judge: whether the file is valid is told by `settle`.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence

from reconciler.core.importing.carried import FIELDS, Carried, Imported, Remark
from reconciler.core.text import printable
from reconciler.core.yaml_text import Value, flow_text, scalar_text

WIDTH = 100


def written_file(imported: Imported) -> str:
    """The whole file."""
    lines = [*_head(imported), "version: 1"]
    if "command" in imported.engine:
        lines += ["", *_entry("engine", imported.engine, "")]
    if imported.defaults.fields or imported.defaults.remarks:
        lines += ["", *_remarks(imported.defaults.remarks, "")]
        if imported.defaults.fields:
            lines += ["defaults:", *_fields(imported.defaults, "  ")]
    lines += ["", "models:" if imported.models else "models: {}"]
    for number, model in enumerate(imported.models):
        lines += ["", *_model(model)] if number else _model(model)
    if imported.left:
        lines += ["", *_remarks(imported.left, "  " if imported.models else "")]
    return "\n".join(lines) + "\n"


def _head(imported: Imported) -> Iterator[str]:
    yield f"# Made by `llm-reconcile import` of {printable(imported.source)}, {imported.kind}."
    yield "# What was not carried over, or not quite, stands as a comment where it belongs."
    yield "#"
    yield "#   llm-reconcile validate FILE    is this file right?"
    yield "#   llm-reconcile plan FILE        what would happen on this machine"
    if imported.remarks:
        yield "#"
        yield from _remarks(imported.remarks, "")


def _model(model: Carried) -> Iterator[str]:
    yield from _comment(model.about, "  ")
    yield from _remarks(model.remarks, "  ")
    yield f"  {scalar_text(model.name)}:"
    yield from _fields(model, "    ")


def _fields(model: Carried, indent: str) -> Iterator[str]:
    for name in FIELDS:
        if name in model.fields:
            yield from _entry(name, model.fields[name], indent)


def _entry(name: str, value: Value, indent: str) -> Iterator[str]:
    """One field: in one line where that can be read, else a line for each part."""
    line = f"{indent}{name}: {flow_text(value)}"
    if len(line) <= WIDTH or isinstance(value, str) or not isinstance(value, Mapping | Sequence):
        yield line
    elif isinstance(value, Mapping):
        yield f"{indent}{name}:"
        for key, one in value.items():
            yield f"{indent}  {scalar_text(key)}: {flow_text(one)}"
    else:
        yield f"{indent}{name}:"
        for one in value:
            yield f"{indent}  - {flow_text(one)}"


def _remarks(remarks: Sequence[Remark], indent: str) -> Iterator[str]:
    for one in sorted(remarks, key=lambda one: one.order):
        yield from _comment(str(one), indent)


def _comment(text: str, indent: str) -> Iterator[str]:
    for line in text.splitlines():
        start = f"{indent}# "
        further = f"{start}{' ' * (len(line) - len(line.lstrip()) + 4)}"
        yield from textwrap.wrap(
            printable(line), WIDTH, initial_indent=start, subsequent_indent=further,
            break_long_words=False, break_on_hyphens=False, drop_whitespace=True,
        )  # fmt: skip
