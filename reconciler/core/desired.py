"""The desired state, `version: 1`, as frozen typed values.

In: plain values from `core.parse` (which keeps the positions). Out: `DesiredState`.
The only module that uses pydantic. Each field says what its change costs (`effect`);
what belongs to several fields together (unique ports, names) is checked in `core.parse`.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic.config import JsonDict

from reconciler.core.words import Effect, EngineKind, ModelState, Rollout

RESTART: JsonDict = {"effect": Effect.RESTART.value}
GATEWAY: JsonDict = {"effect": Effect.GATEWAY.value}
NONE: JsonDict = {"effect": Effect.NONE.value}

MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
RESERVED_NAMES = frozenset({"models", "logs", "status", "events", "history"})
"""Words that the gateway uses itself under /api."""

_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kMGT]?i?B)")
_UNITS = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_UNITS |= {"KiB": 2**10, "kiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}


def parse_duration(value: object) -> object:
    """Turn `5m`, `1h30m`, `10s` or a number of seconds into seconds."""
    if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0:
        return float(value)
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if not match or not any(match.groups()):
        raise ValueError(f"'{value}' is not a duration; write it like 30s, 5m or 1h30m")
    hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return hours * 3600 + minutes * 60 + seconds


def parse_size(value: object) -> object:
    """Turn `241GB` or `4.9 GiB` into bytes."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if not match or match[2] not in _UNITS:
        raise ValueError(f"'{value}' is not a size; write it like 241GB or 4.9GiB")
    return round(float(match[1]) * _UNITS[match[2]])


def parse_listen(value: object) -> object:
    """Check `HOST:PORT`, `[V6]:PORT` or a bare port (then on 127.0.0.1)."""
    text = f"127.0.0.1:{value}" if isinstance(value, int) and not isinstance(value, bool) else value
    match = re.fullmatch(r"(?:([A-Za-z0-9.-]+)|\[([0-9A-Fa-f:.]+)\]):(\d{1,5})", str(text))
    if not isinstance(text, str) or not match or not 1 <= int(match[3]) <= 65535:
        raise ValueError(f"'{value}' is not an address; write it like 127.0.0.1:8888")
    return text


Duration = Annotated[float, BeforeValidator(parse_duration)]
Size = Annotated[int, BeforeValidator(parse_size)]
Listen = Annotated[str, BeforeValidator(parse_listen)]
Port = Annotated[int, Field(ge=1, le=65535)]
FlagValue = bool | str | tuple[str, ...]
"""A flag's value as written: true/false, text (numbers stay as written), or several texts."""


class _Base(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Engine(_Base):
    """Which program serves the models."""

    kind: EngineKind = Field(EngineKind.AUTO, json_schema_extra=RESTART)
    command: str = Field("llama-server", min_length=1, json_schema_extra=RESTART)


class Tls(_Base):
    """The gateway's certificate and key, paths under the root."""

    cert: str = Field(json_schema_extra=GATEWAY)
    key: str = Field(json_schema_extra=GATEWAY)


class Gateway(_Base):
    """The nginx in front of the models."""

    listen: Listen = Field("127.0.0.1:8888", json_schema_extra=GATEWAY)
    nginx: str = Field("auto", min_length=1, json_schema_extra=GATEWAY)
    server_names: tuple[str, ...] = Field((), json_schema_extra=GATEWAY)
    keys_file: str | None = Field(None, json_schema_extra=GATEWAY)
    tls: Tls | None = Field(None, json_schema_extra=GATEWAY)

    @property
    def host(self) -> str:
        """The host part of `listen`."""
        return self.listen.rpartition(":")[0]

    @property
    def port(self) -> int:
        """The port part of `listen`."""
        return int(self.listen.rpartition(":")[2])


class Source(_Base):
    """Where a model's files come from: a hub repository or a path, exactly one."""

    repo: str | None = Field(None, json_schema_extra=RESTART)
    revision: str = Field("main", min_length=1, json_schema_extra=RESTART)
    path: str | None = Field(None, min_length=1, json_schema_extra=RESTART)
    sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$", json_schema_extra=RESTART)

    @model_validator(mode="after")
    def _exactly_one(self) -> Source:
        if (self.repo is None) == (self.path is None):
            raise ValueError("give exactly one of `repo` and `path`")
        if self.repo is not None and not re.fullmatch(r"[\w.-]+/[\w.-]+", self.repo):
            raise ValueError(f"'{self.repo}' is not a hub repository; write it like org/name")
        if self.repo is not None and self.sha256 is not None:
            raise ValueError("`sha256` goes with `path`; the hub names the hashes of a `repo`")
        return self


class Probe(_Base):
    """How long a start may take, and how often a running server is asked."""

    startup: Duration | None = Field(None, json_schema_extra=NONE)
    """Seconds; None is `auto`: 10 min, or size / 50 MB/s if that is longer."""
    liveness: Duration = Field(10.0, json_schema_extra=NONE)

    @model_validator(mode="before")
    @classmethod
    def _auto(cls, data: Any) -> Any:  # noqa: ANN401 - pydantic hands over raw input here
        if isinstance(data, dict) and data.get("startup") == "auto":
            return {**data, "startup": None}
        return data


class Model(_Base):
    """One model: its files, its launch and its life."""

    source: Source = Field(json_schema_extra=RESTART)
    quant: str | None = Field(None, min_length=1, json_schema_extra=RESTART)
    quants: dict[str, Size] = Field(default_factory=dict, json_schema_extra=NONE)
    aliases: tuple[str, ...] = Field((), json_schema_extra=GATEWAY)
    port: Port | None = Field(None, json_schema_extra=GATEWAY)
    """Through the gateway a listener of nginx; without one the server's own, and then a restart."""
    state: ModelState = Field(ModelState.RUNNING, json_schema_extra=NONE)
    params: dict[str, FlagValue] = Field(default_factory=dict, json_schema_extra=RESTART)
    args: dict[str, FlagValue] = Field(default_factory=dict, json_schema_extra=RESTART)
    env: dict[str, str] = Field(default_factory=dict, json_schema_extra=RESTART)
    replicas: int = Field(1, ge=0, le=64, json_schema_extra=GATEWAY)
    rollout: Rollout = Field(Rollout.RECREATE, json_schema_extra=NONE)
    protect: bool = Field(default=False, json_schema_extra=NONE)
    probe: Probe = Field(Probe(), json_schema_extra=NONE)
    drain: Duration = Field(300.0, json_schema_extra=NONE)
    grace: Duration = Field(30.0, json_schema_extra=NONE)

    @model_validator(mode="after")
    def _quant_goes_with_repo(self) -> Model:
        if self.source.repo is not None and self.quant is None:
            raise ValueError("`quant` is required with `source.repo`: which of its quants to run")
        return self


class DesiredState(_Base):
    """The whole desired file (or directory), defaults merged in."""

    version: int = Field(json_schema_extra=NONE)
    engine: Engine = Field(Engine(), json_schema_extra=RESTART)
    store: str = Field("models", min_length=1, json_schema_extra=NONE)
    gateway: Gateway | None = Field(Gateway(), json_schema_extra=GATEWAY)
    """None is `gateway: false`: no nginx, each server listens on its model's port."""
    models: dict[str, Model] = Field(default_factory=dict, json_schema_extra=NONE)
