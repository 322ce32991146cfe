"""Reading the desired state: the contract's example, the bad files, several files, defaults."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from reconciler.core.desired import DesiredState, Engine, Gateway, Model, Probe, Source
from reconciler.core.parse import ParsedDesired, SourceText, parse_desired
from reconciler.core.words import EngineKind, ModelState, Rollout
from reconciler.errors import InvalidDesiredError

BAD = Path(__file__).parents[1] / "data" / "bad"

EXAMPLE = """\
# yaml-language-server: $schema=../schema/desired.schema.json
version: 1

engine:                       # which program serves a model
  kind: auto
  command: llama-server

store: models

gateway:
  listen: 127.0.0.1:8888      # status page, /v1, /api
  nginx: auto
  server_names: [llm.lan]

defaults:
  params: {ctx_size: 16384}

models:
  glm-5:
    source: {repo: unsloth/GLM-5-GGUF, revision: main}
    quant: UD-IQ2_XXS
    quants: {UD-IQ2_XXS: 241GB, UD-TQ1_0: 176GB}
    aliases: [glm]
    port: 8001
    state: running
    params: {temp: 1.0, top_p: 0.95, ctx_size: 32768}
    args: {n-gpu-layers: 99, flash-attn: on}
    env: {CUDA_VISIBLE_DEVICES: "0,1"}
    replicas: 1
    rollout: recreate
    protect: false
    probe: {startup: auto, liveness: 10s}
    drain: 5m
    grace: 30s
  tiny:
    source: {path: weights/x.gguf}
