"""The lock file on disk: whole or not at all, and nothing lost that was not to be changed."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from reconciler.core.lockfile import LockedFile, Pin, render_lock
from reconciler.core.words import ModelName
from reconciler.drivers import effects
from reconciler.drivers.desired_files import lock_path, read_sources
from reconciler.drivers.lock_file import LockFileOnDisk
from reconciler.errors import InvalidDesiredError

PIN = Pin("org/x", "main", "Q4", "a" * 40, (LockedFile("x-Q4.gguf", 5, "b" * 64),))
A, B = ModelName("a"), ModelName("b")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "x.lock.yaml"


@pytest.fixture
def lock(path: Path) -> LockFileOnDisk:
    return LockFileOnDisk(path, "desired/x.lock.yaml")


def test_where_none_is_nothing_is_pinned(lock: LockFileOnDisk, path: Path) -> None:
    assert lock.read() == {}
    assert not path.exists()


def test_what_is_written_is_read(lock: LockFileOnDisk, path: Path) -> None:
    lock.write({A: PIN})
    lock.write({B: PIN})
    assert lock.read() == {A: PIN, B: PIN}
    assert path.read_text() == render_lock({A: PIN, B: PIN})
    lock.write({A: None, ModelName("never"): None})
    assert lock.read() == {B: PIN}
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_steps_that_write_at_once_lose_nothing(lock: LockFileOnDisk) -> None:
    names = [ModelName(f"m{number}") for number in range(20)]
    threads = [threading.Thread(target=lock.write, args=({name: PIN},)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert lock.read().keys() == set(names)


def test_an_edit_meanwhile_stays(lock: LockFileOnDisk, path: Path) -> None:
    lock.write({A: PIN})
    path.write_text(render_lock({A: PIN, B: PIN}))
    lock.write({ModelName("c"): PIN})
    assert lock.read().keys() == {"a", "b", "c"}


def test_a_link_stays_one(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "elsewhere.yaml"
    path.symlink_to(other)
    LockFileOnDisk(path, "x").write({A: PIN})
    assert path.is_symlink()
    assert other.read_text() == render_lock({A: PIN})


def test_what_a_killed_writer_left_is_cleared_up(lock: LockFileOnDisk, path: Path) -> None:
    half = path.with_name(".x.lock.yaml.999999999.tmp")
    other = path.with_name(".y.lock.yaml.999999999.tmp")
    for one in (half, other):
        one.write_text("half")
    lock.write({A: PIN})
    assert not half.exists()
    assert other.exists()


def test_a_broken_one_is_told_and_never_written_over(lock: LockFileOnDisk, path: Path) -> None:
    path.write_text("version: 1\nmodels: 5\n")
    for act in (lock.read, lambda: lock.write({A: PIN})):
        with pytest.raises(InvalidDesiredError, match=r"desired/x.lock.yaml:2:9"):
            act()
    assert path.read_text() == "version: 1\nmodels: 5\n"


def test_one_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidDesiredError, match="x: it cannot be read: Is a directory"):
        LockFileOnDisk(tmp_path, "x").read()


def test_a_failing_write_leaves_the_old_one(
    lock: LockFileOnDisk, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(what: str) -> None:
        if what.startswith("before write"):
            raise OSError(28, "No space left on device")

    lock.write({A: PIN})
    before = path.read_bytes()
    monkeypatch.setattr(effects, "hook", full)
    with pytest.raises(OSError, match="No space"):
        lock.write({B: PIN})
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("desired", "lock"),
    [("prod.yaml", "prod.lock.yaml"), ("a.b.yml", "a.b.lock.yaml"), ("odd", "odd.lock.yaml")],
)
def test_it_lies_beside_the_desired_file(tmp_path: Path, desired: str, lock: str) -> None:
    assert lock_path(tmp_path / desired) == tmp_path / lock
    assert lock_path(tmp_path) == tmp_path / "lock.yaml"


def test_it_is_no_desired_file(tmp_path: Path) -> None:
    for name in ("a.yaml", "a.lock.yaml", "lock.yaml", "block.yaml"):
        (tmp_path / name).write_text("version: 1\nmodels: {}\n")
    names = [source.name for source in read_sources(tmp_path, tmp_path)]
    assert names == ["a.yaml", "block.yaml"]
