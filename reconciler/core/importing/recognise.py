"""What kind of configuration a text is.

In: a file's name and its content. Out: a `SourceKind`, or an error that lists what there is. The
content decides, and the name only where it leaves that open.
"""

from __future__ import annotations

import re
from enum import StrEnum

from reconciler.core.parse import SourceText
from reconciler.errors import UsageError


class SourceKind(StrEnum):
    """What a desired file can be made of."""

    MODELS_JSON = "models-json"
    LLAMA_SWAP = "llama-swap"
    PRESET = "preset"
    OLLAMA = "ollama"
    PROCESSES = "processes"


_FIRST_LINES = (
    (SourceKind.OLLAMA, re.compile(r"NAME\s+ID\s+SIZE\b")),
    (SourceKind.PRESET, re.compile(r"\[[^\]\"{]+\]|[\w.-]+\s*=")),
    (SourceKind.MODELS_JSON, re.compile(r"[{\[]")),
)
"""How the first line begins that says something."""
_COMMAND = re.compile(r"^\s+[\"']?cmd[\"']?\s*:", re.MULTILINE)
_DESIRED = re.compile(r"^(version\s*:\s*1|defaults\s*:)", re.MULTILINE)


def recognise(source: SourceText) -> SourceKind:
    """What it is.

    Raises:
        UsageError: it cannot be told, or it is a desired file already.
    """
    text = source.content.decode("utf-8-sig", errors="replace")
    lines = (line.strip() for line in text.splitlines())
    first = next((line for line in lines if line and line[0] not in ";#"), "")
    for kind, sign in _FIRST_LINES:
        if sign.match(first):
            return kind
    if _COMMAND.search(text):
        return SourceKind.LLAMA_SWAP
    if _DESIRED.search(text):
        said = f"{source.name} is a desired file already"
        raise UsageError(said, hint=f"llm-reconcile validate {source.name}")
    kinds = ", ".join(one for one in SourceKind if one is not SourceKind.PROCESSES)
    raise UsageError(f"what {source.name} is cannot be told", hint=f"say with --from: {kinds}")
