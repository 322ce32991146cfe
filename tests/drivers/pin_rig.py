"""One repository with tiny real models, and what its pins are asked with.

In: a folder, what was observed. Out: weights by name, pins, downloads.
"""

from __future__ import annotations

import threading
from pathlib import Path

from hub_models import asked
from hub_server import HubServer
from tiny_gguf import write_tiny_gguf

from reconciler.core.desired import Source
from reconciler.core.lockfile import Pin
from reconciler.core.observed import ObservedFiles
from reconciler.core.plan import FetchFiles
from reconciler.core.words import ModelName
from reconciler.drivers.fetch.order import Limits
from reconciler.drivers.hub import Hub

REPO = "org/x-GGUF"
NEVER = threading.Event()
Q4, Q8 = asked(REPO, "main", "Q4_0"), asked(REPO, "main", "Q8_0")
QUICK = Limits(files=1, first_pause_s=0.001, stall_s=2, tries=6)


def tiny_weights(folder: Path) -> dict[str, bytes]:
    """One quant in one file, one in several shards."""
    write_tiny_gguf(folder / "x-Q4_0.gguf")
    write_tiny_gguf(folder / "x-Q8_0.gguf", seed=1, per_shard=5)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def pin_of(found: ObservedFiles) -> Pin:
    assert found.pin is not None
    return found.pin


def fetch(client: Hub, found: ObservedFiles) -> None:
    files = tuple(one for one in found.files if not one.identity)
    step = FetchFiles(ModelName("m"), Source(repo=REPO), found.commit, files)
    client.fetch(step, lambda *_: None, NEVER)


def gets(hub: HubServer) -> list[str]:
    return [one for one in hub.requests if one.startswith("GET /cdn/")]
