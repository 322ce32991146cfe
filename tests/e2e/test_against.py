"""plan --against: what a change of the desired file would do, where there is no machine."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from e2e.lab import Lab


def git(lab: Lab, *words: str) -> None:
    who = ("-c", "user.name=Ann", "-c", "user.email=ann@example.org")
    subprocess.run(["git", *who, *words], cwd=lab.root, check=True, capture_output=True)


@pytest.fixture
def repository(fakes: Lab) -> Lab:
    """A checkout whose engine is not installed, and in which nothing was ever started."""
    fakes.engine = {"kind": "llama-server", "command": "no-such-llama-server"}
    fakes.weights = Path("weights/a.gguf")
    fakes.write({"a": {"params": {"temp": 0.5}}, "b": {}})
    for words in (("init", "-q", "-b", "main"), ("add", "."), ("commit", "-q", "-m", "First")):
        git(fakes, *words)
    return fakes


def test_from_a_commit_to_the_file(repository: Lab) -> None:
    lab = repository
    same = lab.plan("--against", "main")
    assert "No changes. From main to desired/x.yaml there is nothing to do." in same.out
    assert "There is nothing to do for a." in lab.plan("--against", "main", "--target", "a").out
    assert "this is what changes where main is in force" in same.err
    lab.write({"a": {"params": {"temp": 0.7}, "rollout": "surge"}, "c": {}})
    made = lab.plan("--against", "HEAD", "--detailed-exitcode", code=2)
    assert "params.temp: 0.5 -> 0.7  # forces restart" in made.out
    assert "+ instance.c" in made.out
    assert "- instance.b" in made.out
    assert "1 to add, 0 to change, 1 to replace, 1 to remove, 0 unchanged" in made.out
    document = lab.plan("--against", "HEAD", "--json").json
    assert document["observed"]["source"] == "none"
    assert document["desired"]["git"]["dirty"]
    assert len(document["desired"]["git"]["commit"]) == 40
    assert not lab.state.exists()


def test_from_a_file_to_another_one(repository: Lab) -> None:
    lab = repository
    old = lab.root / "old.yaml"
    old.write_bytes(lab.file.read_bytes())
    lab.write({})
    made = lab.plan("--against", "old.yaml", code=4)
    assert "2 of 2 running instances would be stopped" in made.out
    lab.plan("--against", "old.yaml", "--allow-destroy", "2")
    old.write_text("models: [")
    assert "old.yaml:2:1: YAML syntax" in lab.plan("--against", "old.yaml", code=1).err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--against", "nowhere"), "nowhere is neither a file nor a commit of the repository"),
        (("--against", "main~0:x"), "neither a file nor a commit"),
        (("--against", "--help"), "neither a file nor a commit"),
        (("--against", "main", "--out", "p.plan"), "stands on no machine"),
    ],
)
def test_what_it_cannot_be_planned_against(
    repository: Lab, words: tuple[str, ...], said: str
) -> None:
    assert said in repository.plan(*words, code=1).err


def test_a_commit_without_the_file(repository: Lab) -> None:
    other = repository.file.with_name("other.yaml")
    other.write_bytes(repository.file.read_bytes())
    done = repository.run("plan", str(other), "--against", "main", code=1)
    assert "main: it has no desired/other.yaml" in done.err
    other.unlink()
