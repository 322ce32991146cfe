"""`import` as it is typed: YAML on stdout or in a new file, what was not carried over on stderr."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from reconciler.cli.main import command_line

DATA = Path(__file__).parent / "data" / "imports"


def run(*words: str, given: str = "", **environment: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(command_line(), words, input=given, env=environment)
    return int(done.exit_code), done.stdout, done.stderr


def test_a_file_is_made_and_never_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(DATA)
    code, out, talk = run("import", "models.json")
    assert code == 0
    assert out == (DATA / "models.json.yaml").read_text(encoding="utf-8")
    assert "warning: models.json:23:23: `port` is not carried over" in talk
    assert "hunter" not in out + talk
    made = tmp_path / "prod.yaml"
    code, nothing, talk = run("import", "models.json", "--out", str(made))
    assert (code, nothing, made.read_text(encoding="utf-8")) == (0, "", out)
    assert f"Wrote {made}: 2 models.\nNext: llm-reconcile plan {made}" in talk
    assert run("validate", str(made))[0] == 0
    code, _, talk = run("import", "router.ini", "--out", str(made))
    assert (code, made.read_text(encoding="utf-8")) == (1, out)
    assert "is there already\n  name another file, or say --force" in talk
    assert run("import", "router.ini", "--out", str(made), "--force", "-q")[0] == 0
    assert made.read_text(encoding="utf-8") == Path("router.ini.yaml").read_text(encoding="utf-8")


def test_what_it_is_can_be_said_and_given_on_stdin() -> None:
    code, out, _ = run("import", "-", given="[a]\nm = /x.gguf\n")
    assert (code, "of stdin, a preset of llama-server's router." in out) == (0, True)
    swap = "models: {a: {cmd: llama-server -m /x.gguf}}"
    code, _, talk = run("import", "-", given=swap)
    assert (code, "what stdin is cannot be told" in talk) == (1, True)
    code, out, _ = run("import", "-", "--from", "llama-swap", given=swap)
    assert (code, "a:\n    source: {path: /x.gguf}" in out) == (0, True)
    code, _, talk = run("import", "-", "--from", "models-json", given="{}")
    assert (code, "- has no model that can be carried over" in talk) == (1, True)


def test_ollamas_models_where_they_usually_are(tmp_path: Path) -> None:
    digest = "ab" * 32
    models = tmp_path / ".ollama" / "models"
    manifest = models / "manifests" / "registry.ollama.ai" / "library" / "x" / "1b"
    manifest.parent.mkdir(parents=True)
    (models / "blobs").mkdir()
    (models / "blobs" / f"sha256-{digest}").write_bytes(b"GGUF")
    kind = "application/vnd.ollama.image.model"
    manifest.write_text(
        f'{{"layers": [{{"mediaType": "{kind}", "digest": "sha256:{digest}"}}]}}', encoding="utf-8"
    )
    listed = "NAME  ID  SIZE  MODIFIED\nx:1b  1  1 GB  now\n"
    for words in (["ollama"], [str(tmp_path / ".ollama")], ["-"]):
        code, out, talk = run("import", *words, given=listed, HOME=str(tmp_path), OLLAMA_MODELS="")
        assert (code, f"sha256: {digest}" in out) == (0, True), talk
    code, _, talk = run("import", "ollama", OLLAMA_MODELS=str(tmp_path))
    assert (code, "Ollama's models were not found here" in talk) == (1, True)


def test_processes_are_looked_for() -> None:
    """Whether there are any is another program's matter; that it looks is told by what it says."""
    code, out, talk = run("import", "processes")
    assert (code == 0 and "version: 1" in out) or "has no model that can be carried over" in talk
