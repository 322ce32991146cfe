"""Reading what other programs were told: their files, Ollama's store, llama-server processes.

In: what the user typed, or the places where these things usually are. Out: plain values for
`core.importing`. It looks only; of a process it reads what /proc shows.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from reconciler.core.importing.command import is_server
from reconciler.core.importing.ollama import FOLDERS, OllamaStore
from reconciler.core.importing.processes import SeenServer
from reconciler.core.parse import SourceText
from reconciler.drivers import proc
from reconciler.errors import UsageError

STDIN = "-"
_SMALL = 64 * 1024
"""Manifests and parameters are far smaller than this, weights far larger."""
_SYSTEM_STORE = "/usr/share/ollama/.ollama/models"
"""Where Ollama keeps its models when it runs as a service (docs/faq of Ollama)."""


def read_source(name: str) -> SourceText:
    """A file, or stdin.

    Raises:
        UsageError: there is no such file, or it cannot be read.
    """
    if name == STDIN:
        return SourceText("stdin", sys.stdin.buffer.read())
    try:
        return SourceText(name, Path(name).read_bytes())
    except FileNotFoundError:
        said = f"there is no file {name}"
        raise UsageError(said, hint="name a file, a folder of Ollama's, or `processes`") from None
    except OSError as error:
        raise UsageError(f"{name} cannot be read: {error.strerror}") from None


def ollama_folders(environment: Mapping[str, str]) -> Iterator[Path]:
    """The stores of this machine, the likeliest first."""
    named = environment.get("OLLAMA_MODELS")
    places = [named] if named else [str(Path.home() / ".ollama/models"), _SYSTEM_STORE]
    return (Path(one) for one in places if is_ollama_store(Path(one)))


def is_ollama_store(folder: Path) -> bool:
    """Whether Ollama's models lie here."""
    return any((folder / name).is_dir() for name in FOLDERS)


def inner_store(folder: Path) -> Path:
    """The store itself, where `~/.ollama` was named."""
    inner = folder / "models"
    return inner if is_ollama_store(inner) and not is_ollama_store(folder) else folder


def read_store(folder: Path) -> OllamaStore:
    """All that is small in a store, and the names of the rest.

    Raises:
        UsageError: it is no store, or it cannot be read.
    """
    if not is_ollama_store(folder):
        said = f"{folder} is no folder of Ollama's: it has no manifests"
        raise UsageError(said, hint="name the one that OLLAMA_MODELS is, like ~/.ollama/models")
    whole = folder.absolute()
    try:
        manifests = dict(_manifests(whole))
        blobs = {one.name: one.stat().st_size for one in os.scandir(whole / "blobs")}
        small = [name for name, size in blobs.items() if size <= _SMALL]
        contents = {name: (whole / "blobs" / name).read_bytes() for name in small}
    except OSError as error:
        said = f"{error.filename} cannot be read: {error.strerror}"
        raise UsageError(said, hint="run this as a user who may, like ollama or root") from None
    return OllamaStore(str(whole), manifests, contents, frozenset(blobs))


def _manifests(folder: Path) -> Iterator[tuple[str, bytes]]:
    for name in FOLDERS:
        for path in sorted((folder / name).glob("*/*/*/*")):
            if path.is_file():
                yield str(path.relative_to(folder)), path.read_bytes()


def seen_servers() -> tuple[SeenServer, ...]:
    """All processes that are called like a llama-server, whoever owns them."""
    return tuple(filter(None, map(_seen, proc.all_pids())))


def _seen(pid: int) -> SeenServer | None:
    words = proc.command_line(pid)
    if not words or not is_server(words[0]):
        return None
    return SeenServer(pid, words, proc.working_folder(pid), proc.environment(pid))
