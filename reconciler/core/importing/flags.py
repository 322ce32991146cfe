"""llama-server's flags, as another program gives them, as fields of a model.

In: a command line, or flags one by one. Out: `source`, `quant`, `port`, `aliases`, `params`,
`args` of a `Carried`, and remarks. What is a secret is named and never shown. Whether the installed
engine knows a flag is the plan's matter.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from reconciler.core.addresses import is_loopback
from reconciler.core.engine import OWN_NO_FLAGS, flag_name
from reconciler.core.fields import FlagValue
from reconciler.core.importing.carried import (
    HIDDEN,
    NOT_SHOWN,
    Carried,
    hub_reference,
    quant_of_file,
)
from reconciler.core.text import word_set
from reconciler.core.yaml_text import Raw, Value

_LONG: Mapping[str, str] = {
    "a": "alias", "b": "batch-size", "c": "ctx-size", "cb": "cont-batching", "cmoe": "cpu-moe",
    "cram": "cache-ram", "ctk": "cache-type-k", "ctkd": "cache-type-k-draft",
    "ctv": "cache-type-v", "ctvd": "cache-type-v-draft", "dev": "device", "devd": "device-draft",
    "dr": "docker-repo", "dt": "defrag-thold", "e": "escape", "embeddings": "embedding",
    "fa": "flash-attn", "fitt": "fit-target", "gpu-layers": "n-gpu-layers", "hf": "hf-repo",
    "hfd": "hf-repo-draft", "hff": "hf-file", "hfr": "hf-repo", "hfrd": "hf-repo-draft",
    "hft": "hf-token", "j": "json-schema", "jf": "json-schema-file", "kvu": "kv-unified",
    "l": "logit-bias", "lm": "load-mode", "lv": "verbosity", "m": "model", "md": "model-draft",
    "mg": "main-gpu", "mm": "mmproj", "mmu": "mmproj-url", "mu": "model-url", "n": "n-predict",
    "ncmoe": "n-cpu-moe", "ngl": "n-gpu-layers", "ngld": "n-gpu-layers-draft",
    "nkvo": "no-kv-offload", "nocb": "no-cont-batching", "np": "parallel", "nr": "no-repack",
    "ot": "override-tensor", "predict": "n-predict", "rerank": "reranking", "s": "seed",
    "sm": "split-mode", "spec-draft-hf": "hf-repo-draft", "sps": "slot-prompt-similarity",
    "t": "threads", "tb": "threads-batch", "temperature": "temp", "to": "timeout",
    "ts": "tensor-split", "ub": "ubatch-size", "v": "verbose",
}  # fmt: skip
"""Further names of flags -> the one that is written (common/arg.cpp of llama.cpp)."""

_PARAMS = word_set(
    "ctx-size n-predict parallel threads batch-size ubatch-size seed temp top-k top-p min-p "
    "typical-p repeat-penalty repeat-last-n presence-penalty frequency-penalty "
    "sleep-idle-seconds"
)
"""What is written under `params`; all others under `args`."""

_WORDY = frozenset({"flash-attn", "fit", "reasoning", "log-colors"})
"""Flags with `on` and `off` as values; older engines had some of them as switches."""
_OURS = frozenset({"metrics", "slots", "props", "no-ui", "no-webui", "no-mmproj"})
"""Switches that lose nothing: they are set here as they say, or are how it is here."""

_FLAG = re.compile(r"--?[A-Za-z][\w.-]*")
_JOINED = re.compile(r"(--[A-Za-z][\w.-]*)=(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Given:
    """One flag of a source: its name without dashes, its value, where it stands."""

    name: str
    value: FlagValue
    where: str


def flags_of(words: Sequence[str], where: str) -> Iterator[Given]:
    """A command line without its program, flag by flag; one that stands twice is a list."""
    found: dict[str, list[str]] = {}
    name = ""
    for word in words:
        # The engine takes no `=`; scripts that put one there may hold a secret behind it.
        if joined := _JOINED.fullmatch(word):
            name = joined[1]
            found.setdefault(name, []).append(joined[2])
        elif _FLAG.fullmatch(word):
            name = word
            found.setdefault(name, [])
        else:
            found.setdefault(name, []).append(word)
    for key, values in found.items():
        value: FlagValue = True if not values else values[0] if len(values) == 1 else tuple(values)
        yield Given(key.lstrip("-"), value, where)


def take_flags(given: Sequence[Given], model: Carried) -> None:
    """Let a model have these flags."""
    flags = [named(one) for one in given]
    for one in flags:
        take = _TAKES.get(one.name)
        if not one.name:
            # What it says is not shown: nobody knows that it is no secret.
            model.remark(one.where, "a word belongs to no flag and is not carried over")
        elif take is not None:
            take(model, one)
        elif HIDDEN in _shown(one.value):
            model.remark(one.where, f"`{one.name}` is {NOT_SHOWN}")
        elif one.name not in _OURS:
            _put(model, one)
    _settle_file(model)
    names = {one.name for one in flags}
    if "hf-repo" in names and not names & {"no-mmproj", "mmproj"}:
        said = "`hf-repo` also fetches the repository's projector, if it has one"
        hint = "for images and sound say `source: {mmproj: true}`"
        model.remark(model.places[("source", "repo")], said, hint)


def named(one: Given) -> Given:
    """With its long name; a switch that says no is the other one with `false`."""
    name = flag_name(one.name)
    name = _LONG.get(name, name)
    value = one.value
    if name in _WORDY and isinstance(value, bool):
        value = "on" if value else "off"
    base = name.removeprefix("no-")
    if base != name and isinstance(value, bool) and name not in OWN_NO_FLAGS | _OURS:
        name, value = base, not value
    return Given(name, value, one.where)


def _put(model: Carried, one: Given) -> None:
    if one.name in _PARAMS:
        model.put(("params", one.name.replace("-", "_")), written(one.value), one.where)
    else:
        model.put(("args", one.name), written(one.value), one.where)


def written(value: FlagValue) -> Value:
    """A flag's value for the writer."""
    if isinstance(value, bool):
        return value
    return Raw(value) if isinstance(value, str) else [Raw(one) for one in value]


