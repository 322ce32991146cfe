"""Reading the desired state: the bytes of one or several files become a `DesiredState`.

In: the files' names and contents. Out: `ParsedDesired`, or `InvalidDesiredError` with every
mistake that could be found, each at file:line:col. The steps: YAML -> version -> one tree ->
`defaults` below each model -> typed values -> what several fields must agree on.
It must not touch the disk, nor look at the machine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from reconciler.core.checks import ReadModel, check_models, check_names
from reconciler.core.desired import DesiredState, Gateway, Model
from reconciler.core.findings import Findings
from reconciler.core.marks import Marks, root_entry
from reconciler.core.merge import VERSION, check_version, merge_files, with_defaults
from reconciler.core.read_renders import check_dests, read_renders
from reconciler.core.validate import plain, salvage, validate
from reconciler.core.written import read_written
from reconciler.core.yaml12 import (
    Entry,
    MapNode,
    Node,
    ScalarNode,
    describe,
    read_yaml,
    resolve,
)
from reconciler.errors import Diagnostic, Position


@dataclass(frozen=True, slots=True)
class SourceText:
    """One file as it was read; `name` is what messages call it."""

    name: str
    content: bytes


@dataclass(frozen=True, slots=True)
class ParsedDesired:
    """The desired state and where each part of it was written."""

    desired: DesiredState
    marks: Marks
    warnings: tuple[Diagnostic, ...]
    sources: tuple[SourceText, ...] = ()
    """What it was read from."""

    def mark(self, *path: str | int) -> Position:
        """The place of `path`, or of the nearest part above it that was written."""
        return self.marks.nearest(path)


def parse_desired(sources: Sequence[SourceText]) -> ParsedDesired:
    """Read the desired state from one file, or from all files of a directory."""
    findings = Findings()
    tree = _read_tree(sources, findings)
    findings.settle()
    base = _base(tree, findings)
    gateway = _gateway(tree, findings)
    renders = read_renders(tree, findings)
    entries = _merged_models(tree, findings)
    check_names(entries, findings)
    models = [read for name, e in entries.items() if (read := _model(name, e, findings))]
    # What a bad value leads to is no further mistake at the same place.
    findings.settle()
    check_models(models, entries, gateway, findings)
    check_dests(renders, base, gateway, tuple(source.name for source in sources), findings)
    findings.stop()
    # By name: the order of keys in the file must change nothing.
    by_name = {read.name: read.model for read in sorted(models, key=lambda read: read.name)}
    desired = base.model_copy(
        update={
            "gateway": gateway,
            "models": by_name,
            "renders": tuple(one.render for one in renders),
        }
    )
    marks = Marks(_with_models(tree, entries))
    return ParsedDesired(desired, marks, findings.warnings(), tuple(sources))


def _read_tree(sources: Sequence[SourceText], findings: Findings) -> MapNode:
    """All files as one tree. What makes the rest unreadable ends the reading here."""
    if not sources:
        findings.error(None, "there is no desired file (*.yaml) here")
    documents = [read_yaml(source.name, source.content) for source in sources]
    findings.add(problem for document in documents for problem in document.problems)
    roots: list[MapNode] = []
    readable = bool(sources)
    for source, document in zip(sources, documents, strict=True):
        if isinstance(document.root, MapNode):
            roots.append(document.root)
            readable = check_version(document.root, findings) and readable
        else:
            readable = False
            if document.root or not document.problems:
                _refuse_root(source.name, document.root, findings)
    if not readable:
        findings.stop()
    return merge_files(roots, findings)


def _refuse_root(name: str, root: Node | None, findings: Findings) -> None:
    if root is None or (isinstance(root, ScalarNode) and resolve(root) is None):
        hint = "the least it can say is `version: 1` and `models: {}`"
        findings.error(Position(name, 1, 1), "the file is empty", hint)
    else:
        summary = f"expected `version`, `models` and so on, found {describe(root)}"
        findings.error(root.position, summary)


def _base(tree: MapNode, findings: Findings) -> DesiredState:
    """Everything but the gateway and the models."""
    written = {key: plain(e.value) for key, e in tree.items.items() if key in {"engine", "store"}}
    base = validate(DesiredState, root_entry(tree), {"version": VERSION, **written}, findings)
    return base or DesiredState(version=VERSION)


def _gateway(tree: MapNode, findings: Findings) -> Gateway | None:
    entry = tree.items.get("gateway")
    if entry is None:
        return Gateway()
    node = entry.value
    if isinstance(node, MapNode):
        return validate(Gateway, entry, plain(entry.value), findings) or Gateway()
    said = plain(node)
    if said is not None and not isinstance(said, bool):
        summary = f"`gateway`: expected a mapping, true or false, found {describe(node)}"
        findings.error(node.position, summary)
    return None if said is False else Gateway()


def _merged_models(tree: MapNode, findings: Findings) -> dict[str, Entry]:
    """The models' entries with `defaults` merged in; `defaults` alone is checked too."""
    models = tree.items.get("models")
    items = models.value.items if models and isinstance(models.value, MapNode) else {}
    entry = tree.items.get("defaults")
    if entry is None:
        return items
    if not isinstance(entry.value, MapNode):
        summary = f"`defaults`: expected a mapping, found {describe(entry.value)}"
        findings.error(entry.value.position, summary)
        return items
    defaults = entry.value
    validate(Model, entry, _model_values(defaults, findings), findings, partial=True)
    return {
        name: replace(e, value=with_defaults(e.value, defaults))
        if isinstance(e.value, MapNode)
        else e
        for name, e in items.items()
    }


def _model(name: str, entry: Entry, findings: Findings) -> ReadModel | None:
    values = _model_values(entry.value, findings)
    model = validate(Model, entry, values, findings) or salvage(values)
    return ReadModel(name, model, entry) if model else None


def _model_values(node: Node, findings: Findings) -> object:
    values = plain(node)
    if isinstance(node, MapNode) and isinstance(values, dict):
        values |= read_written(node, findings)
    return values


def _with_models(tree: MapNode, models: Mapping[str, Entry]) -> MapNode:
    """The tree that marks are looked up in: what a model has from `defaults` is found there."""
    entry = tree.items["models"]
    merged = replace(tree, items=dict(models))
    return replace(tree, items=tree.items | {"models": replace(entry, value=merged)})
