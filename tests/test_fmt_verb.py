"""`fmt` and `validate` over several files, as pre-commit calls them."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from reconciler.cli.main import command_line
from reconciler.core.layout import UnusualLayoutError, formatted
from reconciler.core.yaml12 import MapNode, ScalarNode, read_yaml

HOOKS = Path(__file__).parent.parent / ".pre-commit-hooks.yaml"
NEAT, UGLY = "version: 1\nmodels: {}\n", "version:   1\nmodels: { }\n"


def run(*words: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(command_line(), words)
    return int(done.exit_code), done.stdout, done.stderr


def test_files_are_put_into_one_layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path("desired")
    folder.mkdir()
    for name, text in (("a", UGLY), ("b", NEAT), ("c", "a: ["), ("b.lock", UGLY)):
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    (folder / "a.yaml").chmod(0o640)
    Path("link.yaml").symlink_to("desired/a.yaml")
    assert run("fmt", "--check", "desired/a.yaml", "desired/b.yaml") == (1, "desired/a.yaml\n", "")
    assert (folder / "a.yaml").read_text(encoding="utf-8") == UGLY
    code, out, talk = run("fmt", "desired/c.yaml", "link.yaml", "desired/b.yaml")
    assert (code, out, "YAML syntax" in talk) == (1, "link.yaml\n", True)
    assert (folder / "a.yaml").read_text(encoding="utf-8") == NEAT
    assert (folder / "a.yaml").stat().st_mode & 0o777 == 0o640
    assert Path("link.yaml").is_symlink()
    (folder / "c.yaml").unlink()
    assert run("fmt", "desired") == (0, "", "")
    assert (folder / "b.lock.yaml").read_text(encoding="utf-8") == UGLY


def test_what_cannot_be_done_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unusual(name: str, content: bytes) -> bytes:
        raise UnusualLayoutError(name)

    monkeypatch.chdir(tmp_path)
    Path("x.yaml").write_text(NEAT, encoding="utf-8")
    monkeypatch.setattr("reconciler.cli.editing.formatted", unusual)
    code, _, talk = run("fmt", "x.yaml")
    assert (code, "x.yaml: its layout is unusual" in talk) == (1, True)


def test_several_files_are_validated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("good.yaml").write_text(NEAT, encoding="utf-8")
    Path("bad.yaml").write_text("version: 2\n", encoding="utf-8")
    code, out, talk = run("validate", "bad.yaml", "good.yaml")
    assert (code, "good.yaml is valid: 0 models" in out) == (1, True)
    assert "bad.yaml:1:10: version 2 is not known here" in talk


def test_files_of_several_roots_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = [f"{host}/desired/prod.yaml" for host in ("one", "two")]
    for name in names:
        Path(name).parent.mkdir(parents=True)
        Path(name).write_text("version: 2\n", encoding="utf-8")
    assert [line.split(" ")[1] for line in run("validate", *names)[2].splitlines()[::2]] == [
        f"{name}:1:10:" for name in names
    ]
    monkeypatch.chdir("one")
    assert f"{tmp_path / names[1]}:1:10: " in run("validate", f"../{names[1]}")[2]


def test_the_hooks_call_verbs_that_there_are() -> None:
    assert formatted(HOOKS.name, HOOKS.read_bytes()) == HOOKS.read_bytes()
    hooks = read_yaml(HOOKS.name, HOOKS.read_bytes()).root
    for hook in getattr(hooks, "items", ()):
        assert isinstance(hook, MapNode)
        entry = hook.items["entry"].value
        assert isinstance(entry, ScalarNode)
        assert run(*entry.text.split()[1:], "--help")[0] == 0
