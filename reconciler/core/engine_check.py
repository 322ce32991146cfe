"""A desired state beside the installed engine: what it would refuse, and what changes it unseen.

In: models, the places of their parts, `ObservedEngine`. Out: diagnostics at file:line:col. Errors
are what no server would start with; warnings are what starts otherwise than the file seems to say.
`validate --engine` shows all of them; a plan blocks what it would have to start (`core.obstacles`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from reconciler.core.desired import DesiredState, Model
from reconciler.core.engine import Flag, flag_name, model_flags, to_flag
from reconciler.core.engine_flags import (
    check_flags,
    fits,
    gone,
    is_switch_word,
    what_is_wanted,
)
from reconciler.core.marks import Path
from reconciler.core.observed_engine import ObservedEngine, ValueKind
from reconciler.core.words import EngineKind
from reconciler.core.written import FLAG_ZONES
from reconciler.errors import Diagnostic, Position, Severity

_NOWHERE = Position("", 0, 0)
_VARIABLE = "LLAMA_ARG_"
_NO_VARIABLE = "LLAMA_ARG_NO_"
_GIVEN = frozenset(
    {"model", "alias", "host", "metrics", "slots", "ui", "cors-origins", "sse-ping-interval"}
)
"""Flags that every server gets from us: what a config file says of them has no effect."""
_MOST_NAMES = 3


@dataclass(frozen=True, slots=True)
class _Written:
    """A flag as a model's `params` or `args` have it."""

    section: str
    key: str
    flag: Flag


@dataclass(frozen=True, slots=True)
class _Owner:
    """A model, and how the places of its parts are found."""

    name: str
    model: Model
    marks: Mapping[Path, Position]

    def place(self, *path: str) -> Position | None:
        """Where a part was written: for the model itself, or in `defaults`."""
        found = (self.marks.get((*base, *path)) for base in (("models", self.name), ("defaults",)))
        return next((one for one in found if one), None)

    def is_shared(self, place: Position) -> bool:
        """Whether a flag's place is in `defaults`."""
        paths = (("defaults", one.section, one.key) for one in self.written())
        return any(self.marks.get(path) == place for path in paths)

    def written(self) -> Iterator[_Written]:
        """Its flags, in an order that the file has no part in."""
        for section in FLAG_ZONES:
            for key, value in sorted(getattr(self.model, section).items()):
                yield _Written(section, key, to_flag(key, value))


def check_engine(
    desired: DesiredState, engine: ObservedEngine, marks: Mapping[Path, Position]
) -> tuple[Diagnostic, ...]:
    """All that the engine would refuse or not heed, each once, in the file's order."""
    found = dict.fromkeys(
        one
        for name, model in desired.models.items()
        for one in check_model(name, model, engine, marks)
    )
    return (*in_order(found), *ambient_settings(desired.models, engine))


def in_order(found: Iterable[Diagnostic]) -> list[Diagnostic]:
    """By place."""
    return sorted(found, key=lambda one: (one.position or _NOWHERE, one.summary))


def check_model(
    name: str, model: Model, engine: ObservedEngine, marks: Mapping[Path, Position]
) -> tuple[Diagnostic, ...]:
    """What the engine would refuse or not heed of one model; nothing where there is no engine."""
    if engine.kind is None:
        return ()
    owner = _Owner(name, model, marks)
    written = tuple(owner.written())
    found = [*_bad_flags(owner, written, engine), *_twice(owner, written, engine)]
    used = {engine.same.get(one.flag.name, one.flag.name): one for one in written}
    for variable, value in sorted(model.env.items()):
        found += _of_variable(variable, value, used, owner, engine)
    return tuple(found)


def _bad_flags(
    owner: _Owner, written: tuple[_Written, ...], engine: ObservedEngine
) -> Iterator[Diagnostic]:
    """Flags by themselves, in the spelling of the section that they stand in."""
    for problem in check_flags([one.flag for one in written], engine):
        one = next(one for one in written if one.flag.name == problem.flag)
        near = problem.near
        if problem.flag != flag_name(one.key):
            near = near.removeprefix("no-")
        near = near.replace("-", "_") if one.section == "params" else near
        hint = f"; did you mean `{near}`?" if near else ""
        place = owner.place(one.section, one.key)
        yield Diagnostic(problem.severity, f"{problem.summary}{hint}", place)


def _twice(
    owner: _Owner, written: tuple[_Written, ...], engine: ObservedEngine
) -> Iterator[Diagnostic]:
    """One flag under two of its names: the engine would take the last one, whichever that is."""
    by_name: dict[str, list[_Written]] = {}
    for one in written:
        if known := engine.same.get(one.flag.name):
            by_name.setdefault(known, []).append(one)
    for several in by_name.values():
        if len(several) > 1:
            placed = [(owner.place(one.section, one.key) or _NOWHERE, one.key) for one in several]
            (before, first), *others = sorted(placed)
            for place, key in others:
                where = f" ({before})" if before != _NOWHERE else ""
                said = f"`{key}` and `{first}`{where} are the same flag: keep one of them"
                if owner.is_shared(before):
                    said += ", or call both alike: then the model's own counts"
                yield Diagnostic(Severity.ERROR, said, place if place != _NOWHERE else None)


