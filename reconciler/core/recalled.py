"""A machine as a snapshot shows it, asked of what another desired state wants.

In: a snapshot, a desired state, what a checkout has itself. Out: the `ObservedState` that a plan
needs, and of what the snapshot knows nothing, for people. What is not in it is taken as
`core.assumed` takes it: files as lock file and catalogue say, ports as free, flags as known.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, replace

from reconciler.core.assumed import assumed_engine, assumed_secrets, standing, stood_for
from reconciler.core.capacity import cards_matter, running_specs
from reconciler.core.desired import DesiredState
from reconciler.core.lockfile import Lock, Pin
from reconciler.core.observed import (
    FileStatus,
    GatewaySecrets,
    ObservedFiles,
    ObservedServer,
    ObservedState,
)
from reconciler.core.renders import ObservedRender, ObservedRenders
from reconciler.core.resolve import model_of
from reconciler.core.resources import ObservedDisk, ObservedMemory
from reconciler.core.site import Site
from reconciler.core.snapshot import Asked, Snapshot, asked_of, covered
from reconciler.core.words import ModelName, ModelState


@dataclass(frozen=True, slots=True)
class Checkout:
    """What lies beside the desired file, wherever that is."""

    lock: Lock | None
    """Its lock file's pins; None where they play no part."""
    templates: Mapping[str, str]
    """The gateway's, by file name."""
    renders: ObservedRenders
    """The templates of the user's own generated files; of the files themselves nothing is taken."""


@dataclass(frozen=True, slots=True)
class Recalled:
    """A machine as it was."""

    observed: ObservedState
    unknown: tuple[str, ...] = ()
    """What is wanted and was not looked at, in words."""


def recall(
    snapshot: Snapshot,
    desired: DesiredState,
    checkout: Checkout,
    now: float,
    *,
    anew: bool = False,
) -> Recalled:
    """The machine that a snapshot was taken of, with an eye to what is desired.

    `now`: seconds since the epoch; a suspension may be over since. `anew`: what runs is to be
    started anew.
    """
    seen, then, asked = snapshot.observed, snapshot.asked, asked_of(desired)
    is_same_engine = then.engine == asked.engine
    known = _known_files(snapshot, desired, asked, checkout.lock or {})
    files = _assumed_files(snapshot, desired, checkout.lock or {}) | known
    absent = {name for name, one in desired.models.items() if one.state is ModelState.ABSENT}
    store = {name: one for name, one in seen.store.repos.items() if name in absent}
    ports = {port: one for port, one in seen.ports.items() if port in asked.ports}
    observed = replace(
        seen,
        servers=tuple(_uncovered(one, desired) for one in seen.servers),
        nginx=seen.nginx if then.gateway["nginx"] == asked.gateway["nginx"] else ("nginx",),
        ports=ports,
        files=files,
        engine=seen.engine if is_same_engine else assumed_engine(desired),
        journal=seen.journal.at(now),
        has_listen_address=seen.has_listen_address or then.gateway["host"] != asked.gateway["host"],
        disks=_disks(snapshot, desired, files, store.keys()),
        memory=_memory(seen, desired, files, anew=anew),
        templates=checkout.templates,
        secrets=_secrets(snapshot, desired, asked),
        lock=checkout.lock,
        store=replace(seen.store, repos=store),
        outdated=seen.outdated if is_same_engine else {},
        renders=_renders(seen.renders or {}, desired, checkout.renders),
    )
    return Recalled(
        observed, tuple(_unknown(snapshot, desired, asked, files.keys() - known.keys()))
    )


def _uncovered(server: ObservedServer, desired: DesiredState) -> ObservedServer:
    """With the values of variables that are still what the desired state says."""
    model = desired.models.get(model_of(server.instance))
    wanted = model.env if model else {}
    env, base_env = (
        tuple(
            (name, wanted[name])
            if name in wanted and covered(server.spec, name, wanted[name]) == value
            else (name, value)
            for name, value in part
        )
        for part in (server.env, server.base_env)
    )
    return replace(server, env=env, base_env=base_env)


def _known_files(
    snapshot: Snapshot, desired: DesiredState, asked: Asked, lock: Lock
) -> dict[ModelName, ObservedFiles]:
    """Of the models whose files were looked for, under this name or another one."""
    seen, then = snapshot.observed, snapshot.asked.models
    names = {ask: name for name, ask in then.items()}
    found = {}
    for key, ask in asked.models.items():
        name = key if then.get(key) == ask else names.get(ask)
        files = seen.files.get(name) if name else None
        if name and files and desired.models[key].state is not ModelState.ABSENT:
            pin, before = lock.get(key), (seen.lock or {}).get(name)
            if pin is None or pin == before:
                found[key] = files
            elif files.pin and _stand_for_the_same(pin, files.pin):
                found[key] = replace(files, pin=pin)
    return found


