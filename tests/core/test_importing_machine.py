"""Ollama's models and running servers as a desired file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from reconciler.core.importing.carried import Imported
from reconciler.core.importing.ollama import OllamaStore, listed_names, read_ollama
from reconciler.core.importing.processes import SeenServer, read_processes
from reconciler.core.importing.settle import settled
from reconciler.core.parse import SourceText, parse_desired

LIST = "application/vnd.ollama.manifest.list.v2+json"
HEX = {name: hashlib.sha256(name.encode()).hexdigest() for name in ("w", "p", "v", "child", "gone")}


def layer(kind: str, name: str) -> dict[str, object]:
    digest = f"sha256:{HEX[name]}"
    return {"mediaType": f"application/vnd.ollama.image.{kind}", "digest": digest, "size": 1}


def blob(name: str) -> str:
    return f"sha256-{HEX[name]}"


def store(manifests: Mapping[str, object], **small: object) -> OllamaStore:
    texts = {path: json.dumps(one).encode() for path, one in manifests.items()}
    contents = {blob(name): json.dumps(one).encode() for name, one in small.items()}
    return OllamaStore("/o/models", texts, contents, {blob("w"), blob("v"), *contents})


def made(imported: Imported) -> Mapping[str, Any]:
    return parse_desired([SourceText("made.yaml", settled(imported).encode())]).desired.models


def said(imported: Imported) -> str:
    return "\n".join(str(one) for one in imported.all_remarks())


def test_ollamas_files_are_used_where_they_lie() -> None:
    """Layout of manifest/ in Ollama's source: names, layers, parameters of a Modelfile."""
    layers = [layer("model", "w"), layer("projector", "v"), layer("params", "p")]
    layers += [layer("system", "gone"), layer("license", "gone"), layer("adapter", "v")]
    own = {"temperature": 0.6, "num_ctx": 8192, "stop": ["<|eot|>"], "low_vram": True}
    library = "manifests/registry.ollama.ai/library"
    weights = [layer("model", "w")]
    found = store(
        {
            f"{library}/llava/latest": {"layers": [*layers, {"digest": 4}]},
            "manifests/registry.ollama.ai/ann/mario/1b": {"layers": weights},
            "manifests/hf.co/org/x-GGUF/Q4_K_M": {"layers": weights},
            f"{library}/gone/1b": {"layers": [layer("model", "gone")]},
            f"{library}/tensors/1b": {"layers": [layer("tensor", "w")]},
            f"{library}/odd/1b": "no manifest",
            "manifests/too/short": {},
        },
        p=own,
    )
    torn = {f"{library}/torn/1b": b"{"}
    imported = read_ollama(replace(found, manifests={**found.manifests, **torn}))
    models = made(imported)
    assert sorted(models) == ["llava", "mario-1b", "x-Q4_K_M"]
    llava = models["llava"]
    assert llava.source.path == f"/o/models/blobs/{blob('w')}"
    assert llava.source.sha256 == HEX["w"]
    assert llava.aliases == ("llava:latest",)
    assert llava.params == {"temp": "0.6", "ctx_size": "8192"}
    file = f"/o/models/blobs/{blob('v')}"
    assert llava.args == {"mmproj": file, "lora": file}
    assert models["mario-1b"].aliases == ("ann/mario:1b",)
    assert models["x-Q4_K_M"].aliases == ("hf.co/org/x-GGUF:Q4_K_M",)
    for text in (
        "`PARAMETER stop` is not",
        "`PARAMETER low_vram` is not",
        "`SYSTEM` is not",
        f"gone:1b is left out: its file {blob('gone')} is not there",
        "tensors:1b is left out: it has no GGUF file",
        "odd:1b is left out",
        "torn:1b is left out",
    ):
        assert text in said(imported)