def _of_variable(
    variable: str, value: str, used: Mapping[str, _Written], owner: _Owner, engine: ObservedEngine
) -> Iterator[Diagnostic]:
    """A variable of `env` that stands for a flag; its value may be secret, and is never shown."""
    place, flag = owner.place("env", variable), _flag_of(variable, engine)
    if flag is None:
        if said := _unread(variable, engine):
            yield Diagnostic(Severity.WARNING, said, place)
    elif flag in engine.removed:
        yield Diagnostic(Severity.ERROR, gone(variable, engine.removed[flag]), place)
    # HF_TOKEN stands for a flag of ours too, and is the way to set it.
    elif flag in engine.refused and variable.startswith("LLAMA_"):
        said = f"{variable} sets --{flag}, which is not yours to set: {engine.refused[flag]}"
        yield Diagnostic(Severity.ERROR, said, place)
    elif over := used.get(flag):
        where = owner.place(over.section, over.key)
        shown = f" ({where})" if where else ""
        said = f"{variable} has no effect: `{over.key}`{shown} wins over it"
        yield Diagnostic(Severity.WARNING, said, place)
    # Whatever one with NO_ in its name says, it switches off.
    elif variable in engine.variables:
        yield from _misread(variable, value, flag, place, engine)


def _flag_of(variable: str, engine: ObservedEngine) -> str | None:
    """The flag that a variable stands for; None: none that is known."""
    if variable.startswith(_NO_VARIABLE) and variable not in engine.variables:
        flag = engine.variables.get(_VARIABLE + variable.removeprefix(_NO_VARIABLE))
        return flag if flag and _has_opposite(flag, engine) else None
    return engine.variables.get(variable)


def _has_opposite(flag: str, engine: ObservedEngine) -> bool:
    return any(name.startswith("no-") for name in engine.all_of(flag))


def _unread(variable: str, engine: ObservedEngine) -> str:
    """What is to be said of a variable that stands for no flag; empty: nothing."""
    if variable == "XDG_CONFIG_HOME" and engine.kind is EngineKind.LLAMA_SERVER:
        return "the engine reads llama.cpp/config.ini of this folder too, which no plan shows"
    # An engine of which no variables are known may read any.
    is_known = engine.variables or engine.kind is EngineKind.EMBEDDED
    if not variable.startswith(_VARIABLE) or not is_known:
        return ""
    said = f"the engine ({engine.kind}) reads no variable {variable}, so it has no effect"
    # All begin alike, which would make any two seem near.
    known = [name.removeprefix(_VARIABLE) for name in engine.variables]
    near = get_close_matches(variable.removeprefix(_VARIABLE), known, n=1)
    if near:
        return f"{said}; did you mean `{_VARIABLE}{near[0]}`?"
    return f"{said}; write the flag under `params` or `args`"


def _misread(
    variable: str, value: str, flag: str, place: Position | None, engine: ObservedEngine
) -> Iterator[Diagnostic]:
    usage = engine.usage.get(flag)
    if usage is None:
        return
    if usage.kind is not ValueKind.NOTHING:
        if not fits(value.strip(), usage):
            level = Severity.WARNING if usage.kind is ValueKind.LISTED else Severity.ERROR
            yield Diagnostic(level, f"{variable}: --{flag} {what_is_wanted(usage)}", place)
    elif not is_switch_word(value):
        # One without an opposite is left as it is by a word that the engine does not know.
        level = Severity.ERROR if _has_opposite(flag, engine) else Severity.WARNING
        yield Diagnostic(level, f"{variable}: --{flag} is a switch: write 1 or 0", place)


def ambient_settings(models: Mapping[str, Model], engine: ObservedEngine) -> Iterator[Diagnostic]:
    """What files that the engine reads by itself change about servers of these models."""
    for setting in engine.ambient:
        flag = engine.variables.get(setting.key, setting.key)
        known = engine.same.get(flag)
        if known is None or known in _GIVEN:
            continue
        names = [name for name, model in models.items() if known not in _set_by(model, engine)]
        if names:
            said = (
                f"`{setting.key}` is read by every llama-server, ours too: it changes {_few(names)}"
            )
            hint = (
                "take it out if it is not meant for them; what `params` and `args` say wins over it"
            )
            yield Diagnostic(Severity.WARNING, said, setting.place, hint)


def _set_by(model: Model, engine: ObservedEngine) -> set[str | None]:
    """What a model says itself: variables, too, win over a config file."""
    by_flags = {engine.same.get(flag.name) for flag in model_flags(model)}
    return by_flags | {_flag_of(variable, engine) for variable in model.env}


def _few(names: Iterable[str]) -> str:
    known = sorted(names)
    more = len(known) - _MOST_NAMES
    shown = ", ".join(known[:_MOST_NAMES])
    return f"{shown} and {more} more" if more > 0 else shown
