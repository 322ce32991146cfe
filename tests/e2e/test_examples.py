"""Each example does what its README says: the commands are read from there and run as they stand.

In: examples/ (a copy, on free ports), a hub on this machine that has the tiny model under the
names that the examples ask for. Out: what each command printed. Nothing is rewritten but ports.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest
from engine_programs import EngineProgram, real_engines
from hub_server import hub_server
from prometheus_text import read_page
from tiny_gguf import write_tiny_gguf
from waiting import eventually

from e2e import machine
from e2e.lab import COMMAND, MEASURED
from e2e.prometheus import SERVED, check_page, expressions, prometheus
from reconciler.core.engine import model_flags
from reconciler.core.engine_flags import check_flags
from reconciler.core.parse import SourceText, parse_desired
from reconciler.drivers.desired_files import read_sources
from reconciler.drivers.engines import EngineFinder

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = sorted(path.name for path in EXAMPLES.iterdir() if path.is_dir())
ON_THE_HUB = {
    "unsloth/Qwen3-0.6B-GGUF": "Qwen3-0.6B-Q4_K_M.gguf",
    "ggml-org/gemma-3-1b-it-GGUF": "gemma-3-1b-it-Q4_K_M.gguf",
    "bartowski/Llama-3.2-1B-Instruct-GGUF": "Llama-3.2-1B-Instruct-Q4_K_M.gguf",
    "Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF": "qwen2.5-coder-0.5b-instruct-q8_0.gguf",
    "ggml-org/embeddinggemma-300M-GGUF": "embeddinggemma-300M-Q8_0.gguf",
}
"""What the repositories call these files."""
IN_SHARDS = {"ggml-org/gpt-oss-120b-GGUF": "gpt-oss-120b-mxfp4.gguf"}
_BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PORT = re.compile(r"(?:port: |listen: 127\.0\.0\.1:)([0-9]+)")


def commands(name: str) -> list[str]:
    """The lines of the README's one block of commands."""
    blocks = _BLOCK.findall((EXAMPLES / name / "README.md").read_text(encoding="utf-8"))
    assert len(blocks) == 1, f"{name}/README.md has {len(blocks)} blocks of commands"
    return [line for line in blocks[0].splitlines() if line]


def desired_file(folder: Path) -> Path:
    return next((folder / "desired").glob("*.yaml"))


GPU_ONLY = "engine:|  kind:|      n-gpu-layers:|      split-mode:|      tensor-split:|    env:"


def on_any_machine(text: str) -> str:
    """Without what needs GPUs, and with the engine that is here."""
    return re.sub(rf"^(?:{GPU_ONLY}).*\n", "", text, flags=re.MULTILINE)


