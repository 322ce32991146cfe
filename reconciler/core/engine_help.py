"""An engine's `--help`: which flags it takes and with what values; and the user's beside it.

In: the help's text; flags of the desired file. Out: `Help`; one `FlagProblem` a flag that the
installed engine would refuse, found before the server that serves now is stopped for it.
A false alarm keeps a model from running: where the help can be read in two ways, nothing is said.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from reconciler.core.engine import Flag
from reconciler.core.findings import nearest
from reconciler.core.observed import FlagUsage, ObservedEngine, ValueKind
from reconciler.core.text import printable

_NAME = r"-{1,2}[A-Za-z][\w.-]*"
_HELP_LINE = re.compile(rf"^({_NAME}(?:,\s+{_NAME})*)(.*)$")
_REMOVED = "the argument has been removed"

# Placeholders of llama-server whose value is read as a number (common/arg.cpp of llama.cpp).
_NUMBER_HINT = re.compile(r"N|SEED|INDEX|SECONDS|SIMILARITY|<\d+(?:\||\.\.+)\d+>")
_CHOICE_HINT = re.compile(r"\{([\w.+-]+(?:, ?[\w.+-]+)+)\}|\[([\w.+-]+(?:\|[\w.+-]+)+)\]")
_ALLOWED = re.compile(r"allowed values: ([\w.+-]+(?:, [\w.+-]+)*)")
# What the help names behind a `=` is the meaning of a number (`-1 = auto`), not a word to write.
_WORD = re.compile(r"(?<!= )\b[A-Za-z][\w.+-]*")
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|[+-]?(?:inf|nan)", re.IGNORECASE)
_SYNONYMS = {
    "on": ("enabled", "true", "1"),
    "off": ("disabled", "false", "0"),
    "auto": ("-1",),
}
"""What llama-server takes for these words, wherever its help offers them."""
_LONGEST_VALUE = 40


@dataclass(frozen=True, slots=True)
class Help:
    """What a help text says."""

    flags: Mapping[str, str]
    """Every flag without dashes -> as it is spelled."""
    removed: Mapping[str, str]
    """Flags that are named only to say they are gone -> what to use instead."""
    usage: Mapping[str, FlagUsage]


def parse_help(text: str) -> Help:
    """Read llama-server's `--help` (common_arg::to_string of llama.cpp).

    A flag's names and its placeholder stand at a line's start; two spaces or a line's end end them.
    """
    flags: dict[str, str] = {}
    removed: dict[str, str] = {}
    usage: dict[str, FlagUsage] = {}
    for names, hint, said in _entries(text):
        own = {name.lstrip("-"): name for name in names}
        if said.startswith(_REMOVED):
            removed |= dict.fromkeys(own, said.removeprefix(_REMOVED).lstrip(". "))
            continue
        flags |= own
        if found := _usage(hint, said):
            usage |= dict.fromkeys(own, found)
    return Help(flags, removed, usage)


def _entries(text: str) -> Iterator[tuple[list[str], str, str]]:
    """Each flag's names, what stands directly behind them, and its description in one line."""
    names: list[str] = []
    hint, said = "", [""]
    for line in text.splitlines():
        match = _HELP_LINE.match(line)
        if match:
            yield names, hint, " ".join(part for part in said if part)
            names = re.findall(_NAME, match[1])
            hint, _, rest = match[2].partition("  ")
            said = [rest.strip()]
        elif line.startswith(" ") and not line.strip().startswith("(env:"):
            said.append(line.strip())
    yield names, hint, " ".join(part for part in said if part)


def _usage(hint: str, said: str) -> FlagUsage | None:
    """The value behind a flag; None where its placeholder is none that we know for certain."""
    if not hint:
        return FlagUsage(ValueKind.NOTHING)
    word = hint.strip()
    if not hint.startswith(" ") or " " in word.replace(", ", ",") or "DEPRECATED" in said:
        return None
    if _NUMBER_HINT.fullmatch(word):
        return FlagUsage(ValueKind.NUMBER, tuple(dict.fromkeys(_WORD.findall(said))))
    if match := _CHOICE_HINT.fullmatch(word) or _ALLOWED.search(said):
        listed = next(filter(None, match.groups()))
        return FlagUsage(ValueKind.CHOICE, tuple(re.split(r", ?|\|", listed)))
    return None if word.startswith("[") else FlagUsage(ValueKind.TEXT)


@dataclass(frozen=True, slots=True)
class FlagProblem:
    """A flag that the installed engine would not take."""

    flag: str
    summary: str
    near: str = ""
    """The known flag that may have been meant."""


def check_flags(flags: Sequence[Flag], engine: ObservedEngine) -> tuple[FlagProblem, ...]:
    """Compare the user's flags with the engine's own help."""
    found = (_problem(flag, engine) for flag in flags)
    return tuple(problem for problem in found if problem)


def _problem(flag: Flag, engine: ObservedEngine) -> FlagProblem | None:
    name = flag.name
    if name in engine.removed:
        return FlagProblem(name, f"--{name} is gone from this engine: {engine.removed[name]}")
    if name not in engine.flags:
        return _unknown(flag, engine)
    usage = engine.usage.get(name)
    wrong = _wrong_value(flag, usage) if usage else ""
    return FlagProblem(name, f"--{name} {wrong}") if wrong else None


def _unknown(flag: Flag, engine: ObservedEngine) -> FlagProblem:
    base = flag.name.removeprefix("no-")
    if base != flag.name and base in engine.flags and not flag.values:
        usage = engine.usage.get(base)
        off = "; write `off`" if usage and "off" in usage.words else ""
        said = f"--{base} cannot be switched off: this engine has no --{flag.name}{off}"
        return FlagProblem(flag.name, said)
    near = get_close_matches(flag.name, engine.flags, n=1)
    said = f"the engine ({engine.kind}) does not know the flag --{flag.name}"
    return FlagProblem(flag.name, said, near[0] if near else "")


def _wrong_value(flag: Flag, usage: FlagUsage) -> str:
    """What is wrong with a flag's values, to be read behind its name; empty when nothing is."""
    if usage.kind is ValueKind.NOTHING:
        quoted = ", and without quotes" if flag.values in {("true",), ("false",)} else ""
        wanted = "false" if flag.values in {("no",), ("off",), ("false",)} else "true"
        return f"is a switch: write `{wanted}` for its value{quoted}" if flag.values else ""
    wants = {
        ValueKind.NUMBER: "needs a number",
        ValueKind.CHOICE: f"needs one of {', '.join(usage.words)}",
        ValueKind.TEXT: "needs a value",
    }[usage.kind]
    if not flag.values:
        return f"{wants}, not `true`"
    for value in flag.values:
        if not _fits(value.strip(), usage):
            near = nearest(value, usage.words) if usage.kind is ValueKind.CHOICE else ""
            return f"{wants}, not `{printable(value)[:_LONGEST_VALUE]}`{near}"
    return ""


def _fits(value: str, usage: FlagUsage) -> bool:
    match usage.kind:
        case ValueKind.NUMBER:
            return bool(_NUMBER.fullmatch(value)) or value in usage.words
        case ValueKind.CHOICE:
            also = {one for word in usage.words for one in _SYNONYMS.get(word, ())}
            return {part.strip() for part in value.split(",")} <= {*usage.words, *also}
        case _:
            return True
