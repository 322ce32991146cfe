"""Until the file is valid: what is still wrong with what was imported is taken out, and said.

In: an `Imported` as a reader left it. Out: the same, and a desired file of it that `validate`
accepts. The judge is the project's own reading of desired files, so that no rule stands twice.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from reconciler.core.importing.carried import FIELDS, Carried, Imported, Path
from reconciler.core.importing.writer import written_file
from reconciler.core.parse import SourceText, parse_desired
from reconciler.core.yaml_text import Value, flow_text, scalar_text
from reconciler.errors import Diagnostic, InvalidDesiredError

_NAME = "import"
_OWN_PLACE = re.compile(rf"(; first)? at {_NAME}:\d+:\d+| \(line \d+( too)?\)")
_NEEDED = frozenset({"source", "quant"})


def settled(imported: Imported) -> str:
    """The desired file; what cannot be in it has become a remark."""
    for model in list(imported.models):
        if not model.part("source"):
            hint = "add a `source` to take it in"
            imported.leave(model, model.where, "nothing says where its file is", hint)
    while found := _mistakes(imported):
        # The last first: what stands before it in a list keeps its number.
        for model, path, mistake in reversed(found):
            _take_out(imported, model, path, mistake)
    return written_file(imported)


def _mistakes(imported: Imported) -> list[tuple[Carried, Path, Diagnostic]]:
    """Everything that is wrong, and with what."""
    lines = list(_lines(imported))
    text = "\n".join(line for line, _, _ in lines)
    try:
        parse_desired([SourceText(_NAME, text.encode())])
    except InvalidDesiredError as error:
        found: dict[tuple[str, Path], tuple[Carried, Path, Diagnostic]] = {}
        for one in error.diagnostics:
            _, model, path = lines[one.position.line - 1 if one.position else 0]
            found.setdefault((model.name, path), (model, path, one))
        return list(found.values())
    return []


def _take_out(imported: Imported, model: Carried, path: Path, mistake: Diagnostic) -> None:
    where = model.places.get(path) or model.places.get(path[:1]) or model.where
    # Places in a file that nobody sees help nobody.
    summary = _OWN_PLACE.sub("", mistake.summary)
    hint = "" if f"{_NAME}:" in mistake.hint else mistake.hint
    if path and path[0] not in _NEEDED:
        model.drop(path)
        shown = ".".join(one for one in path if not one.isdecimal())
        model.remark(where, f"`{shown}` is not carried over: {summary}", hint)
    elif model is imported.defaults:
        model.fields.clear()
    elif model in imported.models:
        imported.leave(model, where, summary, hint)


def _lines(imported: Imported) -> Iterator[tuple[str, Carried, Path]]:
    """The file with one value a line, so that a line tells what is wrong."""
    yield "version: 1", imported.defaults, ()
    if imported.defaults.fields:
        yield "defaults:", imported.defaults, ()
        yield from _fields(imported.defaults, "  ")
    yield "models:" if imported.models else "models: {}", imported.defaults, ()
    for model in imported.models:
        yield f"  {scalar_text(model.name)}:", model, ()
        yield from _fields(model, "    ")


def _fields(model: Carried, indent: str) -> Iterator[tuple[str, Carried, Path]]:
    for name in FIELDS:
        if name in model.fields:
            yield from _spread(model, (name,), model.fields[name], indent)


def _spread(
    model: Carried, path: Path, value: Value, indent: str
) -> Iterator[tuple[str, Carried, Path]]:
    if isinstance(value, Mapping) and value:
        yield f"{indent}{scalar_text(path[-1])}:", model, path
        for key, one in value.items():
            yield from _spread(model, (*path, key), one, f"{indent}  ")
    elif isinstance(value, Sequence) and not isinstance(value, str) and value:
        yield f"{indent}{scalar_text(path[-1])}:", model, path
        for number, one in enumerate(value):
            yield f"{indent}- {flow_text(one)}", model, (*path, str(number))
    else:
        yield f"{indent}{scalar_text(path[-1])}: {flow_text(value)}", model, path
