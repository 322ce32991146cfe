"""Resource guards: why one server cannot be started now, though all others can.

In: a wanted instance, the observed state, the positions in the file. Out: one sentence, or "".
A blocked resource keeps what runs of it; the plan goes on for the others (exit 3).
"""

from __future__ import annotations

from collections.abc import Mapping

from reconciler.core.desired import DesiredState
from reconciler.core.engine import check_flags, flag_name
from reconciler.core.observed import FileStatus, ObservedState
from reconciler.core.resolve import Instance
from reconciler.errors import Position

Marks = Mapping[tuple[str | int, ...], Position]


def obstacle(wanted: Instance, desired: DesiredState, observed: ObservedState, marks: Marks) -> str:
    """The first reason that keeps `wanted` from being started; empty when nothing does."""
    if observed.engine.kind is None:
        return observed.engine.reason
    files = observed.files.get(wanted.model_name)
    if files is None or files.status in {FileStatus.BAD, FileStatus.UNKNOWN}:
        return files.reason if files else "its files were not looked at"
    problems = check_flags(wanted.spec.flags, observed.engine)
    if problems:
        return "; ".join(
            f"{_where(wanted, desired, problem.flag, marks)}{problem.summary}"
            for problem in problems
        )
    port = wanted.model.port
    holder = observed.ports.get(port) if port is not None else None
    if holder is not None and holder.owner is None:
        return f"{holder}: stop it, or give {wanted.model_name} another `port`"
    return ""


def _where(wanted: Instance, desired: DesiredState, flag: str, marks: Marks) -> str:
    model = desired.models[wanted.model_name]
    for section in ("params", "args"):
        for key in getattr(model, section):
            if flag_name(key) in {flag, flag.removeprefix("no-")}:
                for base in (("models", wanted.model_name), ("defaults",)):
                    mark = marks.get((*base, section, key))
                    if mark:
                        return f"{mark}: "
    return ""
