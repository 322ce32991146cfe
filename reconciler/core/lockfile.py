"""The lock file: which bytes each model of the hub stands for, until `update` says otherwise.

In: pins by model name. Out: the file's text, always the same for the same pins, one thing a line.
Reading it is `core.lock_reader`; who resolves a pin is `drivers.hub`; who plans to write one is
`core.plan_lock`. Nothing here asks anybody.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from enum import StrEnum

from reconciler.core.desired import Model
from reconciler.core.gguf import Facts
from reconciler.core.words import ModelName
from reconciler.core.yaml12 import ScalarNode, resolve

VERSION = 1
HEAD = """\
# What each model of the hub stands for: commit, files, sizes, hashes. Commit this file.
# Written by llm-reconcile; `llm-reconcile update` moves its pins, nothing else does.
"""
_PLAIN = re.compile(r"[\w./@+=-]+", re.ASCII)


class FileRole(StrEnum):
    """What a file is to its model."""

    WEIGHTS = "weights"
    MMPROJ = "mmproj"
    """The projector of a model that sees or hears."""
    DRAFT = "draft"
    """The small model that guesses ahead."""


@dataclass(frozen=True, slots=True)
class LockedFile:
    """One file of a repository at a commit. It has one of the two hashes."""

    name: str
    size: int
    sha256: str = ""
    git_sha1: str = ""
    """Git's own hash, of small files that the hub names no sha256 of."""
    role: FileRole = FileRole.WEIGHTS

    @property
    def digest(self) -> str:
        """The hash that its bytes must have."""
        return self.sha256 or self.git_sha1


@dataclass(frozen=True, slots=True)
class Pin:
    """What a model of the hub stands for: what was asked for, and what that is."""

    repo: str
    revision: str
    quant: str
    commit: str
    files: tuple[LockedFile, ...]
    mmproj: bool | str = False
    draft: str = ""
    facts: Facts | None = None
    """None until the header was read."""

    @property
    def size(self) -> int:
        """All bytes of the model."""
        return sum(file.size for file in self.files)

    def covers(self, model: Model) -> bool:
        """Whether it answers what the desired file asks for."""
        source = model.source
        asked = (source.repo, source.revision, model.quant, source.mmproj, source.draft or "")
        return asked == (self.repo, self.revision, self.quant, self.mmproj, self.draft)

    def holds_commit(self, model: Model) -> bool:
        """Whether what it lacks is to be found at its commit."""
        return (model.source.repo, model.source.revision) == (self.repo, self.revision)


Lock = Mapping[ModelName, Pin]


def render_lock(lock: Lock) -> str:
    """The lock file's text."""
    lines = [f"version: {VERSION}"]
    lines.append("models:" if lock else "models: {}")
    for name, pin in sorted(lock.items()):
        lines.append(f"  {_text(name)}:")
        lines += [f"    {line}" for line in _pin(pin)]
    return HEAD + "\n".join(lines) + "\n"


def _pin(pin: Pin) -> Iterator[str]:
    for key in ("repo", "revision", "quant"):
        yield f"{key}: {_text(getattr(pin, key))}"
    if pin.mmproj:
        yield f"mmproj: {'true' if pin.mmproj is True else _text(pin.mmproj)}"
    if pin.draft:
        yield f"draft: {_text(pin.draft)}"
    yield f"commit: {_text(pin.commit)}"
    yield "files:"
    for file in pin.files:
        yield f"  - name: {_text(file.name)}"
        if file.role is not FileRole.WEIGHTS:
            yield f"    role: {file.role}"
        yield f"    size: {file.size}"
        kind = "sha256" if file.sha256 else "git_sha1"
        yield f"    {kind}: {_text(file.digest)}"
    if pin.facts:
        facts = {one.name: getattr(pin.facts, one.name) for one in fields(pin.facts)}
        known = {name: value for name, value in facts.items() if value not in {None, ""}}
        yield "header:" if known else "header: {}"
        for name, value in known.items():
            yield f"  {name}: {_text(value) if isinstance(value, str) else value}"


def _text(value: str) -> str:
    """A text as YAML: plain where everybody reads it as a text."""
    if (
        _PLAIN.fullmatch(value)
        and isinstance(resolve(_plain(value)), str)
        and value[0] not in "-=@"
    ):
        return value
    return f'"{"".join(_escaped(one) for one in value)}"'


def _escaped(one: str) -> str:
    if one in {'"', "\\"}:
        return f"\\{one}"
    return one if one.isprintable() else f"\\U{ord(one):08X}"


def _plain(text: str) -> ScalarNode:
    return ScalarNode("", 0, 0, text, plain=True)
