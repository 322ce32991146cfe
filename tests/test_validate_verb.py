"""`validate --engine`: the engine's help beside a desired file, where nothing runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from reconciler.cli.main import command_line

HELP = Path(__file__).parent / "data" / "engine-help" / "llama-server-b11434.txt"
FILE = """\
version: 1
engine: {{command: ./llama-server}}
models:
  a:
    source: {{path: a.gguf}}
    params: {{{params}}}
    env: {{LLAMA_ARG_TEMPERATURE: "1"}}
"""


def run(*words: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(command_line(), words)
    return int(done.exit_code), done.stdout, done.stderr


def write(params: str) -> None:
    Path("x.yaml").write_text(FILE.format(params=params), encoding="utf-8")


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A llama-server in the root: a script that answers --help, and leaves a trace."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "llama-server"
    path.write_text(f"#!/bin/sh\ntouch asked\nexec cat {HELP}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def test_flags_are_looked_up_where_that_is_asked_for(server: Path) -> None:
    write("ctx_sice: 4096, draft-max: 2")
    assert run("validate", "x.yaml")[:2] == (
        0,
        "x.yaml is valid: 1 model, gateway on 127.0.0.1:8888.\n",
    )
    assert not Path("asked").exists()
    code, out, talk = run("validate", "--engine", "x.yaml")
    assert (code, out, Path("asked").exists()) == (1, "", True)
    assert "error: x.yaml:6:24: the engine (llama-server) does not know the flag --ctx-sice" in talk
    assert "did you mean `ctx_size`?" in talk
    assert "x.yaml:6:41: --draft-max is gone from this engine: use --spec-draft-n-max" in talk
    write("temp: 1, seed: [1, 2]")
    code, out, talk = run("validate", "--engine", "x.yaml")
    said = f"x.yaml is valid: 1 model, gateway on 127.0.0.1:8888; {server} takes all flags.\n"
    assert (code, out) == (0, said)
    assert talk.splitlines() == [
        "warning: x.yaml:6:23: --seed takes one number: of 2, only the last counts",
        (
            "warning: x.yaml:7:34: "
            "LLAMA_ARG_TEMPERATURE has no effect: `temp` (x.yaml:6:20) wins over it"
        ),
    ]


def test_as_json(server: Path) -> None:
    write("temp: 1, ctx_size: many")
    Path("bad.yaml").write_text("version: 2\n", encoding="utf-8")
    code, out, talk = run("validate", "--engine", "--json", "x.yaml", "bad.yaml")
    found = json.loads(out)
    assert (code, talk, found["valid"]) == (1, "", False)
    assert [(one["path"], one["valid"]) for one in found["files"]] == [
        ("x.yaml", False),
        ("bad.yaml", False),
    ]
    assert found["files"][0]["engine"] == {"kind": "llama-server", "command": [str(server)]}
    assert found["files"][0]["diagnostics"][0] == {
        "severity": "error",
        "summary": "--ctx-size needs a number, not `many`",
        "hint": "",
        "range": "x.yaml:6:33",
    }
    write("temp: 1")
    code, out, _ = run("validate", "--json", "x.yaml")
    (file,) = json.loads(out)["files"]
    assert (code, file["engine"], file["diagnostics"]) == (0, None, [])


def test_no_engine(server: Path) -> None:
    server.unlink()
    write("ctx_sice: 4096")
    code, out, talk = run("validate", "--engine", "x.yaml")
    assert (code, out) == (1, "")
    assert talk.startswith(
        "error: x.yaml:2:19: './llama-server' is no program: install llama-server"
    )
    code, out, talk = run("validate", "--engine", "--json", "x.yaml")
    assert (code, json.loads(out)["files"][0]["engine"]) == (1, None)
