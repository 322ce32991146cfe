"""What is missing on this machine, and what to do: facts become checks.

In: `Facts`. Out: one `Check` a thing looked at: ok, warn (it works, but), bad (something that is
needed is missing). To add a check, write a function below and name it in `CHECKS`.
Pure: it judges what `survey` saw, and asks nothing.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum

from reconciler.core.capacity import memory_text, weights_of
from reconciler.core.cards import asks_for_cards, cards_text, number_of_no_card
from reconciler.core.desired import Model
from reconciler.core.engine import Flag, model_flags
from reconciler.core.facts import Facts, Folder
from reconciler.core.observed import FileStatus, ObservedFiles
from reconciler.core.present import human_bytes
from reconciler.core.words import EngineKind, ModelName, ModelState

WIDTH = 80
_NAME_WIDTH = 14
_MARK_WIDTH = 5

OLDEST_NGINX = (1, 22)
LEAST_OPEN_FILES = 1024
"""What each worker of the gateway's nginx may have open (`worker_connections`)."""
LEAST_PROCESSES = 1024
"""Twenty llama-servers on a machine of 32 cores have about so many threads, which count too."""
NETWORK = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "lustre", "beegfs", "gpfs"}
)
"""File systems on other machines, besides `fuse.*` ones like sshfs and glusterfs."""
LACKS = {
    "js_import": "njs, built in: it routes by the body's `model`",
    "js_shared_dict_zone": "njs 0.8: it remembers for a second which servers are ready",
    "js_periodic": "njs 0.8.1: it counts the requests for /metrics",
    "keepalive_min_timeout": "nginx 1.27.4: it lets a reload fail no request",
    "keepalive 0": "a newer nginx: it lets a replaced server be seen at once",
    "http2 on": "nginx 1.25.1 with ssl: many requests of a client share a connection",
    "ssl_object_cache_inheritable": "nginx 1.27.4: it lets a new certificate be seen",
}
"""Directives of the gateway that a system's nginx may lack -> what they need, what they are for."""


