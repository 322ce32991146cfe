"""From the desired state to the instances that should run.

In: `DesiredState` and the observed files. Out: one `Instance` for each wanted server process.
Which files a model stands for was found out before (`core.quants`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from reconciler.core.desired import DesiredState, Model
from reconciler.core.engine import LaunchSpec, launch_spec
from reconciler.core.observed import ObservedFiles
from reconciler.core.words import InstanceName, ModelName, ModelState

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Instance:
    """One server process that should run."""

    name: InstanceName
    model_name: ModelName
    model: Model
    spec: LaunchSpec
    address: str
    """`socket` behind the gateway (the slot names the path), else `127.0.0.1:PORT`."""


def tcp_port(address: str) -> int | None:
    """The port of an address like `127.0.0.1:8001`; None for a unix socket."""
    if address == "socket" or address.startswith("unix:"):
        return None
    return int(address.rpartition(":")[2])


def instance_name(model: ModelName, replica: int) -> InstanceName:
    """`NAME` for replica 0, `NAME[1]` and so on for the further ones."""
    return InstanceName(model if replica == 0 else f"{model}[{replica}]")


def model_of(instance: InstanceName) -> ModelName:
    """The model that an instance belongs to."""
    return ModelName(instance.partition("[")[0])


def instance_names(name: ModelName, model: Model) -> tuple[InstanceName, ...]:
    """The instances that a model stands for."""
    if model.state is not ModelState.RUNNING:
        return ()
    return tuple(instance_name(name, replica) for replica in range(model.replicas))


def resolve(
    desired: DesiredState, files: Mapping[ModelName, ObservedFiles]
) -> tuple[Instance, ...]:
    """All wanted instances, sorted by name."""
    found: list[Instance] = []
    for key, model in desired.models.items():
        name = ModelName(key)
        listen = "socket" if desired.gateway else f"{LOOPBACK}:{model.port}"
        spec_id = files[name].spec_id if name in files else ""
        spec = launch_spec(name, model, desired.engine, spec_id, listen)
        found += [Instance(one, name, model, spec, listen) for one in instance_names(name, model)]
    return tuple(sorted(found, key=lambda instance: instance.name))


def ports_of(desired: DesiredState) -> Mapping[int, str]:
    """The ports that the desired state listens on, with the host."""
    host = desired.gateway.host if desired.gateway else LOOPBACK
    ports = {
        model.port: host
        for name, model in desired.models.items()
        if model.port is not None and instance_names(ModelName(name), model)
    }
    return {**ports, desired.gateway.port: host} if desired.gateway else ports
