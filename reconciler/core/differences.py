"""What differs between a running server and the one that is wanted, field by field, for people.

In: an observed server, the wanted spec. Out: `Detail`s. Only for show: whether a server is
replaced is decided by the spec hash alone. Secrets are masked here, once.
"""

from __future__ import annotations

from itertools import pairwise

from reconciler.core.desired import Model
from reconciler.core.engine import Flag, LaunchSpec, flag_name, masked, user_flags_of
from reconciler.core.observed import ObservedServer
from reconciler.core.plan import Detail
from reconciler.core.resolve import tcp_port


def creation(model: Model, spec: LaunchSpec, path: str) -> tuple[Detail, ...]:
    """The fields of a server that is to be started."""
    shown = {"engine": spec.engine, "model": path}
    if model.port is not None:
        shown["port"] = str(model.port)
    shown |= dict(_entry(model, flag) for flag in spec.flags)
    shown |= {f"env.{name}": masked(name, value) for name, value in spec.env}
    return tuple(Detail(path, None, value) for path, value in shown.items())


def replacement(
    server: ObservedServer, model: Model, spec: LaunchSpec, path: str
) -> tuple[Detail, ...]:
    """The fields that force a restart."""
    before = _fields_of(server, model)
    after = dict(_entry(model, flag) for flag in spec.flags)
    after |= {f"env.{name}": value for name, value in spec.env}
    after |= {"model": path, "listen": spec.listen}
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
    # A flag that was taken out of the file: `params` is where most of them live.
    return f"params.{flag.name.replace('-', '_')}", str(flag)