def _text(one: Given) -> str:
    """The last value counts, as for llama-server."""
    if isinstance(one.value, bool):
        return ""
    return one.value if isinstance(one.value, str) else one.value[-1]


def _shown(value: FlagValue) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else " ".join(value)


def _take_model(model: Carried, one: Given) -> None:
    model.put(("source", "path"), _text(one), one.where)
    if not _text(one).startswith("/"):
        said = f"`{_text(one)}` is a path from the folder where the server was started"
        model.remark(one.where, said, "here it starts at the root; write the whole path")


def _take_repo(model: Carried, one: Given) -> None:
    repo, quant = hub_reference(_text(one))
    model.put(("source", "repo"), repo, one.where)
    if not quant:
        # llama-server's own choice (common/arg.cpp, --hf-repo).
        said = f"`{repo}` names no quant; llama-server takes Q4_K_M, or else the first file"
        model.remark(one.where, said, "say in `quant` which one it is to be")
    model.put(("quant",), quant or "Q4_K_M", one.where)


def _take_hub_file(model: Carried, one: Given) -> None:
    quant = quant_of_file(_text(one))
    if quant:
        model.put(("quant",), quant, one.where)
    else:
        said = f"`{_text(one)}` tells no quant by its name"
        model.remark(one.where, said, "say in `quant` which of the repository's files it is")


def _take_host(model: Carried, one: Given) -> None:
    host = _text(one)
    if not is_loopback(host) and not host.endswith(".sock"):
        said = f"`host {host}` was open to other machines; the gateway listens on 127.0.0.1 only"
        hint = f"for the same say `gateway: {{listen: '{host}:8888', keys_file: secrets/keys}}`"
        model.remark(one.where, said, hint)


def _take_port(model: Carried, one: Given) -> None:
    text = _text(one)
    if text.isdecimal() and int(text):
        model.put(("port",), int(text), one.where)


def _take_alias(model: Carried, one: Given) -> None:
    for alias in _text(one).split(","):
        model.add_alias(alias.strip(), one.where)


def _take_secret(model: Carried, one: Given) -> None:
    hints = {
        "api-key": "let `gateway.keys_file` name a file of `name:key` lines, mode 0600",
        "hf-token": "set HF_TOKEN where llm-reconcile runs",
    }
    model.remark(one.where, f"`{one.name}` is {NOT_SHOWN}", hints[one.name])


def _take_key_file(model: Carried, one: Given) -> None:
    said = f"`{one.name}` is not carried over: the gateway asks for keys, for all models"
    hint = f"put the keys of {_text(one)} as `name:key` lines into a `gateway.keys_file`"
    model.remark(one.where, said, hint)


def _take_url(model: Carried, one: Given) -> None:
    said = f"`{one.name}` alone does not tell which bytes are right"
    hint = "use `source: {url: ..., sha256: ...}`, or the repository with `source.repo`"
    model.remark(one.where, said, hint)


def _take_draft_repo(model: Carried, one: Given) -> None:
    said = f"the draft model `{_text(one)}` is not carried over"
    hint = "`source.draft` takes one of the same repository; else fetch it, and name its file in "
    model.remark(one.where, said, f"{hint}`args: {{model-draft: ...}}`")


def _take_nothing(model: Carried, one: Given) -> None:
    said = f"`{one.name}` is not carried over: one server serves one model here"
    model.remark(one.where, said)


_TAKES: Mapping[str, Callable[[Carried, Given], None]] = {
    "model": _take_model,
    "hf-repo": _take_repo,
    "hf-file": _take_hub_file,
    "model-url": _take_url,
    "docker-repo": _take_url,
    "mmproj-url": _take_url,
    "hf-repo-draft": _take_draft_repo,
    "host": _take_host,
    "port": _take_port,
    "alias": _take_alias,
    "api-key": _take_secret,
    "hf-token": _take_secret,
    "api-key-file": _take_key_file,
    "models-dir": _take_nothing,
    "models-preset": _take_nothing,
    "models-max": _take_nothing,
    "models-autoload": _take_nothing,
}
"""Flags that are a field here, or have none."""


def _settle_file(model: Carried) -> None:
    """With a repository, llama-server's `--model` only says where to put the file."""
    source = model.part("source")
    if "repo" in source and "path" in source:
        model.drop(("source", "path"))
