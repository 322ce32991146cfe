"""Resource guards: why one server cannot be started now, though all others can.

In: a wanted instance, the observed state, the positions in the file. Out: one sentence, or "".
A blocked resource keeps what runs of it; the plan goes on for the others (exit 3). What is kept
holds its port, so one blocked instance can be the obstacle of another one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reconciler.core.cases import Case
from reconciler.core.desired import Model
from reconciler.core.engine import flag_name, to_flag
from reconciler.core.engine_help import FlagProblem, check_flags
from reconciler.core.observed import FileStatus, ObservedState
from reconciler.core.resolve import Instance, tcp_port
from reconciler.core.words import InstanceName
from reconciler.errors import Position

Marks = Mapping[tuple[str | int, ...], Position]


def find_obstacles(
    cases: Sequence[Case], observed: ObservedState, marks: Marks
) -> dict[InstanceName, str]:
    """The reason for each instance that should be started now and cannot."""
    found = {
        case.name: reason
        for case in cases
        if case.wanted and case.needs_start
        if (reason := obstacle(case.wanted, observed, marks))
    }
    while more := _behind(cases, found):
        found |= more
    return found


def staying_ports(
    cases: Sequence[Case], blocked: Mapping[InstanceName, str]
) -> dict[int, InstanceName]:
    """The TCP ports of blocked instances: what runs of them is not stopped."""
    return {
        port: case.name
        for case in cases
        if case.name in blocked and case.keep
        if (port := tcp_port(case.keep.address)) is not None
    }


def _behind(cases: Sequence[Case], blocked: Mapping[InstanceName, str]) -> dict[InstanceName, str]:
    """The instances whose port a blocked one keeps."""
    staying = staying_ports(cases, blocked)
    return {
        case.name: f"port {port} is still held by {staying[port]}, which is blocked"
        for case in cases
        if case.wanted and case.needs_start and case.name not in blocked
        if (port := tcp_port(case.wanted.address)) in staying
    }


def cut_off(
    cases: Sequence[Case], blocked: Mapping[InstanceName, str], gateway: str
) -> dict[InstanceName, str]:
    """Servers on a port of their own that would move behind a gateway that cannot be had."""
    return {
        case.name: f"the gateway is blocked: {gateway}"
        for case in cases
        if case.needs_start and case.name not in blocked
        if case.keep and tcp_port(case.keep.address) is not None
    }


def obstacle(wanted: Instance, observed: ObservedState, marks: Marks) -> str:
    """The first reason that keeps `wanted` from being started; empty when nothing does."""
    if observed.engine.kind is None:
        return observed.engine.reason or "no engine was found"
    files = observed.files.get(wanted.model_name)
    if files is None or files.status in {FileStatus.BAD, FileStatus.UNKNOWN}:
        return files.reason or files.status if files else "its files were not looked at"
    problems = check_flags(wanted.spec.flags, observed.engine)
    if problems:
        return "; ".join(_flag_obstacle(wanted, one, marks) for one in problems)
    return port_obstacle(wanted, observed)


def port_obstacle(wanted: Instance, observed: ObservedState) -> str:
    """The stranger on its public port, if there is one."""
    port = wanted.model.port
    holder = observed.ports.get(port) if port is not None else None
    if holder is None or holder.owner is not None:
        return ""
    return f"{holder}: stop it, or give {wanted.model_name} another `port`"


def _flag_obstacle(wanted: Instance, problem: FlagProblem, marks: Marks) -> str:
    """A flag's problem in front of its place, in the spelling of the section it stands in."""
    section, key = _written(wanted.model, problem.flag)
    near = problem.near if problem.flag == flag_name(key) else problem.near.removeprefix("no-")
    near = near.replace("-", "_") if section == "params" else near
    hint = f"; did you mean `{near}`?" if near else ""
    for base in (("models", wanted.model_name), ("defaults",)):
        if mark := marks.get((*base, section, key)):
            return f"{mark}: {problem.summary}{hint}"
    return f"{problem.summary}{hint}"


def _written(model: Model, flag: str) -> tuple[str, str]:
    """The section and the key of one of the model's flags in the file."""
    return next(
        (section, key)
        for section in ("params", "args")
        for key, value in getattr(model, section).items()
        if to_flag(key, value).name == flag
    )
