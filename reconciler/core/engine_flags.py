"""The user's flags, one by one, beside what an engine's help says of them.

In: flags, `ObservedEngine`. Out: one `FlagProblem` a flag that the engine would refuse, or not take
as it is meant, found before the server that serves now is stopped for it.
A false alarm keeps a model from running: where the help can be read in two ways, nothing is said.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from reconciler.core.engine import Flag
from reconciler.core.findings import nearest
from reconciler.core.observed_engine import FlagUsage, ObservedEngine, ValueKind
from reconciler.core.text import printable
from reconciler.core.words import EngineKind
from reconciler.errors import Severity

_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|[+-]?(?:inf|nan)", re.IGNORECASE)
_DIGITS = re.compile(r"[+-]?\d+")
_SYNONYMS = {
    "on": ("enabled", "true", "1"),
    "off": ("disabled", "false", "0"),
    "auto": ("-1",),
}
"""What llama-server takes for these words, wherever its help offers them."""
_OF_WORDS = frozenset({ValueKind.CHOICE, ValueKind.LISTED})
_LONGEST_VALUE = 40


@dataclass(frozen=True, slots=True)
class FlagProblem:
    """A flag that the installed engine would not take, or not as it is meant."""

    flag: str
    summary: str
    near: str = ""
    """What may have been meant: a known flag, or one with a value."""
    severity: Severity = Severity.ERROR


def check_flags(flags: Sequence[Flag], engine: ObservedEngine) -> tuple[FlagProblem, ...]:
    """Compare the user's flags with the engine's own help."""
    found = (_problem(flag, engine) for flag in flags)
    return tuple(problem for problem in found if problem)


def is_switch_word(value: str) -> bool:
    """Whether llama-server reads it as on or off, where a variable stands for a switch."""
    return any(value in (word, *_SYNONYMS[word]) for word in ("on", "off"))


def what_is_wanted(usage: FlagUsage) -> str:
    """What a flag wants behind it, to be read behind its name."""
    words = usage.words
    return {
        ValueKind.NOTHING: "is a switch",
        ValueKind.NUMBER: " or ".join(["needs a number", *words]),
        ValueKind.PAIR: f"needs two values: write `[{', '.join(words)}]`",
        ValueKind.CHOICE: f"needs one of {', '.join(words)}",
        ValueKind.LISTED: f"needs one of {', '.join(words)}",
        ValueKind.TEXT: "needs a value",
    }[usage.kind]


def fits(value: str, usage: FlagUsage) -> bool:
    """Whether a flag may take the value."""
    match usage.kind:
        case ValueKind.NUMBER:
            return bool(_NUMBER.fullmatch(value)) or value in usage.words
        case ValueKind.CHOICE | ValueKind.LISTED:
            also = {one for word in usage.words for one in _SYNONYMS.get(word, ())}
            return {part.strip() for part in value.split(",")} <= {*usage.words, *also}
        case _:
            return True


def gone(name: str, advice: str) -> str:
    """What is said of what the help names only to say that it is gone."""
    said = f"{name} is gone from this engine"
    return f"{said}: {advice}" if advice else said


def _problem(flag: Flag, engine: ObservedEngine) -> FlagProblem | None:
    name = flag.name
    if name in engine.removed:
        return FlagProblem(name, gone(f"--{name}", engine.removed[name]))
    if name not in engine.flags:
        return _unknown(flag, engine)
    spelled = engine.flags[name]
    if advice := engine.refused.get(name):
        return FlagProblem(name, f"{spelled} is not yours to set: {advice}")
    usage = engine.usage.get(name)
    if usage is None:
        return None
    return _wrong_value(flag, spelled, usage) or _not_whole(flag, spelled, usage, engine.kind)


def _unknown(flag: Flag, engine: ObservedEngine) -> FlagProblem:
    base = flag.name.removeprefix("no-")
    if base != flag.name and base in engine.flags and not flag.values:
        said = f"{engine.flags[base]} cannot be switched off: this engine has no --{flag.name}"
        return FlagProblem(flag.name, said + _instead(base, engine))
    said = f"the engine ({engine.kind}) does not know the flag --{flag.name}"
    if not flag.values and (home := next(_that_take(base, engine), "")):
        # Switches become values of one flag: --mlock is `load-mode: mlock` by now.
        if base != flag.name:
            return FlagProblem(flag.name, f"{said}; see --{home}")
        return FlagProblem(flag.name, said, f"{home}: {base}")
    users = [name for name in engine.flags if name not in engine.refused]
    names = dict.fromkeys((flag.name, flag.name.lower()))
    near = [found for name in names for found in get_close_matches(name, users, n=1)]
    return FlagProblem(flag.name, said, near[0] if near else "")


def _instead(base: str, engine: ObservedEngine) -> str:
    """How a flag is switched off that has no opposite of its own name."""
    usage = engine.usage.get(base)
    if usage and "off" in usage.words:
        return "; write `off`"
    if base.startswith("no-"):
        return f"; write `{base.removeprefix('no-')}: true`"
    others = (name for name in engine.all_of(base) if name.startswith("no-"))
    other = next(others, "")
    return f"; write `{other}: true`" if other else ""


def _that_take(word: str, engine: ObservedEngine) -> Iterator[str]:
    """Flags of which a choice is called as a flag that is not there."""
    for name, usage in engine.usage.items():
        if word in usage.words and usage.kind in _OF_WORDS:
            yield engine.same.get(name, name)


def _wrong_value(flag: Flag, spelled: str, usage: FlagUsage) -> FlagProblem | None:
    name, values = flag.name, flag.values
    if usage.kind is ValueKind.NOTHING:
        quoted = ", and without quotes" if values in {("true",), ("false",)} else ""
        wanted = "false" if values in {("no",), ("off",), ("false",)} else "true"
        said = f"{spelled} is a switch: write `{wanted}` for its value{quoted}"
        return FlagProblem(name, said) if values else None
    if usage.kind is ValueKind.PAIR:
        is_odd = len(values) % 2 or not values
        return FlagProblem(name, f"{spelled} {what_is_wanted(usage)}") if is_odd else None
    if not values:
        return FlagProblem(name, f"{spelled} {what_is_wanted(usage)}, not `true`")
    for value in values:
        if not fits(value.strip(), usage):
            return _misfit(name, spelled, value, usage)
    if usage.kind is ValueKind.NUMBER and values[1:]:
        said = f"{spelled} takes one number: of {len(values)}, only the last counts"
        return FlagProblem(name, said, severity=Severity.WARNING)
    return None


def _not_whole(
    flag: Flag, spelled: str, usage: FlagUsage, kind: EngineKind | None
) -> FlagProblem | None:
    """llama-server reads the digits that a value begins with (std::stoi): of `1e3`, 1."""
    for value in map(str.strip, flag.values if usage.is_whole else ()):
        digits = _DIGITS.match(value)
        if value in usage.words or (digits and digits[0] == value):
            continue
        said = f"{spelled} takes whole numbers: "
        if kind is EngineKind.EMBEDDED:
            return FlagProblem(flag.name, f"{said}it does not take `{value}`")
        if digits and float(digits[0]) == float(value):
            continue
        said += f"of `{value}` it reads `{digits[0]}`" if digits else f"it does not take `{value}`"
        return FlagProblem(flag.name, said, severity=Severity.WARNING)
    return None


def _misfit(name: str, spelled: str, value: str, usage: FlagUsage) -> FlagProblem:
    known = usage.words if usage.kind in _OF_WORDS else ()
    said = f"`{printable(value)[:_LONGEST_VALUE]}`{nearest(value, known)}"
    if usage.kind is ValueKind.LISTED:
        words = ", ".join(usage.words)
        said = f"the engine's help names {words} for {spelled}, not {said}"
        return FlagProblem(name, said, severity=Severity.WARNING)
    return FlagProblem(name, f"{spelled} {what_is_wanted(usage)}, not {said}")
