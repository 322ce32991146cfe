"""The systemd unit that runs `watch` for one desired file: its name and its text.

In: a template, paths, the environment it is to have. Out: text that systemd reads as it is meant.
Only variables that are known to hold no secret are written into it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jinja2 import StrictUndefined
from jinja2.sandbox import SandboxedEnvironment

from reconciler.errors import UsageError

MARKER = "# Written by llm-reconcile."
PASSED = (
    "PATH",
    "LANG",
    "LD_LIBRARY_PATH",
    "XDG_STATE_HOME",
    "XDG_CACHE_HOME",
    "HF_HOME",
    "HF_HUB_CACHE",
    "HF_ENDPOINT",
)
"""Variables that say where things lie, and hold no secret."""


@dataclass(frozen=True, slots=True)
class Unit:
    """What a unit is about."""

    root: str
    command: Sequence[str]
    environment: Mapping[str, str]
    secrets: str
    """The file with further variables."""
    user: str = ""
    """Whom a system unit runs as; empty: a unit of the user's own manager."""

    @property
    def name(self) -> str:
        """One a root: its folder's name, and a digest of its path."""
        folder = re.sub(r"[^A-Za-z0-9_-]+", "-", self.root.rpartition("/")[2]).strip("-")
        digest = hashlib.sha256(self.root.encode(errors="surrogateescape")).hexdigest()[:6]
        return f"llm-reconcile-{folder[:40] or 'root'}-{digest}.service"


def unit_text(unit: Unit, template: str) -> str:
    """The unit's text.

    Raises:
        UsageError: a path cannot be written in a unit.
    """
    engine = SandboxedEnvironment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    settings = [
        _quoted(f"{name}={unit.environment[name]}") for name in PASSED if unit.environment.get(name)
    ]
    program, *words = map(_quoted, unit.command)
    return engine.from_string(template).render(
        marker=MARKER,
        name=unit.name,
        title=_plain(unit.root),
        user=unit.user,
        # In words behind the program, systemd puts variables in the place of `$NAME`.
        start=" ".join([program, *(word.replace("$", "$$") for word in words)]),
        folder=_plain(unit.root),
        settings=settings,
        secrets=_plain(unit.secrets),
    )


def _plain(text: str) -> str:
    """A value up to the end of its line; `%` begins a specifier (systemd.unit(5))."""
    if not text.isprintable():
        raise UsageError(f"a unit cannot hold this text: {text!r}", hint="rename the folder")
    return text.replace("%", "%%")


def _quoted(text: str) -> str:
    """One word, as systemd.syntax(7) and systemd.service(5) quote it."""
    escaped = _plain(text).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
