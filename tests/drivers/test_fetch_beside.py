"""Two downloads of one file: one fetches, the other waits, and tells how far the first one is."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
from fetch_rig import KIB, WEIGHTS, Rig
from hub_faults import sha_of
from hub_server import hub_server
from waiting import eventually

from reconciler.core.transfers import FileProgress
from reconciler.drivers.fetch.partial import came, partial_of

NAME = "model-Q4.gguf"


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Rig]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    with hub_server() as hub:
        made = Rig(hub, tmp_path / "store")
        made.add({NAME: WEIGHTS})
        yield made
    huggingface_hub.close_session()


def test_who_waits_tells_what_the_other_has(rig: Rig) -> None:
    rig.interrupt(at=400 * KIB)
    target = rig.blobs / sha_of(WEIGHTS)
    there, _ = came(target, len(WEIGHTS))
    assert 0 < there < len(WEIGHTS)
    told: list[tuple[FileProgress, ...]] = []
    other = os.open(partial_of(target), os.O_RDWR)
    fcntl.flock(other, fcntl.LOCK_EX)
    waiter = threading.Thread(target=rig.fetch, kwargs={"progress": told.append})
    waiter.start()
    eventually(lambda: any(files[0].done == there for files in told), "it tells what is there")
    assert waiter.is_alive()
    os.close(other)
    waiter.join()
    assert told[-1][0].done == len(WEIGHTS)
    rig.assert_right(WEIGHTS)
