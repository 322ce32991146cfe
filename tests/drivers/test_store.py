"""Looking into a store and taking out of it: never outside, and never half."""

from __future__ import annotations

import fcntl
import mmap
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.core.prune import prune
from reconciler.core.stored import Needed, Removal
from reconciler.drivers import effects
from reconciler.drivers.store import open_inodes, remove, stored_repos

OLD, NEW = "a" * 40, "b" * 40
NOW = 2e12


class KilledError(BaseException):
    """The program ends here."""


@pytest.fixture
def store(tmp_path: Path) -> Path:
    folder = tmp_path / "store"
    repo = folder / "models--org--x"
    for name in ("refs/pr", "blobs", f"snapshots/{OLD}/Q4", f"snapshots/{NEW}"):
        (repo / name).mkdir(parents=True)
    for name in ("one", "two"):
        (repo / "blobs" / name).write_bytes(name.encode() * 5000)
    (repo / "refs" / "main").write_text(NEW)
    (repo / "refs" / "pr" / "1").write_text(f"{OLD}\n")
    (repo / "snapshots" / OLD / "Q4" / "x.gguf").symlink_to("../../../blobs/one")
    (repo / "snapshots" / NEW / "x.gguf").symlink_to("../../blobs/two")
    (repo / "snapshots" / NEW / "plain.json").write_text("{}")
    (repo / "snapshots" / NEW / "dangling").symlink_to("../../blobs/none")
    (repo / "blobs" / "three.reconcile.incomplete").write_text("half")
    (repo / "blobs" / "three.reconcile.journal").write_text("noted")
    return folder


def removals(store: Path, needed: Needed | None = None) -> tuple[Removal, ...]:
    return prune(stored_repos(store), needed or Needed(), NOW)


def test_all_of_it_is_seen(store: Path) -> None:
    (found,) = stored_repos(store)
    assert found.repo == "models--org--x"
    assert [one.commit for one in found.references] == [NEW, OLD]
    assert {(one.commit, one.name, one.blob) for one in found.links} == {
        (OLD, "Q4/x.gguf", "one"),
        (NEW, "x.gguf", "two"),
        (NEW, "plain.json", ""),
        (NEW, "dangling", "none"),
    }
    assert {one.name: one.inode is None for one in found.links}["dangling"]
    assert [(one.digest, one.count > 0) for one in found.blobs] == [("one", True), ("two", True)]
    assert len(found.partials) == 2
    assert stored_repos(store / "none") == ()


def test_empty_folders_go_with_what_lay_in_them(store: Path) -> None:
    (store / "other").mkdir()
    meant = removals(store)
    assert remove(meant, store) == sum(one.count for one in meant) > 10000
    assert [path.name for path in store.rglob("*")] == ["other"]


def test_nothing_outside_is_touched(store: Path, tmp_path: Path) -> None:
    far = tmp_path / "far"
    (far / "blobs").mkdir(parents=True)
    (far / "blobs" / "x").write_text("x")
    (store / "models--org--link").symlink_to(far)
    repo = store / "models--org--x"
    (repo / "snapshots" / NEW / "out.gguf").symlink_to(far / "blobs" / "x")
    (repo / "snapshots" / NEW / "folder").symlink_to(far)
    (repo / "blobs" / "linked").symlink_to(far / "blobs" / "x")
    remove(removals(store), store)
    assert (far / "blobs" / "x").read_text() == "x"
    assert (store / "models--org--link").is_symlink()
    assert not (repo / "snapshots").exists()


def test_what_urls_brought_is_seen_too(store: Path) -> None:
    blobs = store / "urls" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / "four").write_bytes(b"four" * 5000)
    (blobs / "five.reconcile.incomplete").write_text("half")
    _, found = stored_repos(store)
    assert (found.repo, found.references, found.links) == ("urls", (), ())
    assert [one.digest for one in found.blobs] == ["four"]
    assert len(found.partials) == 1
    meant = removals(
        store, Needed(digests=frozenset({("models--org--x", "one"), ("models--org--x", "two")}))
    )
    remove(meant, store)
    assert not (store / "urls").exists()


def test_a_download_keeps_its_partial(store: Path) -> None:
    partial = store / "models--org--x" / "blobs" / "three.reconcile.incomplete"
    with partial.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        remove(removals(store), store)
        assert partial.exists()
    gone = Removal("r", str(partial.with_name("no.incomplete")), "", 1, "")
    assert remove([gone], store) == 1


def test_what_is_mapped_or_open_is_known(store: Path) -> None:
    blobs = store / "models--org--x" / "blobs"
    one, two = ((blobs / name).stat() for name in ("one", "two"))
    assert not {(one.st_dev, one.st_ino), (two.st_dev, two.st_ino)} & open_inodes().keys()
    with (blobs / "one").open("rb") as opened:
        assert open_inodes()[one.st_dev, one.st_ino] == {os.getpid()}
        mapped = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
    assert (one.st_dev, one.st_ino) in open_inodes()
    left = {one.path for one in removals(store, Needed(open=frozenset(open_inodes())))}
    mapped.close()
    assert str(blobs / "one") not in left
    assert str(blobs / "two") in left
    assert (one.st_dev, one.st_ino) not in open_inodes()


def dangling(store: Path) -> list[Path]:
    links = (path for path in store.rglob("*") if path.is_symlink())
    return [path for path in links if not path.exists() and path.name != "dangling"]


@pytest.fixture
def hooked() -> Iterator[None]:
    before = effects.hook
    yield
    effects.hook = before


@pytest.mark.usefixtures("hooked")
def test_a_kill_at_any_moment_leaves_no_link_without_its_bytes(store: Path) -> None:
    seen = 0
    while True:
        left = [seen]

        def kill(_what: str, left: list[int] = left) -> None:
            if left[0] == 0:
                raise KilledError
            left[0] -= 1

        effects.hook = kill
        try:
            remove(removals(store), store)
        except KilledError:
            assert dangling(store) == []
            seen = 1
        else:
            break
    # At most empty folders stay of a run that was killed between two of them.
    assert [path for path in store.rglob("*") if not path.is_dir()] == []
