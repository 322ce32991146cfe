"""What all tests share: folders short enough for unix sockets, a tiny real model, the header.

In: nothing. Out: fixtures. Nothing here starts a process.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from engine_programs import real_engines
from tiny_gguf import write_tiny_gguf


def pytest_report_header() -> str:
    """Say which engines the contract tests run with: a missing one must not pass unseen."""
    running = {program.name for program in real_engines()}
    missing = {"embedded", "llama-server"} - running
    lost = f" (MISSING: {', '.join(sorted(missing))})" if missing else ""
    return f"engines: {', '.join(sorted({*running, 'fake'}))}{lost}"


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder of this test whose path leaves room for sockets (107 bytes in all)."""
    folder = Path(tempfile.mkdtemp(prefix="lr", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real model of 140 KB with room for very long answers. Do not change it."""
    return write_tiny_gguf(tmp_path_factory.mktemp("model") / "tiny.gguf", context=65536)
