"""Whether this machine can hold what is wanted: bytes on disk, weights in memory.

In: the desired state, the observed files, disk and memory. Out: sentences for people: why a model
cannot be had here, or what will be slow. Sizes are the files' own, else those of `quants`.
What is in use now does not count: it can be stopped, perhaps by this very plan.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Set

from reconciler.core.desired import DesiredState, Model
from reconciler.core.engine import Flag
from reconciler.core.observed import FileStatus, ObservedFiles, ObservedServer, ObservedState
from reconciler.core.present import human_bytes
from reconciler.core.resolve import Instance, resolve
from reconciler.core.resources import ObservedDisk, ObservedMemory
from reconciler.core.words import InstanceName, ModelName, ModelState, Phase, SpecHash

_NO_FILES = ObservedFiles(FileStatus.UNKNOWN)
_WAYS = {"load-mode": "load-mode: mmap", "mmap": "mmap: true"}
"""Flags by which engines are told to leave the weights on disk -> how that is written."""
_MAPPED = frozenset({"mmap", "mmap+mlock"})
RESERVE_BYTES = 5 * 2**30
RESERVE_SHARE = 0.05
"""Downloads leave so much of a disk free: 5 GiB, or 5 % of a disk that is smaller than 100 GiB."""
_MOST_NAMES = 3
"""More models than this are counted, not named."""


def weights_of(model: Model, files: ObservedFiles) -> int:
    """Bytes of a model's weights; what `quants` says where nothing better is known, else 0."""
    return files.size or model.quants.get(model.quant or "", 0)


def running_specs(servers: Iterable[ObservedServer]) -> frozenset[tuple[InstanceName, SpecHash]]:
    """What runs, and is not on its way out."""
    staying = (one for one in servers if one.phase is not Phase.STOPPING)
    return frozenset((one.instance, one.spec) for one in staying)


def cards_matter(
    desired: DesiredState,
    files: Mapping[ModelName, ObservedFiles],
    memory: ObservedMemory,
    running: Set[tuple[InstanceName, SpecHash]],
) -> bool:
    """Whether it needs to be known what graphics cards there are.

    It does where something is to start, and the RAM cannot hold all.
    """
    wanted = resolve(desired, files)
    weights = sum(weights_of(one.model, files.get(one.model_name, _NO_FILES)) for one in wanted)
    is_due = any((one.name, one.spec.hash) not in running for one in wanted)
    return is_due and weights > memory.usable_bytes


def capacity_of(memory: ObservedMemory) -> int | None:
    """The most bytes of weights that the machine can hold; None where that cannot be told."""
    if not memory.ram_bytes or memory.gpus is None:
        return None
    known = [gpu.memory_bytes for gpu in memory.gpus if gpu.memory_bytes is not None]
    if len(known) < len(memory.gpus):
        return None
    return memory.usable_bytes + memory.swap_bytes + sum(known)


def memory_text(memory: ObservedMemory) -> str:
    """What there is: `23.5 GiB of RAM and no GPU`."""
    said = f"{human_bytes(memory.usable_bytes)} of RAM"
    if memory.usable_bytes < memory.ram_bytes:
        said += " (the limit of its cgroup)"
    if memory.swap_bytes:
        said += f", {human_bytes(memory.swap_bytes)} of swap"
    if memory.gpus is None:
        return said
    if not memory.gpus:
        return f"{said} and no GPU"
    count = f"{len(memory.gpus)} GPUs" if len(memory.gpus) > 1 else "a GPU"
    return f"{said} and {count} with {human_bytes(sum(g.memory_bytes or 0 for g in memory.gpus))}"


def memory_obstacle(wanted: Instance, observed: ObservedState) -> str:
    """Why the weights of an instance cannot be held; empty where they can, or will only be slow.

    Not enough is what certainly is too little: the weights of this one model are larger than all
    that the machine has (`capacity_of`). `rpc` puts weights on other machines and ends the
    judgement. llama.cpp can start such a model all the same, reading it from disk over and over:
    who wants that says so in the engine's own words, `load-mode: mmap`, and gets a warning
    instead; so does everybody whose engine has no such words.
    """
    if not _is_too_large(wanted, observed) or _is_mapped(wanted.spec.flags):
        return ""
    fitting = _fitting(wanted.model, observed.memory)
    known_to_fit = f" ({fitting} fits)" if fitting else ""
    said = (
        f"not enough memory: {_too_large(wanted, observed)}; choose a smaller quant{known_to_fit}"
    )
    if _must_hold(wanted.spec.flags):
        return said
    # Of an engine that is missing nothing is known, and its model does not start anyway.
    known = observed.engine.flags if observed.engine.kind else _WAYS
    words = next((said for name, said in _WAYS.items() if name in known), "")
    return f"{said}, or run it from disk, slowly: `args: {{{words}}}`" if words else ""


