"""Where each part of the desired state was written.

In: a tree of nodes and a path of keys and indices. Out: positions, found by walking: most runs
ask for a handful of them, so none is computed beforehand.
A scalar's mark is its own place, that of a list or mapping is its key's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from reconciler.core.yaml12 import Entry, ListNode, MapNode, Node, ScalarNode
from reconciler.errors import Position

Path = tuple[str | int, ...]


def walk(entry: Entry, path: Path) -> tuple[Entry, Position, int]:
    """Follow `path` as far as it was written: the last entry, its place, the steps taken."""
    where = entry.position
    for steps, part in enumerate(path):
        node = entry.value
        if isinstance(node, MapNode) and isinstance(part, str) and part in node.items:
            entry = node.items[part]
            where = entry.position
        elif isinstance(node, ListNode) and isinstance(part, int) and 0 <= part < len(node.items):
            entry = Entry(entry.key, node.items[part])
            where = entry.value.position
        else:
            return entry, where, steps
    return entry, where, len(path)


class Marks(Mapping[Path, Position]):
    """The position of every key, value and list item, by path."""

    def __init__(self, root: MapNode) -> None:
        self._root = root_entry(root)

    def __getitem__(self, path: Path) -> Position:
        _, where, steps = walk(self._root, path)
        if steps < len(path):
            raise KeyError(path)
        return where

    def __iter__(self) -> Iterator[Path]:
        return _paths((), self._root.value)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def nearest(self, path: Path) -> Position:
        """The mark of `path`, or of the nearest part above it that was written."""
        return walk(self._root, path)[1]


def root_entry(root: MapNode) -> Entry:
    """A tree as if it were the value of a key in front of it."""
    return Entry(ScalarNode(root.file, root.line, root.column, "", plain=True), root)


def _paths(path: Path, node: Node) -> Iterator[Path]:
    yield path
    if isinstance(node, MapNode):
        for key, entry in node.items.items():
            yield from _paths((*path, key), entry.value)
    elif isinstance(node, ListNode):
        for index, item in enumerate(node.items):
            yield from _paths((*path, index), item)
