"""An engine's `--help`: which flags and variables it takes, and with what values.

In: the help's text. Out: `Help`, or the engine that has it. What of the user's it would refuse is
said by `core.engine_flags`. It must not guess: of a flag whose help can be read in two ways, no
value is known.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from reconciler.core.engine import owned_advice
from reconciler.core.observed_engine import AmbientSetting, FlagUsage, ObservedEngine, ValueKind
from reconciler.core.words import EngineKind

_NAME = r"-{1,2}[A-Za-z][\w.-]*"
_HELP_LINE = re.compile(rf"^({_NAME}(?:,\s+{_NAME})*)(.*)$")
_VARIABLE_LINE = re.compile(r"\(env: (\w+)\)")
_REMOVED = "the argument has been removed"
_FETCHES = "can download weights"
_FETCHES_ADVICE = "use the model's `source`: only there is it fetched and verified"

# Placeholders of llama-server whose value is read as a number (common/arg.cpp of llama.cpp).
_NUMBER_HINT = re.compile(r"N|P|L|SEED|INDEX|SECONDS|SIMILARITY|<\d+(?:\||\.\.+)\d+>")
_CHOICE_HINT = re.compile(
    r"\{([\w.+-]+(?:, ?[\w.+-]+)+)\}|\[([\w.+-]+(?:\|[\w.+-]+)+)\]"
    r"|([a-z][\w-]*(?:,[a-z][\w-]*){2,})"
)
_PAIR_HINT = re.compile(r"([A-Z]+) ([A-Z]+)")
_ALLOWED = re.compile(r"allowed values: ([\w.+-]+(?:, [\w.+-]+)*)")
_BULLET = re.compile(r"- ([\w.+-]+)(?: \(default\))?: ")
_DEFAULT = re.compile(r"\(default: ([\w.+-]+)\)")
_WHOLE_DEFAULT = re.compile(r"\bdefault: -?\d+(?![\d.])")
# What stands for a number is quoted, or the default: `either an exact number, 'auto', or 'all'`.
_WORD = re.compile(r"'([A-Za-z][\w.+-]*)'|\(default: ([A-Za-z][\w.+-]*)\)")


@dataclass(frozen=True, slots=True)
class Help:
    """What a help text says."""

    flags: Mapping[str, str]
    """Every flag without dashes -> as it is spelled."""
    removed: Mapping[str, str]
    """Flags that are named only to say they are gone -> what to use instead."""
    usage: Mapping[str, FlagUsage]
    same: Mapping[str, str] = field(default_factory=dict)
    """Every flag -> the one name of all that are on its line."""
    refused: Mapping[str, str] = field(default_factory=dict)
    """Flags that are not the user's, as far as only the help tells -> what to use instead."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """Variables that it reads -> the flag that they stand for, gone ones too."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """One flag of the help."""

    names: Sequence[str]
    hint: str
    """What stands directly behind the names."""
    lines: Sequence[str]
    variable: str

    @property
    def said(self) -> str:
        return " ".join(line for line in self.lines if line)

    @property
    def known_as(self) -> str:
        """The first long name."""
        long = (name for name in self.names if name.startswith("--"))
        return next(long, self.names[0]).lstrip("-")


@lru_cache(maxsize=4)
def engine_of(
    kind: EngineKind,
    command: tuple[str, ...],
    text: str,
    ambient: tuple[AmbientSetting, ...] = (),
) -> ObservedEngine:
    """The engine whose `--help` prints this."""
    said = parse_help(text)
    return ObservedEngine(
        kind,
        command,
        said.flags,
        said.removed,
        said.usage,
        same=said.same,
        refused=said.refused,
        variables=said.variables,
        ambient=ambient,
    )


def parse_help(text: str) -> Help:
    """Read llama-server's `--help` (common_arg::to_string of llama.cpp).

    A flag's names and its placeholder stand at a line's start; two spaces or a line's end end them.
    """
    flags: dict[str, str] = {}
    removed: dict[str, str] = {}
    usage: dict[str, FlagUsage] = {}
    same: dict[str, str] = {}
    refused: dict[str, str] = {}
    variables: dict[str, str] = {}
    for entry in _entries(text):
        own = {name.lstrip("-"): name for name in entry.names}
        if entry.variable:
            variables[entry.variable] = entry.known_as
        if entry.said.startswith(_REMOVED):
            advice = entry.said.removeprefix(_REMOVED).lstrip(". ")
            removed |= dict.fromkeys(own, advice)
            continue
        flags |= own
        same |= dict.fromkeys(own, entry.known_as)
        if advice := _advice(own, entry.said):
            refused |= dict.fromkeys(own, advice)
        if value := _usage(entry):
            usage |= dict.fromkeys(own, value)
    return Help(flags, removed, usage, same, refused, variables)


def _entries(text: str) -> Iterator[_Entry]:
    names: list[str] = []
    hint, variable, lines = "", "", [""]
    for line in text.splitlines():
        if match := _HELP_LINE.match(line):
            if names:
                yield _Entry(names, hint, lines, variable)
            names = re.findall(_NAME, match[1])
            hint, _, rest = match[2].partition("  ")
            variable, lines = "", [rest.strip()]
        elif found := _VARIABLE_LINE.fullmatch(line.strip()):
            variable = found[1]
        elif line.startswith(" "):
            lines.append(line.strip())
    if names:
        yield _Entry(names, hint, lines, variable)


def _advice(names: Mapping[str, str], said: str) -> str:
    """Why a flag is not the user's; empty where it is."""
    if _FETCHES in said:
        return _FETCHES_ADVICE
    return next((found for name in names if (found := owned_advice(name))), "")


def _usage(entry: _Entry) -> FlagUsage | None:
    """The value behind a flag; None where its placeholder is none that we know for certain."""
    if not entry.hint:
        return FlagUsage(ValueKind.NOTHING)
    word = entry.hint.strip()
    if match := _PAIR_HINT.fullmatch(word):
        return FlagUsage(ValueKind.PAIR, match.groups())
    is_clear = entry.hint.startswith(" ") and " " not in word.replace(", ", ",")
    if not is_clear or "DEPRECATED" in entry.said:
        return None
    if _NUMBER_HINT.fullmatch(word):
        words = (match[1] or match[2] for match in _WORD.finditer(entry.said))
        is_whole = bool(_WHOLE_DEFAULT.search(entry.said))
        return FlagUsage(ValueKind.NUMBER, tuple(dict.fromkeys(words)), is_whole)
    if match := _CHOICE_HINT.fullmatch(word) or _ALLOWED.search(entry.said):
        listed = next(filter(None, match.groups()))
        return FlagUsage(ValueKind.CHOICE, tuple(re.split(r", ?|\|", listed)))
    if word.startswith("["):
        return None
    return _listed(entry) or FlagUsage(ValueKind.TEXT)


def _listed(entry: _Entry) -> FlagUsage | None:
    """The words that a help explains one by one; it is known to have left some out."""
    words = [match[1] for line in entry.lines if (match := _BULLET.match(line))]
    words += _DEFAULT.findall(entry.said)
    return FlagUsage(ValueKind.LISTED, tuple(dict.fromkeys(words))) if words[1:] else None