"""


def parse(*texts: str) -> ParsedDesired:
    names = "abcdefgh"
    return parse_desired(
        [SourceText(f"{n}.yaml", text.encode()) for n, text in zip(names, texts, strict=False)]
    )


def errors(*texts: str) -> list[str]:
    with pytest.raises(InvalidDesiredError) as caught:
        parse(*texts)
    return str(caught.value).split("\n")


def models(text: str, head: str = "") -> dict[str, Model]:
    return parse(f"version: 1\n{head}\nmodels:\n{text}").desired.models


def test_the_example_of_the_contract() -> None:
    parsed = parse(EXAMPLE)
    assert parsed.warnings == ()
    assert parsed.desired == DesiredState(
        version=1,
        engine=Engine(kind=EngineKind.AUTO, command="llama-server"),
        store="models",
        gateway=Gateway(listen="127.0.0.1:8888", nginx="auto", server_names=("llm.lan",)),
        models={
            "glm-5": Model(
                source=Source(repo="unsloth/GLM-5-GGUF", revision="main"),
                quant="UD-IQ2_XXS",
                quants={"UD-IQ2_XXS": 241_000_000_000, "UD-TQ1_0": 176_000_000_000},
                aliases=("glm",),
                port=8001,
                state=ModelState.RUNNING,
                params={"temp": "1.0", "top_p": "0.95", "ctx_size": "32768"},
                args={"n-gpu-layers": "99", "flash-attn": "on"},
                env={"CUDA_VISIBLE_DEVICES": "0,1"},
                replicas=1,
                rollout=Rollout.RECREATE,
                protect=False,
                probe=Probe(startup=None, liveness=10.0),
                drain=300.0,
                grace=30.0,
            ),
            "tiny": Model(source=Source(path="weights/x.gguf"), params={"ctx_size": "16384"}),
        },
    )


@pytest.mark.parametrize("path", sorted(BAD.glob("*.yaml")), ids=lambda path: path.stem)
def test_bad_files(path: Path) -> None:
    with pytest.raises(InvalidDesiredError) as caught:
        parse_desired([SourceText(path.name, path.read_bytes())])
    assert f"{caught.value}\n" == path.with_suffix(".txt").read_text()
    assert re.match(rf"{re.escape(path.name)}:\d+:\d+: ", str(caught.value))
    assert "sk-secret" not in str(caught.value)
    for word in ("pydantic", "Input should", "Value error", "validation", "type="):
        assert word not in str(caught.value)


def test_there_are_enough_bad_files() -> None:
    assert len(list(BAD.glob("*.yaml"))) >= 60
    assert {f.stem for f in BAD.glob("*.yaml")} == {f.stem for f in BAD.glob("*.txt")}


def test_flags_and_variables_stay_as_written() -> None:
    model = models(
        "  a:\n    source: {path: /x.gguf}\n"
        "    params: {a1: 1.0, b: 1e-1, c: 0x1F, d: 007, e: true, f: False, g: 'true', h1: on}\n"
        "    args: {--lora: [a.gguf, 1.50, true], x: '', mmap: false, y: \"1\"}\n"
        "    env: {A: 1.0, B: true, C: 'null', D: '', E: |\n      x\n    }\n".replace(
            "|\n      x\n    ", '"x\\ny"'
        )
    )["a"]
    assert model.params == {
        "a1": "1.0",
        "b": "1e-1",
        "c": "0x1F",
        "d": "007",
        "e": True,
        "f": False,
        "g": "true",
        "h1": "on",
    }
    assert model.args == {"--lora": ("a.gguf", "1.50", "true"), "x": "", "mmap": False, "y": "1"}
    assert model.env == {"A": "1.0", "B": "true", "C": "null", "D": "", "E": "x\ny"}


def test_other_values() -> None:
    model = models(
        "  a:\n    source: {path: w/../x.gguf, sha256: " + "AB" * 32 + "}\n"
        "    quants: {Q4: 4.9 GiB, Q5: 12}\n    port:\n    state: absent\n    replicas: 0x2\n"
        "    rollout: surge\n    probe: {startup: 1h30m, liveness: 2.5}\n    drain: 0\n"
        "    aliases: ['org/name:q4', 'ü[1]']\n"
    )["a"]
    assert model.source == Source(path="w/../x.gguf", sha256="ab" * 32)
    assert model.quants == {"Q4": round(4.9 * 2**30), "Q5": 12}
    assert (model.port, model.state, model.replicas) == (None, ModelState.ABSENT, 2)
    assert (model.rollout, model.drain) == (Rollout.SURGE, 0.0)
    assert model.probe == Probe(startup=5400.0, liveness=2.5)
    assert model.aliases == ("org/name:q4", "ü[1]")


@pytest.mark.parametrize(
    ("gateway", "meant"),
    [
        ("", Gateway()),
        ("gateway:", Gateway()),
        ("gateway: true", Gateway()),
        ("gateway: {}", Gateway()),
        ("gateway: FALSE", None),
        ("gateway: {keys_file: , tls: ~}", Gateway()),
        (
            "gateway: {listen: 80, nginx: /usr/sbin/nginx}",
            Gateway(listen="127.0.0.1:80", nginx="/usr/sbin/nginx"),
        ),
        ('gateway: {listen: "[::1]:80"}', Gateway(listen="[::1]:80")),
    ],
)
def test_gateway(gateway: str, meant: Gateway | None) -> None:
    assert parse(f"version: 1\nmodels: {{}}\n{gateway}\n").desired.gateway == meant


def test_without_a_gateway_only_what_runs_needs_a_port() -> None:
    found = models(
        "  a: {source: {path: x}, state: present}\n  b: {source: {path: x}, replicas: 0}\n"
        "  c: {source: {path: x}, port: 8888}\n",
        "gateway: false",
    )
    assert [model.port for model in found.values()] == [None, None, 8888]


def test_defaults_are_merged_below_each_model() -> None:
    found = models(
        "  a:\n    source: {path: a.gguf}\n    params: {temp: 2}\n    env: {B: b}\n"
        "    probe: {liveness: 3s}\n    aliases: [a1]\n"
        "  b:\n    args: {ctx-size: 7}\n    quants: {}\n"
        "  c:\n    args: {}\n    port:\n",
        "defaults:\n  source: {path: d.gguf}\n  params: {temp: 1, ctx_size: 9}\n"
        "  args: {--top-p: 0.5}\n  env: {A: a, B: x}\n  probe: {startup: 20s, liveness: 9s}\n"
        "  quants: {Q4: 1}\n  state: present\n  drain: 1m",
    )
    a, b, c = found.values()
    assert (a.source.path, b.source.path) == ("a.gguf", "d.gguf")
    assert a.params == {"temp": "2", "ctx_size": "9"}
    assert a.args == c.args == {"--top-p": "0.5"}
    assert a.env == {"A": "a", "B": "b"}
    assert a.probe == Probe(startup=20.0, liveness=3.0)
    assert {model.state for model in found.values()} == {ModelState.PRESENT}
    assert (a.drain, a.aliases, a.quants) == (60.0, ("a1",), {"Q4": 1})
    # The same flag, spelled otherwise and in the other place, is still the model's own.
    assert b.params == {"temp": "1"}
    assert b.args == {"--top-p": "0.5", "ctx-size": "7"}
    assert b.quants == {}


def test_a_model_mends_what_defaults_leave_out_but_not_what_they_get_wrong() -> None:
    assert models("  a: {quant: Q4}\n", "defaults: {source: {repo: a/b}}")["a"].quant == "Q4"
    found = errors(
        "version: 1\ndefaults: {port: x, params: 3}\n"
        "models: {a: {source: {path: x}, port: 1, params: {temp: 1}}}\n"
    )
    assert found == [
        'a.yaml:2:18: `port`: expected a whole number, found the text "x"',
        "a.yaml:2:29: `params`: expected a mapping, found the number 3",
        "  write {FLAG: VALUE}, like {ctx_size: 8192}",
    ]


def test_marks() -> None:
    parsed = parse(EXAMPLE)
    marks = parsed.marks
    glm = EXAMPLE.split("\n").index("  glm-5:") + 1
    assert str(marks["models", "glm-5"]) == f"a.yaml:{glm}:3"
    assert str(marks["models", "glm-5", "port"]) == f"a.yaml:{glm + 5}:11"
    assert str(marks["models", "glm-5", "aliases"]) == f"a.yaml:{glm + 4}:5"
    assert str(marks["models", "glm-5", "aliases", 0]) == f"a.yaml:{glm + 4}:15"
    assert str(marks["models", "tiny", "params", "ctx_size"]) == "a.yaml:16:22"
    assert str(marks["gateway", "listen"]) == "a.yaml:11:11"
    assert str(marks[()]) == "a.yaml:2:1"
    for path in (("nope",), ("models", 0), ("models", "glm-5", "aliases", 1), ("store", "x")):
        assert path not in marks
    assert len(marks) == len(list(marks)) == len(set(marks))
    assert all(marks[path].file == "a.yaml" for path in marks)
    assert parsed.mark("models", "glm-5", "drain", "x") == marks["models", "glm-5", "drain"]
    assert parsed.mark("models", "tiny", "port") == marks["models", "tiny"]
    assert parsed.mark("models", "gone") == marks["models",]
    assert parsed.mark() == marks[()]


def test_a_quant_outside_the_catalogue_is_a_warning() -> None:
    parsed = parse("version: 1\nmodels: {a: {source: {path: x}, quant: Q8, quants: {Q4: 1GB}}}\n")
    assert [str(w) for w in parsed.warnings] == [
        "a.yaml:2:40: the quant `Q8` is not among the `quants`"
    ]


def test_several_files_are_merged_by_model_name() -> None:
    parsed = parse(
        "version: 1\nmodels: {b: {source: {path: b}}}\n",
        "version: 1\ndefaults: {port: 1}\nmodels: {a: {source: {path: a}, port: 2}}\n",
        "version: 1\nstore: x\n",
    )
    assert list(parsed.desired.models) == ["a", "b"]
    assert [model.port for model in parsed.desired.models.values()] == [2, 1]
    assert parsed.desired.store == "x"
    assert parsed.mark("models", "a").file == "b.yaml"
    assert str(parsed.mark("models", "b", "port")) == "b.yaml:2:18"


def test_what_stands_in_two_files() -> None:
    assert errors(
        "version: 1\nstore: x\nmodels:\n  m: {source: {path: b}}\n",
        "version: 1\nstore: x\nmodels:\n  n: {source: {path: b}}\n  m: {source: {path: b}}\n",
        "version: 1\nstroe: x\nmodels:\n",
    ) == [
        "b.yaml:2:1: `store` stands in two files; first at a.yaml:2:1",
        "b.yaml:5:3: the model `m` stands in two files; first at a.yaml:4:3",
        "c.yaml:2:1: unknown key `stroe`; did you mean `store`?",
        "c.yaml:3:8: `models`: expected a mapping of models, found nothing",
        "  write `models: {}` if nothing should run",
    ]


def test_models_of_the_second_file_are_read_though_the_first_has_none() -> None:
    found = errors("version: 1\nmodels: 3\n", "version: 1\nmodels: {a: {prt: 1}}\n")
    assert [line.split(":")[0] for line in found if line[0] != " "] == [
        "a.yaml",
        "b.yaml",
        "b.yaml",
    ]


def test_each_file_has_to_be_readable() -> None:
    assert errors(
        "version: 1\nmodels: {}\n", "", "models: {}\n", "version: [\n", "version: 3\n"
    ) == [
        "b.yaml:1:1: the file is empty",
        "  the least it can say is `version: 1` and `models: {}`",
        "c.yaml:1:1: the required key `version` is missing",
        "  write `version: 1` on the first line",
        "d.yaml:2:1: YAML syntax: did not find expected node content while parsing a flow node",
        "e.yaml:1:10: version 3 is not known here, only 1",
        "  a newer llm-reconcile may read it",
    ]


def test_no_models_anywhere() -> None:
    assert errors("version: 1\n", "version: 1\n")[0] == (
        "a.yaml:1:1: the required key `models` is missing"
    )
    assert errors("version: 1\n<<: 1\n")[0].startswith("a.yaml:2:1: merge keys")


def test_no_files() -> None:
    assert errors() == ["there is no desired file (*.yaml) here"]
