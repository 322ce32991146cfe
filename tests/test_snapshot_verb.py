"""`status --snapshot` and `plan --observed` where nothing runs: words, files, mistakes."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from reconciler.cli.main import command_line
from reconciler.core.sealed import seal
from reconciler.core.snapshot import SNAPSHOT

MODELS = "  a: {source: {path: a.gguf}, port: 8001}\n"
MORE = "  b: {source: {path: b.gguf}, port: 8002}\n"
HUB = "  b: {source: {repo: org/b}, quant: Q4_0, port: 8002}\n"


class Root:
    """A root with one desired file, and a snapshot of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "root"
        self.file = self.folder / "desired" / "x.yaml"
        self.file.parent.mkdir(parents=True)
        self.write(MODELS)
        self.seen = folder / "seen.json"
        self.environment = {
            name: str(folder / name) for name in ("HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME")
        }
        code, text, talk = self.run("status", "--snapshot", "-")
        assert code == 0, talk
        self.seen.write_text(text)

    def write(self, models: str, top: str = "") -> None:
        head = "version: 1\ngateway: false\nengine: {kind: embedded}\n"
        self.file.write_text(f"{head}{top}models:\n{models}")

    def run(self, *words: str, given: str | None = None) -> tuple[int, str, str]:
        words = (*words, "--root", str(self.folder))
        done = CliRunner().invoke(command_line(), words, input=given, env=self.environment)
        return int(done.exit_code), done.stdout, done.stderr

    def plan(self, *words: str, given: str | None = None) -> tuple[int, str, str]:
        return self.run("plan", str(self.file), *words, given=given)


@pytest.fixture
def root() -> Iterator[Root]:
    # Sockets lie in the state folder: its path has to be short.
    with tempfile.TemporaryDirectory(prefix="lr") as folder:
        yield Root(Path(folder))


def test_a_plan_by_a_file_or_a_pipe(root: Root) -> None:
    _, here, _ = root.plan()
    code, out, talk = root.plan("--observed", str(root.seen))
    assert (code, out) == (0, here)
    assert "Nothing was looked at: this is" in talk
    assert root.plan("--observed", "-", given=root.seen.read_text())[1] == here
    root.write(MODELS, "renders:\n- {template: t.j2, dest: run/x}\n")
    (root.folder / "t.j2").write_text("{{ models | length }}")
    _, out, _ = root.plan("--observed", str(root.seen))
    assert "the snapshot knows nothing of what lies at run/x:" in out
    assert "+ render.run/x" in out
    _, out, _ = root.plan("--observed", str(root.seen), "--destroy")
    assert out == "No changes. Nothing of this root runs.\n"


def test_it_is_written_for_its_owner_alone(root: Root) -> None:
    path = root.seen.with_name("other.json")
    code, out, talk = root.run("status", "--snapshot", str(path))
    assert (code, out) == (0, "")
    assert f"plan DESIRED --observed {path}" in talk
    assert path.stat().st_mode & 0o777 == 0o600
    # And again over it, but over nothing else.
    assert root.run("status", "--snapshot", str(path))[0] == 0
    _, _, talk = root.run("status", "--snapshot", str(root.file))
    assert "there is something else, which is no snapshot" in talk


def test_another_version_took_it(root: Root) -> None:
    values = json.loads(root.seen.read_text())
    old = seal({"snapshot": values["snapshot"]}, SNAPSHOT, "0.0.9")
    assert "It was taken by llm-reconcile 0.0.9" in root.plan("--observed", "-", given=old)[2]


def test_what_nobody_looked_at_is_not_saved(root: Root) -> None:
    root.write(MODELS + MORE)
    plan = root.seen.with_name("x.plan")
    words = ("--observed", str(root.seen))
    code, out, _ = root.plan(*words)
    assert (code, "Warning: the snapshot knows nothing of the files of b, port 8002" in out) == (
        0,
        True,
    )
    code, out, talk = root.plan(*words, "--out", str(plan))
    assert (code, plan.exists()) == (1, False)
    assert "--out: the snapshot knows nothing of the files of b, port 8002" in talk
    root.write(MODELS + HUB)
    for other in (words, ("--against", str(root.file))):
        code, out, talk = root.plan(*other, "--locked")
        assert code == 1
        assert "--locked keeps it as it is" in talk


def test_the_lock_file_is_that_of_the_checkout(root: Root) -> None:
    """Where it has one; a broken one is an error, but not where all is to stop."""
    root.file.with_name("x.lock.yaml").write_text("version: 9\n")
    words = ("--observed", str(root.seen))
    assert "x.lock.yaml" in root.plan(*words)[2]
    assert root.plan(*words, "--destroy")[0] == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--observed nowhere.json", "--observed nowhere.json cannot be read: No such file"),
        ("--observed FILE", "x.yaml is no snapshot"),
        ("--observed SEEN --against SEEN", "--observed and --against contradict each other"),
        ("--against SEEN", "this is a snapshot, and no desired file"),
        ("--refresh-only --observed SEEN", "--observed plays no part in it"),
        ("--refresh-only --target a", "a part of the file plays no part in it"),
        ("--refresh-only", "was not applied here last"),
    ],
)
def test_what_does_not_work(root: Root, words: str, said: str) -> None:
    known = {"FILE": str(root.file), "SEEN": str(root.seen)}
    code, out, talk = root.plan(*(known.get(word, word) for word in words.split()))
    assert (code, out) == (1, "")
    assert said in talk


def test_a_snapshot_is_of_all(root: Root) -> None:
    for words in (("a",), ("--json",), ("--argv",), ("--wait", "ready")):
        code, _, talk = root.run("status", "--snapshot", "-", *words)
        assert (code, "--snapshot writes down all of the root" in talk) == (1, True)


def test_where_there_is_no_git(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    (root.folder / ".git").mkdir()
    for path in (os.environ["PATH"], ""):
        monkeypatch.setenv("PATH", path)
        _, out, _ = root.plan("--observed", str(root.seen), "--json")
        assert json.loads(out)["desired"]["git"] is None
