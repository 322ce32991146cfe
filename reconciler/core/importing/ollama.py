"""Ollama's models, as they lie on a disk: manifests, and blobs by their digest.

In: a store's manifests, its small blobs, the names of all. Out: an `Imported`. A model's weights
are one GGUF file, so that nothing is fetched anew: `source.path` is that blob, its name its sha256.
(manifest/ of Ollama's source: `manifests-v2` wins over `manifests`; a list has one a runner.)
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from reconciler.core.importing.carried import Carried, Imported, Remark, hub_reference
from reconciler.core.importing.flags import Given, take_flags
from reconciler.core.yaml_text import Raw

KIND = "Ollama's models"
FOLDERS = ("manifests-v2", "manifests")

_HOST, _LIBRARY, _LATEST = "registry.ollama.ai", "library", "latest"
_TYPE = "application/vnd.ollama.image."
_LIST = "application/vnd.ollama.manifest.list.v2+json"
_RUNNERS = ("ollama", "llamacpp")
_FLAGS: Mapping[str, str] = {
    "temperature": "temp", "top_k": "top-k", "top_p": "top-p", "min_p": "min-p", "seed": "seed",
    "num_ctx": "ctx-size", "num_predict": "n-predict", "num_batch": "batch-size",
    "num_gpu": "n-gpu-layers", "num_thread": "threads", "num_keep": "keep",
    "main_gpu": "main-gpu", "repeat_penalty": "repeat-penalty", "repeat_last_n": "repeat-last-n",
    "presence_penalty": "presence-penalty", "frequency_penalty": "frequency-penalty",
    "typical_p": "typical-p", "mirostat": "mirostat", "mirostat_eta": "mirostat-lr",
    "mirostat_tau": "mirostat-ent",
}  # fmt: skip
"""Parameters of a Modelfile -> llama-server's flags."""
_LAYERS: Mapping[str, tuple[str, str]] = {
    "template": ("its `TEMPLATE` is not carried over: llama-server takes the file's own template",
                 "another one: `args: {chat-template-file: ...}`"),
    "system": ("its `SYSTEM` is not carried over", "clients send their own system message"),
    "messages": ("its `MESSAGE`s are not carried over", "clients send them"),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class OllamaStore:
    """What lies in a folder of Ollama's."""

    folder: str
    manifests: Mapping[str, bytes]
    """By path below the folder: `manifests/registry.ollama.ai/library/llama3.2/latest`."""
    small: Mapping[str, bytes]
    """The content of small blobs, by name."""
    blobs: Collection[str]
    """The names of all blobs: `sha256-...`."""


def read_ollama(store: OllamaStore, only: Collection[str] | None = None) -> Imported:
    """All models of a store, or `only` those of these names, as `ollama list` writes them."""
    imported = Imported(KIND, store.folder)
    found = _named(store)
    names = sorted(found) if only is None else list(dict.fromkeys(only))
    for name in names:
        if name in found:
            _read_model(imported, store, name, found[name])
        else:
            _read_absent(imported, name)
    if imported.models:
        said = "what Ollama converted for its own engine may be no file for llama-server"
        hint = "one that does not start says so: take it from the hub, `source: {repo: ...}`"
        imported.remark(store.folder, said, hint)
        said = "Ollama's context is 4096 tokens or what fits; llama-server's is the model's own"
        imported.remark(store.folder, said, "say `params: {ctx_size: ...}` to save memory")
    return imported


def listed_names(text: str) -> list[str]:
    """The names in what `ollama list` prints: a header, then a model a line."""
    lines = [line.split() for line in text.splitlines() if line.strip()]
    return [words[0] for words in lines if words[0] != "NAME"]


def _named(store: OllamaStore) -> dict[str, str]:
    """The models by name, with the path of their manifest."""
    found: dict[str, str] = {}
    for folder in FOLDERS:
        for path in sorted(store.manifests):
            parts = path.split("/")
            if parts[0] == folder and len(parts) == 5:
                found.setdefault(_name(*parts[1:]), path)
    return found


def _name(host: str, space: str, model: str, tag: str) -> str:
    """As Ollama shows it: what is usual is left out."""
    if host != _HOST:
        return f"{host}/{space}/{model}:{tag}"
    return f"{model}:{tag}" if space == _LIBRARY else f"{space}/{model}:{tag}"


def _read_model(imported: Imported, store: OllamaStore, name: str, path: str) -> None:
    where = f"{store.folder}/{path}"
    manifest = _manifest(store, store.manifests[path])
    layers = list(_layers(manifest))
    weights = [one for kind, one in layers if kind == "model"]
    if not weights:
        said = f"{name} is left out: it has no GGUF file"
        imported.left.append(Remark(where, said, "llama-server takes only GGUF"))
        return
    model = imported.add(name, where)
    digest = weights[0]
    model.put(("source", "path"), f"{store.folder}/blobs/{digest}", where)
    model.put(("source", "sha256"), digest.removeprefix("sha256-"), where)
    if digest not in store.blobs:
        imported.leave(model, where, f"its file {digest} is not there", "`ollama pull` it again")
        return
    short = name.removesuffix(f":{_LATEST}")
    model.add_alias(short, where)
    model.add_alias(name, where)
    for kind, blob in layers:
        _take_layer(model, store, kind, blob, where)


def _take_layer(model: Carried, store: OllamaStore, kind: str, blob: str, where: str) -> None:
    if kind == "projector":
        model.put(("args", "mmproj"), Raw(f"{store.folder}/blobs/{blob}"), where)
    elif kind == "adapter":
        model.put(("args", "lora"), Raw(f"{store.folder}/blobs/{blob}"), where)
    elif kind == "params":
        _take_params(model, _json(store.small.get(blob, b"")), where)
    elif said := _LAYERS.get(kind):
        model.remark(where, *said)


def _take_params(model: Carried, values: Mapping[str, Any], where: str) -> None:
    given = []
    for name, value in values.items():
        if name in _FLAGS and isinstance(value, int | float):
            given.append(Given(_FLAGS[name], f"{value:.6g}" if value < 1e6 else str(value), where))
        elif name == "stop":
            said = "its `PARAMETER stop` is not carried over"
            model.remark(where, said, "the file tells its own end; for more, clients send `stop`")
        else:
            model.remark(where, f"its `PARAMETER {name}` is not carried over")
    take_flags(given, model)


def _read_absent(imported: Imported, name: str) -> None:
    """One that is only named: from the hub if that is where it is from."""
    repo, quant = hub_reference(name)
    where = "ollama list"
    if repo != name and re.fullmatch(r"[\w.-]+/[\w.-]+", repo):
        reference = f"{repo}:{quant}" if quant else repo
        model = imported.add(name, where)
        take_flags([Given("hf-repo", reference, where)], model)
    else:
        hint = "give the folder where Ollama keeps its models (OLLAMA_MODELS) as the source"
        said = f"{name} is left out: its files were not found here"
        imported.left.append(Remark(where, said, hint))


def _manifest(store: OllamaStore, content: bytes) -> Mapping[str, Any]:
    """The manifest itself; of a list, the one for a runner that takes GGUF."""
    manifest = _json(content)
    if manifest.get("mediaType") != _LIST:
        return manifest
    children = [one for one in manifest.get("manifests", []) if isinstance(one, dict)]
    for runner in _RUNNERS:
        for child in children:
            if str(child.get("runner", "")).lower() == runner:
                blob = _blob(child.get("digest", ""))
                return _json(store.small.get(blob, b"")) if blob else child
    return {}


def _layers(manifest: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Kind and blob of each layer."""
    for one in manifest.get("layers") or ():
        kind = str(one.get("mediaType", "")).removeprefix(_TYPE)
        if blob := _blob(one.get("digest", "")):
            yield kind, blob


def _blob(digest: object) -> str:
    """The name of a blob's file; empty where that is no digest."""
    match = re.fullmatch(r"sha256[:-]([0-9a-fA-F]{64})", str(digest))
    return f"sha256-{match[1].lower()}" if match else ""


def _json(content: bytes) -> Mapping[str, Any]:
    try:
        values = json.loads(content)
    except ValueError:
        return {}
    return values if isinstance(values, dict) else {}
