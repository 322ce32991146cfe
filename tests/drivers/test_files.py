"""Model files by path: whole, absent, cut, foreign, in shards; and what is looked into."""

from __future__ import annotations

import os
import shutil
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from launches import SITE

from reconciler.core.desired import Model, Source
from reconciler.core.lockfile import Pin
from reconciler.core.observed import FileStatus, ObservedFile, ObservedFiles
from reconciler.core.plan import FetchFiles
from reconciler.core.words import ModelName
from reconciler.drivers.files import ModelFiles
from reconciler.drivers.hub import Hub


class QuietHub(Hub):
    """A hub that finds what a test put there."""

    def __init__(self) -> None:
        super().__init__(SITE.state, ())
        self.found = ObservedFiles(FileStatus.MISSING)
        self.asked: list[tuple[str, ...]] = []

    def inspect(self, model: Model, pin: Pin | None = None) -> ObservedFiles:
        self.asked.append((str(model.source.repo), model.source.revision, str(model.quant)))
        return self.found

    def fetch(self, fetch: FetchFiles, progress: Any, cancel: Any) -> None:
        self.asked.append(("fetch", str(fetch.source.repo)))


@pytest.fixture
def hub() -> QuietHub:
    return QuietHub()


@pytest.fixture
def files(tmp_path: Path, hub: QuietHub) -> ModelFiles:
    return ModelFiles(str(tmp_path), str(tmp_path / "store"), hub)


def by_path(path: str | Path) -> Model:
    return Model.model_validate({"source": {"path": str(path)}})


def shards(folder: Path, model: Path, *numbers: int, of: int) -> Path:
    for number in numbers:
        shutil.copy(model, folder / f"x-{number:05}-of-{of:05}.gguf")
    return folder / f"x-00001-of-{of:05}.gguf"


@pytest.mark.parametrize("deep", [True, False])
def test_a_whole_file_is_present(
    files: ModelFiles, tmp_path: Path, tiny_model: Path, deep: bool
) -> None:
    path = tmp_path / "weights" / "x.gguf"
    path.parent.mkdir()
    shutil.copy(tiny_model, path)
    found = files.inspect(by_path("weights/x.gguf"), deep=deep)
    seen = path.stat()
    identity = f"{seen.st_dev:x}:{seen.st_ino}:{seen.st_size}:{seen.st_mtime_ns}"
    assert found == ObservedFiles(
        FileStatus.PRESENT,
        path=str(path),
        spec_id=str(path),
        files=(ObservedFile(str(path), seen.st_size, identity),),
    )


def test_an_absolute_path_is_itself(files: ModelFiles, tiny_model: Path) -> None:
    found = files.inspect(by_path(tiny_model), deep=True)
    assert (found.status, found.path) == (FileStatus.PRESENT, str(tiny_model))


def test_a_link_is_followed_and_named_as_declared(
    files: ModelFiles, tmp_path: Path, tiny_model: Path
) -> None:
    (tmp_path / "x.gguf").symlink_to(tiny_model)
    found = files.inspect(by_path("x.gguf"), deep=True)
    assert found.path == str(tmp_path / "x.gguf")
    assert found.size == tiny_model.stat().st_size


def test_another_file_in_its_place_has_another_identity(
    files: ModelFiles, tmp_path: Path, tiny_model: Path
) -> None:
    path = tmp_path / "x.gguf"
    seen = set()
    for number in (1, 2):
        shutil.copy(tiny_model, tmp_path / "new")
        os.utime(tmp_path / "new", ns=(number, number))
        (tmp_path / "new").replace(path)
        found = files.inspect(by_path(path), deep=False)
        seen.add(found.identity)
        assert found.spec_id == str(path)
    assert len(seen) == 2


def bad(files: ModelFiles, path: str | Path) -> str:
    found = files.inspect(by_path(path), deep=True)
    assert found.status is FileStatus.BAD
    return found.reason


def test_a_missing_file_is_said(files: ModelFiles, tmp_path: Path) -> None:
    found = files.inspect(by_path("none.gguf"), deep=False)
    whole = str(tmp_path / "none.gguf")
    assert found.status is FileStatus.BAD
    assert found.reason == f"{whole} cannot be read: No such file or directory"
    assert (found.path, found.spec_id) == (whole, whole)