def _fitting(model: Model, memory: ObservedMemory) -> str:
    """The largest of a model's `quants` that the machine can hold."""
    capacity = capacity_of(memory) or 0
    sizes = [(size, quant) for quant, size in model.quants.items() if size <= capacity]
    return max(sizes, default=(0, ""))[1]


def surge_obstacles(
    surging: Iterable[Instance], running: Iterable[ObservedServer], observed: ObservedState
) -> dict[InstanceName, str]:
    """The new copies that do not fit beside all that runs, in their order, and why.

    Weights count as in `memory_obstacle`, with its exceptions. Without a GPU, copies that map one
    file share its memory (the kernel's page cache); on a GPU each has its own.
    """
    capacity = capacity_of(observed.memory)
    if capacity is None:
        return {}
    shares = not observed.memory.gpus
    held: dict[str, int] = {}
    for server in running:
        own = "" if shares else f"{server.ref.pid} "
        held |= {f"{own}{identity}": _size_in(identity) for identity in server.files.split(",")}
    found = {}
    for one in surging:
        if _is_elsewhere(one) or _is_mapped(one.spec.flags):
            continue
        own = "" if shares and not _must_copy(one.spec.flags) else f"{one.name} "
        files = observed.files.get(one.model_name, _NO_FILES)
        copies = {f"{own}{file.identity or file.name}": file.size for file in files.files}
        needed = held | (copies or {f"{own}?": weights_of(one.model, files)})
        if sum(needed.values()) <= capacity:
            held = needed
            continue
        found[one.name] = (
            "not enough memory for a second copy beside the one that serves (`rollout: surge`): "
            f"the weights of all that would run take {human_bytes(sum(needed.values()))}, "
            f"this machine has {memory_text(observed.memory)}; `rollout: recreate` stops the old "
            "one first"
        )
    return found


def _size_in(identity: str) -> int:
    """Bytes of a file, from its identity `device:inode:size:mtime_ns`; 0 where it has none."""
    parts = identity.split(":")
    return int(parts[2]) if len(parts) == 4 else 0


def memory_warnings(
    starting: Iterable[Instance], running: Iterable[Instance], observed: ObservedState
) -> tuple[str, ...]:
    """What will be slow once all of `starting` runs beside what runs already."""
    starting = tuple(starting)
    found = {
        f"{one.model_name} will read from disk over and over: {_too_large(one, observed)}"
        for one in starting
        if _is_too_large(one, observed)
    }
    weights = {
        one.model_name: weights_of(one.model, observed.files.get(one.model_name, _NO_FILES))
        for one in (*starting, *running)
        if not _is_elsewhere(one)
    }
    total, capacity = sum(weights.values()), capacity_of(observed.memory)
    if starting and not found and capacity is not None and total > capacity:
        found.add(
            f"the weights of all {len(weights)} running models take {human_bytes(total)} together, "
            f"this machine has {memory_text(observed.memory)}: they push each other out of memory"
        )
    return tuple(sorted(found))


def _is_too_large(wanted: Instance, observed: ObservedState) -> bool:
    files = observed.files.get(wanted.model_name, _NO_FILES)
    capacity = capacity_of(observed.memory)
    if capacity is None or _is_elsewhere(wanted):
        return False
    return weights_of(wanted.model, files) > capacity


def _is_elsewhere(wanted: Instance) -> bool:
    """Whether other machines may hold part of the weights."""
    return any(flag.name == "rpc" for flag in wanted.spec.flags)


def _too_large(wanted: Instance, observed: ObservedState) -> str:
    files = observed.files.get(wanted.model_name, _NO_FILES)
    count = weights_of(wanted.model, files)
    source = "" if files.size else f" ({count / 1e9:.0f} GB by `quants`)"
    there = memory_text(observed.memory)
    return f"its weights take {human_bytes(count)}{source}, this machine has {there}"


