"""What the reference shows as typed is typed, in one world: examples/02, in git.

In: docs/reference/watch.md, cli.md, plan-json.md and desired-state.md; a hub that has these models,
and moves one. Out: what each command printed, held against what the page shows; `TURNS` tell what
happened before it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from doc_pages import ROOT, Command, File, commands, steps
from engine_programs import llama_server
from hub_server import hub_server
from tiny_gguf import write_tiny_gguf

from e2e.doc_reader import Reader, Turn, missing
from e2e.test_examples import ON_THE_HUB

NAMES = ("watch.md", "cli.md", "plan-json.md", "desired-state.md")
PAGES = [ROOT / "docs" / "reference" / name for name in NAMES]
SMALL = ROOT / "examples" / "02-many-small-models" / "desired" / "small.yaml"
HELP = ROOT / "tests" / "data" / "engine-help" / "llama-server-b11434.txt"
MODELS_JSON = """{
  "models": {
    "glm-5": {
      "repo_id": "unsloth/GLM-5-GGUF",
      "quants": {"UD-IQ2_XXS": "241 GB"},
      "alias": "glm",
      "default_port": 8001,
      "params": {"temp": 1.0}
    },
    "qwen3.5": {
      "repo_id": "unsloth/Qwen3.5-397B-A17B-GGUF",
      "quants": {"MXFP4_MOE": "214 GB", "UD-Q4_K_XL": "214 GB", "UD-Q2_K_XL": "120 GB"}
    }
  }
}
"""
BEGIN = (
    File("llm/desired/small.yaml", SMALL.read_text(encoding="utf-8")),
    File("llm/models.json", MODELS_JSON),
    Command("cd llm"),
    Command(
        "git init -q -b main && git init -q --bare -b main ~/origin.git &&"
        " git remote add origin ~/origin.git && printf '%s\\n' logs models run > .gitignore"
    ),
    Command("llm-reconcile apply -y -q desired/small.yaml"),
    Command("git add . && git commit -qm 'Five small models' && git push -qu origin main"),
)
WRONG = """version: 1
engine: {kind: llama-server, command: ./next-llama-server}
defaults:
  params: {temp: .5, ctx_size: 4096}

models:
  coder:
    source: {repo: Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF}
    params: {top_k: 400, temprature: .7, draft_max: 8}
    args: {flash-attn: on, jinja: true, mlock: true}
    quant: Q8_0
  qwen:
    params: {c: 8192}
    args: {n-gpu-layers: max}
    env: {LLAMA_ARG_CTX_SIZE: 4096}
    source: {repo: unsloth/Qwen3-0.6B-GGUF}
    quant: Q4_K_M
