"""What an engine is given: flags, environment, files; and the hash over all of it.

In: a model of the desired state, its files. Out: `LaunchSpec` and argument lists. Whether the
engine takes them is said by `core.engine_check`.
Never: the engine's own path, our version, a socket path. Those may change without a restart.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from reconciler.core.desired import DEFAULT_COMMAND, Engine, Model
from reconciler.core.fields import FlagValue
from reconciler.core.words import EngineKind, ModelName, SpecHash

OWNED_FLAGS: Mapping[str, str] = {
    **dict.fromkeys(("host", "reuse-port"), "the server listens where the gateway finds it"),
    **dict.fromkeys(("port",), "use the model's `port`"),
    **dict.fromkeys(("model", "m"), "use the model's `source`"),
    **dict.fromkeys(
        ("model-url", "mu", "hf-repo", "hf", "hfr", "hf-file", "hff", "docker-repo", "dr"),
        "use the model's `source`: only there is it fetched and verified",
    ),
    **dict.fromkeys(
        ("mmproj-url", "mmu"), "use `source.mmproj`: only there is it fetched and verified"
    ),
    **dict.fromkeys(
        ("spec-draft-hf", "hfd", "hfrd", "hf-repo-draft"),
        "use `source.draft`: only there is it fetched and verified",
    ),
    **dict.fromkeys(("alias", "a"), "use the model's name and `aliases`"),
    **dict.fromkeys(("metrics", "slots", "no-slots"), "the reconciler needs them as they are"),
    **dict.fromkeys(
        ("api-key", "api-key-file"), "the gateway checks keys: use `gateway.keys_file`"
    ),
    **dict.fromkeys(("ssl-key-file", "ssl-cert-file"), "use `gateway.tls`"),
    **dict.fromkeys(("hf-token", "hft"), "a secret must not stand in argv; set HF_TOKEN"),
    **dict.fromkeys(
        ("models-dir", "models-preset", "models-max", "models-autoload", "no-models-autoload"),
        "one server serves one model here",
    ),
    "api-prefix": "the gateway and the probes ask without one",
    "sse-ping-interval": "the reconciler sets it so that a stop is not held up by an open stream",
    **dict.fromkeys(
        (*("h", "help", "usage", "version"), *("cl", "cache-list", "completion-bash")),
        "it prints something and ends: nothing would be served",
    ),
    "list-devices": "it prints something and ends: `llm-reconcile doctor` shows the devices",
}
"""llama-server flags that belong to us -> what to use instead."""

OWN_NO_FLAGS = frozenset({"no-host"})
"""Flags whose own name begins with `no-`: they do not switch off another one."""


def owned_advice(flag: str) -> str | None:
    """What to use instead of a flag that belongs to us; None: it is the user's."""
    if flag in OWN_NO_FLAGS:
        return None
    return OWNED_FLAGS.get(flag) or OWNED_FLAGS.get(flag.removeprefix("no-"))


COMPANION_FIELDS: Mapping[str, str] = {"mmproj": "source.mmproj", "model-draft": "source.draft"}
"""Flags with which an engine is given further files -> the field that wants them."""
COMPANION_NAMES: Mapping[str, tuple[str, ...]] = {
    "mmproj": ("mmproj", "mm"),
    "model-draft": ("model-draft", "md", "spec-draft-model"),
}
"""All names that llama-server has for them."""

LABEL_ROOT = "LLM_RECONCILE_ROOT"
LABEL_INSTANCE = "LLM_RECONCILE_INSTANCE"
LABEL_SPEC = "LLM_RECONCILE_SPEC"
LABEL_SLOT = "LLM_RECONCILE_SLOT"
LABEL_FILES = "LLM_RECONCILE_FILES"
LABEL_PREFIX = "LLM_RECONCILE_"

PASSED_ENVIRONMENT = (
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "LANG",
    "LC_ALL",
    "TMPDIR",
    "LD_LIBRARY_PATH",
)
"""Variables of the caller that a server may see; everything else would change it silently."""
SET_ENVIRONMENT = ("XDG_CONFIG_HOME",)
"""Variables that we set on every server: an empty folder, so that no ambient config leaks in."""
SHELL_ENVIRONMENT = ("PWD", "OLDPWD", "SHLVL", "_")
"""Variables that a shell adds by itself, where `engine.command` is a script of one."""

# Values of these are settings of compute libraries; any other variable may be or hold a secret.
_SHOWN_NAME = re.compile(
    r"(CUDA|GGML|GGML_CUDA|LLAMA|NVIDIA|HIP|HSA|ROCR|VK|OMP|GOMP|KMP|MKL|OPENBLAS|MALLOC)_\w+"
)
_SECRET_NAME = re.compile(r"TOKEN|KEY|SECRET|PASS|PWD|CREDENTIAL|AUTH|BEARER")
MASK = "(not shown)"


def masked(name: str, value: str) -> str:
    """An environment variable's value as it may be shown in a plan that others read."""
    known = _SHOWN_NAME.fullmatch(name.upper()) and not sounds_secret(name)
    return value if known else MASK


def sounds_secret(name: str) -> bool:
    """Whether a variable of that name may hold a secret."""
    return _SECRET_NAME.search(name.upper()) is not None


