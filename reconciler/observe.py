"""Observe: ask every driver once, and freeze what they saw.

In: the desired state (to know which files and ports matter) and the drivers. Out: one
`ObservedState`. It changes nothing and decides nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from reconciler.core.desired import DesiredState, Model
from reconciler.core.observed import (
    FileStatus,
    ObservedFiles,
    ObservedGateway,
    ObservedServer,
    ObservedState,
)
from reconciler.core.resolve import LOOPBACK, instance_names, model_of
from reconciler.core.vitals import Verdict, Vitals, unasked
from reconciler.core.words import ModelName, ModelState, Phase
from reconciler.drivers.base import Cancel, Drivers, Files, Health

PARALLEL_FILES = 8
PARALLEL_LOOKS = 16
SETTLE_S = 5.0
PROGRESS_S = 2.0
"""How long a server with requests in hand may show no progress until `health` calls it stuck."""
PROGRESS_POLL_S = 0.5
LEAST_CPU_SECONDS = 0.1
"""CPU time in that while that proves work: of a prompt's n_batch tokens nothing shows for long.
More than answering our own questions costs (5 ms each at most)."""

_PHASES = {
    Health.READY: Phase.READY,
    Health.LOADING: Phase.STARTING,
    # It lives and nobody listens yet: it has just been started, or its engine loads first.
    Health.REFUSED: Phase.STARTING,
    Health.SILENT: Phase.UNHEALTHY,
}


def settle(drivers: Drivers, cancel: Cancel) -> None:
    """Wait out the moment between a start's fork and exec, left behind by a killed run.

    Such a child holds its slot and carries no label yet; without this it would be overlooked.
    """
    deadline = drivers.clock.monotonic() + SETTLE_S
    while drivers.runtime.unsettled() and drivers.clock.monotonic() < deadline:
        if cancel.wait(0.02):
            return


def observe(desired: DesiredState, drivers: Drivers) -> ObservedState:
    """Take one picture of the machine."""
    servers = observe_servers(drivers)
    gateway = drivers.gateway.observe()
    wanted = desired.gateway.nginx if desired.gateway else "auto"
    nginx, nginx_reason = drivers.gateway.locate(wanted)
    return ObservedState(
        boot_id=drivers.state.boot_id(),
        servers=servers,
        gateway=gateway,
        nginx=nginx,
        nginx_reason=nginx_reason,
        ports=drivers.ports.holders(_ports(desired), _ours(servers, gateway)),
        files=observe_files(desired, drivers, servers),
        engine=drivers.engines.find(desired.engine.kind, desired.engine.command),
        journal=drivers.state.read(),
        deaths=drivers.runtime.deaths(servers),
        disk_free_bytes=drivers.files.disk_free(),
        memory=replace(drivers.machine.memory(), gpus=drivers.gpus.cards()),
        templates=drivers.templates,
    )


def observe_servers(drivers: Drivers) -> tuple[ObservedServer, ...]:
    """The live servers with their phases."""
    servers = drivers.runtime.list()
    health = drivers.prober.health_all(
        server.address for server in servers if server.phase is not Phase.STOPPING
    )
    return tuple(
        server
        if server.phase is Phase.STOPPING
        else replace(server, phase=_PHASES[health[server.address]])
        for server in servers
    )


def examine_all(
    servers: Sequence[ObservedServer], drivers: Drivers, token_timeout: float, cancel: Cancel
) -> tuple[Vitals, ...]:
    """Ask all these servers at once how they do; a token may take `token_timeout` seconds."""
    if not servers:
        return ()
    with ThreadPoolExecutor(min(PARALLEL_LOOKS, len(servers))) as pool:
        return tuple(pool.map(lambda one: examine(one, drivers, token_timeout, cancel), servers))


def examine(
    server: ObservedServer, drivers: Drivers, token_timeout: float, cancel: Cancel
) -> Vitals:
    """Find out whether a server makes tokens, without waking one that sleeps.

    One with requests in hand is not given another: it shows by its progress that it works.
    """
    if known := unasked(server):
        return known
    name, address, prober = server.instance, server.address, drivers.prober
    counters = prober.counters(address)
    if counters is None:
        return Vitals(name, Verdict.SILENT, reason="it does not answer /metrics")
    if Vitals(name, Verdict.OK, counters=counters).in_hand:
        return _examine_busy(server, drivers, counters, cancel)
    if prober.is_sleeping(address):
        reason = "it has put its weights away; the next request wakes it"
        return Vitals(name, Verdict.ASLEEP, reason=reason, counters=counters)
    answer = prober.make_token(address, token_timeout)
    if not answer.trouble:
        return Vitals(name, Verdict.OK, answer.seconds, counters=counters)
    now = prober.counters(address) or counters
    if Vitals(name, Verdict.OK, counters=now).in_hand:
        # Others were faster: the token waited behind their requests.
        return _examine_busy(server, drivers, now, cancel)
    return Vitals(name, Verdict.SILENT, reason=answer.trouble, counters=now)


def _examine_busy(
    server: ObservedServer, drivers: Drivers, counters: Mapping[str, float], cancel: Cancel
) -> Vitals:
    clock, prober, name = drivers.clock, drivers.prober, server.instance
    before, cpu = prober.progress(server.address), drivers.runtime.cpu_seconds(server.ref)
    deadline = clock.monotonic() + PROGRESS_S
    while clock.monotonic() < deadline and not cancel.wait(PROGRESS_POLL_S):
        moved = prober.progress(server.address) != before
        worked = drivers.runtime.cpu_seconds(server.ref) - cpu >= LEAST_CPU_SECONDS
        if moved or worked:
            return Vitals(name, Verdict.BUSY, counters=counters)
    reason = f"in {PROGRESS_S:g} s it moved no token and used no CPU time"
    return Vitals(name, Verdict.STUCK, reason=reason, counters=counters)


def observe_files(
    desired: DesiredState, drivers: Drivers, servers: tuple[ObservedServer, ...]
) -> Mapping[ModelName, ObservedFiles]:
    """How the files of all models stand that are not `absent`."""
    loaded: dict[ModelName, set[str]] = {}
    for server in servers:
        loaded.setdefault(model_of(server.instance), set()).add(server.files)
    wanted = {
        ModelName(name): model
        for name, model in desired.models.items()
        if model.state is not ModelState.ABSENT
    }
    if not wanted:
        return {}
    with ThreadPoolExecutor(min(PARALLEL_FILES, len(wanted))) as pool:
        found = {
            name: pool.submit(_inspect, model, loaded.get(name, set()), drivers.files)
            for name, model in wanted.items()
        }
    return {name: future.result() for name, future in found.items()}


def _inspect(model: Model, loaded: set[str], files: Files) -> ObservedFiles:
    """Headers are read only of files that no server has loaded: a large one costs 0.1 s."""
    found = files.inspect(model, deep=False)
    if found.status is not FileStatus.PRESENT or found.identity in loaded:
        return found
    return files.inspect(model, deep=True)


def _ports(desired: DesiredState) -> Mapping[int, str]:
    """The ports that the desired state listens on, with the host."""
    host = desired.gateway.host if desired.gateway else LOOPBACK
    ports = {
        model.port: host
        for name, model in desired.models.items()
        if model.port is not None and instance_names(ModelName(name), model)
    }
    return {**ports, desired.gateway.port: host} if desired.gateway else ports


def _ours(servers: tuple[ObservedServer, ...], gateway: ObservedGateway) -> Mapping[int, str]:
    ours = {server.ref.pid: str(server.instance) for server in servers}
    masters = [gateway.master] if gateway.master else []
    return ours | {ref.pid: "gateway" for ref in [*masters, *gateway.orphans]}
