"""Resource guards: why one server cannot be started now, though all others can.

In: a wanted instance, the observed state, the positions in the file. Out: one sentence a reason.
A blocked resource keeps what runs of it; the plan goes on for the others (exit 3). What is kept
holds its port, so one blocked instance can be the obstacle of another one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from reconciler.core.backoff import Hold, hold
from reconciler.core.capacity import disk_obstacle, memory_obstacle, surge_obstacles
from reconciler.core.cases import Case
from reconciler.core.causes import REBOOTED
from reconciler.core.desired import DesiredState
from reconciler.core.engine import COMPANION_FIELDS
from reconciler.core.engine_check import ambient_settings, check_model, in_order
from reconciler.core.observed import FileStatus, ObservedState
from reconciler.core.resolve import Instance, tcp_port
from reconciler.core.words import InstanceName, ModelName, Phase, SpecHash
from reconciler.errors import Diagnostic, Position, Severity

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
        if (reasons := (*obstacles(case.wanted, scene), *_tried(case, scene.observed)))
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
        problems = check_model(wanted.model_name, wanted.model, engine, scene.marks)
        found += [str(one) for one in problems if one.severity is Severity.ERROR]
        found += _companion_obstacles(wanted, scene.observed)
    found.append(port_obstacle(wanted, scene.observed))
    return tuple(reason for reason in found if reason)


def engine_warnings(cases: Sequence[Case], scene: Scene) -> tuple[Diagnostic, ...]:
    """What the engine would not heed, or would refuse of what runs: that goes on, for now."""
    engine, models = scene.observed.engine, scene.desired.models
    wanted = {case.model_name: models[case.model_name] for case in cases if case.wanted}
    starting = {case.model_name for case in cases if case.wanted and case.needs_start}
    found: dict[Diagnostic, None] = {}
    for name, model in wanted.items():
        for one in check_model(name, model, engine, scene.marks):
            if one.severity is Severity.WARNING:
                found[one] = None
            elif name not in starting:
                said = f"{name} runs on, but could not be started again: {one.summary}"
                found[replace(one, severity=Severity.WARNING, summary=said)] = None
    changed = {str(name): model for name, model in wanted.items() if name in starting}
    return (*in_order(found), *ambient_settings(changed, engine))


def launch_id(wanted: Instance, observed: ObservedState) -> str:
    """What a launch is known by when it failed: its spec, and the files that it was given."""
    files = observed.files.get(wanted.model_name)
    return f"{wanted.spec.hash} {files.identity if files else ''}".strip()


def held(wanted: Instance, observed: ObservedState) -> Hold | None:
    """Why a watch does not start it now: it ended by itself, and not for the first time."""
    crashes = observed.journal.crashes.get(wanted.name)
    return hold(crashes, launch_id(wanted, observed), observed.now)


def _tried(case: Case, observed: ObservedState) -> tuple[str, ...]:
    """Why what failed already is not tried (yet)."""
    waits = held(case.wanted, observed) if case.wanted else None
    if waits is None:
        return _given_up(case, observed)
    again = f"; `llm-reconcile restart {case.model_name}` {ONCE_MORE}"
    return (waits.reason if waits.until else f"{waits.reason}{again}",)


def _given_up(case: Case, observed: ObservedState) -> tuple[str, ...]:
    """Why a launch is not tried again that failed already, while what served before is there."""
    if not case.wanted or case.restart:
        return ()
    spec = case.wanted.spec.hash
    reason = noted_failure(case, spec, observed) or _seen_failure(case, spec, observed)
    if not reason:
        return ()
    found = f"this version was tried, and failed: {reason}"
    return (f"{found}; `llm-reconcile restart {case.model_name}` {ONCE_MORE}",)


def noted_failure(case: Case, spec: SpecHash, observed: ObservedState) -> str:
    """Why it failed in a run that was killed before it could end, or after that run; else empty."""
    known, death = observed.journal.last_good.get(case.name), observed.deaths.get(case.name)
    if known is None or known.tried != spec or known.launch.spec_hash == spec:
        return ""
    # That the machine went down is no fault of a version.
    died = death is not None and case.keep is None and death.reason != REBOOTED.reason
    return known.failed or (death.reason if death and died and known.began else "")


def _seen_failure(case: Case, spec: SpecHash, observed: ObservedState) -> str:
    """Why it failed, where what served before serves."""
    last_exit, keep = observed.last_exit(case.name), case.keep
    if not last_exit or not last_exit.began or not keep:
        return ""
    if last_exit.spec != spec or keep.spec == last_exit.spec:
        return ""
    # What failed before the one that serves was started is another story.
    if keep.phase is not Phase.READY or last_exit.at < keep.since:
        return ""
    return last_exit.reason


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