"""
END = (
    Command("llm-reconcile down -y"),
    File("desired/small.yaml", WRONG),
    File("next-llama-server", f"#!/bin/sh\ncat {HELP}\n"),
    Command("chmod +x next-llama-server"),
    *steps(PAGES[-1]),
)
TURNS = {
    "llm-reconcile watch desired/small.yaml": Turn(
        "sed -i 's/temp: 0.1/temp: 0.2/' desired/small.yaml\n"
        "git commit -qam 'Warmer' && git push -q\n"
        # Its pid file may still name the server before.
        "( until grep -qs 'coder: ready' until.log && kill -SEGV $(head -n 1 run/coder.pid)\n"
        "  do sleep 0.05; done ) 2> /dev/null &",
        until="SIGSEGV.*coder: ready",
    ),
    "llm-reconcile health cod": Turn(code=1),
    "llm-reconcile plan desired/small.yaml --observed gpu1.json --detailed-exitcode": Turn(
        "llm-reconcile status --snapshot gpu1.json", code=2
    ),
    "llm-reconcile show next.plan": Turn(
        "llm-reconcile plan desired/small.yaml --out next.plan\nkill -9 $(head -n 1 run/coder.pid)"
    ),
    "llm-reconcile drift": Turn("echo '# by hand' >> $(find ~/s -name nginx.conf)"),
    "llm-reconcile apply -y desired/small.yaml": Turn(
        "llm-reconcile set coder params.ctx_size=8192\n"
        "llm-reconcile apply -y desired/small.yaml\n"
        "llm-reconcile set coder params.ctx_size=16384"
    ),
    "llm-reconcile metrics": Turn(is_loose=True),
    "llm-reconcile status": Turn('llm-reconcile stop llama --reason "not needed"'),
    'llm-reconcile stop llama --reason "not needed"': Turn("llm-reconcile start llama"),
    "llm-reconcile download thinker --parallelism 3": Turn(
        "cat >> desired/small.yaml <<'END'\n"
        "  thinker:\n"
        "    source: {repo: unsloth/GLM-4.5-Air-GGUF}\n"
        "    quant: Q4_K_M\n"
        "    state: present\n"
        "END",
        # So slow that there is something to be seen, as wide as the page.
        instead="stty cols 80; TERM=xterm llm-reconcile download thinker --parallelism 3"
        " --limit-rate 8M; code=$?; stty cols 400; (exit $code)",
    ),
    "llm-reconcile update qwen": Turn("touch ~/moved"),
    "llm-reconcile list": Turn("llm-reconcile set qwen state=present"),
    "llm-reconcile doctor": Turn(
        "rm desired/prod.yaml\n"
        "sed -i 's|  listen:|  nginx: /opt/nginx/sbin/nginx\\n&|' desired/small.yaml",
        code=3,
    ),
    "llm-reconcile validate --engine desired/small.yaml": Turn(code=1),
}


class Refs(dict[str, str]):
    """Branches of a repository; `main` moves once a file is there."""

    def __init__(self, main: str, later: str, moved: Path) -> None:
        super().__init__(main=main)
        self._later, self._moved = later, moved

    def get(self, name: str, default: Any = None, /) -> Any:
        has_moved = name == "main" and self._moved.exists()
        return self._later if has_moved else super().get(name, default)


@pytest.fixture
def hub(short_folder: Path, tiny_model: Path, tmp_path: Path) -> Iterator[str]:
    other = write_tiny_gguf(tmp_path / "other.gguf", seed=1, context=65536)
    with hub_server() as server:
        for name, file in ON_THE_HUB.items():
            repo = server.add(name, {file: tiny_model.read_bytes()})
            if name == "unsloth/Qwen3-0.6B-GGUF":
                first, later = repo.refs["main"], repo.commit({file: other.read_bytes()}, "later")
                repo.refs = Refs(first, later, short_folder / "moved")
        (tmp_path / "s").mkdir()
        write_tiny_gguf(tmp_path / "s" / "GLM-4.5-Air-Q4_K_M.gguf", per_shard=4, width=1024)
        files = {path.name: path.read_bytes() for path in sorted((tmp_path / "s").iterdir())}
        server.add("unsloth/GLM-4.5-Air-GGUF", files)
        yield server.endpoint


@pytest.fixture
def reader(short_folder: Path, hub: str) -> Iterator[Reader]:
    made = Reader(short_folder, hub)
    if engine := llama_server():
        (short_folder / "bin").mkdir()
        (short_folder / "bin" / "llama-server").symlink_to(engine)
    yield made
    assert made.end_all() == []


@pytest.mark.timeout(300)
def test_the_reference_shows_what_is_printed(reader: Reader) -> None:
    done = reader.read([*BEGIN, *(one for page in PAGES[:-1] for one in steps(page)), *END], TURNS)
    wrong = [
        (one.text, lost, said)
        for one, said in done
        if (lost := missing(one, said, is_loose=TURNS.get(one.text, Turn()).is_loose))
    ]
    assert wrong == []


def test_each_turn_is_one_of_these_pages() -> None:
    assert TURNS.keys() <= {one.text for page in PAGES for one in commands(page)}