def test_what_is_no_file_is_said(files: ModelFiles, tmp_path: Path) -> None:
    (tmp_path / "folder.gguf").mkdir()
    os.mkfifo(tmp_path / "pipe.gguf")
    for name in ("folder.gguf", "pipe.gguf"):
        assert bad(files, name) == f"{tmp_path / name} is not a file"


def test_an_empty_file_is_said(files: ModelFiles, tmp_path: Path) -> None:
    (tmp_path / "x.gguf").touch()
    assert bad(files, "x.gguf") == f"{tmp_path}/x.gguf is empty"


def test_a_file_cut_at_its_end_is_said(files: ModelFiles, tmp_path: Path, tiny_model: Path) -> None:
    whole = tiny_model.read_bytes()
    (tmp_path / "x.gguf").write_bytes(whole[:-1])
    size = f"{len(whole) / 1024:.1f} KiB"
    reason = bad(files, "x.gguf")
    assert reason.startswith(f"{tmp_path}/x.gguf is truncated: ")
    assert reason.endswith(f" of at least {size}; fetch it again")
    (tmp_path / "x.gguf").write_bytes(whole)
    assert files.inspect(by_path("x.gguf"), deep=True).status is FileStatus.PRESENT


def test_a_file_cut_inside_its_header_is_said(
    files: ModelFiles, tmp_path: Path, tiny_model: Path
) -> None:
    (tmp_path / "x.gguf").write_bytes(tiny_model.read_bytes()[:1000])
    assert bad(files, "x.gguf") == f"{tmp_path}/x.gguf: the file ends inside its header"


