"""Fixtures of these tests: models, a hub that has them, a driver with a store and a cache."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
from hub_server import HubServer, hub_server
from pin_rig import QUICK, REPO, tiny_weights

from reconciler.drivers.hub import Hub


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """One quant in one file, one in three shards."""
    return tiny_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, weights: dict[str, bytes]) -> Iterator[HubServer]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with hub_server() as running:
        running.add(REPO, weights)
        yield running
    huggingface_hub.close_session()


@pytest.fixture
def client(hub: HubServer, tmp_path: Path) -> Hub:
    return Hub(
        str(tmp_path / "store"), (str(tmp_path / "other"),), endpoint=hub.endpoint, limits=QUICK
    )
