"""A `models.json`: the registry of a box of scripts, as this program replaces it.

In: its text: per model `repo_id`, `quants` with sizes, `alias`, `default_port`, `params`. Out: an
`Imported`. Each box grew its own: models may be listed or named, sizes be text or numbers, and
some usual further keys are known. What is not known is said.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Mapping

from reconciler.core.fields import parse_size
from reconciler.core.importing.carried import Carried, Imported, Remark, hub_reference
from reconciler.core.importing.environment import take_variables
from reconciler.core.importing.flags import Given, flags_of, take_flags
from reconciler.core.importing.nodes import (
    flag_value,
    inner,
    number_of,
    place,
    read_tree,
    text_of,
    texts_of,
)
from reconciler.core.parse import SourceText
from reconciler.core.yaml12 import Entry, ListNode, MapNode, Node, ScalarNode, resolve
from reconciler.core.yaml_text import Value

KIND = "a registry of models"
REPO = ("repo_id", "repo", "hf_repo")
_NAMES = ("name", "id", "key")
_QUANT = ("default_quant", "quant", "default")
_ABOUT = ("description", "notes", "note", "comment", "display_name", "title")
_SIZES = ("size", "size_gb", "size_gib", "size_bytes", "bytes")
_OF_QUANT = frozenset({*_SIZES, "name", "quant", "id", "file", "files", "shards", "pattern"})
"""What may stand with a quant; its files are found by its name."""
_OWN = frozenset({*REPO, *_NAMES, *_QUANT, *_ABOUT, "quants"})
_LEAST_BYTES = 1_000_000
"""A bare number is a size in GB below this, else in bytes."""


def read_registry(source: SourceText) -> Imported:
    """All models of the registry.

    Raises:
        InvalidDesiredError: it is no JSON.
        UsageError: it holds no models.
    """
    imported = Imported(KIND, source.name)
    root = read_tree(source, imported)
    for name, entry in _models(root):
        if isinstance(entry.value, MapNode):
            _read_model(imported.add(name, place(entry.key)), entry.value)
        else:
            imported.left.append(Remark(place(entry.value), f"`{name}` is no model"))
    if "models" in root.items:
        _read_rest(root, imported)
    return imported


def _models(root: MapNode) -> Iterator[tuple[str, Entry]]:
    """By name, or in a list where each says its own."""
    entry = root.items.get("models")
    if entry is None:
        yield from root.items.items()
    elif isinstance(entry.value, ListNode):
        for node in entry.value.items:
            name = text_of(node, *_NAMES, "alias", *REPO) if isinstance(node, MapNode) else ""
            key = ScalarNode(node.file, node.line, node.column, name, plain=False)
            yield name or "model", Entry(key, node)
    else:
        yield from inner(root, "models").items()


def _read_rest(root: MapNode, imported: Imported) -> None:
    for name, entry in root.items.items():
        if name in {"models", "version", "$schema"} or name.startswith("_"):
            continue
        if name in {"defaults", "default_params", "params"} and isinstance(entry.value, MapNode):
            given = entry.value.items.get("params")
            _take_params(imported.defaults, given or entry)
        else:
            imported.remark(place(entry.key), f"`{name}` is not known here, and not carried over")


def _read_model(model: Carried, node: MapNode) -> None:
    model.about = text_of(node, *_ABOUT)
    _read_source(model, node)
    for name, entry in node.items.items():
        if take := _TAKES.get(name):
            take(model, entry)
        elif name not in _OWN:
            said = f"`{name}` is not known here, and not carried over"
            model.remark(place(entry.key), said)


def _read_source(model: Carried, node: MapNode) -> None:
    """Repository and quant: the one that is named, or the first there is."""
    key = next((name for name in REPO if name in node.items), "")
    if not key:
        return
    repo, quant = hub_reference(text_of(node, key))
    where = place(node.items[key].value)
    model.put(("source", "repo"), repo, where)
    sizes = _sizes(model, node.items["quants"].value) if "quants" in node.items else {}
    chosen = text_of(node, *_QUANT) or quant
    if not chosen and sizes:
        chosen = next(iter(sizes))
        others = "" if len(sizes) == 1 else f", the first of {len(sizes)}"
        if others:
            said = f"which quant runs is not said there: `quant` is {chosen}{others}"
            model.remark(place(node.items["quants"].key), said, "choose one of `quants`")
    if chosen:
        model.put(("quant",), chosen, where)
    known: dict[str, Value] = {name: size for name, size in sizes.items() if size}
    if known:
        model.put(("quants",), known, place(node.items["quants"].key))


def _sizes(model: Carried, node: Node) -> dict[str, str]:
    """Each quant with its size as the desired file writes it; empty where none is said."""
    if isinstance(node, ListNode):
        named = [(_quant_name(one), one) for one in node.items]
    else:
        items = node.items if isinstance(node, MapNode) else {}
        named = [(name, entry.value) for name, entry in items.items()]
    return {name: _size(model, name, one) for name, one in named if name}


def _quant_name(node: Node) -> str:
    if isinstance(node, MapNode):
        return text_of(node, "name", "quant", "id")
    return node.text if isinstance(node, ScalarNode) else ""


def _size(model: Carried, name: str, node: Node) -> str:
    unit = ""
    if isinstance(node, MapNode):
        key = next((one for one in _SIZES if one in node.items), "")
        for other in node.items.keys() - _OF_QUANT:
            where = place(node.items[other].key)
            said = f"`quants.{name}.{other}` is not carried over"
            model.remark(where, said)
        if not key:
            return ""
        unit = {"size_gb": "GB", "size_gib": "GiB"}.get(key, "")
        node = node.items[key].value
    elif isinstance(node, ScalarNode) and node.text == name:
        return ""  # a list of names
    number = number_of(node)
    if number is not None:
        return f"{number:g}{unit or 'GB'}" if number < _LEAST_BYTES else f"{number / 1e9:.3g}GB"
    return _size_text(model, name, node)


def _size_text(model: Carried, name: str, node: Node) -> str:
    text = node.text if isinstance(node, ScalarNode) and resolve(node) is not None else ""
    match = re.fullmatch(r"~?\s*([0-9.]+)\s*([kKMGT]?)(i?)B?", text)
    size = f"{match[1]}{match[2]}{match[3]}B" if match else text
    try:
        parse_size(size)
    except ValueError:
        model.remark(place(node), f"the size of `{name}` cannot be read")
        return ""
    return size


def _take_aliases(model: Carried, entry: Entry) -> None:
    for alias, where in texts_of(entry):
        model.add_alias(alias, where)


def _take_port(model: Carried, entry: Entry) -> None:
    number = number_of(entry.value)
    if number is not None:
        model.put(("port",), int(number), place(entry.value))
    else:
        model.remark(place(entry.value), f"`{entry.key.text}` is no port")


def _take_params(model: Carried, entry: Entry) -> None:
    if not isinstance(entry.value, MapNode):
        _take_words(model, entry)
        return
    given = []
    for name, one in entry.value.items.items():
        value = flag_value(one.value)
        if value is None:
            model.remark(place(one.key), f"`{name}` has no value that a flag could have")
        else:
            given.append(Given(name, value, place(one.value)))
    take_flags(given, model)


def _take_words(model: Carried, entry: Entry) -> None:
    """Flags as a command line has them: one text, or a list of words."""
    where = place(entry.value)
    texts = [text for text, _ in texts_of(entry)]
    try:
        listed = isinstance(entry.value, ListNode)
        words = texts if listed else [word for text in texts for word in shlex.split(text)]
    except ValueError as error:
        model.remark(where, f"`{entry.key.text}` cannot be read: {error}")
        return
    take_flags(list(flags_of(words, where)), model)


def _take_path(model: Carried, entry: Entry) -> None:
    if "repo" not in model.part("source"):
        for text, where in texts_of(entry):
            model.put(("source", "path"), text, where)


def _take_revision(model: Carried, entry: Entry) -> None:
    for text, where in texts_of(entry):
        model.put(("source", "revision"), text, where)


def _take_environment(model: Carried, entry: Entry) -> None:
    if isinstance(entry.value, MapNode):
        items = entry.value.items.items()
        pairs = [(name, one.value.text, place(one.value)) for name, one in items
                 if isinstance(one.value, ScalarNode)]  # fmt: skip
        take_variables(model, pairs)


_TAKES: Mapping[str, Callable[[Carried, Entry], None]] = {
    "alias": _take_aliases,
    "aliases": _take_aliases,
    "default_port": _take_port,
    "port": _take_port,
    "params": _take_params,
    "args": _take_params,
    "extra_args": _take_params,
    "env": _take_environment,
    "path": _take_path,
    "file": _take_path,
    "revision": _take_revision,
}
