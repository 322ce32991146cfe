"""The memory of hashed files, and the reading that fills it."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from e2e import machine

from reconciler.core.desired import Model
from reconciler.core.observed import FileStatus, ObservedFile
from reconciler.core.plan import VerifyFiles
from reconciler.core.transfers import FileProgress
from reconciler.core.words import ModelName
from reconciler.drivers import verifying
from reconciler.drivers.files import ModelFiles
from reconciler.drivers.hub import Hub
from reconciler.drivers.hub_cache import identity_of, observed_file
from reconciler.drivers.verified import Verified
from reconciler.errors import InterruptedRunError, StepError

NEVER = threading.Event()
CONTENT = b"weights" * 1000
SHA = hashlib.sha256(CONTENT).hexdigest()
GIT = hashlib.sha1(b"blob %d\0" % len(CONTENT) + CONTENT, usedforsecurity=False).hexdigest()
Read = Callable[..., None]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "x.gguf"
    path.write_bytes(CONTENT)
    return path


def quietly(_files: tuple[FileProgress, ...]) -> None:
    pass


def verify(memory: Verified, *files: tuple[Path, str], **how: Any) -> None:
    seen = [replace(observed_file(path, str(path)), digest=digest) for path, digest in files]
    effect = VerifyFiles(ModelName("m"), "", tuple(seen))
    verifying.verify(effect, memory, how.get("progress", quietly), how.get("cancel", NEVER))


# ---- remembering


def test_what_was_found_is_known_to_the_next_run(tmp_path: Path, file: Path) -> None:
    state = tmp_path / "state"
    assert Verified(state).hashes() == {}
    verify(Verified(state), (file, SHA))
    assert Verified(state).hashes() == {identity_of(file): SHA}
    assert Verified(state).hash_of(identity_of(file)) == SHA
    assert (state / "verified.json").stat().st_mode & 0o077 == 0
    before = machine.written(state / "verified.json")
    verify(Verified(state), (file, SHA))
    assert machine.written(state / "verified.json") == before


def test_another_file_is_another_file(tmp_path: Path, file: Path) -> None:
    memory = Verified(tmp_path / "state")
    verify(memory, (file, SHA))
    os.utime(file, ns=(1, 1))
    assert memory.hash_of(identity_of(file)) == ""


def test_right_files_that_have_gone_are_forgotten(tmp_path: Path, file: Path) -> None:
    """Wrong ones are not: a server may have them loaded."""
    memory = Verified(tmp_path / "state")
    right, wrong, gone = file, tmp_path / "wrong", tmp_path / "gone"
    for path in (wrong, gone):
        path.write_bytes(CONTENT)
    verify(memory, (gone, SHA))
    with pytest.raises(StepError):
        verify(memory, (wrong, "0" * 64))
    known = identity_of(wrong)
    gone.unlink()
    wrong.unlink()
    verify(memory, (right, SHA))
    assert Verified(tmp_path / "state").hashes() == {identity_of(right): SHA, known: SHA}


@pytest.mark.parametrize("text", ["", "{", "[]", '{"files": 1}', '{"files": {"a": {}}}', "\0"])
def test_a_broken_memory_is_no_memory(tmp_path: Path, file: Path, text: str) -> None:
    state = tmp_path / "state"
    state.mkdir()
    (state / "verified.json").write_text(text)
    memory = Verified(state)
    assert memory.hashes() == {}
    verify(memory, (file, SHA))
    assert list(json.loads((state / "verified.json").read_text())["files"]) == [identity_of(file)]


def test_what_another_process_notes_is_seen_and_kept(tmp_path: Path, file: Path) -> None:
    other = tmp_path / "y.gguf"
    other.write_bytes(CONTENT)
    one, two = Verified(tmp_path / "state"), Verified(tmp_path / "state")
    assert not one.hashes()
    verify(two, (file, SHA))
    assert one.hashes() == {identity_of(file): SHA}
    verify(one, (other, SHA))
    assert two.hashes().keys() == {identity_of(file), identity_of(other)}


def test_many_write_at_once(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.gguf" for number in range(8)]
    for path in paths:
        path.write_bytes(CONTENT)
    threads = [
        threading.Thread(target=verify, args=(Verified(tmp_path / "state"), (path, SHA)))
        for path in paths
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Verified(tmp_path / "state").hashes() == {identity_of(path): SHA for path in paths}


def test_without_a_folder_it_is_remembered_here(file: Path) -> None:
    memory = Verified()
    verify(memory, (file, SHA))
    assert memory.hash_of(identity_of(file)) == SHA


# ---- reading


@pytest.mark.parametrize("digest", [SHA, GIT])
def test_either_kind_of_hash(file: Path, digest: str) -> None:
    memory = Verified()
    verify(memory, (file, digest))
    assert memory.hashes() == {identity_of(file): digest}


def test_all_that_is_wrong_is_said_and_remembered(tmp_path: Path, file: Path) -> None:
    other, memory = tmp_path / "y.gguf", Verified()
    other.write_bytes(CONTENT[1:] + b"!")
    found = hashlib.sha256(other.read_bytes()).hexdigest()
    with pytest.raises(StepError) as caught:
        verify(memory, (other, SHA), (file, GIT[::-1]), (file, SHA))
    assert caught.value.message == (
        f"{other} has wrong bytes: its sha256 is {found}, not {SHA}; "
        f"{file} has wrong bytes: its git-sha1 is {GIT}, not {GIT[::-1]}"
    )
    assert not caught.value.retryable
    assert memory.hashes() == {identity_of(other): found, identity_of(file): SHA}


def test_it_says_how_far_it_is(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verifying, "BLOCK", 1000)
    monkeypatch.setattr(verifying, "REPORT_EVERY_S", 0.0)
    told: list[tuple[FileProgress, ...]] = []
    verify(Verified(), (file, SHA), progress=told.append)
    done = [files[0].done for files in told]
    assert done == sorted(done)
    assert (done[0], done[-1]) == (0, len(CONTENT))
    assert 1000 in done


def test_it_can_be_interrupted(file: Path) -> None:
    cancel = threading.Event()
    cancel.set()
    memory = Verified()
    with pytest.raises(InterruptedRunError, match="interrupted while"):
        verify(memory, (file, SHA), cancel=cancel)
    assert memory.hashes() == {}


def test_a_file_that_changes_meanwhile_is_not_known(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verifying, "REPORT_EVERY_S", 0.0)
    memory = Verified()
    with pytest.raises(StepError, match="changed while it was verified"):
        verify(memory, (file, SHA), progress=lambda _: os.utime(file))
    assert memory.hashes() == {}


# ---- what it means


def by_path(path: Path, sha256: str) -> Model:
    return Model.model_validate({"source": {"path": str(path), "sha256": sha256}})


def test_a_declared_hash(tmp_path: Path, file: Path) -> None:
    files = ModelFiles(str(tmp_path), str(tmp_path), Hub(str(tmp_path), ()))
    right, wrong = by_path(file, SHA), by_path(file, "0" * 64)
    seen = files.inspect(right, deep=False)
    assert (seen.status, seen.files[0].digest) == (FileStatus.PRESENT, SHA)
    files = ModelFiles(str(tmp_path), str(tmp_path), Hub(str(tmp_path), ()))
    files.verify(VerifyFiles(ModelName("m"), seen.folder, seen.files), quietly, NEVER)
    assert files.hashes() == {seen.identity: SHA}
    assert files.identity(seen.paths) == seen.identity
    assert files.identity([*seen.paths, "/none"]) == ""
    assert files.inspect(right, deep=False) == seen
    bad = files.inspect(wrong, deep=False)
    assert bad.status is FileStatus.BAD
    assert bad.reason == f"{file} has wrong bytes: its sha256 is {SHA}, not {'0' * 64}"
    assert bad.files[0].identity == seen.identity
    assert not bad.files[0].is_here
    assert bad.identity == ""
    assert ObservedFile("none", 1).is_here is False
