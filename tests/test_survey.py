"""Looking at everything that doctor judges, in whatever state it is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from reconciler.core.doctor import Mark, examine
from reconciler.core.observed import FileStatus
from reconciler.core.words import EngineKind, ModelName
from reconciler.drivers.state import StateFolder, state_folder
from reconciler.errors import UsageError
from reconciler.survey import survey

FILE = "version: 1\nengine: {kind: embedded}\nmodels:\n  a: {source: {path: a.gguf}}\n"


@pytest.fixture
def root(short_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root with a model that is not there; the current folder lies elsewhere."""
    (short_folder / "r" / "desired").mkdir(parents=True)
    (short_folder / "r" / "desired" / "x.yaml").write_text(FILE, encoding="utf-8")
    (short_folder / "elsewhere").mkdir()
    monkeypatch.chdir(short_folder / "elsewhere")
    return short_folder / "r"


@pytest.fixture
def environment(root: Path) -> dict[str, str]:
    base = str(root.parent)
    return {
        "PATH": os.environ["PATH"],
        "HOME": base,
        "XDG_STATE_HOME": f"{base}/s",
        "XDG_CACHE_HOME": f"{base}/c",
        "HF_TOKEN": "hf_secret",
        "EMPTY": "",
    }


def test_all_that_a_root_has(root: Path, environment: dict[str, str]) -> None:
    facts = survey(None, root, environment)
    assert facts.engine.kind is EngineKind.EMBEDDED
    assert facts.engine_nature.devices is not None
    assert (facts.nginx.lacks, facts.nginx.reason) == ((), "")
    assert facts.memory.ram_bytes
    assert facts.root is not None
    assert facts.store is not None
    assert (facts.root.path, facts.store.path) == (str(root), str(root / "models"))
    assert facts.state.path == state_folder(str(root), environment)
    assert not facts.state.problem
    assert facts.wanted.path == "desired/x.yaml"
    assert facts.wanted.files[ModelName("a")].status is FileStatus.BAD
    assert facts.wanted.plan is not None
    assert [change.name for change in facts.wanted.plan.blocked] == ["a"]
    assert not list((root.parent / "elsewhere").iterdir())
    assert not Path(facts.state.path).exists()


def test_names_of_variables_and_never_values(root: Path, environment: dict[str, str]) -> None:
    facts = survey(None, root, environment)
    assert {"HF_TOKEN", "PATH"} <= facts.variables
    assert "EMPTY" not in facts.variables
    assert "hf_secret" not in repr(facts)


def test_a_named_file(root: Path, environment: dict[str, str]) -> None:
    other = root / "desired" / "y.yaml"
    other.write_text(FILE.replace("models:", "store: /big\ngateway: false\nmodels:"))
    unclear = survey(None, root, environment)
    assert "its desired/ holds x.yaml, y.yaml" in unclear.wanted.reason
    assert unclear.root is not None
    other.write_text(other.read_text().replace("a.gguf}", "a.gguf}, port: 8001"))
    facts = survey(other, None, environment)
    assert facts.wanted.path == "desired/y.yaml"
    assert facts.store is not None
    assert facts.store.path == "/big"


def test_no_root(root: Path, environment: dict[str, str]) -> None:
    facts = survey(None, None, environment)
    assert (facts.root, facts.store, facts.store_in_git) == (None, None, False)
    assert facts.wanted.reason.startswith("no root here")
    assert facts.state.path == state_folder(str(root.parent / "elsewhere"), environment)


def test_a_broken_file(root: Path, environment: dict[str, str]) -> None:
    (root / "desired" / "x.yaml").write_text("version: 1\nmodels: [a\n")
    facts = survey(None, root, environment)
    assert facts.root is not None
    assert facts.wanted.mistakes
    assert "desired/x.yaml:" in facts.wanted.mistakes[0]


def test_a_root_that_is_no_folder(root: Path, environment: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="is not a folder"):
        survey(None, root / "desired" / "x.yaml", environment)


def test_a_state_folder_whose_path_is_too_long(root: Path, environment: dict[str, str]) -> None:
    environment["XDG_STATE_HOME"] = f"{root}/{'x' * 100}"
    file = root / "desired" / "x.yaml"
    facts = survey(file, None, environment)
    assert "too long for unix sockets" in facts.state.problem
    assert facts.wanted.path == "desired/x.yaml"
    assert facts.wanted.state is not None
    assert "which file is meant" in survey(None, root, environment).wanted.reason
    file.write_text("models: {}\n")
    assert survey(file, None, environment).wanted.mistakes


def test_a_state_folder_of_somebody_else(
    root: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(state_folder(str(root), environment))
    folder.mkdir(parents=True)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    facts = survey(root / "desired" / "x.yaml", None, environment)
    assert "belongs to another user" in facts.state.problem
    assert facts.wanted.plan is None


def test_a_machine_that_cannot_be_looked_at(
    root: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_self: object) -> None:
        raise PermissionError(13, "Permission denied", "/proc")

    monkeypatch.setattr(StateFolder, "boot_id", refuse)
    facts = survey(None, root, environment)
    assert facts.wanted.reason == "/proc: Permission denied"
    checks = {check.name: check for check in examine(facts)}
    assert checks["desired file"].status is Mark.BAD
