"""Reading the lock file: its bytes become pins, or diagnostics at file:line:col.

In: the file's name and content. Out: a `Lock`, or `InvalidDesiredError` that says what to do. It
was written by us, then merged by git and perhaps edited: nothing in it is taken on trust, and
nothing that is not understood is dropped in silence.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import fields

from reconciler.core.desired import MODEL_NAME
from reconciler.core.findings import Findings, nearest
from reconciler.core.gguf import Facts
from reconciler.core.lockfile import VERSION, FileRole, Lock, LockedFile, Pin
from reconciler.core.words import ModelName
from reconciler.core.yaml12 import (
    Entry,
    ListNode,
    MapNode,
    Node,
    ScalarNode,
    describe,
    read_yaml,
    resolve,
    shown,
)
from reconciler.errors import Diagnostic, InvalidDesiredError, Position, Severity

_CONFLICT = re.compile(rb"^(<{7}|={7}|>{7})(?= |\r?$)", re.MULTILINE)
_MEND = "take the text of one side whole; the next `plan` shows what it lacks"
_ANEW = "remove the file's part, or the whole file: the next `apply` pins anew, and `plan` shows it"
_COMMIT, _SHA256 = re.compile(r"[0-9a-f]{40}"), re.compile(r"[0-9a-f]{64}")
_ASKED = ("repo", "revision", "quant")
_PIN = (*_ASKED, "mmproj", "draft", "commit", "files", "header")
_FILE = ("name", "role", "size", "sha256", "git_sha1")
_FACTS = tuple(one.name for one in fields(Facts))
_WORDS = ("architecture", "file_type")


def read_lock(name: str, content: bytes) -> Lock:
    """The pins of a lock file; `name` is what messages call it.

    Raises:
        InvalidDesiredError: with every mistake in it.
    """
    if found := _CONFLICT.search(content):
        where = Position(name, content.count(b"\n", 0, found.start()) + 1, 1)
        raise _refusal(where, "a conflict of a merge stands here unresolved", _MEND)
    document = read_yaml(name, content)
    findings = Findings()
    findings.add(document.problems)
    findings.stop()
    root = document.root
    if not isinstance(root, MapNode):
        found_there = describe(root) if root else "nothing"
        summary = f"expected a lock file with `version` and `models`, found {found_there}"
        raise _refusal(root.position if root else Position(name, 1, 1), summary, _ANEW)
    reader = _Reader(findings)
    reader.check_version(root)
    findings.stop()
    lock = reader.models(root)
    findings.stop()
    return lock


def _refusal(where: Position, summary: str, hint: str) -> InvalidDesiredError:
    return InvalidDesiredError((Diagnostic(Severity.ERROR, summary, where, hint),))


class _Reader:
    """Turns nodes into values; what does not fit is noted, and stands as an empty value."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings

    def _error(self, node: Node, summary: str) -> None:
        self._findings.error(node.position, summary, _ANEW)

    def check_version(self, root: MapNode) -> None:
        """A lock of another version is not read further."""
        entry = root.items.get("version")
        found = resolve(entry.value) if entry and isinstance(entry.value, ScalarNode) else None
        if entry is None:
            self._error(root, "the required key `version` is missing")
        elif found != VERSION or isinstance(found, bool):
            summary = f"`version`: only {VERSION} is known here, found {describe(entry.value)}"
            hint = "a newer llm-reconcile may have written it: use that one"
            self._findings.error(entry.value.position, summary, hint)

    def models(self, root: MapNode) -> Lock:
        """All pins."""
        self._known(root, ("version", "models"))
        entry = root.items.get("models")
        models = self._map(entry.value) if entry else None
        if entry is None:
            self._error(root, "the required key `models` is missing")
        found: dict[ModelName, Pin] = {}
        for key, one in models.items.items() if models else ():
            if not MODEL_NAME.fullmatch(key):
                self._error(one.key, f"`{shown(key)}` is not a model's name")
            elif part := self._map(one.value):
                found[ModelName(key)] = self._pin(part, one)
        return found

    def _pin(self, node: MapNode, entry: Entry) -> Pin:
        self._known(node, _PIN)
        items = node.items
        repo, revision, quant = (self._text(node, entry, key) for key in _ASKED)
        files = self._list(items["files"].value) if "files" in items else None
        found = [self._file(one, entry) for one in files.items] if files else []
        if not any(file.role is FileRole.WEIGHTS for file in found):
            self._error(entry.key, f"`{entry.key.text}`: its `files` name no weights")
        mmproj = items.get("mmproj")
        is_true = mmproj is not None and self._scalar(mmproj.value) is True
        header = self._map(items["header"].value) if "header" in items else None
        return Pin(
            repo=repo,
            revision=revision,
            quant=quant,
            commit=self._hex(node, entry, "commit", _COMMIT),
            files=tuple(found),
            mmproj=is_true or (self._text(node, entry, "mmproj") if mmproj else False),
            draft=self._text(node, entry, "draft") if "draft" in items else "",
            facts=self._facts(header) if header else None,
        )

    def _file(self, item: Node, entry: Entry) -> LockedFile:
        node = self._map(item)
        if node is None:
            return LockedFile("", 0)
        self._known(node, _FILE)
        items = node.items
        name = self._text(node, entry, "name")
        if name and (name.startswith("/") or ".." in name.split("/")):
            self._error(items["name"].value, f"`{shown(name)}` leads out of the repository")
        role = FileRole.WEIGHTS
        if "role" in items:
            word = self._text(node, entry, "role")
            if word in set(FileRole):
                role = FileRole(word)
            else:
                self._error(items["role"].value, f"`role`: expected one of {', '.join(FileRole)}")
        key, kind = ("git_sha1", _COMMIT) if "git_sha1" in items else ("sha256", _SHA256)
        digest = self._hex(node, entry, key, kind)
        if {"sha256", "git_sha1"} <= items.keys():
            self._error(node, "a file has one of `sha256` and `git_sha1`")
        size = self._number(items["size"].value) if "size" in items else None
        if "size" not in items:
            self._error(node, "the required key `size` is missing")
        return LockedFile(name, size or 0, **{key: digest}, role=role)

    def _facts(self, node: MapNode) -> Facts:
        self._known(node, _FACTS)
        words: dict[str, str] = {}
        numbers: dict[str, int | None] = {}
        for key, entry in node.items.items():
            if key in _WORDS:
                words[key] = self._text(node, entry, key)
            elif key in _FACTS:
                numbers[key] = self._number(entry.value)
        return Facts(
            architecture=words.get("architecture", ""),
            layers=numbers.get("layers"),
            heads=numbers.get("heads"),
            kv_heads=numbers.get("kv_heads"),
            context_length=numbers.get("context_length"),
            parameters=numbers.get("parameters"),
            file_type=words.get("file_type", ""),
        )

    # ---- values

    def _known(self, node: MapNode, names: Collection[str]) -> None:
        for key, entry in node.items.items():
            if key not in names:
                near = nearest(key, names)
                self._error(entry.key, f"unknown key `{shown(key)}`{near}")

    def _map(self, node: Node) -> MapNode | None:
        if isinstance(node, MapNode):
            return node
        self._error(node, f"expected a mapping, found {describe(node)}")
        return None

    def _list(self, node: Node) -> ListNode | None:
        if isinstance(node, ListNode):
            return node
        self._error(node, f"expected a list, found {describe(node)}")
        return None

    @staticmethod
    def _scalar(node: Node) -> object:
        return resolve(node) if isinstance(node, ScalarNode) else None

    def _text(self, node: MapNode, owner: Entry, key: str) -> str:
        """A text as it was written: a commit of digits only is one too."""
        entry = node.items.get(key)
        if entry is None:
            summary = f"`{shown(owner.key.text)}`: the required key `{key}` is missing"
            self._findings.error(node.position, summary, _ANEW)
            return ""
        value = entry.value
        if isinstance(value, ScalarNode) and value.text and resolve(value) is not None:
            return value.text
        self._error(value, f"`{key}`: expected text, found {describe(value)}")
        return ""

    def _hex(self, node: MapNode, owner: Entry, key: str, kind: re.Pattern[str]) -> str:
        text = self._text(node, owner, key)
        if text and not kind.fullmatch(text):
            digits = 64 if kind is _SHA256 else 40
            self._error(node.items[key].value, f"`{key}`: expected {digits} hex digits")
        return text

    def _number(self, node: Node) -> int | None:
        value = self._scalar(node)
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63:
            return value
        self._error(node, f"expected a whole number, found {describe(node)}")
        return None
