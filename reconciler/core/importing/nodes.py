"""A foreign YAML or JSON file as nodes that know their place, and their values for a model.

In: text. Out: the tree, with what is wrong in it as remarks (a key twice, a merge key), or an error
where it cannot be read at all. JSON is read as the YAML that it is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from reconciler.core.fields import FlagValue
from reconciler.core.importing.carried import Imported
from reconciler.core.parse import SourceText
from reconciler.core.validate import plain
from reconciler.core.yaml12 import Entry, ListNode, MapNode, Node, ScalarNode, read_yaml, resolve
from reconciler.errors import InvalidDesiredError, UsageError


def read_tree(source: SourceText, imported: Imported) -> MapNode:
    """The file's mapping.

    Raises:
        InvalidDesiredError: it is no YAML.
        UsageError: it is no mapping.
    """
    document = read_yaml(source.name, source.content)
    if document.root is None and document.problems:
        raise InvalidDesiredError(document.problems)
    if not isinstance(document.root, MapNode):
        said = f"{source.name} holds no mapping of models"
        raise UsageError(said, hint="say with --from what it is")
    for one in document.problems:
        imported.remark(str(one.position), one.summary, one.hint)
    return document.root


def place(node: Node) -> str:
    """Where it stands."""
    return str(node.position)


def inner(root: MapNode, name: str) -> dict[str, Entry]:
    """The entries of a mapping in it; none if there is none."""
    entry = root.items.get(name)
    return entry.value.items if entry and isinstance(entry.value, MapNode) else {}


def text_of(root: MapNode, *names: str) -> str:
    """The text (or number, as written) of the first of these keys; empty if there is none."""
    for name in names:
        entry = root.items.get(name)
        if entry and isinstance(entry.value, ScalarNode) and resolve(entry.value) is not None:
            return entry.value.text
    return ""


def texts_of(entry: Entry) -> Iterator[tuple[str, str]]:
    """The texts of a list, or the one text, each with its place."""
    nodes = entry.value.items if isinstance(entry.value, ListNode) else [entry.value]
    for node in nodes:
        if isinstance(node, ScalarNode) and resolve(node) is not None:
            yield node.text, place(node)


def flag_value(node: Node) -> FlagValue | None:
    """What a flag would be given; None where that cannot be: nothing, a mapping."""
    if isinstance(node, MapNode):
        return None
    if isinstance(node, ListNode):
        return tuple(one.text for one in node.items if isinstance(one, ScalarNode)) or None
    meant = resolve(node)
    return meant if isinstance(meant, bool | None) else node.text


def number_of(node: Node) -> float | None:
    """A number that can be counted with; None where there is none."""
    meant = plain(node)
    if isinstance(meant, bool) or not isinstance(meant, int | float) or not math.isfinite(meant):
        return None
    return float(meant)
