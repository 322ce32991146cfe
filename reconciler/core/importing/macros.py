"""llama-swap's macros: `${name}` in a command or a variable stands for a text.

In: definitions in their order, of the whole file and of one model; variables of the environment.
Out: texts without macros. A variable whose name sounds like a secret stands for a mark that no flag
may have: what is imported is written into a file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from reconciler.core.engine import sounds_secret
from reconciler.core.importing.carried import HIDDEN
from reconciler.core.yaml12 import Entry, ScalarNode

_MACRO = re.compile(r"\$\{([A-Za-z0-9_.-]+)\}")
_ENVIRONMENT = "env."
PORT = "0"
"""What `${PORT}` stands for: a port that llama-swap chooses anew each time, and nobody asks for."""


class UnknownMacroError(ValueError):
    """A text names a macro that is not defined."""


@dataclass(frozen=True, slots=True)
class Macros:
    """What is defined where a text stands."""

    variables: Mapping[str, str]
    known: Mapping[str, str] = field(default_factory=lambda: {"PORT": PORT})

    def with_entries(self, entries: Mapping[str, Entry]) -> Macros:
        """With further ones; they win over those of the same name."""
        own = {key: e.value.text for key, e in entries.items() if isinstance(e.value, ScalarNode)}
        return replace(self, known={**self.known, **own})

    def with_model(self, name: str) -> Macros:
        """Those of one model."""
        return replace(self, known={**self.known, "MODEL_ID": name})

    def expand(self, text: str, within: tuple[str, ...] = ()) -> str:
        """The text with each macro replaced.

        Raises:
            UnknownMacroError: one stands for nothing, or for itself.
        """

        def put(match: re.Match[str]) -> str:
            name = match[1]
            value = self._value(name)
            if value is None or name in within:
                raise UnknownMacroError(match[0])
            return self.expand(value, (*within, name))

        return _MACRO.sub(put, text)

    def _value(self, name: str) -> str | None:
        if not name.startswith(_ENVIRONMENT):
            return self.known.get(name)
        variable = name.removeprefix(_ENVIRONMENT)
        return HIDDEN if sounds_secret(variable) else self.variables.get(variable)