@pytest.mark.parametrize("content", [b"<html>a page</html>", b"GG", b"version https://git-lfs"])
def test_a_foreign_file_is_said(files: ModelFiles, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.gguf").write_bytes(content)
    assert bad(files, "x.gguf") == f"{tmp_path}/x.gguf: it is not a GGUF file"


def test_only_a_deep_look_reads_the_header(files: ModelFiles, tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(b"foreign")
    assert files.inspect(by_path("x.gguf"), deep=False).status is FileStatus.PRESENT


def test_a_file_that_vanishes_meanwhile_is_said(
    files: ModelFiles, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.gguf"
    shutil.copy(tiny_model, path)
    opening = Path.open

    def vanish(self: Path, *args: Any) -> Any:
        path.unlink()
        return opening(self, *args)

    monkeypatch.setattr(Path, "open", vanish)
    assert bad(files, "x.gguf") == f"{path} cannot be read: No such file or directory"


# ---- shards


def test_all_shards_are_looked_at(files: ModelFiles, tmp_path: Path, tiny_model: Path) -> None:
    first = shards(tmp_path, tiny_model, 1, 2, 3, of=3)
    found = files.inspect(by_path(first), deep=True)
    assert found.status is FileStatus.PRESENT
    assert found.path == str(first)
    assert [Path(one.name).name for one in found.files] == [
        f"x-0000{number}-of-00003.gguf" for number in (1, 2, 3)
    ]
    assert found.size == 3 * tiny_model.stat().st_size


def test_a_missing_shard_is_named(files: ModelFiles, tmp_path: Path, tiny_model: Path) -> None:
    first = shards(tmp_path, tiny_model, 1, 3, of=3)
    missing = tmp_path / "x-00002-of-00003.gguf"
    assert bad(files, first) == f"{missing} cannot be read: No such file or directory"


def test_a_cut_shard_is_named(files: ModelFiles, tmp_path: Path, tiny_model: Path) -> None:
    first = shards(tmp_path, tiny_model, 1, 2, of=2)
    second = tmp_path / "x-00002-of-00002.gguf"
    second.write_bytes(second.read_bytes()[:-1])
    assert bad(files, first).startswith(f"{second} is truncated")


def test_the_first_shard_is_the_one_to_name(
    files: ModelFiles, tmp_path: Path, tiny_model: Path
) -> None:
    shards(tmp_path, tiny_model, 1, 2, of=2)
    second = tmp_path / "x-00002-of-00002.gguf"
    reason = f"{second} is not the first shard: name x-00001-of-00002.gguf"
    assert bad(files, second) == reason


def test_no_name_stands_for_no_file(files: ModelFiles, tmp_path: Path) -> None:
    assert "No such file" in bad(files, "x-00001-of-00000.gguf")


# ---- from the hub


def by_repo() -> Model:
    source = {"repo": "org/name", "revision": "v2"}
    return Model.model_validate({"source": source, "quant": "Q4_0"})


def test_a_repository_is_asked_of_the_hub(files: ModelFiles, hub: QuietHub) -> None:
    assert files.inspect(by_repo(), deep=True) == hub.found
    fetch = FetchFiles(ModelName("m"), Source(repo="org/name", revision="v2"), "c" * 40, ())
    files.fetch(fetch, lambda *_: None, threading.Event())
    assert hub.asked == [("org/name", "v2", "Q4_0"), ("fetch", "org/name")]


def test_what_the_hub_has_here_is_looked_into(
    files: ModelFiles, hub: QuietHub, tmp_path: Path, tiny_model: Path
) -> None:
    folder = tmp_path / "snapshot" / "Q4_0"
    folder.mkdir(parents=True)
    names = [f"Q4_0/x-0000{number}-of-00002.gguf" for number in (1, 2)]
    first = shards(folder, tiny_model, 1, 2, of=2)
    size = tiny_model.stat().st_size
    seen = tuple(ObservedFile(name, size, "1:2:3:4") for name in names)
    hub.found = ObservedFiles(FileStatus.PRESENT, str(first), "id", seen, "c" * 40)
    assert files.inspect(by_repo(), deep=True) == hub.found
    (folder / "x-00002-of-00002.gguf").write_bytes(b"<html>")
    seen = (seen[0], replace(seen[1], identity="5:6:7:8"))
    hub.found = replace(hub.found, files=seen)
    found = files.inspect(by_repo(), deep=True)
    assert found.status is FileStatus.BAD
    assert found.reason == f"{folder}/x-00002-of-00002.gguf: it is not a GGUF file"
    assert (found.spec_id, found.files, found.commit) == ("id", seen, "c" * 40)
    assert files.inspect(by_repo(), deep=False) == hub.found


# ---- room


def by_hub(repo: str = "org/m") -> Model:
    return Model.model_validate({"source": {"repo": repo}, "quant": "Q4"})


def test_room_is_measured_where_the_files_will_be(tmp_path: Path) -> None:
    for store in (tmp_path / "store", tmp_path / "a" / "b" / "c"):
        files = ModelFiles(str(tmp_path), str(store), Hub(str(store), ()))
        found = files.disk(by_hub())
        usage = shutil.disk_usage(tmp_path)
        assert abs(found.free_bytes - usage.free) < 2**30
        assert abs(found.size_bytes - usage.total) < 2**20
        assert (found.device, found.folder) == (tmp_path.stat().st_dev, str(store))
    assert list(tmp_path.iterdir()) == []


def test_a_repository_may_lie_on_another_disk(tmp_path: Path) -> None:
    elsewhere = Path("/dev", "shm")
    assert elsewhere.stat().st_dev != tmp_path.stat().st_dev
    (tmp_path / "models--org--far").symlink_to(elsewhere)
    files = ModelFiles(str(tmp_path), str(tmp_path), Hub(str(tmp_path), ()))
    far, near = files.disk(by_hub("org/far")), files.disk(by_hub("org/near"))
    assert (far.device, far.folder) == (elsewhere.stat().st_dev, str(elsewhere.parent))
    assert (near.device, near.folder) == (tmp_path.stat().st_dev, str(tmp_path))


def test_a_good_header_is_read_once(
    files: ModelFiles, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many models may share one file: its vocabulary takes a large one's header 0.1 s."""
    path = tmp_path / "x.gguf"
    path.write_bytes(tiny_model.read_bytes())
    assert files.inspect(by_path("x.gguf"), deep=True).status is FileStatus.PRESENT
    with monkeypatch.context() as without:
        without.delattr("reconciler.drivers.files.least_size")
        assert files.inspect(by_path("x.gguf"), deep=True).status is FileStatus.PRESENT
    path.write_bytes(b"GGUF")
    assert files.inspect(by_path("x.gguf"), deep=True).status is FileStatus.BAD