@dataclass
class Trial:
    """One example in a copy of its own."""

    base: Path
    name: str
    endpoint: str
    ports: dict[str, str] = field(default_factory=dict)
    """The ports that the example names, and the free ones in their place."""

    def __post_init__(self) -> None:
        not_ours = shutil.ignore_patterns("models", "run", "logs", "secrets", "tls")
        shutil.copytree(EXAMPLES, self.base / "examples", ignore=not_ours)
        # The quickstart makes its tiny model by the tests' recipe.
        (self.base / "tests").symlink_to(EXAMPLES.parent / "tests")
        self.edit(lambda text: self._moved(_PORT.sub(self._free, text)))
        if (self.folder / "prometheus.yml").exists():
            self.edit(self._moved, "prometheus.yml")

    def _free(self, match: re.Match[str]) -> str:
        self.ports.setdefault(match[1], str(machine.free_port()))
        return match[0]

    def _moved(self, text: str) -> str:
        return re.sub(r"\b[0-9]{4}\b", lambda match: self.ports.get(match[0], match[0]), text)

    @property
    def folder(self) -> Path:
        return self.base / "examples" / self.name

    def edit(self, change: Callable[[str], str], name: str = "") -> None:
        """Change a file of the example, the desired one if none is named."""
        file = self.folder / name if name else desired_file(self.folder)
        file.write_text(change(file.read_text(encoding="utf-8")), encoding="utf-8")

    @property
    def environment(self) -> dict[str, str]:
        measured = {name: os.environ[name] for name in MEASURED if name in os.environ}
        state, cache = str(self.base / "s"), str(self.base / "c")
        return {
            **measured,
            "PATH": f"{self.base}/bin:{COMMAND.parent}:{os.environ['PATH']}",
            "HOME": str(self.base),
            "XDG_STATE_HOME": state,
            "XDG_CACHE_HOME": cache,
            "HF_ENDPOINT": self.endpoint,
            "LANG": "C.UTF-8",
        }

    def run(self, line: str) -> str:
        """Run one line of the README; what it printed."""
        done = subprocess.run(
            ["bash", "-c", self._moved(line)],
            check=False,
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, f"{line}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def run_all(self, lines: Iterable[str]) -> dict[str, str]:
        """Run lines; what each printed, by its words up to a comment."""
        return {line.partition("  #")[0].rstrip(): self.run(line) for line in lines}

    def run_readme(self) -> dict[str, str]:
        return self.run_all(commands(self.name))

    def close(self) -> None:
        """End what a line that failed has left running."""
        subprocess.run(
            [str(COMMAND), "down", "-y", "-q", "--allow-protected", "gpt-oss-120b"],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            check=True,
        )
        assert machine.labelled(self.folder) == {}


@pytest.fixture(scope="session")
def hub(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The endpoint of a hub that has all that the examples ask for."""
    folder = tmp_path_factory.mktemp("shards")
    with hub_server() as server:
        for repo, file in ON_THE_HUB.items():
            server.add(repo, {file: tiny_model.read_bytes(), "README.md": b"tiny"})
        for repo, file in IN_SHARDS.items():
            write_tiny_gguf(folder / file, per_shard=4, context=65536)
            server.add(repo, {path.name: path.read_bytes() for path in sorted(folder.iterdir())})
        yield server.endpoint


Try = Callable[[str], Trial]


@pytest.fixture
def attempt(short_folder: Path, hub: str) -> Iterator[Try]:
    """A copy of an example, and its end."""
    trials: list[Trial] = []

    def make(name: str) -> Trial:
        trials.append(Trial(short_folder, name, hub))
        return trials[0]

    yield make
    for trial in trials:
        trial.close()


@pytest.mark.parametrize("name", NAMES)
def test_is_small_and_valid(name: str) -> None:
    assert re.match(r"[0-9]{2}-[a-z]", name)
    readme = (EXAMPLES / name / "README.md").read_text(encoding="utf-8")
    assert len(readme.splitlines()) <= 20
    file = desired_file(EXAMPLES / name)
    assert any(f"desired/{file.name}" in line for line in commands(name))
    assert parse_desired(read_sources(file, EXAMPLES / name)).warnings == ()
    tests = [path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_*.py")]
    wanted = (f'attempt("{name}")', f'/ "examples" / "{name}"')
    assert any(one in text for text in tests for one in wanted), "no test runs it"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("program", real_engines(), ids=str)
def test_engine_knows_all_flags(name: str, program: EngineProgram, tmp_path: Path) -> None:
    """A flag that a newer engine dropped must not live on in an example."""
    file = desired_file(EXAMPLES / name)
    text = file.read_bytes()
    if program.name == "embedded":
        text = on_any_machine(text.decode()).encode()
    desired = parse_desired([SourceText(file.name, text)]).desired
    engine = EngineFinder(tmp_path, EXAMPLES).find(program.name, program.command[0])
    assert engine.flags, engine.reason
    for model in desired.models.values():
        assert check_flags(model_flags(model), engine) == ()


def test_quickstart(attempt: Try) -> None:
    trial = attempt("01-quickstart")
    models = trial.folder / "models"
    models.mkdir()
    # What is there is not downloaded again: the tiny model stands for the one of 98 MB.
    write_tiny_gguf(models / "SmolLM2-135M-Instruct.Q4_1.gguf")
    said = trial.run_readme()
    assert (models / "tiny.gguf").is_file()
    assert said["llm-reconcile status"].count("  ready  ") == 2
    assert "2 to remove" in said["llm-reconcile down -y"]


def test_many_small_models(attempt: Try) -> None:
    said = attempt("02-many-small-models").run_readme()
    assert "Plan: 5 to add" in said["llm-reconcile plan desired/small.yaml"]
    vector = next(text for line, text in said.items() if line.startswith("python embed.py"))
    assert vector.startswith("32 numbers: [")
    assert said["llm-reconcile list"].count(" all ") == 5
    assert "Stopped until `llm-reconcile start llama`." in said["llm-reconcile stop llama"]
    assert "instance.llama: ready" in said["llm-reconcile start llama"]
    assert "5 to remove" in said["llm-reconcile down -y"]


@pytest.mark.parametrize("program", real_engines(), ids=str)
def test_one_large_model_in_shards(attempt: Try, program: EngineProgram) -> None:
    """The real llama-server gets the file as it stands; built without GPUs, it only warns."""
    trial = attempt("03-one-large-model-two-gpus")
    if program.name == "embedded":
        trial.edit(on_any_machine)
    else:
        (trial.base / "bin").mkdir()
        (trial.base / "bin" / "llama-server").symlink_to(program.command[0])
    *lines, last = commands(trial.name)
    said = trial.run_all(lines)
    assert "--allow-protected gpt-oss-120b" in trial.run("llm-reconcile down -y || test $? = 4")
    trial.run(last)
    assert "Plan: 1 to add" in said["llm-reconcile plan desired/large.yaml"]
    shards = [path.name for path in trial.folder.glob("models/*/snapshots/*/*.gguf")]
    assert sorted(shards)[-1] == "gpt-oss-120b-mxfp4-00003-of-00003.gguf"
    restart = next(text for line, text in said.items() if "restart" in line)
    assert "-/+ instance.gpt-oss-120b" in restart
    assert "running requests get 10m00s" in restart
    assert " ready " in said["llm-reconcile status"]


def test_replicas(attempt: Try) -> None:
    said = attempt("04-replicas").run_readme()
    names = [line.split()[0] for line in said["llm-reconcile status"].splitlines()[1:4]]
    assert names == ["qwen", "qwen[1]", "qwen[2]"]
    change = next(text for line, text in said.items() if "--allow-destroy 3" in line)
    assert change.count("params.temp: 0.7 -> 0.2") == 3
    assert change.count("+/- instance.qwen") == 3
    assert len(said["llm-reconcile logs 'qwen[2]' -n 3"].splitlines()) == 3


@pytest.mark.needs("openssl")
@pytest.mark.needs("curl")
def test_keys_and_tls(attempt: Try) -> None:
    said = attempt("05-keys-and-tls").run_readme()
    asked = [json.loads(text) for line, text in said.items() if line.startswith("curl")]
    refused, allowed, out = asked
    assert [one["id"] for one in allowed["data"]] == ["qwen"]
    for answer in (refused, out):
        assert answer["error"]["code"] == "invalid_api_key"
    change = next(text for line, text in said.items() if line.startswith("sed -i"))
    assert "keys.bob: qwen -> (none)" in change
    assert "Gateway: reload." in change
    assert "0 to add, 0 to change, 0 to replace, 0 to remove, 2 unchanged" in change


@pytest.mark.needs("openssl")
@pytest.mark.needs("curl")
@pytest.mark.needs("prometheus")
def test_prometheus(attempt: Try) -> None:
    """The real Prometheus finds what each alert and each panel of the dashboard asks for."""
    trial = attempt("07-prometheus")
    *lines, last = commands(trial.name)
    said = trial.run_all(lines)
    assert "4 rules found" in next(text for line, text in said.items() if "promtool" in line)
    question = next(line for line in said if line.startswith("curl"))
    for model in ("qwen", "embed", "nope"):
        body = json.dumps({"model": model, "input": "x", "prompt": "x", "max_tokens": 1})
        path = "v1/embeddings" if model == "embed" else "v1/completions"
        trial.run(f"{question.replace('metrics', path)} -d '{body}'")
    requests = 'llm_reconcile_requests_total{model="qwen",key="prometheus",status="200"} 1'
    eventually(lambda: requests in trial.run(question))
    page = trial.run(question)
    served = {*read_page(page).series}
    assert {name for text in expressions(trial.folder) for name in SERVED.findall(text)} <= served
    complaints = check_page(page)
    assert [one for one in complaints if not one.startswith("llamacpp:")] == []
    often = "evaluation_interval: 1s\n  scrape_interval: 1s"
    trial.edit(lambda text: text.replace("scrape_interval: 15s", often), "prometheus.yml")
    with prometheus(trial.folder) as server:
        for text in expressions(trial.folder, panels_only=True):
            eventually(partial(server.has, text), text)
        assert server.values("up") == ["1"]
        assert server.values('sum(llm_reconcile_instance_phase{phase="ready"})') == ["3"]
        rules = server.rules()
        assert {rule["health"] for rule in rules} == {"ok"}
        assert {rule["state"] for rule in rules} == {"inactive"}
    trial.run(last)


def test_no_gateway(attempt: Try) -> None:
    trial = attempt("06-no-gateway")
    said = trial.run_readme()
    assert "gateway" not in said["llm-reconcile status"].lower()
    for port in ("8001", "8002"):
        assert trial.ports[port] in said["llm-reconcile status"]
        assert not machine.listens(int(trial.ports[port]))


def test_files_of_your_own(attempt: Try) -> None:
    trial = attempt("09-files-of-your-own")
    lines = commands(trial.name)
    said = [trial.run(line) for line in lines]
    assert "qwen (default): http://127.0.0.1:" in said[1]
    assert 'model: "openai/default"' in said[1]
    assert "edited by hand" in said[3]
    assert "oops" not in said[3]
    assert "Renders: 2 to write, 0 to remove." in said[5]
    assert "1 unchanged" in said[5]
    assert "qwen (default, small): " in said[6]
    assert "oops" not in said[6]
    assert (trial.folder / "run" / "litellm.reloaded").exists()
