"""Models that only embed, on the real engines: that they make no token is no sign of a wedge.

In: a tiny model of that kind, with every way of pooling. Out: what a probe says of its server.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from engine_programs import EngineProgram, real_engines
from engine_server import Server
from tiny_gguf import write_tiny_embedder

from reconciler.drivers.probes import HttpProber


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_embedder(tmp_path_factory.mktemp("embedder") / "embedder.gguf")


@pytest.mark.parametrize("pooling", ["mean", "none"])
@pytest.mark.parametrize("engine", real_engines(), ids=str)
def test_an_embedding_is_as_good_as_a_token(
    engine: EngineProgram, pooling: str, short_folder: Path, embedder: Path
) -> None:
    address = str(short_folder / "s.sock")
    flags = ("--embeddings", "--pooling", pooling)
    with Server(engine.command, embedder, address, *flags) as server:
        server.ready()
        assert HttpProber().make_token(f"unix:{address}", 10.0).trouble == ""


@pytest.mark.parametrize("engine", real_engines(), ids=str)
def test_what_gives_neither_serves_nobody(
    engine: EngineProgram, short_folder: Path, embedder: Path
) -> None:
    address = str(short_folder / "s.sock")
    with Server(engine.command, embedder, address) as server:
        server.ready()
        said = HttpProber().make_token(f"unix:{address}", 10.0).trouble
    assert said == "it answered HTTP 500 when asked for a token"
