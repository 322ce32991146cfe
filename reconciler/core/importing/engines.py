"""One engine for all: the program that most of the imported models were started with.

In: models that know their program. Out: `engine.command`, and a remark where a model had another.
A path from nowhere in particular is left to PATH.
"""

from __future__ import annotations

from reconciler.core.desired import DEFAULT_COMMAND
from reconciler.core.importing.carried import Imported


def settle_engine(imported: Imported) -> None:
    """Choose the engine."""
    programs = [model.program for model in imported.models if model.program]
    if not programs:
        return
    chosen = max(programs, key=programs.count)
    if chosen.startswith("/") or ("/" not in chosen and chosen != DEFAULT_COMMAND):
        imported.engine["command"] = chosen
    for model in imported.models:
        if model.program not in {"", chosen}:
            said = f"its program is {model.program}; here it is served by {chosen}"
            model.remark(model.where, said, "`engine.command` is one for all models")
