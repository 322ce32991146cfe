"""Resource guards: why one server cannot be started now, though all others can.

In: a wanted instance, the observed state, the positions in the file. Out: one sentence a reason.
A blocked resource keeps what runs of it; the plan goes on for the others (exit 3). What is kept
holds its port, so one blocked instance can be the obstacle of another one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reconciler.core.capacity import disk_obstacle, memory_obstacle, surge_obstacles
from reconciler.core.cases import Case
from reconciler.core.desired import DesiredState, Model
from reconciler.core.engine import COMPANION_FIELDS, flag_name, to_flag
from reconciler.core.engine_help import FlagProblem, check_flags
from reconciler.core.observed import FileStatus, ObservedState
from reconciler.core.resolve import Instance, tcp_port
from reconciler.core.words import InstanceName, ModelName, Phase
from reconciler.errors import Position

Marks = Mapping[tuple[str | int, ...], Position]


ONCE_MORE = "tries it once more"
"""How the reason ends of what only an operator starts again."""
Obstacles = Mapping[InstanceName, tuple[str, ...]]
"""Instances that cannot be started -> all reasons why."""


@dataclass(frozen=True, slots=True)
class Scene:
    """What obstacles are looked for in."""

    desired: DesiredState
    observed: ObservedState
    marks: Marks
    store: str
    """The folder of fetched files, for people."""


def find_obstacles(cases: Sequence[Case], scene: Scene) -> dict[InstanceName, tuple[str, ...]]:
    """All reasons for each instance that should be started now and cannot."""
    found = {
        case.name: reasons
        for case in cases
        if case.wanted and case.needs_start
        if (reasons := (*obstacles(case.wanted, scene), *_given_up(case, scene.observed)))
    }
    surging = [one.wanted for one in cases if one.wanted and one.surges and one.name not in found]
    running = [one.keep for one in cases if one.wanted and one.keep]
    no_room = surge_obstacles(surging, running, scene.observed)
    found |= {name: (reason,) for name, reason in no_room.items()}
    while more := _behind(cases, found):
        found |= more
    return found


def staying_ports(cases: Sequence[Case], blocked: Obstacles) -> dict[int, InstanceName]:
    """The TCP ports of blocked instances: what runs of them is not stopped."""
    return {
        port: case.name
        for case in cases
        if case.name in blocked and case.keep
        if (port := tcp_port(case.keep.address)) is not None
    }


def _behind(cases: Sequence[Case], blocked: Obstacles) -> dict[InstanceName, tuple[str, ...]]:
    """The instances whose port a blocked one keeps."""
    staying = staying_ports(cases, blocked)
    return {
        case.name: (f"port {port} is still held by {staying[port]}, which is blocked",)
        for case in cases
        if case.wanted and case.needs_start and case.name not in blocked
        if (port := tcp_port(case.wanted.address)) in staying
    }


def cut_off(
    cases: Sequence[Case], blocked: Obstacles, gateway: str
) -> dict[InstanceName, tuple[str, ...]]:
    """Servers on a port of their own that would move behind a gateway that cannot be had."""
    return {
        case.name: (f"the gateway is blocked: {gateway}",)
        for case in cases
        if case.needs_start and case.name not in blocked
        if case.keep and tcp_port(case.keep.address) is not None
    }


def obstacles(wanted: Instance, scene: Scene) -> tuple[str, ...]:
    """All that keeps `wanted` from being started; empty when nothing does."""
    engine = scene.observed.engine
    found = [] if engine.kind else [engine.reason or "no engine was found"]
    found += file_obstacles(wanted.model_name, scene)
    found.append(memory_obstacle(wanted, scene.observed))
    if engine.kind:
        problems = check_flags(wanted.spec.flags, engine)
        found += [_flag_obstacle(wanted, one, scene.marks) for one in problems]
        found += _companion_obstacles(wanted, scene.observed)
    found.append(port_obstacle(wanted, scene.observed))
    return tuple(reason for reason in found if reason)


def _given_up(case: Case, observed: ObservedState) -> tuple[str, ...]:
    """Why a launch is not tried again that failed already, while what served before serves on."""
    last_exit, keep = observed.last_exit(case.name), case.keep
    if not last_exit or not last_exit.began or not keep or not case.wanted or case.restart:
        return ()
    if last_exit.spec != case.wanted.spec.hash or keep.spec == last_exit.spec:
        return ()
    # What failed before the one that serves was started is another story.
    if keep.phase is not Phase.READY or last_exit.at < keep.since:
        return ()
    found = f"this version was tried, and failed: {last_exit.reason}"
    return (f"{found}; `llm-reconcile restart {case.model_name}` {ONCE_MORE}",)


def _companion_obstacles(wanted: Instance, observed: ObservedState) -> list[str]:
    """Files that it is to be given, and the engine has no flag for."""
    files = observed.files.get(wanted.model_name)
    return [
        f"the engine knows no --{flag}, which `{COMPANION_FIELDS[flag]}` needs"
        for flag in sorted(files.companions if files else ())
        if flag not in observed.engine.flags
    ]


def file_obstacles(name: ModelName, scene: Scene) -> list[str]:
    """Why the files of a model cannot be had; empty when they can, or are here."""
    files = scene.observed.files.get(name)
    if files is None:
        return ["its files were not looked at"]
    if files.status not in {FileStatus.BAD, FileStatus.UNKNOWN}:
        return []
    room = disk_obstacle(name, scene.desired, scene.observed)
    return [files.reason or files.status, *([room] if room else [])]


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
