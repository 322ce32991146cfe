"""A machine that is as a desired state says, made of nothing but that state.

In: two desired states with their lock files' pins. Out: the `ObservedState` of a machine on which
the first one was applied, as far as a plan of the second one needs it. Nobody is asked: what such
a plan says of files is what the pins and the `quants` catalogue say, and of ports, memory and disk
it says nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from reconciler.core.desired import DesiredState, Model
from reconciler.core.engine import model_flags, owned_argv, user_argv
from reconciler.core.keys import GatewayKey
from reconciler.core.lockfile import Lock, Pin
from reconciler.core.observed import (
    FileStatus,
    GatewaySecrets,
    ObservedFile,
    ObservedFiles,
    ObservedGateway,
    ObservedServer,
    ObservedState,
    ProcessRef,
)
from reconciler.core.observed_engine import ObservedEngine
from reconciler.core.plan_gateway import wanted_gateway
from reconciler.core.resolve import Instance, resolve
from reconciler.core.site import Site
from reconciler.core.words import EngineKind, ModelName, ModelState, Phase

BOOT_ID = "assumed"


def applied(
    before: DesiredState,
    after: DesiredState,
    site: Site,
    locks: tuple[Lock, Lock],
    templates: Mapping[str, str],
) -> ObservedState:
    """The machine on which `before` was applied, with an eye to what `after` needs.

    `locks`: the pins of both, in the same order.
    """
    old, new = (_files(*one, site) for one in zip((before, after), locks, strict=True))
    here = {file.identity: file.identity for files in old.values() for file in files.files}
    seen = ObservedState(
        boot_id=BOOT_ID,
        nginx=("nginx",),
        engine=assumed_engine(before, after),
        files=old,
        templates=templates,
        lock=locks[0],
    )
    seen = replace(seen, servers=_servers(before, seen, site), secrets=assumed_secrets(before))
    gateway = wanted_gateway(before, site, seen, {})
    if gateway and gateway.rendered:
        made = gateway.rendered
        live = ObservedGateway(ProcessRef(1, 1), (), made.generation, outline=made.outline)
        seen = replace(seen, gateway=live)
    return replace(
        seen,
        files={name: standing(files, here) for name, files in new.items()},
        lock=locks[1],
        hashes=here,
        secrets=assumed_secrets(after),
    )


def assumed_engine(*states: DesiredState) -> ObservedEngine:
    """One that knows every flag: which of them the real one takes is not known here."""
    models = (model for state in states for model in state.models.values())
    flags = {flag.name: f"--{flag.name}" for model in models for flag in model_flags(model)}
    return ObservedEngine(EngineKind.LLAMA_SERVER, ("llama-server",), flags)


def assumed_secrets(desired: DesiredState) -> GatewaySecrets:
    """Keys and a certificate, where the gateway wants some: always the same, whatever they are."""
    gateway = desired.gateway
    keys = (GatewayKey("any", "0" * 64),) if gateway and gateway.keys_file else None
    if gateway and gateway.tls:
        return GatewaySecrets(keys, "assumed", "a day that is not known")
    return GatewaySecrets(keys)


def _servers(desired: DesiredState, seen: ObservedState, site: Site) -> tuple[ObservedServer, ...]:
    return tuple(
        _server(one, ProcessRef(2 + number, 1), seen, site)
        for number, one in enumerate(resolve(desired, seen.files))
    )


def _server(one: Instance, ref: ProcessRef, seen: ObservedState, site: Site) -> ObservedServer:
    files, known = seen.files[one.model_name], seen.engine.flags
    address = f"unix:{site.socket(one.name, 'a')}" if one.address == "socket" else one.address
    owned = owned_argv(one.model_name, files.given, address, known)
    return ObservedServer(
        ref=ref,
        instance=one.name,
        spec=one.spec.hash,
        phase=Phase.READY,
        slot="a",
        address=address,
        routed=True,
        command=seen.engine.command,
        argv=(*owned, *user_argv(one.spec.flags, known)),
        env=one.spec.env,
        files=files.identity,
    )


def _files(desired: DesiredState, lock: Lock, site: Site) -> dict[ModelName, ObservedFiles]:
    return {
        ModelName(name): stood_for(model, lock.get(ModelName(name)), site)
        for name, model in desired.models.items()
        if model.state is not ModelState.ABSENT
    }


def stood_for(model: Model, pin: Pin | None, site: Site) -> ObservedFiles:
    """What a model's source stands for, all of it on disk; a file is known by its content.

    By its path, where that is all there is: such a one begins with `/`.
    """
    source = model.source
    if source.path is not None:
        path = site.path(source.path)
        return _present(path, ObservedFile(path, 0, path))
    if source.url is not None:
        digest = source.sha256 or ""
        return _present("url", ObservedFile(source.place, 0, digest, digest))
    if pin and pin.covers(model):
        files = (
            ObservedFile(f"{pin.repo}/{one.name}", one.size, one.digest, one.digest)
            for one in pin.files
        )
        found = _present(f"{pin.repo}@{pin.commit}", *files)
        return replace(found, commit=pin.commit, pin=pin)
    asked = (source.repo, source.revision, model.quant, source.mmproj, source.draft)
    name = "/".join(str(part) for part in asked if part)
    found = _present(name, ObservedFile(name, model.quants.get(model.quant or "", 0), name))
    return replace(found, commit=source.revision or "")


def _present(spec_id: str, *files: ObservedFile) -> ObservedFiles:
    return ObservedFiles(FileStatus.PRESENT, files[0].name, spec_id, files)


def standing(files: ObservedFiles, here: Mapping[str, str]) -> ObservedFiles:
    """How such files stand where only these are on disk; one with a path is always there.

    `here`: what a file is known by (its hash, its path) -> its identity.
    """

    def identity(file: ObservedFile) -> str:
        own = file.identity
        return here.get(own, own if own.startswith("/") else "")

    found = tuple(replace(one, identity=identity(one)) for one in files.files)
    if all(one.is_here for one in found):
        return replace(files, files=found)
    return replace(files, status=FileStatus.MISSING, files=found)
