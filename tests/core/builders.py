"""Small builders of desired and observed states, for the tests of the planner.

In: what a test is about, as keywords. Out: the core's own values, with dull defaults for the rest.
The templates are the least that has a generation: they say as JSON where nginx would listen.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from reconciler.core.capacity import RESERVE_BYTES
from reconciler.core.desired import DesiredState, Model
from reconciler.core.gguf import Facts
from reconciler.core.launch import Launch
from reconciler.core.lockfile import LockedFile, Pin
from reconciler.core.observed import (
    FileStatus,
    ObservedFile,
    ObservedFiles,
    ObservedGateway,
    ObservedServer,
    ObservedState,
    PortHolder,
    ProcessRef,
)
from reconciler.core.observed_engine import ObservedEngine
from reconciler.core.plan import Plan, RenderedGateway, Step
from reconciler.core.plan_gateway import wanted_gateway
from reconciler.core.planner import make_plan
from reconciler.core.resolve import Instance, model_of, resolve, tcp_port
from reconciler.core.resources import ObservedDisk
from reconciler.core.site import Site
from reconciler.core.words import EngineKind, InstanceName, ModelName, Phase, SpecHash

SITE = Site(root="/r", state="/s", desired="desired/x.yaml", lock="desired/x.lock.yaml")
ENGINE = ObservedEngine(
    EngineKind.EMBEDDED,
    ("/bin/engine",),
    flags={"ctx-size": "--ctx-size", "c": "-c", "temp": "--temp", "jinja": "--jinja"},
    removed={"draft": "use --spec-draft"},
)
TEMPLATES = {
    "nginx.conf.j2": """{{ {
        "listen": view.listen,
        "names": view.server_names,
        "models": router.models,
        "keys": view.keys and view.keys | map(attribute="digest") | list,
        "tls": view.tls and view.tls.key,
        "hold": view.hold_s and "@again_ %s" % view.hold_s,
    } | tojson }}""",
}
NGINX = ObservedGateway(master=ProcessRef(50, 5))
_pids = itertools.count(1000)


def desired(models: Mapping[str, Any], gateway: object = True, **rest: object) -> DesiredState:
    """A desired state; each model has a path source unless it says another one."""
    whole = {name: {"source": {"path": f"{name}.gguf"}, **each} for name, each in models.items()}
    front = {} if gateway is True else gateway or None
    return DesiredState.model_validate({"version": 1, "gateway": front, "models": whole, **rest})


def files_of(
    model: Model, status: FileStatus = FileStatus.PRESENT, size: int = 140
) -> ObservedFiles:
    """The files of a model, as the drivers would see them."""
    source = model.source
    if source.path is not None:
        path = spec_id = f"/r/{source.path}"
    elif source.url is not None:
        path, spec_id = f"/r/models/urls/blobs/{source.sha256}", "url"
    else:
        path = f"/r/models/{source.repo}/{model.quant}.gguf"
        spec_id = f"{source.repo}@{'c' * 40}/{model.quant}.gguf"
    here = status is FileStatus.PRESENT
    file = ObservedFile(path.rpartition("/")[2], size, f"1:2:{size}:3" if here else "")
    reason = "" if status in {FileStatus.PRESENT, FileStatus.MISSING} else f"{path} is {status}"
    return ObservedFiles(status, path, spec_id, (file,), "c" * 40, reason)


def pin_of(model: Model, *, is_read: bool = True) -> Pin:
    """What the lock file should say of a model of the hub."""
    source, file = model.source, files_of(model).files[0]
    return Pin(
        str(source.repo),
        source.revision,
        str(model.quant),
        "c" * 40,
        (LockedFile(file.name, file.size, "5" * 64),),
        facts=Facts("llama") if is_read else None,
    )


def with_pin(files: ObservedFiles, model: Model, pin: Pin | None) -> ObservedFiles:
    """The same files with their pin: the one there is if it covers the model."""
    if model.source.repo is None or files.status is FileStatus.UNKNOWN:
        return files
    if pin is None or not pin.covers(model):
        pin = pin_of(model, is_read=files.status is FileStatus.PRESENT)
    return replace(files, pin=pin)


def all_files(state: DesiredState, **special: ObservedFiles) -> dict[ModelName, ObservedFiles]:
    """The files of all models, here unless `special` says otherwise."""
    return {
        ModelName(name): special.get(name, files_of(model)) for name, model in state.models.items()
    }


def instances(state: DesiredState) -> dict[str, Instance]:
    """The wanted instances by name."""
    return {one.name: one for one in resolve(state, all_files(state))}


def server(state: DesiredState, name: str, **special: Any) -> ObservedServer:
    """The server that `state` wants under `name`, ready and routed; or as `special` says."""
    wanted = instances(state)[name]
    slot = special.get("slot", "a")
    port = tcp_port(wanted.address)
    address = wanted.address if port else f"unix:{SITE.socket(wanted.name, slot)}"
    flags = [part for flag in wanted.spec.flags for part in (f"--{flag.name}", *flag.values)]
    path = files_of(wanted.model).path
    whole: dict[str, Any] = {
        "ref": ProcessRef(next(_pids), 7),
        "spec": wanted.spec.hash,
        "phase": Phase.READY,
        "address": address,
        "routed": True,
        "argv": ("--model", path, "--alias", model_of(wanted.name), *flags),
        "env": wanted.spec.env,
        "files": files_of(wanted.model).identity,
    }
    return ObservedServer(**{"instance": wanted.name, "slot": slot, **whole, **special})


def stray(name: str, **special: Any) -> ObservedServer:
    """A server of a spec that nobody wants any more."""
    slot = special.get("slot", "a")
    whole: dict[str, Any] = {
        "ref": ProcessRef(next(_pids), 7),
        "spec": SpecHash("0" * 12),
        "phase": Phase.READY,
        "slot": slot,
        "address": f"unix:{SITE.socket(InstanceName(name), slot)}",
        "routed": True,
    }
    return ObservedServer(**{"instance": InstanceName(name), **whole, **special})


def observed(state: DesiredState, *servers: ObservedServer, **special: Any) -> ObservedState:
    """A machine with these servers, all files of `state`, and nginx as `state` wants it."""
    whole: dict[str, Any] = {
        "servers": servers,
        "files": all_files(state),
        "engine": ENGINE,
        "nginx": ("/bin/nginx",),
        "templates": TEMPLATES,
    }
    seen = ObservedState(**{**whole, **special})
    if "gateway" in special or state.gateway is None:
        return seen
    wanted = rendered(state, seen)
    gateway = replace(NGINX, generation=wanted.generation, outline=wanted.outline)
    return replace(seen, gateway=gateway)


def disk(free: int, device: int = 1, folder: str = "/r/models") -> ObservedDisk:
    """A disk with so much that downloads may have; 5 GiB more are free."""
    return ObservedDisk(device, folder, free + RESERVE_BYTES, 10**15)


def disks(one: ObservedDisk, *names: str) -> dict[ModelName, ObservedDisk]:
    """These models' files go to this disk."""
    return dict.fromkeys(map(ModelName, names), one)


