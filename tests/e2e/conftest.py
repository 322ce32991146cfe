"""Fixtures of the end-to-end tests: a lab a test, which must leave nothing behind."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from engine_programs import real_engines
from hub_server import HubServer
from tiny_gguf import write_tiny_gguf

from e2e import hub_lab, machine
from e2e.faults import Launcher, Quick, launcher
from e2e.lab import FAKE_ENGINE, Lab, engine_of


@pytest.fixture
def lab(short_folder: Path, tiny_model: Path) -> Iterator[Lab]:
    """A root with the embedded engine; whatever survives `down -y` fails the test."""
    made = Lab(short_folder, tiny_model)
    yield made
    assert made.close() == []


@pytest.fixture
def fakes(short_folder: Path, tiny_model: Path) -> Iterator[Lab]:
    """The same with the scriptable engine."""
    made = Lab(short_folder, tiny_model, engine=dict(FAKE_ENGINE))
    yield made
    assert made.close() == []


@pytest.fixture(params=[program.name for program in real_engines()])
def real(request: pytest.FixtureRequest, short_folder: Path, tiny_model: Path) -> Iterator[Lab]:
    made = Lab(short_folder, tiny_model, engine=engine_of(request.param))
    yield made
    assert made.close() == []


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Two quants of a tiny model: one in one file, one in two shards."""
    folder = tmp_path_factory.mktemp("tiny")
    write_tiny_gguf(folder / "tiny-Q4_0.gguf")
    write_tiny_gguf(folder / "tiny-Q8_0.gguf", seed=1, per_shard=6)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def hub(fakes: Lab, weights: dict[str, bytes]) -> Iterator[HubServer]:
    """A hub that has them, and that the lab knows."""
    with hub_lab.connected(fakes, weights) as running:
        yield running


@pytest.fixture(scope="session")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launcher]:
    """Starts the command quickly, and with faults in it."""
    with launcher(tmp_path_factory.mktemp("launcher")) as made:
        yield made


@pytest.fixture(scope="session", autouse=True)
def quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Verbs that are run to their end need not import all of it each time."""
    made = Quick(tmp_path_factory.mktemp("quick"))
    Lab.quick = made
    yield
    Lab.quick = None
    made.close()


class Stranger:
    """A process that is not ours and listens on a port."""

    def __init__(self) -> None:
        self.port = machine.free_port()
        code = (
            "import socket, time; held = socket.create_server(('127.0.0.1', "
            f"{self.port})); print('up', flush=True); time.sleep(600)"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "up\n"

    @property
    def unharmed(self) -> bool:
        return self.process.poll() is None

    def leave(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def stranger() -> Iterator[Stranger]:
    made = Stranger()
    yield made
    made.leave()