def test_of_a_list_of_manifests_the_one_for_gguf_counts() -> None:
    """`manifests-v2` wins; a child may be named by its digest only."""
    name = "registry.ollama.ai/library/x/1b"
    other = {"runner": "mlx", "layers": [layer("tensor", "v")]}
    reference = {"runner": "llamacpp", "digest": f"sha256:{HEX['child']}"}
    child = {"layers": [layer("model", "w")]}
    old = {"layers": [layer("model", "gone")]}
    for children in ([other, reference], [other, {"runner": "ollama", **child}]):
        listed = {"mediaType": LIST, "manifests": children}
        found = store({f"manifests/{name}": old, f"manifests-v2/{name}": listed}, child=child)
        assert made(read_ollama(found))["x-1b"].source.sha256 == HEX["w"]
    found = store({f"manifests/{name}": {"mediaType": LIST, "manifests": [other]}})
    assert made(read_ollama(found)) == {}


def test_a_list_of_names() -> None:
    """What `ollama list` prints; what is not here comes from the hub, if it did before."""
    text = "NAME ID SIZE MODIFIED\nx:1b a80c 2.0 GB now\n\nhf.co/o/r:Q8_0 b 1 GB now\n"
    text += "hf.co/o/q b 1 GB now\nmissing:7b c 4 GB now\n"
    found = store({"manifests/registry.ollama.ai/library/x/1b": {"layers": [layer("model", "w")]}})
    imported = read_ollama(found, listed_names(text))
    models = made(imported)
    assert sorted(models) == ["q", "r-Q8_0", "x-1b"]
    assert (models["r-Q8_0"].source.repo, models["r-Q8_0"].quant) == ("o/r", "Q8_0")
    assert models["q"].quant == "Q4_K_M"
    assert "missing:7b is left out: its files were not found here" in said(imported)


def server(pid: int, *words: str, folder: str = "/srv", **environment: str) -> SeenServer:
    return SeenServer(pid, words, folder, environment)


def test_running_servers() -> None:
    program = "/opt/llama-server"
    words = (program, "-m", "w/big-00001-of-00003.gguf", "--api-key", "hunter2", "-mm", "p.gguf")
    variables = {"CUDA_VISIBLE_DEVICES": "1", "LLAMA_ARG_CTX_SIZE": "512", "LLAMA_ARG_PORT": "81"}
    variables |= {"LLAMA_API_KEY": "hunter2", "HOME": "/home/ann", "HF_TOKEN": "hunter2"}
    imported = read_processes(
        [
            server(7, *words, **variables),
            server(8, program, "-hf", "org/name-GGUF:Q8_0", "--alias", "n,other"),
            server(9, "llama-server", "-hf", "org/name-GGUF", folder="", X="1"),
            server(1, program, "-m", "/x.gguf", LLM_RECONCILE_ROOT="/root/of"),
            server(2, program, "-m", "/x.gguf", LLAMA_SERVER_ROUTER_PORT="1"),
            server(3, program, "--models-preset", "x.ini"),
            server(4, program),
            server(5, program, "-mu", "https://host/x.gguf", "--lora", "a", "--lora", "b"),
        ]
    )
    models = made(imported)
    assert sorted(models) == ["big", "n", "name"]
    big = models["big"]
    assert (big.source.path, big.port) == ("/srv/w/big-00001-of-00003.gguf", 81)
    assert big.args == {"mmproj": "/srv/p.gguf"}
    assert big.env == {"CUDA_VISIBLE_DEVICES": "1", "LLAMA_ARG_CTX_SIZE": "512"}
    assert (models["n"].port, models["n"].aliases) == (8080, ("other",))
    text = settled(imported)
    assert f"engine: {{command: {program}}}" in text
    assert "hunter" not in text
    for part in (
        "pid 1: it is left out: llm-reconcile runs it, for /root/of",
        "pid 2: it is left out: a router started it",
        "pid 3: it is left out: it is a router",
        "pid 4: it is left out: it is a router",
        "model is left out: nothing says where its file is",
        "pid 8: its environment cannot be seen",
        "pid 9: its program is llama-server; here it is served by /opt/llama-server",
        "pid 9: `port` is not carried over: port 8080 is used twice",
    ):
        assert part in said(imported)
    assert read_processes([]).all_remarks() == []
    near = read_processes([server(1, "./llama-server", "-m", "x.gguf")])
    assert "engine" not in settled(near)
