"""The JSON Schema: it is the one that is committed, takes what the parser takes, and says why."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
from pydantic import BaseModel

from reconciler.core.desired import DesiredState, Engine, Gateway, Model, Probe, Source, Tls
from reconciler.core.parse import SourceText, parse_desired
from reconciler.core.schema import desired_schema
from reconciler.core.validate import plain
from reconciler.core.yaml12 import read_yaml

ROOT = Path(__file__).parents[2]
SCHEMA = desired_schema()
GOOD = sorted([*ROOT.glob("desired/*.yaml"), *ROOT.glob("examples/*/desired/*.yaml")])
WIDE = """
version: 1
gateway: false
defaults: {source: {revision: v1}, params: {temp: 0.5, no-mmap: true}, env: {A: 1, B: true}}
models:
  a:
    source: {path: a.gguf, sha256: AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA}
    port: 0x1F41
    args: {lora: [a, 1], flash-attn: on}
    probe: {startup: auto, liveness: 1h30m}
    drain: 90
    grace: 1.5s
    quants: {Q4: 4.9GiB, Q8: 100}
  b:
    source:
      url: https://example.org/b.gguf
      sha256: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
    port: 8002
"""
REFUSED = (
    "aliases-text",
    "engine-kind",
    "env-list",
    "gateway-listen-bool",
    "gateway-unknown-key",
    "models-list",
    "no-models",
    "no-version",
    "param-mapping",
    "port-high",
    "port-text",
    "quants-size",
    "replicas-negative",
    "state-unknown",
    "unknown-model-key",
    "unknown-probe-key",
    "unknown-source-key",
    "unknown-top-key",
    "version-2",
)


def values(text: str) -> object:
    document = read_yaml("x.yaml", text.encode())
    assert document.root is not None
    return json.loads(json.dumps(plain(document.root)))


def errors(text: str) -> list[str]:
    validator = jsonschema.Draft202012Validator(SCHEMA)
    return [one.message for one in validator.iter_errors(values(text))]


def test_it_is_a_schema_and_the_committed_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    committed = ROOT / "schema" / "desired.schema.json"
    assert json.loads(committed.read_text(encoding="utf-8")) == SCHEMA, (
        "llm-reconcile schema > schema/desired.schema.json"
    )


@pytest.mark.parametrize("path", GOOD, ids=lambda path: path.stem)
def test_it_takes_our_own_files(path: Path) -> None:
    assert errors(path.read_text(encoding="utf-8")) == []


def test_it_takes_what_the_parser_takes() -> None:
    parse_desired((SourceText("x.yaml", WIDE.encode()),))
    assert errors(WIDE) == []


@pytest.mark.parametrize("name", REFUSED)
def test_it_refuses_what_an_editor_can_see(name: str) -> None:
    text = (ROOT / "tests" / "data" / "bad" / f"{name}.yaml").read_text(encoding="utf-8")
    assert errors(text)


def test_every_field_is_described_in_full() -> None:
    parts = (Engine, Gateway, Model, Probe, Source, Tls)
    kinds: dict[str, type[BaseModel]] = {"": DesiredState, **{one.__name__: one for one in parts}}
    for name, kind in kinds.items():
        place = SCHEMA["$defs"][name] if name else SCHEMA
        missing = {"defaults"} if not name else set()
        assert set(place["properties"]) - missing == set(kind.model_fields)
        for field, each in place["properties"].items():
            assert each["description"].endswith((".", "`.", "1.")), f"{name}.{field}"
    said = SCHEMA["$defs"]["Model"]["properties"]["quant"]["description"]
    assert said.endswith("required with `repo`. A change restarts the server.")


def test_it_speaks_no_pydantic() -> None:
    text = json.dumps(SCHEMA["$defs"])
    assert '"effect"' not in text
    assert '"title"' not in text
