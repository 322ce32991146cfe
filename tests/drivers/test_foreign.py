"""Reading Ollama's folders and other people's processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import eventually

from reconciler.drivers.foreign import (
    inner_store,
    ollama_folders,
    read_source,
    read_store,
    seen_servers,
)
from reconciler.errors import UsageError


def ollama(home: Path) -> Path:
    """A folder as Ollama keeps it: a manifest, one that is a link, one whose blob is gone."""
    models = home / ".ollama" / "models"
    (models / "blobs").mkdir(parents=True)
    (models / "blobs" / "sha256-a").write_bytes(b"{}")
    (models / "blobs" / "sha256-b").write_bytes(b"w" * 100_000)
    for number, name in enumerate(("manifests", "manifests-v2", "manifests-v2")):
        place = models / name / "registry.ollama.ai" / "library" / "x"
        place.mkdir(parents=True, exist_ok=True)
        if name == "manifests":
            (place / "old").write_bytes(b"{}")
        else:
            target = ("sha256-a", "sha256-gone")[number - 1]
            (place / f"new{number}").symlink_to(models / "blobs" / target)
    return models


def test_ollamas_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models = ollama(tmp_path)
    found = read_store(models)
    library = "registry.ollama.ai/library/x"
    assert sorted(found.manifests) == [f"manifests-v2/{library}/new1", f"manifests/{library}/old"]
    assert found.small == {"sha256-a": b"{}"}
    assert sorted(found.blobs) == ["sha256-a", "sha256-b"]
    assert inner_store(tmp_path / ".ollama") == inner_store(models) == models
    monkeypatch.setenv("HOME", str(tmp_path))
    assert next(iter(ollama_folders({}))) == models
    assert list(ollama_folders({"OLLAMA_MODELS": str(tmp_path)})) == []
    with pytest.raises(UsageError, match="is no folder of Ollama's"):
        read_store(tmp_path)
    (models / "blobs").rename(models / "elsewhere")
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        read_store(models)


def test_a_source_that_is_not_there(tmp_path: Path) -> None:
    for path, said in ((tmp_path / "no", "there is no file"), (tmp_path, "Is a directory")):
        with pytest.raises(UsageError, match=said):
            read_source(str(path))


def test_servers_are_seen_by_their_name(tmp_path: Path) -> None:
    words = ["/opt/llama-server", "-c", "import sys; sys.stdin.read()", "--port", "81"]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "7"}
    with subprocess.Popen(
        words, executable=sys.executable, cwd=tmp_path, env=environment, stdin=subprocess.PIPE
    ) as process:
        try:
            # Until its exec it is still called as we are.
            eventually(lambda: process.pid in {one.pid for one in seen_servers()}, "it is seen")
            found = [one for one in seen_servers() if one.pid == process.pid]
        finally:
            process.kill()
    assert found[0].words == tuple(words)
    assert found[0].folder == str(tmp_path)
    assert found[0].environment["CUDA_VISIBLE_DEVICES"] == "7"
    assert process.pid not in {one.pid for one in seen_servers()}
