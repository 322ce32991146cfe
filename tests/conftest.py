"""What all tests share: folders short enough for unix sockets, a tiny real model, a last word.

In: nothing. Out: fixtures. Nothing here starts a process.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from engine_programs import real_engines
from hypothesis import settings
from proof_tools import BY_NIGHT, IS_NIGHT, NOT_TO_BE_HAD, lacks, missing
from tiny_gguf import write_tiny_gguf

settings.register_profile("dev", max_examples=100, deadline=None)
settings.register_profile("ci", max_examples=500, deadline=None, derandomize=True)
settings.register_profile("night", max_examples=5000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS", "dev"))

if "PYTEST_XDIST_WORKER" in os.environ and not os.environ.get("LLM_RECONCILE_MEASURE_ALL"):
    # Coverage makes every verb twice as slow: this worker is measured, what it starts is not.
    os.environ.pop("COVERAGE_PROCESS_START", None)


def pytest_sessionstart(session: pytest.Session) -> None:
    """The whole proof is not begun without what can be installed for it."""
    lost = [tool for tool in missing() if tool not in NOT_TO_BE_HAD]
    if os.environ.get("LLM_RECONCILE_WHOLE_PROOF") and lost:
        raise pytest.UsageError(f"the whole proof needs {', '.join(lost)}; see .ci/run")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what needs a tool that is not here; `pytest_terminal_summary` names the tool."""
    lost = [one for one in items if any(lacks(mark.args[0]) for mark in one.iter_markers("needs"))]
    if lost:
        config.hook.pytest_deselected(items=lost)
        items[:] = [one for one in items if one not in lost]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say which engines and tools the tests ran with: a missing one must not pass unseen."""
    running = {program.name for program in real_engines()}
    lost = f" (MISSING: {', '.join(missing())}; see .ci/run)" if missing() else ""
    late = "" if IS_NIGHT else f" (left to `make night`: {', '.join(BY_NIGHT)})"
    terminalreporter.write_line(f"engines: {', '.join(sorted({*running, 'fake'}))}{lost}{late}")


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


@pytest.fixture(autouse=True, scope="module")
def _defects_of_a_watch_are_raised(request: pytest.FixtureRequest) -> Iterator[None]:
    """In tests/watch: a law that is broken, or a kill, ends the round."""
    with pytest.MonkeyPatch.context() as patch:
        if request.path.parent.name == "watch":
            patch.setenv("LLM_RECONCILE_DEBUG", "1")
        yield
