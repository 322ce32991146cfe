"""Observe: ask every driver once, and freeze what they saw.

In: the desired state (to know which files and ports matter) and the drivers. Out: one
`ObservedState`. It changes nothing and decides nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from reconciler.core.capacity import cards_matter, running_specs
from reconciler.core.desired import DesiredState, Model
from reconciler.core.lockfile import Lock, Pin
from reconciler.core.observed import (
    FileStatus,
    GatewaySecrets,
    ObservedFiles,
    ObservedGateway,
    ObservedServer,
    ObservedState,
    PortHolder,
)
from reconciler.core.prune import files_of, folder_of
from reconciler.core.resolve import model_of, ports_of
from reconciler.core.resources import ObservedDisk
from reconciler.core.stored import ObservedStore
from reconciler.core.vitals import Verdict, Vitals, unasked
from reconciler.core.words import ModelName, ModelState, Phase
from reconciler.drivers.base import Cancel, Drivers, Files, Health
from reconciler.errors import InvalidDesiredError, UsageError
from reconciler.patience import Effort

PARALLEL_FILES = 8
PARALLEL_LOOKS = 16
SETTLE_S = 5.0
PROGRESS_POLL_S = 0.5
SILENT_S = 2.5
"""How long one that says nothing may take to show by its work that it has its hands full."""

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


def observe(
    desired: DesiredState,
    drivers: Drivers,
    only: frozenset[ModelName] | None = None,
    lock: Lock | None = None,
    *,
    anew: bool = False,
    moving: frozenset[ModelName] = frozenset(),
) -> ObservedState:
    """Take one picture of the machine; with `only`, of the files of these models alone.

    What is not looked at cannot be started: a verb about one model need not ask the hub for others.
    `lock`: what the models of the hub stand for; those of `moving` are asked for anew.
    `anew`: what runs is to be started anew.
    """
    found, lost_roots = drivers.runtime.look()
    servers = _with_phases(found, drivers)
    files = observe_files(desired, drivers, servers, only, lock, moving)
    memory = drivers.machine.memory()
    running = frozenset() if anew else running_specs(servers)
    # Their drivers can be slow to answer, or broken: a stop must never hang on them.
    has_to_ask = cards_matter(desired, files, memory, running)
    gateway, ports = _gateway_and_ports(desired, drivers, servers)
    wanted = desired.gateway.nginx if desired.gateway else "auto"
    nginx, nginx_reason = drivers.gateway.locate(wanted)
    engine = drivers.engines.find(desired.engine.kind, desired.engine.command)
    return ObservedState(
        boot_id=drivers.state.boot_id(),
        servers=servers,
        gateway=gateway,
        nginx=nginx,
        nginx_reason=nginx_reason,
        ports=ports,
        has_listen_address=not desired.gateway or drivers.ports.has_address(desired.gateway.host),
        files=files,
        engine=engine,
        journal=drivers.state.read().at(drivers.clock.now()),
        deaths=drivers.runtime.deaths(servers),
        disks=observe_disks(desired, drivers, files),
        memory=replace(memory, gpus=drivers.gpus.cards() if has_to_ask else None),
        templates=drivers.templates,
        secrets=drivers.secrets.read(desired.gateway) if desired.gateway else GatewaySecrets(),
        lost_roots=lost_roots,
        lock=lock,
        hashes=drivers.files.hashes(),
        outdated=drivers.engines.outdated(engine, servers),
    )


def observe_servers(drivers: Drivers) -> tuple[ObservedServer, ...]:
    """The live servers with their phases."""
    return _with_phases(drivers.runtime.list(), drivers)


def _with_phases(
    servers: tuple[ObservedServer, ...], drivers: Drivers
) -> tuple[ObservedServer, ...]:
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
    server: ObservedServer,
    drivers: Drivers,
    token_timeout: float,
    cancel: Cancel,
    busy_timeout: float | None = None,
) -> Vitals:
    """Find out whether a server makes tokens, without waking one that sleeps.

    One with requests in hand is not given another: it shows by its progress that it works, within
    `busy_timeout` seconds (None: as long as a token may take).
    """
    busy_s = token_timeout if busy_timeout is None else busy_timeout
    known = unasked(server)
    if known and known.verdict is not Verdict.SILENT:
        return known
    name, address, prober = server.instance, server.address, drivers.prober
    counters = None if known else prober.counters(address)
    if counters is None:
        silent = known or Vitals(name, Verdict.SILENT, reason="it does not answer /metrics")
        found = _examine_busy(server, drivers, {}, SILENT_S, cancel)
        return found if found.verdict is Verdict.BUSY else silent
    if Vitals(name, Verdict.OK, counters=counters).in_hand:
        return _examine_busy(server, drivers, counters, busy_s, cancel)
    if prober.is_sleeping(address):
        reason = "it has put its weights away; the next request wakes it"
        return Vitals(name, Verdict.ASLEEP, reason=reason, counters=counters)
    answer = prober.make_token(address, token_timeout)
    if not answer.trouble:
        return Vitals(name, Verdict.OK, answer.seconds, counters=counters)
    now = prober.counters(address) or counters
    if Vitals(name, Verdict.OK, counters=now).in_hand:
        # Others were faster: the token waited behind their requests.
        return _examine_busy(server, drivers, now, busy_s, cancel)
    return Vitals(name, Verdict.SILENT, reason=answer.trouble, counters=now)


def _examine_busy(
    server: ObservedServer,
    drivers: Drivers,
    counters: Mapping[str, float],
    patience_s: float,
    cancel: Cancel,
) -> Vitals:
    """Whether it moves: a token more than at another look, or CPU time; it ends at the first.

    A card is asked last: it takes long, and a server that computes on one mostly shows it on a
    core too.
    """
    clock, prober, name = drivers.clock, drivers.prober, server.instance
    began = clock.monotonic()
    effort, deadline = Effort(drivers.runtime, server.ref, began), began + patience_s
    tokens = prober.progress(server.address)
    while clock.monotonic() < deadline and not cancel.wait(PROGRESS_POLL_S):
        # Fewer than before is no progress: a client may only have left, as we do ourselves.
        known, tokens = tokens, prober.progress(server.address) or tokens
        moved = known is not None and tokens is not None and tokens > known
        if effort.goes_on(clock.monotonic()) or moved:
            return Vitals(name, Verdict.BUSY, counters=counters)
    if drivers.gpus.are_busy(server.pids):
        return Vitals(name, Verdict.BUSY, counters=counters)
    reason = f"in {patience_s:g} s it moved no token and used neither CPU nor GPU time"
    return Vitals(name, Verdict.STUCK, reason=reason, counters=counters)


def observe_downloads(
    desired: DesiredState, drivers: Drivers, only: frozenset[ModelName], lock: Lock
) -> ObservedState:
    """What a download has to know: how the files of these models stand, and the disk."""
    files = observe_files(desired, drivers, (), only, lock)
    return ObservedState(files=files, lock=lock, disks=observe_disks(desired, drivers, files))


def observe_disks(
    desired: DesiredState, drivers: Drivers, files: Mapping[ModelName, ObservedFiles]
) -> Mapping[ModelName, ObservedDisk]:
    """The disks that missing files would go to."""
    models = {name: desired.models[name] for name in files}
    return {
        name: drivers.files.disk(model)
        for name, model in models.items()
        if model.source.is_fetched and files[name].status is not FileStatus.PRESENT
    }


def observe_absent(
    desired: DesiredState, drivers: Drivers, lock: Lock, seen: ObservedState
) -> ObservedState:
    """The same, with what is left of models that are to be absent, and the disks that it is on."""
    store = observe_store(desired, drivers, lock)
    disks = {name: drivers.files.disk(desired.models[name]) for name in store.repos}
    return replace(seen, store=store, disks={**seen.disks, **disks})


def observe_store(desired: DesiredState, drivers: Drivers, lock: Lock) -> ObservedStore:
    """What lies in the store of models that are to be absent, and who else needs it."""
    folders = {
        ModelName(name): folder_of(model.source)
        for name, model in desired.models.items()
        if model.state is ModelState.ABSENT and model.source.is_fetched
    }
    repos = drivers.store.repos(folders.values())
    found = {
        name: repos[folder]
        for name, folder in folders.items()
        if folder in repos
        and files_of(desired.models[name], lock.get(name), repos[folder]).has_files
    }
    if not found:
        return ObservedStore()
    try:
        elsewhere, doubt = drivers.store.elsewhere(), ""
    except InvalidDesiredError as error:
        elsewhere, doubt = {}, error.diagnostics[0].line
    except UsageError as error:
        elsewhere, doubt = {}, error.message
    return ObservedStore(found, elsewhere, drivers.store.open_files(), doubt)


def observe_files(
    desired: DesiredState,
    drivers: Drivers,
    servers: tuple[ObservedServer, ...],
    only: frozenset[ModelName] | None = None,
    lock: Lock | None = None,
    moving: frozenset[ModelName] = frozenset(),
) -> Mapping[ModelName, ObservedFiles]:
    """How the files of all models (or of these) stand that are not `absent`."""
    pins = lock or {}
    loaded: dict[ModelName, set[str]] = {}
    for server in servers:
        loaded.setdefault(model_of(server.instance), set()).add(server.files)
    wanted = {
        ModelName(name): model
        for name, model in desired.models.items()
        if model.state is not ModelState.ABSENT and (only is None or name in only)
    }
    if not wanted:
        return {}
    with ThreadPoolExecutor(min(PARALLEL_FILES, len(wanted))) as pool:
        found = {
            name: pool.submit(
                _inspect if name not in moving else _inspect_anew,
                model,
                pins.get(name),
                loaded.get(name, set()),
                drivers.files,
            )
            for name, model in wanted.items()
        }
    return {name: future.result() for name, future in found.items()}


def _inspect(model: Model, pin: Pin | None, loaded: set[str], files: Files) -> ObservedFiles:
    return _looked_into(files.inspect(model, pin, deep=False), model, pin, loaded, files)


def _inspect_anew(model: Model, pin: Pin | None, loaded: set[str], files: Files) -> ObservedFiles:
    found = files.latest(model, pin)
    return _looked_into(found, model, found.pin or pin, loaded, files)


def _looked_into(
    found: ObservedFiles, model: Model, pin: Pin | None, loaded: set[str], files: Files
) -> ObservedFiles:
    """Headers are read only of files that no server has loaded: a large one costs 0.1 s."""
    if found.status is not FileStatus.PRESENT or found.identity in loaded:
        return found
    return files.inspect(model, pin, deep=True)


def _gateway_and_ports(
    desired: DesiredState, drivers: Drivers, servers: tuple[ObservedServer, ...]
) -> tuple[ObservedGateway, Mapping[int, PortHolder]]:
    gateway = drivers.gateway.observe()
    ports = drivers.ports.holders(ports_of(desired), _ours(servers, gateway))
    if gateway.master is None and any(one.owner is None for one in ports.values()):
        # It may be our own nginx, begun by a run that was killed, and known by its title by now.
        gateway = drivers.gateway.observe()
        ports = drivers.ports.holders(ports_of(desired), _ours(servers, gateway))
    return gateway, ports


def _ours(servers: tuple[ObservedServer, ...], gateway: ObservedGateway) -> Mapping[int, str]:
    ours = {server.ref.pid: str(server.instance) for server in servers}
    masters = [gateway.master] if gateway.master else []
    return ours | {ref.pid: "gateway" for ref in [*masters, *gateway.orphans]}
