"""`set`: the file on the disk, the plan, and git; what is wrong changes nothing."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from reconciler.cli.main import command_line

FILE = """\
version: 1
gateway: false
engine: {kind: embedded}
models:
  a:  # the first
    source: {path: a.gguf}
    port: 8001
    aliases: [one]
"""
WHO = {
    f"GIT_{role}_{what}": "x@x" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
}


class Root:
    """A root with one desired file, and git if it is wanted."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "root"
        self.file = self.folder / "desired" / "x.yaml"
        self.file.parent.mkdir(parents=True)
        self.file.write_text(FILE, encoding="utf-8")
        homes = {"HOME": "home", "XDG_STATE_HOME": "s", "XDG_CACHE_HOME": "c"}
        self.environment = {**WHO, **{name: str(folder / one) for name, one in homes.items()}}

    def set(self, *words: str) -> tuple[int, str, str]:
        words = ("set", *words, "--root", str(self.folder))
        done = CliRunner().invoke(command_line(), words, env=self.environment)
        return int(done.exit_code), done.stdout, done.stderr

    def git(self, *words: str) -> str:
        argv = ["git", "-C", str(self.folder), *words]
        done = subprocess.run(argv, capture_output=True, text=True, check=True, env=self.git_env())
        return done.stdout.strip()

    def git_env(self) -> dict[str, str]:
        return {**self.environment, "PATH": "/usr/local/bin:/usr/bin:/bin"}


@pytest.fixture
def root() -> Iterator[Root]:
    # Sockets lie in the state folder: its path has to be short.
    with tempfile.TemporaryDirectory(prefix="lr") as folder:
        yield Root(Path(folder))


def test_a_value_is_changed_after_its_plan_was_shown(root: Root) -> None:
    code, out, talk = root.set("one", "port=8002", "params.temp=0.5", "--dry-run")
    assert (code, root.file.read_text(encoding="utf-8")) == (0, FILE)
    code, out, talk = root.set("one", "port=8002", "params.temp=0.5", "aliases-")
    assert code == 0, talk
    assert "instance.a" in out
    assert talk.endswith("Wrote desired/x.yaml.\n")
    expected = FILE.replace("8001", "8002").replace(
        "    aliases: [one]\n", "    params: {temp: 0.5}\n"
    )
    assert root.file.read_text(encoding="utf-8") == expected
    code, out, _ = root.set("a", "port=8002")
    assert (code, out) == (0, "No changes: desired/x.yaml says so already.\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("a", "port=99999"), "desired/x.yaml:7:11: `port`: expected 65535 or less"),
        (("a", "prt=1"), "unknown key `prt`; did you mean `port`?"),
        (("a", "source-"), "the required key `source` is missing"),
        (("a", "grace-"), "`grace` is not said there"),
        (("b", "port=1"), "no model is called b"),
        (("a", "port=1", "--commit"), "lies in no git repository"),
        (("a", "port"), "write KEY=VALUE, or KEY- to remove it"),
    ],
)
def test_what_is_wrong_changes_nothing(root: Root, words: tuple[str, ...], said: str) -> None:
    code, out, talk = root.set(*words)
    assert (code, out) == (1, "")
    assert said in talk
    assert root.file.read_text(encoding="utf-8") == FILE


def test_git_commits_that_file_alone(root: Root) -> None:
    far = str(root.folder.parent / "far")
    root.git("init", "-q", "--bare", far)
    root.git("init", "-q", ".")
    root.git("add", "--all")
    root.git("commit", "-qm", "first")
    (root.folder / "other").write_text("x", encoding="utf-8")
    root.git("add", "other")
    code, _, talk = root.set("a", "env.TOKEN=hunter2", "--commit")
    assert (code, "Committed: Set a env.TOKEN=...\n" in talk) == (0, True)
    assert root.git("show", "--format=%s", "--name-only", "HEAD").split("\n") == [
        "Set a env.TOKEN=...", "", "desired/x.yaml",
    ]  # fmt: skip
    assert root.git("status", "--short") == "A  other"
    # There is nowhere to push to yet: the commit stays.
    code, _, talk = root.set("a", "port=8003", "--push")
    assert (code, "git pushed nothing: fatal: No configured push destination." in talk) == (3, True)
    root.git("remote", "add", "origin", far)
    root.git("push", "-qu", "origin", "HEAD")
    code, _, talk = root.set("a", "port=8004", "--push")
    assert (code, talk.endswith("Committed: Set a port=8004\nPushed.\n")) == (0, True)
    assert root.git("rev-parse", "@{u}") == root.git("rev-parse", "HEAD")
    root.git("commit", "-qm", "another", "--allow-empty", "--amend")
    code, _, talk = root.set("a", "port=8004", "params.temp=1", "--push")
    assert (code, "git pushed nothing: ! [rejected]" in talk) == (3, True)
    hook = root.folder / ".git" / "hooks" / "pre-commit"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho not today >&2\nexit 1\n", encoding="utf-8")
    hook.chmod(0o755)
    code, _, talk = root.set("a", "port=8005", "--commit")
    assert (code, "warning: git made no commit: not today" in talk) == (3, True)
    assert "port: 8005" in root.file.read_text(encoding="utf-8")
