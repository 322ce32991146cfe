"""Files as they were, and what nobody applied beside them; a commit of just these."""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path

import pytest

from reconciler.core.generations import Generation, Restoration, restoration
from reconciler.core.parse import SourceText
from reconciler.drivers import effects, git_commit
from reconciler.drivers.git_commit import commit, is_in_work_tree
from reconciler.drivers.lock_file import KeptLockFile
from reconciler.drivers.restoring import files_here, restore
from reconciler.errors import InvalidDesiredError

X, LOCK = "desired/x.yaml", "desired/x.lock.yaml"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "desired").mkdir()
    return tmp_path


def write(root: Path, name: str, content: bytes) -> Path:
    path = root / name
    path.write_bytes(content)
    return path


def names(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "desired").iterdir())


def test_what_is_here(root: Path) -> None:
    path = root / X
    assert files_here(path, root) == {}
    write(root, LOCK, b"lock")
    assert files_here(path, root) == {LOCK: b"lock"}
    write(root, X, b"\xff")
    write(root, "desired/y.yaml", b"y")
    assert files_here(path, root) == {X: b"\xff", LOCK: b"lock"}
    assert files_here(root / "desired", root) == {X: b"\xff", "desired/y.yaml": b"y"}


def test_a_file_that_cannot_be_read_is_not_gone_over(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(root, X, b"x")

    def refuse(_path: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(InvalidDesiredError, match="cannot be read"):
        files_here(path, root)


def test_files_become_what_they_were(root: Path) -> None:
    path, lock = write(root, X, b"new"), write(root, LOCK, b"lock")
    path.chmod(0o600)
    old = {X: b"\xef\xbb\xbfold\r\n", "desired/sub/y.yaml": b"y"}
    assert restore(Restoration(old, (LOCK,), ()), root) == ()
    assert path.read_bytes() == old[X]
    assert path.stat().st_mode & 0o777 == 0o600
    assert (root / "desired/sub/y.yaml").read_bytes() == b"y"
    assert not lock.exists()


def test_what_nobody_applied_is_kept_each_time(root: Path) -> None:
    back = Restoration({X: b"old"}, (), (X,))
    for content, kept in ((b"mine", ""), (b"mine", ""), (b"mine \xff", "-2"), (b"mine", "")):
        write(root, X, content)
        name = f"{X}.before-rollback{kept}"
        assert restore(back, root) == (name,)
        assert (root / name).read_bytes() == content
    assert names(root) == ["x.yaml", "x.yaml.before-rollback", "x.yaml.before-rollback-2"]


def test_a_link_leads_to_where_the_file_lies(root: Path) -> None:
    real = write(root, "real.yaml", b"new")
    (root / X).symlink_to(real)
    restore(Restoration({X: b"old"}, (), (X,)), root)
    assert (root / X).is_symlink()
    assert real.read_bytes() == b"old"
    assert (root / f"{X}.before-rollback").read_bytes() == b"new"


def test_a_lock_file_that_lies_nowhere() -> None:
    nothing = KeptLockFile(None, LOCK)
    assert (nothing.read(), nothing.text()) == ({}, None)
    nothing.write({})
    assert nothing.read() == {}
    assert KeptLockFile(nothing.text(), LOCK).read() == {}
    with pytest.raises(InvalidDesiredError, match=LOCK):
        KeptLockFile("version: 99\n", LOCK).read()


# ---- git


@pytest.fixture
def git(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for role in ("AUTHOR", "COMMITTER"):
        for what in ("NAME", "EMAIL"):
            monkeypatch.setenv(f"GIT_{role}_{what}", "x")
    monkeypatch.setenv("HOME", str(root))
    say(root, "init", "-q")
    write(root, X, b"new")
    write(root, "other", b"1")
    say(root, "add", ".")
    say(root, "commit", "-q", "-m", "first")
    return root


def say(root: Path, *words: str) -> str:
    argv = ["git", "-C", str(root), *words]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()


def test_only_these_files_are_committed(git: Path) -> None:
    path, lock, gone = git / X, git / LOCK, git / "desired/gone.yaml"
    write(git, "other", b"2")
    say(git, "add", "other")
    write(git, X, b"old")
    write(git, LOCK, b"lock")
    assert commit([path, lock, gone], "Roll back\n\nwhy") == ""
    assert say(git, "show", "--format=%s|%b", "--name-only", "HEAD").split() == [
        "Roll",
        "back|why",
        LOCK,
        X,
    ]
    assert say(git, "status", "--short") == "M  other"
    lock.unlink()
    assert commit([path, lock], "again") == ""
    assert say(git, "ls-tree", "--name-only", "HEAD", "desired/") == X
    head = say(git, "rev-parse", "HEAD")
    assert commit([path], "nothing") == ""
    assert say(git, "rev-parse", "HEAD") == head


def test_why_there_is_no_commit(git: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(git, X, b"old")
    hook = git / ".git/hooks/pre-commit"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho not on a friday >&2\nexit 1\n")
    hook.chmod(0o755)
    assert commit([git / X], "x") == "not on a friday"
    hook.write_text("#!/bin/sh\nexec sleep 60\n")
    monkeypatch.setattr(git_commit, "TIMEOUT_S", 0.5)
    assert "did not end within" in commit([git / X], "x")


def test_whether_git_would_know_of_it(git: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    assert is_in_work_tree(git / X)
    assert not is_in_work_tree(tmp_path_factory.mktemp("none") / "x.yaml")


# ---- broken off


class BrokenOffError(Exception):
    """The run ends here."""


def test_a_rollback_that_is_broken_off_anywhere_loses_nothing(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = Generation(1, 1.5, "desired", (SourceText(X, b"old"),), "lock 1\n")
    lock = "desired/lock.yaml"
    typed = {X: b"mine", "desired/y.yaml": b"mine too", lock: b"lock 2\n"}
    reached = 0
    for ending in range(20):
        for path in (root / "desired").iterdir():
            path.unlink()
        for name, content in typed.items():
            write(root, name, content)
        told: list[str] = []

        def count(what: str, told: list[str] = told, ending: int = ending) -> None:
            told.append(what)
            if len(told) > ending:
                raise BrokenOffError

        monkeypatch.setattr(effects, "hook", count)
        with contextlib.suppress(BrokenOffError):
            restore(restoration(target, lock, files_here(root / "desired", root), [target]), root)
        reached = max(reached, len(told))
        monkeypatch.setattr(effects, "hook", lambda _: None)
        restore(restoration(target, lock, files_here(root / "desired", root), [target]), root)
        assert files_here(root / "desired", root) == {X: b"old", lock: b"lock 1\n"}
        aside = {path.read_bytes() for path in root.glob("desired/*.before-rollback*")}
        assert aside == set(typed.values())
    assert 10 < reached < 20, "each effect had its turn"
