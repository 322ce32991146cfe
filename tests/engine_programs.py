"""The engines that this machine can run, for tests that start real servers.

In: the cache folder that .ci/build-llama-server fills, the installed packages. Out: how each
engine is started. The fake is always there; what is missing is named in pytest's header.
"""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path

from reconciler.drivers.engines import EMBEDDED_COMMAND

FAKE_LLAMA_SERVER = Path(__file__).parent / "fakes" / "fake_llama_server.py"


@dataclass(frozen=True, slots=True)
class EngineProgram:
    """One engine: a name for test reports, how it is started, how its answers last long."""

    name: str
    command: tuple[str, ...]
    endless: tuple[str, ...] = ("--ctx-size", "65536", "--parallel", "1")
    """Flags under which an answer without a limit outlives any test."""

    def __str__(self) -> str:
        return self.name


def llama_server() -> Path | None:
    """The real llama-server, if it was built into the cache."""
    cache = os.environ.get("LLM_RECONCILE_CACHE") or Path.home() / ".cache" / "llm-reconcile"
    built = sorted(Path(cache).glob("llama-server-*"))
    return built[-1] if built else None


def real_engines() -> list[EngineProgram]:
    """The engines that run llama.cpp."""
    found = []
    if importlib.util.find_spec("xllamacpp"):
        found.append(EngineProgram("embedded", EMBEDDED_COMMAND))
    binary = llama_server()
    if binary:
        found.append(EngineProgram("llama-server", (str(binary),)))
    return found


def all_engines() -> list[EngineProgram]:
    """The real ones and the fake."""
    slow = ("--fake-tokens", "1000000", "--fake-token-seconds", "0.002")
    return [*real_engines(), EngineProgram("fake", (str(FAKE_LLAMA_SERVER),), slow)]
