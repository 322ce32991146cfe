"""What holds for every desired file: order and comments change nothing, no bytes do harm."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from reconciler.core import yaml12
from reconciler.core.desired import DesiredState
from reconciler.core.parse import SourceText, parse_desired
from reconciler.errors import Diagnostic, InvalidDesiredError

GOOD = """\
version: 1
engine: {kind: auto, command: llama-server}   # which program
store: "models"
gateway:
  listen: 127.0.0.1:8888
  server_names: [llm.lan]
defaults: &d
  params: {ctx_size: 16384}
  env: {A: 'x'}
models:
  glm-5:
    source: {repo: unsloth/GLM-5-GGUF, revision: main}
    quant: UD-IQ2_XXS
    quants: {UD-IQ2_XXS: 241GB}
    aliases: [glm, &a glm/5]
    port: 8001
    params: {temp: 1.0, ctx_size: 32768}
    args: {n-gpu-layers: 99, lora: [a, b]}
    probe: {startup: auto, liveness: 10s}
  tiny:
    source: {path: weights/x.gguf}
    args: {chat: *a}
    drain: 5m
"""


def parse(text: str) -> DesiredState:
    return parse_desired([SourceText("x.yaml", text.encode())]).desired


Tree = dict[str, "Tree | str"]

TREE: Tree = {
    "version": "1",
    "store": "models",
    "gateway": {"listen": "127.0.0.1:9999", "server_names": "[a.lan, b.lan]"},
    "defaults": {"params": {"temp": "1.0", "ctx-size": "1"}, "env": {"A": "x", "B": "y"}},
    "models": {
        "one": {"source": {"path": "a.gguf"}, "params": {"ctx_size": "2", "top_p": "0.1"}},
        "two": {"source": {"repo": "a/b", "revision": "v1"}, "quant": "Q4", "port": "8001"},
        "three": {"source": {"path": "c.gguf"}, "probe": {"startup": "1m", "liveness": "5s"}},
    },
}
COMMENTS = st.sampled_from(["", "  # because", "\n# port: 9", "\n", "   "])


def emit(tree: Tree, draw: st.DrawFn, indent: str = "") -> str:
    lines = []
    for key in draw(st.permutations(list(tree))):
        value = tree[key]
        lines.append(f"{indent}{key}:")
        lines[-1] += f" {value}" if isinstance(value, str) else ""
        lines[-1] += draw(COMMENTS) + "\n"
        if not isinstance(value, str):
            lines.append(emit(value, draw, indent + draw(st.sampled_from([" ", "  ", "    "]))))
    return "".join(lines)


@st.composite
def written(draw: st.DrawFn) -> str:
    return emit(TREE, draw)


@given(written())
@settings(deadline=None)
def test_order_and_comments_change_nothing(text: str) -> None:
    first = parse(emit_plain(TREE))
    assert parse(text).model_dump_json() == first.model_dump_json()


def emit_plain(tree: Tree, indent: str = "") -> str:
    return "".join(
        f"{indent}{key}: {value}\n"
        if isinstance(value, str)
        else f"{indent}{key}:\n{emit_plain(value, indent + '  ')}"
        for key, value in tree.items()
    )


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A good file with pieces cut out, doubled, or replaced by what YAML finds special."""
    text = GOOD
    special = st.text("abc019.:-?{}[],&*!|>'\"#%@`~<=\\/ \t\r\n\0\ufeff\x85éü", max_size=6)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        end = draw(st.integers(start, min(len(text), start + 30)))
        text = text[:start] + draw(special | st.just(text[start:end] * 2)) + text[end:]
    return text.encode()


def complaints(content: bytes) -> tuple[Diagnostic, ...]:
    try:
        parse_desired([SourceText("x.yaml", content)])
    except InvalidDesiredError as error:
        return error.diagnostics
    return ()


@pytest.mark.parametrize("loader", ["CSafeLoader", "SafeLoader"])
@given(content=st.binary(max_size=60) | damaged())
@example(content=b'version: 1\nmodels: {"\\ud800": 1}')
@example(content=b"version: 1\nmodels: {a: {source: {path: x}, drain: " + b"9" * 400 + b"}}")
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_bytes_are_read_or_refused(
    loader: str, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(yaml12, "_LOADER", getattr(yaml, loader))
    lines = content.count(b"\n") + content.count(b"\r") + 2
    for diagnostic in complaints(content):
        assert diagnostic.position is not None
        assert 1 <= diagnostic.position.line <= lines
        assert diagnostic.position.column >= 1
        str(diagnostic).encode()