@dataclass(frozen=True, slots=True, order=True)
class Flag:
    """One llama-server flag as the user wrote it; no values is the bare flag."""

    name: str
    values: tuple[str, ...] = ()

    def __str__(self) -> str:
        return ", ".join(self.values) if self.values else "true"


@dataclass(frozen=True, slots=True)
class LaunchSpec:
    """Everything an engine is given by the user. Equal specs mean equal servers."""

    model: ModelName
    engine: str
    """The engine as declared (`auto`, `embedded`, or the llama-server command)."""
    flags: tuple[Flag, ...]
    env: tuple[tuple[str, str], ...]
    files: str
    """`ObservedFiles.spec_id`, with the declared sha256 if there is one."""
    listen: str = "socket"
    """`socket` behind the gateway; `127.0.0.1:PORT` without one."""

    @property
    def hash(self) -> SpecHash:
        """12 hex digits (48 bits) of SHA-256 over the canonical JSON of all fields."""
        fields = [self.model, self.engine, self.flags_json, self.env, self.files, self.listen]
        text = json.dumps(fields, ensure_ascii=False, separators=(",", ":"))
        return SpecHash(hashlib.sha256(text.encode()).hexdigest()[:12])

    @property
    def flags_json(self) -> list[list[str]]:
        """The flags as plain lists."""
        return [[flag.name, *flag.values] for flag in self.flags]


def flag_name(key: str) -> str:
    """The canonical spelling of a key of `params` or `args`: no leading dashes, no underscores."""
    return key.lstrip("-").replace("_", "-")


def to_flag(key: str, value: FlagValue) -> Flag:
    """One entry of `params` or `args` as a flag: `true` bare, `false` as `no-X`, a list repeats."""
    name = flag_name(key)
    if value is True:
        return Flag(name)
    if value is False:
        return Flag(f"no-{name}")
    return Flag(name, value if isinstance(value, tuple) else (value,))


def model_flags(model: Model) -> tuple[Flag, ...]:
    """All flags of a model in one order, whatever the order in the file."""
    entries = [*model.params.items(), *model.args.items()]
    return tuple(sorted(to_flag(key, value) for key, value in entries))


def declared_engine(engine: Engine) -> str:
    """The engine as far as the spec hash is concerned.

    `auto` hashes as itself: that another shell finds another PATH must not restart anything.
    """
    if engine.kind is EngineKind.EMBEDDED:
        return engine.kind
    if engine.kind is EngineKind.AUTO and engine.command == DEFAULT_COMMAND:
        return engine.kind
    kind = EngineKind.LLAMA_SERVER if engine.kind is EngineKind.AUTO else engine.kind
    return f"{kind}:{engine.command}"


def launch_spec(
    name: ModelName, model: Model, engine: Engine, files: str, listen: str
) -> LaunchSpec:
    """Put together what the engine will be given for one instance of `model`."""
    if model.source.sha256:
        files = f"{files}#{model.source.sha256}"
    return LaunchSpec(
        model=name,
        engine=declared_engine(engine),
        flags=model_flags(model),
        env=tuple(sorted(model.env.items())),
        files=files,
        listen=listen,
    )


def user_argv(
    flags: Sequence[Flag], known: Mapping[str, str], pairs: Collection[str] = ()
) -> list[str]:
    """The user's flags as arguments, spelled as the engine's help spells them.

    A list repeats the flag; those of `pairs` take two values at a time.
    """
    argv: list[str] = []
    for flag in flags:
        spelled, step = known.get(flag.name, f"--{flag.name}"), 2 if flag.name in pairs else 1
        for start in range(0, max(len(flag.values), 1), step):
            argv += [spelled, *flag.values[start : start + step]]
    return argv


def owned_argv(
    model: ModelName, given: Mapping[str, str], address: str, known: Mapping[str, str]
) -> list[str]:
    """The flags that are ours, as far as this engine knows them; `given` are its files by flag.

    FACTS for each: metrics and slots are how requests in flight are counted; a short ping ends a
    stream soon after TERM; without cors-origins any web page could use the server; the UI would
    bypass the gateway's page.
    """
    argv = ["--model", given["model"], "--alias", model]
    for flag in sorted(given.keys() - {"model"}):
        argv += [f"--{flag}", given[flag]]
    if address.startswith("unix:"):
        argv += ["--host", address.removeprefix("unix:")]
    else:
        host, _, port = address.rpartition(":")
        argv += ["--host", host, "--port", port]
    wanted = [["--metrics"], ["--slots"], ["--no-ui"]]
    wanted += [["--cors-origins", "localhost"], ["--sse-ping-interval", "2"]]
    return argv + [part for flag in wanted if flag[0][2:] in known for part in flag]


def user_flags_of(argv: Sequence[str]) -> tuple[Flag, ...]:
    """Read the user's flags back from a running server's arguments (the inverse of the above)."""
    found: dict[str, list[str]] = {}
    name = ""
    for word in argv:
        if re.fullmatch(r"--?[A-Za-z][\w-]*", word):
            name = word.lstrip("-")
            found.setdefault(name, [])
        elif name:
            found[name].append(word)
    ours = {"cors-origins": ["localhost"], "no-ui": []}
    return tuple(
        sorted(
            Flag(name, tuple(values))
            for name, values in found.items()
            if name not in OWNED_FLAGS and ours.get(name) != values
        )
    )
