"""What differs between what runs and what is wanted, field by field, for people.

In: an observed server and the wanted spec, or the outlines of two gateway configurations. Out:
`Detail`s. Only for show: whether a server is replaced is decided by the spec hash alone, whether
nginx is reloaded by the generation. Secrets are masked here, once.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

from reconciler.core.desired import Model
from reconciler.core.engine import (
    COMPANION_FIELDS,
    Flag,
    LaunchSpec,
    flag_name,
    masked,
    user_flags_of,
)
from reconciler.core.observed import ObservedServer
from reconciler.core.outline import KeyOutline, Outline, stuck_addresses
from reconciler.core.plan import Detail
from reconciler.core.resolve import tcp_port


def creation(model: Model, spec: LaunchSpec, given: Mapping[str, str]) -> tuple[Detail, ...]:
    """The fields of a server that is to be started; `given` are its files by flag."""
    shown = {"engine": spec.engine, **_files(given)}
    if model.port is not None:
        shown["port"] = str(model.port)
    shown |= dict(_entry(model, flag) for flag in spec.flags)
    shown |= {f"env.{name}": masked(name, value) for name, value in spec.env}
    return tuple(Detail(path, None, value) for path, value in shown.items())


def replacement(
    server: ObservedServer, model: Model, spec: LaunchSpec, given: Mapping[str, str]
) -> tuple[Detail, ...]:
    """The fields that force a restart."""
    before = _fields_of(server, model)
    # Where the user sets one that every server has, its value here is no other server's.
    own = dict(spec.env)
    before |= {f"env.{name}": value for name, value in server.base_env if name in own}
    after = dict(_entry(model, flag) for flag in spec.flags)
    after |= {f"env.{name}": value for name, value in own.items()}
    after |= {**_files(given), "listen": spec.listen}
    details = [
        Detail(
            field,
            _shown(field, before.get(field)),
            _shown(field, after.get(field)),
            forces_restart=True,
        )
        for field in sorted(before.keys() | after.keys())
        if before.get(field) != after.get(field)
    ]
    # Engine and declared sha256 leave no trace on the process: what else could it be?
    return tuple(details) or (Detail("engine or sha256", None, spec.engine, forces_restart=True),)


def _fields_of(server: ObservedServer, model: Model) -> dict[str, str]:
    fields = dict(_entry(model, flag) for flag in user_flags_of(server.argv))
    fields |= {f"env.{name}": value for name, value in server.env}
    fields["listen"] = "socket" if tcp_port(server.address) is None else server.address
    path = dict(pairwise(server.argv)).get("--model")
    return fields if path is None else fields | {"model": path}


def _files(given: Mapping[str, str]) -> dict[str, str]:
    return {COMPANION_FIELDS.get(flag, flag): path for flag, path in given.items()}


def _shown(field: str, value: str | None) -> str | None:
    if value is None or not field.startswith("env."):
        return value
    return masked(field.removeprefix("env."), value)


def _entry(model: Model, flag: Flag) -> tuple[str, str]:
    """The flag as the user knows it: its path and value in the desired file if it is there."""
    for section in ("params", "args"):
        for key in getattr(model, section):
            if flag_name(key) == flag.name:
                return f"{section}.{key}", str(flag)
            if f"no-{flag_name(key)}" == flag.name and not flag.values:
                return f"{section}.{key}", "false"
    if flag.name in COMPANION_FIELDS:
        return COMPANION_FIELDS[flag.name], str(flag)
    # A flag that was taken out of the file: `params` is where most of them live.
    return f"params.{flag.name.replace('-', '_')}", str(flag)


def configuration(before: Outline | None, after: Outline) -> tuple[str, tuple[Detail, ...]]:
    """Which parts of the gateway's configuration changed, and how, as far as people ask.

    Without an outline of what runs, all that is known is that it is another one.
    """
    if before is None:
        return "its configuration changed", ()
    changed = {
        "keys": before.keys != after.keys,
        "certificate": before.certificate != after.certificate,
        "configuration": (before.listens, before.rest) != (after.listens, after.rest),
    }
    parts = [part for part, differs in changed.items() if differs] or ["configuration"]
    moved = [
        Detail(f"listen.{other.rpartition(':')[2]}", one, other, forces_restart=True)
        for one, other in stuck_addresses(before.listens, after.listens)
    ]
    details = (
        *moved,
        *_models(before.models, after.models),
        *_hold(before, after),
        *_keys(before.keys, after.keys),
        *_certificate(before, after),
    )
    listed = ", ".join(parts[:-1])
    return f"its {listed}{' and ' if listed else ''}{parts[-1]} changed", details


def _models(before: Mapping[str, str] | None, after: Mapping[str, str] | None) -> list[Detail]:
    """The models that come, go, or are reached in another way."""
    if before is None or after is None:
        return []
    return [
        Detail(f"models.{name}", before.get(name), after.get(name))
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]


def _hold(before: Outline, after: Outline) -> list[Detail]:
    if before.hold_s == after.hold_s:
        return []
    return [Detail("hold", f"{before.hold_s:g}s", f"{after.hold_s:g}s")]


def _keys(
    before: Mapping[str, KeyOutline] | None, after: Mapping[str, KeyOutline] | None
) -> list[Detail]:
    """Whether any key is asked for, and the keys that come, go or change."""
    details = []
    if (before is None) != (after is None):
        words = ("not asked for", "asked for")
        details.append(Detail("keys", *(words if before is None else reversed(words))))
    old, new = before or {}, after or {}
    for name in sorted(old.keys() | new.keys()):
        one, other = old.get(name), new.get(name)
        if one != other:
            will = other.scope if other else None
            if one and other and one.mark != other.mark:
                will = f"{will}, another key"
            details.append(Detail(f"keys.{name}", one.scope if one else None, will))
    return details


def _certificate(before: Outline, after: Outline) -> list[Detail]:
    if before.certificate == after.certificate:
        return []
    return [Detail("tls", _validity(before), _validity(after))]


def _validity(outline: Outline) -> str | None:
    return f"certificate until {outline.valid_until}" if outline.certificate else None