def _stand_for_the_same(one: Pin, other: Pin) -> bool:
    return replace(one, facts=None) == replace(other, facts=None)


def _assumed_files(
    snapshot: Snapshot, desired: DesiredState, lock: Lock
) -> dict[ModelName, ObservedFiles]:
    """Of all models, as far as lock file and catalogue tell; what is known to be there is there."""
    site = Site(snapshot.root, snapshot.state, "")
    seen = snapshot.observed
    here = {digest: identity for identity, digest in seen.hashes.items()}
    for files in seen.files.values():
        for path, file in zip(files.paths, files.files, strict=True):
            if file.is_here:
                here |= {path: file.identity}
                here |= {file.digest: file.identity} if file.digest else {}
    return {
        ModelName(name): standing(stood_for(model, lock.get(ModelName(name)), site), here)
        for name, model in desired.models.items()
        if model.state is not ModelState.ABSENT
    }


def _disks(
    snapshot: Snapshot,
    desired: DesiredState,
    files: Mapping[ModelName, ObservedFiles],
    going: Set[ModelName],
) -> dict[ModelName, ObservedDisk]:
    """Where files are missing, or go."""
    known = snapshot.observed.disks
    missing = {
        name
        for name, one in files.items()
        if one.status is not FileStatus.PRESENT and desired.models[name].source.is_fetched
    }
    names = sorted(missing | going)
    return {name: disk for name in names if (disk := known.get(name, snapshot.disk))}


def _memory(
    seen: ObservedState,
    desired: DesiredState,
    files: Mapping[ModelName, ObservedFiles],
    *,
    anew: bool,
) -> ObservedMemory:
    """The cards are left out where a look at the machine would have left them out."""
    running = frozenset() if anew else running_specs(seen.servers)
    is_due = cards_matter(desired, files, seen.memory, running)
    return seen.memory if is_due else replace(seen.memory, gpus=None)


def _secrets(snapshot: Snapshot, desired: DesiredState, asked: Asked) -> GatewaySecrets:
    then, seen = snapshot.asked.gateway, snapshot.observed.secrets
    assumed = assumed_secrets(desired)
    has_keys, has_tls = (then[one] == asked.gateway[one] for one in ("keys_file", "tls"))
    if has_keys and has_tls:
        return seen
    keys = seen.keys if has_keys and seen.keys else assumed.keys
    if has_tls and seen.certificate:
        return GatewaySecrets(keys, seen.certificate, seen.valid_until)
    return replace(assumed, keys=keys)


def _renders(
    seen: ObservedRenders, desired: DesiredState, checkout: ObservedRenders
) -> ObservedRenders:
    wanted = {
        one.dest: replace(
            seen.get(one.dest, ObservedRender()),
            template=checkout[one.dest].template,
            problem=checkout[one.dest].problem,
        )
        for one in desired.renders
    }
    return {**seen, **wanted}


def _unknown(
    snapshot: Snapshot, desired: DesiredState, asked: Asked, assumed: set[ModelName]
) -> Iterator[str]:
    then, gateway = snapshot.asked, asked.gateway
    if then.engine != asked.engine:
        yield f"the engine `{desired.engine.command}`"
    yield from (f"the files of {name}" for name in sorted(assumed))
    for name, model in sorted(desired.models.items()):
        is_gone = model.state is ModelState.ABSENT and model.source.is_fetched
        if is_gone and then.models.get(ModelName(name)) != asked.models[ModelName(name)]:
            yield f"what the store holds of {name}"
    yield from (f"port {port}" for port in asked.ports if port not in then.ports)
    if desired.gateway and not desired.gateway.is_local and gateway["host"] != then.gateway["host"]:
        yield f"the address {gateway['host']}"
    words = {
        "nginx": f"the nginx `{gateway['nginx']}`",
        "keys_file": f"the keys in {gateway['keys_file']}",
        "tls": "the certificate",
    }
    yield from (said for key, said in words.items() if gateway[key] not in {then.gateway[key], ""})
    known = snapshot.observed.renders or {}
    yield from (f"what lies at {one.dest}" for one in desired.renders if one.dest not in known)