class Mark(StrEnum):
    """How a check came out."""

    OK = "ok"
    WARN = "warn"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at; `hint` says what to do, each line a thing of its own."""

    name: str
    status: Mark
    summary: str
    hint: str = ""


def examine(facts: Facts) -> tuple[Check, ...]:
    """All checks, in the order in which a machine is set up."""
    return tuple(check for one in CHECKS for check in one(facts))


def is_healthy(checks: Sequence[Check]) -> bool:
    """Nothing that is needed is missing."""
    return all(check.status is not Mark.BAD for check in checks)


def doctor_values(checks: Sequence[Check]) -> dict[str, object]:
    """`doctor --json`."""
    return {"healthy": is_healthy(checks), "checks": [asdict(check) for check in checks]}


def doctor_text(checks: Sequence[Check]) -> str:
    """A line a check, what to do below it, and the sum of it. It is made to fit 80 columns."""
    lines = [line for check in checks for line in _lines(check)]
    bad = sum(check.status is Mark.BAD for check in checks)
    warned = sum(check.status is Mark.WARN for check in checks)
    said = f"{bad} missing or wrong" if bad else "Nothing that is needed is missing"
    also = f", {warned} to look at" if warned else ""
    return "\n".join([*lines, "", f"{said}{also}."]) + "\n"


def _lines(check: Check) -> list[str]:
    head = f"{check.status:<{_MARK_WIDTH}}{check.name:<{_NAME_WIDTH}} "
    first = _wrap(check.summary, head, " " * len(head))
    indent, hints = " " * (_MARK_WIDTH + 2), check.hint.splitlines()
    # What belongs to the line above it is no point of its own.
    starts = ((hint.strip(), " " if hint.startswith(" ") else "-") for hint in hints)
    rest = [_wrap(hint, f"{indent}{sign} ", f"{indent}  ") for hint, sign in starts]
    return [line for part in (first, *rest) for line in part]


def _wrap(text: str, first: str, further: str) -> list[str]:
    """A path or a command stays whole, however long."""
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=first,
        subsequent_indent=further,
        break_long_words=False,
        break_on_hyphens=False,
    )


# ---- the checks


def _system(facts: Facts) -> Iterator[Check]:
    said = f"Linux {facts.kernel}, Python {facts.python}"
    if facts.has_pidfd:
        yield Check("system", Mark.OK, said)
    else:
        hint = "use Linux 5.3 or newer, or a sandbox that allows pidfd_open(2)"
        yield Check("system", Mark.BAD, f"{said}: processes cannot be held (pidfd)", hint)


def _engine(facts: Facts) -> Iterator[Check]:
    engine, nature = facts.engine, facts.engine_nature
    if engine.kind is None:
        reason, _, hint = engine.reason.partition(": ")
        yield Check("engine", Mark.BAD, reason, hint)
        return
    if engine.kind is EngineKind.EMBEDDED:
        package = nature.version.partition("(embedded, ")[2].rstrip(")")
        yield Check("engine", Mark.OK, f"the embedded one, {package or 'of an unknown version'}")
    else:
        version = nature.version or "of an unknown version"
        yield Check("engine", Mark.OK, f"llama-server {version}: {engine.command[0]}")


def _gpu(facts: Facts) -> Iterator[Check]:
    cards, devices = facts.memory.gpus or (), facts.engine_nature.devices
    if facts.barred_devices:
        hint = "add this user to the groups that own them (`render`, `video`), then log in anew"
        said = f"no right to use {', '.join(facts.barred_devices)}"
        yield Check("GPU", Mark.WARN, said, hint)
    for name, model in _running(facts):
        if said := number_of_no_card(model, len(cards)):
            hint = "correct it in `env`: the engine heeds no number from there on; without any "
            yield Check("GPU", Mark.WARN, f"{name}: {said}", f"{hint}card it uses the CPU")
    names = cards_text(cards)
    if cards and devices == ():
        hint = (
            "install a llama-server that is built for them (CUDA, ROCm, Vulkan) and name it in "
            "`engine.command`"
        )
        said = f"{names}; but the engine can use the CPU only"
        yield Check("GPU", Mark.WARN, said, hint)
    elif cards or devices:
        yield Check("GPU", Mark.OK, names or ", ".join(devices or ()))
    elif asking := [name for name, model in _running(facts) if asks_for_cards(model_flags(model))]:
        said = f"none; `n-gpu-layers` of {', '.join(asking)} has no effect"
        yield Check("GPU", Mark.WARN, said, "models run on the CPU; take the flag out to say so")
    else:
        yield Check("GPU", Mark.OK, "none; models run on the CPU")


def _nginx(facts: Facts) -> Iterator[Check]:
    nginx, state = facts.nginx, facts.wanted.state
    install = "pip install 'llm-reconcile[nginx]' brings one that fits"
    if state is not None and state.gateway is None:
        yield Check("nginx", Mark.OK, "not needed: `gateway: false`")
    elif not nginx.command:
        hint = f"{install}\nor set `gateway: false`: each model then listens on its own port"
        yield Check("nginx", Mark.BAD, nginx.reason, hint)
    elif nginx.lacks:
        what = "\n".join(f"{one}: {LACKS.get(one, 'needed')}" for one in nginx.lacks)
        said = f"{nginx.command} ({nginx.version}) does not take what the gateway is made of"
        yield Check("nginx", Mark.BAD, said, f"{what}\n{install}")
    elif _version(nginx.version) < OLDEST_NGINX:
        said = f"{nginx.command} is {nginx.version or 'of an unknown version'}, older than 1.22"
        yield Check("nginx", Mark.WARN, said, install)
    else:
        yield Check("nginx", Mark.OK, f"{nginx.version} with njs: {nginx.command}")


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:2] if part.isdigit())


def _memory(facts: Facts) -> Iterator[Check]:
    memory = facts.memory
    if not memory.ram_bytes:
        hint = "is /proc mounted?"
        yield Check("memory", Mark.WARN, "the kernel does not say how much there is", hint)
        return
    now = f"; {human_bytes(memory.available_bytes)} can be had now"
    yield Check("memory", Mark.OK, f"{memory_text(memory)}{now}")


def _limits(facts: Facts) -> Iterator[Check]:
    limits = facts.limits
    found: list[str] = []
    if limits.open_files is not None and limits.open_files < LEAST_OPEN_FILES:
        found.append(
            f"open files: {limits.open_files}; the gateway wants {LEAST_OPEN_FILES} (`ulimit -n`)"
        )
    if limits.processes is not None and limits.processes < LEAST_PROCESSES:
        found.append(
            f"processes and threads: {limits.processes}; {LEAST_PROCESSES} are safe (`ulimit -u`)"
        )
    for name, count in _locking(facts):
        if limits.locked_bytes is not None and limits.locked_bytes < count:
            found.append(
                f"locked memory: {human_bytes(limits.locked_bytes)}; {name} locks "
                f"{human_bytes(count)} of weights (`ulimit -l`)"
            )
    if found:
        yield Check("limits", Mark.WARN, "raise them for this user", "\n".join(found))
    else:
        files, processes = (
            "any number" if one is None else str(one)
            for one in (limits.open_files, limits.processes)
        )
        yield Check("limits", Mark.OK, f"open files: {files}; processes: {processes}")


def _state(facts: Facts) -> Iterator[Check]:
    folder = facts.state
    if folder.problem:
        hint = "set XDG_STATE_HOME to a folder of your own on a local disk, with a short path"
        yield Check("state folder", Mark.BAD, folder.problem, hint)
    elif _is_network(folder):
        said = f"{folder.path} is on {folder.file_system}: locks and sockets may fail there"
        hint = "set XDG_STATE_HOME to a folder on a local disk"
        yield Check("state folder", Mark.WARN, said, hint)
    else:
        system = f" ({folder.file_system})" if folder.file_system else ""
        yield Check("state folder", Mark.OK, f"{folder.path}{system}; locks work")


def _root(facts: Facts) -> Iterator[Check]:
    if facts.root is None:
        return
    if facts.root.problem:
        hint = "let this user write there: logs and pid files lie there"
        yield Check("root", Mark.BAD, facts.root.problem, hint)
    elif _is_network(facts.root):
        said = f"{facts.root.path} is on {facts.root.file_system}: logs and pid files lie there"
        yield Check("root", Mark.WARN, said, "keep it on a local disk where you can")
    else:
        yield Check("root", Mark.OK, facts.root.path)


def _store(facts: Facts) -> Iterator[Check]:
    store = facts.store
    if store is None:
        return
    free = f", {human_bytes(store.free_bytes)} free" if store.free_bytes is not None else ""
    said, hints = f"{store.path}{free}", []
    if _is_network(store):
        said += f"; on {store.file_system}"
        hints.append("weights are read through it at each start, and while they serve: slow")
    fetches = any(model.source.is_fetched for _, model in _models(facts))
    if facts.store_in_git and fetches:
        name = facts.wanted.state.store if facts.wanted.state else store.path
        hints.append(f"git does not ignore it: add `{name}/` to .gitignore")
    yield Check("store", Mark.WARN if hints else Mark.OK, said, "\n".join(hints))


def _configs(facts: Facts) -> Iterator[Check]:
    for config in facts.configs:
        keys = ", ".join(one.key for one in config.settings)
        if not config.reaches_ours or facts.engine.kind is EngineKind.EMBEDDED:
            said = f"{config.path} does not reach the servers that are started here"
            yield Check("engine config", Mark.OK, said)
        elif keys:
            hint = "take out what is not meant for all; what `params` and `args` say wins over it"
            said = f"{config.path} is read by every llama-server, ours too: {keys}"
            yield Check("engine config", Mark.WARN, said, hint)


def _environment(facts: Facts) -> Iterator[Check]:
    """What is set in this shell and changes something, or is believed to."""
    names = facts.variables
    if lost := sorted(name for name in names if name.startswith("LLAMA_ARG_")):
        hint = "servers get a clean environment: write it under `params`, `args` or `env`"
        yield Check("environment", Mark.OK, f"{', '.join(lost)} does not reach servers", hint)
    if "HF_HUB_OFFLINE" in names:
        hint = "unset HF_HUB_OFFLINE to let missing files be downloaded"
        yield Check("hub", Mark.WARN, "HF_HUB_OFFLINE is set: the hub is not asked", hint)
    used = sorted(names & {"HF_TOKEN", "HF_ENDPOINT", "HF_HOME", "HF_HUB_CACHE"})
    proxies = sorted(name for name in names if name.lower() in {"https_proxy", "all_proxy"})
    if used or proxies:
        yield Check("hub", Mark.OK, f"asked with {', '.join([*used, *proxies])}")


def _wanted(facts: Facts) -> Iterator[Check]:
    wanted = facts.wanted
    if wanted.mistakes:
        hint = "\n".join(line for one in wanted.mistakes for line in one.splitlines())
        said = f"{wanted.path}: {_many(len(wanted.mistakes), 'mistake')}"
        yield Check("desired file", Mark.BAD, said, hint)
    elif wanted.reason:
        hint = "`llm-reconcile doctor FILE` looks at what a file needs, too"
        mark = Mark.BAD if wanted.path else Mark.OK
        yield Check("desired file", mark, wanted.reason, "" if wanted.path else hint)
    else:
        said = f"{wanted.path}: {_many(len(_models(facts)), 'model')}"
        yield Check("desired file", Mark.OK, said)


def _plan(facts: Facts) -> Iterator[Check]:
    """What keeps the machine from being as wanted, where nothing above has said it."""
    wanted = facts.wanted
    if wanted.plan is None:
        return
    said = {facts.engine.reason, facts.nginx.reason}
    for change in wanted.plan.blocked:
        if reasons := [one for one in change.obstacles if one not in said]:
            yield Check(change.address, Mark.BAD, "cannot be made as wanted", "\n".join(reasons))
    for guard in wanted.guards:
        if guard.name == "not enough disk":
            yield Check("disk", Mark.BAD, guard.message, "make room, or choose smaller quants")
    told = {config.path for config in facts.configs}
    for warning in wanted.plan.warnings:
        place = warning.position
        if place and place.file not in told:
            yield Check("desired file", Mark.WARN, f"{place}: {warning.summary}", warning.hint)
        elif not place:
            yield Check("memory", Mark.WARN, warning.summary)


CHECKS: tuple[Callable[[Facts], Iterator[Check]], ...] = (
    _system,
    _engine,
    _gpu,
    _nginx,
    _memory,
    _limits,
    _state,
    _root,
    _store,
    _configs,
    _environment,
    _wanted,
    _plan,
)


# ---- what the file wants


def _models(facts: Facts) -> list[tuple[str, Model]]:
    state = facts.wanted.state
    return sorted(state.models.items()) if state else []


def _running(facts: Facts) -> list[tuple[str, Model]]:
    return [(name, one) for name, one in _models(facts) if one.state is ModelState.RUNNING]


def _last(flags: Sequence[Flag], *names: str) -> str | None:
    found = [flag for flag in flags if flag.name in names]
    return (found[-1].values or ("",))[-1] if found else None


def _locking(facts: Facts) -> Iterator[tuple[str, int]]:
    """The models that lock their weights in memory, and how much that is."""
    for name, model in _running(facts):
        flags = model_flags(model)
        mode = _last(flags, "load-mode", "lm") or ""
        if mode.endswith("mlock") or _last(flags, "mlock") == "":
            unseen = ObservedFiles(FileStatus.UNKNOWN)
            yield name, weights_of(model, facts.wanted.files.get(ModelName(name), unseen))


def _many(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _is_network(folder: Folder) -> bool:
    kind = folder.file_system
    return kind in NETWORK or kind.startswith("fuse.")
