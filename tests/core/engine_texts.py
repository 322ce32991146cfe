"""Help texts of engines, and the engines that they make.

In: the real one of a build of llama-server (what it prints). Out: an `ObservedEngine`.
"""

from __future__ import annotations

from pathlib import Path

from reconciler.core import engine_help
from reconciler.core.observed_engine import AmbientSetting, ObservedEngine
from reconciler.core.words import EngineKind

DATA = Path(__file__).parents[1] / "data"
REAL_HELP = (DATA / "engine-help" / "llama-server-b11434.txt").read_text(encoding="utf-8")


def engine_of(text: str, *ambient: AmbientSetting) -> ObservedEngine:
    """A llama-server whose `--help` prints `text`."""
    command = ("/bin/llama-server",)
    return engine_help.engine_of(EngineKind.LLAMA_SERVER, command, text, ambient)


REAL = engine_of(REAL_HELP)
