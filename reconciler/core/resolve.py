"""From the desired state to the instances that should run.

In: `DesiredState` and the observed files. Out: one `Instance` for each wanted server process.
Also: which of a hub repository's files a quant stands for. Nothing here asks the hub.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from reconciler.core.desired import DesiredState, Model
from reconciler.core.engine import LaunchSpec, launch_spec
from reconciler.core.observed import ObservedFiles
from reconciler.core.words import InstanceName, ModelName, ModelState

LOOPBACK = "127.0.0.1"
_SHARD = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$", re.IGNORECASE)
_TOTAL = re.compile(r"-of-\d{5}\.gguf$")


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


class QuantError(ValueError):
    """A quant names no file of the repository, or several candidates."""


def pick_files(names: Iterable[str], quant: str) -> tuple[str, ...]:
    """The files of a repository that `quant` stands for: one file, or all its shards in order.

    By the field's conventions: `*-<quant>.gguf`, `*.<quant>.gguf`, `<quant>/*`, ignoring case.

    Raises:
        QuantError: none or several candidates, or a shard missing; says what the repository has.
    """
    groups: dict[str, list[str]] = {}
    for name in sorted(names):
        if name.lower().endswith(".gguf") and "mmproj" not in name.lower():
            groups.setdefault(_SHARD.sub(r"-of-\2.gguf", name), []).append(name)
    stems = {group: _TOTAL.sub(".gguf", group) for group in groups}
    found = [group for group in groups if _is_quant(stems[group], quant)]
    # `UD-IQ2_XXS` ends in `IQ2_XXS`: the one that is called just so comes first.
    named = [group for group in found if _quant_of(stems[group]).lower() == quant.lower()]
    found = named or found
    if not found:
        has = ", ".join(sorted({_quant_of(stem) for stem in stems.values()})) or "no GGUF file"
        raise QuantError(f"no file for quant {quant}; the repository has: {has}")
    if len(found) > 1:
        candidates = ", ".join(sorted(groups[group][0] for group in found))
        raise QuantError(f"quant {quant} fits several files: {candidates}")
    shards = groups[found[0]]
    total = _SHARD.search(shards[0])
    if total and len(shards) != int(total[2]):
        raise QuantError(f"quant {quant} has {len(shards)} of its {int(total[2])} shards")
    return tuple(shards)


def _is_quant(stem: str, quant: str) -> bool:
    lower, wanted = stem.lower(), quant.lower()
    folder, _, name = lower.rpartition("/")
    ends = name.endswith((f"-{wanted}.gguf", f".{wanted}.gguf")) or name == f"{wanted}.gguf"
    return ends or wanted in folder.split("/")


def _quant_of(stem: str) -> str:
    folder, _, name = stem.rpartition("/")
    if folder:
        return folder
    match = re.search(
        r"[-.]((?:UD-)?(?:I?Q\d|TQ\d|BF16|F16|F32|MXFP4|NVFP4)\w*)\.gguf$", name, re.I
    )
    return match[1] if match else name
