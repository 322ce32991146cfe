"""Whether a running server's program is still the one that a new server would be.

In: a real program under the name of an engine, running. Out: what the finder says of it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from waiting import eventually

from reconciler.core.observed import ObservedServer, ProcessRef
from reconciler.core.observed_engine import ObservedEngine
from reconciler.core.words import EngineKind, InstanceName, Phase, SpecHash
from reconciler.drivers.engines import EngineFinder


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    """A program that runs for long."""
    return Path(shutil.copy("/bin/sleep", tmp_path / "llama-server"))


@pytest.fixture
def server(engine: Path) -> Iterator[ObservedServer]:
    child = subprocess.Popen([engine, "600"])
    ref = ProcessRef(child.pid, 1)
    yield ObservedServer(
        ref, InstanceName("a"), SpecHash("x"), Phase.READY, "a", "", True, command=(str(engine),)
    )
    child.kill()
    child.wait()


def changes(engine: Path, *servers: ObservedServer, kind: str = "llama-server") -> list[str]:
    finder = EngineFinder(engine.parent / "cache", engine.parent)
    found = finder.outdated(ObservedEngine(EngineKind(kind), (str(engine),)), servers)
    assert found.keys() <= {one.ref for one in servers}
    return list(found.values())


def install(engine: Path, content: bytes) -> None:
    """As packages do: a new file takes the old one's name."""
    new = engine.with_suffix(".new")
    new.write_bytes(content)
    new.chmod(0o755)
    os.utime(new, (1_700_000_000, 1_700_000_000))
    new.replace(engine)


def test_another_build_is_told_with_both_dates(engine: Path, server: ObservedServer) -> None:
    assert changes(engine, server) == []
    install(engine, engine.read_bytes() + b"another")
    [said] = changes(engine, server)
    assert said.startswith("engine changed: it runs the build of 20")
    assert said.endswith("now there is one of 2023-11-14 22:13 UTC")
    assert changes(engine, server, server) == [said]
    assert changes(engine, server, kind="embedded") == []


def test_the_same_build_installed_again_is_no_change(engine: Path, server: ObservedServer) -> None:
    install(engine, engine.read_bytes())
    assert changes(engine, server) == []
    changed = bytearray(engine.read_bytes())
    changed[-1] ^= 1
    install(engine, bytes(changed))
    assert len(changes(engine, server)) == 1


def test_what_was_started_by_this_very_file_is_no_change(
    engine: Path, server: ObservedServer
) -> None:
    """A wrapper that executes another program never looks like it."""
    install(engine, engine.read_bytes() + b"another")
    later = replace(server, since=engine.stat().st_ctime + 1)
    assert changes(engine, later) == []


def test_a_link_is_as_new_as_it_was_made_to_lead_there(
    engine: Path, server: ObservedServer
) -> None:
    install(engine, engine.read_bytes() + b"another")
    link = engine.with_name("link")

    def is_newer() -> bool:
        link.unlink(missing_ok=True)
        link.symlink_to(engine)
        return link.lstat().st_ctime > engine.stat().st_ctime

    eventually(is_newer, "the clock of the file system goes on")
    between = (engine.stat().st_ctime + link.lstat().st_ctime) / 2
    assert len(changes(link, replace(server, command=(str(link),), since=between))) == 1


def test_what_cannot_be_known_is_not_told(engine: Path, server: ObservedServer) -> None:
    install(engine, b"#!/bin/sh\nexec llama-server\n")
    assert changes(engine, server) == []
    engine.unlink()
    assert changes(engine, server) == []


def test_an_engine_elsewhere_is_not_compared(engine: Path, server: ObservedServer) -> None:
    other = Path(shutil.copy("/bin/cat", engine.with_name("other")))
    install(engine, engine.read_bytes() + b"another")
    assert changes(other, server) == []