def _last_value(flags: Iterable[Flag], *names: str) -> str | None:
    """The value that counts of a flag under any of its names; empty for a bare one."""
    found = [flag.values[-1] if flag.values else "" for flag in flags if flag.name in names]
    return found[-1] if found else None


def _is_mapped(flags: Iterable[Flag]) -> bool:
    """Whether the user wants the weights mapped, which is more than leaving it to the engine."""
    flags = tuple(flags)
    return _last_value(flags, "load-mode", "lm") in _MAPPED or _last_value(flags, "mmap") == ""


def _must_hold(flags: Iterable[Flag]) -> bool:
    """Whether the user wants all weights held in memory."""
    flags = tuple(flags)
    locked = _last_value(flags, "load-mode", "lm") == "mlock" or _last_value(flags, "mlock") == ""
    return locked or _must_copy(flags)


def _must_copy(flags: Iterable[Flag]) -> bool:
    """Whether the user wants the weights read into memory of the process's own."""
    flags = tuple(flags)
    mode = _last_value(flags, "load-mode", "lm")
    return mode in {"none", "dio"} or _last_value(flags, "no-mmap") == ""


def to_fetch(
    desired: DesiredState, files: Mapping[ModelName, ObservedFiles]
) -> dict[ModelName, int]:
    """The models whose files are not here -> bytes still to be fetched, where they are known.

    A file that two of them share is fetched once, and counts for the first.
    """
    found: dict[ModelName, int] = {}
    counted: set[str] = set()
    for key, model in sorted(desired.models.items()):
        name = ModelName(key)
        seen = files.get(name, _NO_FILES)
        if model.state is ModelState.ABSENT or not model.source.is_fetched:
            continue
        if seen.status is FileStatus.MISSING:
            own = [file for path, file in seen.missing.items() if path not in counted]
            found[name] = sum(file.missing_bytes for file in own)
            counted |= seen.missing.keys()
        elif seen.status is FileStatus.UNKNOWN:
            found[name] = weights_of(model, seen)
    return {name: count for name, count in found.items() if count}


def reserve_of(disk: ObservedDisk) -> int:
    """Bytes of a disk that downloads leave free: logs, journals and others need some, too."""
    return min(RESERVE_BYTES, int(disk.size_bytes * RESERVE_SHARE))


def crowded(
    needs: Mapping[ModelName, int], observed: ObservedState
) -> Iterator[tuple[ObservedDisk, dict[ModelName, int]]]:
    """The disks that would be fuller than they may be -> who wants how much of them.

    `needs`: bytes still to be fetched. Room that is taken for them already is not needed twice.
    """
    wanted: dict[int, dict[ModelName, int]] = {}
    disks: dict[int, ObservedDisk] = {}
    for name, count in sorted(needs.items()):
        if disk := observed.disks.get(name):
            disks.setdefault(disk.device, disk)
            files = observed.files.get(name, _NO_FILES)
            wanted.setdefault(disk.device, {})[name] = max(count - files.held_bytes, 0)
    for device, disk in disks.items():
        total = sum(wanted[device].values())
        if total and total > disk.free_bytes - reserve_of(disk):
            yield disk, wanted[device]


def free_text(disk: ObservedDisk) -> str:
    """What a disk has for downloads: `7.0 GiB free in /data, of which 5.0 GiB stay free`."""
    free, reserve = human_bytes(disk.free_bytes), human_bytes(reserve_of(disk))
    return f"{free} free in {disk.folder}, of which {reserve} stay free"


def disk_obstacle(name: ModelName, desired: DesiredState, observed: ObservedState) -> str:
    """Why the files of a model whose source cannot be asked would not find room either.

    Of the others the plan guard speaks.
    """
    for disk, wanted in crowded(to_fetch(desired, observed.files), observed):
        if name in wanted:
            each = [f"{human_bytes(count)} for {one}" for one, count in wanted.items()]
            said = " and ".join(each)
            if len(each) > _MOST_NAMES:
                said = f"{human_bytes(sum(wanted.values()))} for {len(each)} models"
            return f"not enough disk: {said} to download (sizes by `quants`), {free_text(disk)}"
    return ""
