"""Files of ours that others pass around (saved plans, snapshots): one JSON object that is sealed.

In: values and what kind of file it is. Out: its text, or from a file's content the values; what is
none of that kind, torn, changed by hand or of a newer form is an error that says which. The seal is
a digest over all that is said, no signature: it tells what is torn or was edited.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from reconciler import __version__
from reconciler.errors import UsageError


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of such files."""

    mark: str
    """The first key of the file; its value is the version of the file's form."""
    version: int
    word: str
    """What messages call this one."""
    name: str
    """What messages call any of its kind."""
    wanted: str
    """What to do where a file is none."""
    again: str
    """How to make it anew."""


def is_sealed(content: bytes, kind: Kind) -> bool:
    """Whether a file begins as one of this kind does, be it whole or not."""
    return re.match(rb'\s*\{\s*"' + kind.mark.encode() + rb'"\s*:', content) is not None


def seal(values: Mapping[str, Any], kind: Kind, made_by: str = __version__) -> str:
    """The text of a file of this kind."""
    whole = {kind.mark: kind.version, "made_by": made_by, **values}
    return json.dumps({**whole, "sha256": _digest(whole)}, indent=1) + "\n"


def _digest(values: Mapping[str, Any]) -> str:
    said = {name: one for name, one in values.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def unseal(name: str, content: bytes, kind: Kind) -> Mapping[str, Any]:
    """What such a file says; `name` is what messages call it.

    Raises:
        UsageError: it is none, is not as it was written, or a newer version made it.
    """
    word = kind.word
    if not is_sealed(content, kind):
        raise UsageError(f"{name} is no {kind.name}", hint=kind.wanted)
    try:
        values = json.loads(content)
        version = values[kind.mark]
    except (ValueError, KeyError, RecursionError) as error:
        raise UsageError(f"{name}: this {word} is not whole", hint=kind.again) from error
    if version != kind.version:
        by = values.get("made_by", "another version")
        raise UsageError(
            f"{name}: this {word} was made by llm-reconcile {by}, in a form that {__version__} "
            "does not know",
            hint=f"use that version, or {kind.again}",
        )
    if values.get("sha256") != _digest(values):
        raise UsageError(f"{name}: this {word} is not as it was written", hint=kind.again)
    found: Mapping[str, Any] = values
    return found