def rendered(state: DesiredState, seen: ObservedState) -> RenderedGateway:
    """What nginx should run."""
    wanted = wanted_gateway(state, SITE, seen, {})
    assert wanted is not None
    assert wanted.rendered is not None
    return wanted.rendered


def launched(ref: ProcessRef, launch: Launch, phase: Phase) -> ObservedServer:
    """The server that a launch leads to, not routed yet."""
    return ObservedServer(
        ref=ref,
        instance=launch.instance,
        spec=launch.spec_hash,
        phase=phase,
        slot=launch.slot,
        address=launch.address,
        routed=False,
        argv=launch.argv,
        env=launch.env,
        files=launch.files,
    )


def running(state: DesiredState, **special: Any) -> ObservedState:
    """The machine just as `state` wants it."""
    return observed(state, *(server(state, name) for name in instances(state)), **special)


def holders(*strangers: int, **ours: int) -> dict[int, PortHolder]:
    """Who holds which port: strangers, and `name=port` for ours."""
    found = {port: PortHolder(port, 77, "sleep 1") for port in strangers}
    return found | {port: PortHolder(port, 5, "x", name) for name, port in ours.items()}


def plan(state: DesiredState, seen: ObservedState) -> Plan:
    """The plan for this site."""
    return make_plan(state, SITE, seen)


def ports_in(config: RenderedGateway) -> set[int]:
    """The ports that nginx would listen on with this configuration of `TEMPLATES`."""
    said = json.loads(config.files["nginx.conf"])
    own = {one["port"] for one in said["models"] if one["instances"] and one["port"]}
    return {int(said["listen"].rpartition(":")[2]), *own}


def steps_of(made: Plan) -> list[str]:
    """The steps as short texts: `3 StartServer instance.a <1,2 ~4`: needs 1 and 2, after 4."""
    return [_short(step) for step in made.steps]


def _short(step: Step) -> str:
    before = ((" <", step.needs), (" ~", step.after))
    order = "".join(f"{sign}{','.join(map(str, some))}" for sign, some in before if some)
    return f"{step.number} {type(step.effect).__name__} {step.address}{order}"
