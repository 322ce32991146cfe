"""A lab whose models come from a hub on this machine.

In: the lab, weights. Out: the hub, models of the desired file, the lab's pins.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from hub_server import HubServer, hub_server

from e2e.lab import Lab
from reconciler.core.lock_reader import read_lock
from reconciler.core.lockfile import Pin
from reconciler.core.words import ModelName

REPO = "org/tiny-GGUF"
NOTHING = "No changes. The machine matches desired/x.yaml.\n"


@contextlib.contextmanager
def connected(lab: Lab, weights: Mapping[str, bytes]) -> Iterator[HubServer]:
    with hub_server() as running:
        running.add(REPO, weights)
        lab.variables |= {"HF_ENDPOINT": running.endpoint, "NO_PROXY": "127.0.0.1,localhost"}
        yield running


def model(quant: str = "Q4_0", **more: Any) -> dict[str, Any]:
    return {"source": {"repo": REPO}, "quant": quant, **more}


def pin(lab: Lab, name: str = "a") -> Pin:
    return read_lock(lab.lock.name, lab.lock.read_bytes())[ModelName(name)]
