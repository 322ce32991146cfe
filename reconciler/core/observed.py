"""The observed state: one frozen picture of the machine, taken by `observe`.

In: what the drivers saw. Out: the planner's whole view of the world.
It must hold everything a decision needs, because the planner may ask nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from reconciler.core.downtime import LastStart
from reconciler.core.keys import GatewayKey
from reconciler.core.launch import LastGood
from reconciler.core.lockfile import Lock, Pin
from reconciler.core.observed_engine import ObservedEngine
from reconciler.core.outline import Outline
from reconciler.core.renders import ObservedRenders
from reconciler.core.resources import ObservedDisk, ObservedMemory
from reconciler.core.stored import ObservedStore
from reconciler.core.suspension import Suspension
from reconciler.core.text import printable
from reconciler.core.words import Generation, InstanceName, ModelName, Phase, SpecHash


@dataclass(frozen=True, slots=True, order=True)
class ProcessRef:
    """One process for certain: a pid is only believed together with its start time.

    `start_ticks` is field 22 of /proc/PID/stat (clock ticks since boot): no clock jump moves it.
    """

    pid: int
    start_ticks: int


@dataclass(frozen=True, slots=True)
class ObservedServer:
    """A live server process that carries our labels."""

    ref: ProcessRef
    instance: InstanceName
    spec: SpecHash
    phase: Phase
    slot: str
    """`a` or `b`."""
    address: str
    """`unix:/path` or `127.0.0.1:8001`."""
    routed: bool
    """The instance's stable socket name points at this copy (always true without a gateway)."""
    command: tuple[str, ...] = ()
    """How the engine was called; `argv` follows it."""
    argv: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    """The part of its environment that the user gave (labels and base variables taken off)."""
    base_env: tuple[tuple[str, str], ...] = ()
    """The base variables: of the user's shell, or the user's own for this server."""
    files: str = ""
    """Identity of the weights it opened, as noted on the process at its start."""
    since: float = 0.0
    """Start, seconds since the epoch; for people only."""
    memory_bytes: int = 0
    """Resident, of all its processes."""
    helpers: tuple[int, ...] = ()
    """Pids of further processes with its labels: the engine itself, where a wrapper was started."""

    @property
    def pids(self) -> tuple[int, ...]:
        """All its processes."""
        return (self.ref.pid, *self.helpers)


@dataclass(frozen=True, slots=True)
class ObservedGateway:
    """What nginx runs. `master` None with `orphans`: its master was killed, workers serve on."""

    master: ProcessRef | None = None
    orphans: tuple[ProcessRef, ...] = ()
    generation: Generation | None = None
    """What the running nginx answers for itself; None when it does not answer."""
    since: float = 0.0
    outline: Outline | None = None
    """What that generation is made of; None when that was not kept, or is lost."""


@dataclass(frozen=True, slots=True)
class GatewaySecrets:
    """What `gateway.keys_file` and `gateway.tls` hold, without the secrets themselves."""

    keys: tuple[GatewayKey, ...] | None = None
    """None: there is no `keys_file`."""
    certificate: str = ""
    """A digest over certificate and private key; empty: no `tls`."""
    valid_until: str = ""
    """The last day of the certificate, for people."""
    problem: str = ""
    """Why one of them cannot be used: then the gateway must not be set up with any of it."""


@dataclass(frozen=True, slots=True)
class PortHolder:
    """Who listens on a TCP port of this machine."""

    port: int
    pid: int | None
    """None when the process belongs to another user and cannot be seen."""
    command: str = ""
    owner: str | None = None
    """An instance's name, `gateway`, or None for a stranger."""
    root: str = ""
    """Of a stranger that is the gateway of another root: which."""

    def __str__(self) -> str:
        if self.pid is None:
            return f"port {self.port} is held by a process of another user"
        if self.root:
            return f"port {self.port} is held by the gateway of {self.root} (nginx, pid {self.pid})"
        return f"port {self.port} is held by pid {self.pid} ({printable(self.command)})"


class FileStatus(StrEnum):
    """How a model's files stand."""

    PRESENT = "present"
    MISSING = "missing"
    """Can be fetched."""
    BAD = "bad"
    """Absent and not fetchable, truncated, or not a GGUF file."""
    UNKNOWN = "unknown"
    """The hub, or a URL's server, was needed and could not be asked."""


@dataclass(frozen=True, slots=True)
class ObservedFile:
    """One file of a model. `identity` is `device:inode:size:mtime_ns`, empty if it is not here."""

    name: str
    size: int
    identity: str = ""
    digest: str = ""
    """The hash that its bytes must have, as far as it is pinned."""
    wrong: str = ""
    """The hash that its bytes have instead, where that was found out."""
    came: int = 0
    """Of one that is not here, the bytes that an earlier download brought."""

    @property
    def is_here(self) -> bool:
        """Whether it is on disk, and not known to be another one."""
        return bool(self.identity) and not self.wrong

    @property
    def missing_bytes(self) -> int:
        """Of one that is not here, bytes still to be fetched."""
        return self.size - self.came


@dataclass(frozen=True, slots=True)
class ObservedFiles:
    """The files that a model's source stands for."""

    status: FileStatus
    path: str = ""
    """The file an engine is given (of several shards the first), as it is or will be."""
    spec_id: str = ""
    """What of the files enters the spec hash: path, repo@commit/file, or `url` (and its hash)."""
    files: tuple[ObservedFile, ...] = ()
    commit: str = ""
    reason: str = ""
    companions: Mapping[str, str] = field(default_factory=dict)
    """Files that an engine is given besides: the flag, without dashes -> the path."""
    quants: Mapping[str, int] = field(default_factory=dict)
    """All quants of the repository with their bytes, where the hub was asked."""
    pin: Pin | None = None
    """What the lock file should say of the model; None where nothing can be said (now)."""
    held_bytes: int = 0
    """Room on disk that earlier downloads took for bytes that are still to come."""

    @property
    def given(self) -> Mapping[str, str]:
        """The files that an engine is given: the flag, without dashes -> the path."""
        return {"model": self.path, **self.companions}

    @property
    def size(self) -> int:
        """All bytes of the model."""
        return sum(file.size for file in self.files)

    @property
    def missing(self) -> Mapping[str, ObservedFile]:
        """The files still to be fetched, by where they will be."""
        pairs = zip(self.paths, self.files, strict=True)
        return {path: file for path, file in pairs if not file.is_here}

    @property
    def missing_bytes(self) -> int:
        """Bytes still to be fetched."""
        return sum(file.missing_bytes for file in self.missing.values())

    @property
    def folder(self) -> str:
        """Where the names of the files start; empty where they are whole paths."""
        return self.path.removesuffix(self.files[0].name) if self.files else ""

    @property
    def paths(self) -> tuple[str, ...]:
        """Where the files are, or will be."""
        return tuple(f"{self.folder}{file.name}" for file in self.files)

    @property
    def identity(self) -> str:
        """One text that changes when a file on disk is another one; empty while one is not here."""
        known = [file.identity if file.is_here else "" for file in self.files]
        return ",".join(known) if all(known) else ""


def is_other(found: str, digest: str) -> bool:
    """Whether a hash says that bytes are not those of `digest`. Another kind says nothing."""
    return bool(found) and len(found) == len(digest) and found != digest


@dataclass(frozen=True, slots=True)
class LastExit:
    """How the last process of an instance ended without being asked to, for people."""

    at: float
    """When, in seconds since the epoch; of a death that nobody saw, when its log ends."""
    reason: str
    spec: SpecHash
    seen: bool = True
    began: bool = True
    """There was a process; it was not the machine that could not start one."""
    final: bool = False
    """The same start would end the same way."""
    hint: str = ""
    """What to do about it, as far as that is known."""


@dataclass(frozen=True, slots=True)
class Crashes:
    """The ends by itself of an instance, in a row; `core.backoff` says what follows from them."""

    launch: str = ""
    """What was launched: its spec hash and the identity of its files."""
    count: int = 0
    fatal: int = 0
    """How many of the last ones had the same final cause."""
    at: float = 0.0
    """When the last one was, in seconds since the epoch."""
    reason: str = ""
    next_at: float = 0.0
    """No start before, in seconds since the epoch."""


DOWN = "down"
"""The wish of `down`, in the journal."""


@dataclass(frozen=True, slots=True)
class Journal:
    """What of us must survive a `git clean` and has no process to live on."""

    desired: str | None = None
    """The desired file that was last applied to this root."""
    protected: frozenset[ModelName] = frozenset()
    """Models that the last applied file protected: its entry may be gone from the new one. Those of
    a file that was applied in part since count too."""
    suspended: Mapping[ModelName, Suspension] = field(default_factory=dict)
    last_exits: Mapping[InstanceName, LastExit] = field(default_factory=dict)
    wish: str = ""
    """The desired state that was last applied, as a digest, or `down`: a run that has waited for
    files sees by it whether somebody wants something else by now."""
    parts: Mapping[str, str] = field(default_factory=dict)
    """What was applied since of a file in part: models, or `gateway` -> a digest of that file's
    desired state. Of the rest of it nobody has agreed to anything."""
    crashes: Mapping[InstanceName, Crashes] = field(default_factory=dict)
    """Of instances that ended by themselves while a watch was to keep them."""
    restarts: Mapping[InstanceName, int] = field(default_factory=dict)
    """How often a watch has started them again."""
    starts: Mapping[InstanceName, LastStart] = field(default_factory=dict)
    last_good: Mapping[InstanceName, LastGood] = field(default_factory=dict)
    """What was stopped for a version that has not been ready since."""

    @property
    def is_down(self) -> bool:
        """Whether an operator wanted last that nothing of this root runs."""
        return self.wish == DOWN

    def keeping(self, instance: InstanceName, last_good: LastGood | None) -> Journal:
        """The same with this as what its instance can go back to; None: nothing."""
        others = {name: one for name, one in self.last_good.items() if name != instance}
        new = {instance: last_good} if last_good else {}
        return replace(self, last_good={**others, **new})

    def at(self, now: float) -> Journal:
        """The same without the suspensions whose time is over at `now`."""
        kept = {name: one for name, one in self.suspended.items() if not one.is_over(now)}
        return replace(self, suspended=kept)


@dataclass(frozen=True, slots=True)
class ObservedState:
    """Everything that was seen of the machine, at once."""

    boot_id: str = ""
    servers: tuple[ObservedServer, ...] = ()
    gateway: ObservedGateway = ObservedGateway()
    nginx: tuple[str, ...] = ()
    """How nginx would be started; empty when there is none (`nginx_reason` says what was tried)."""
    nginx_reason: str = ""
    ports: Mapping[int, PortHolder] = field(default_factory=dict)
    """The holders of the ports that the desired state names (free ports are not in it)."""
    files: Mapping[ModelName, ObservedFiles] = field(default_factory=dict)
    engine: ObservedEngine = field(default_factory=ObservedEngine)
    journal: Journal = Journal()
    deaths: Mapping[InstanceName, LastExit] = field(default_factory=dict)
    """How servers ended that died while no run was there to see it."""
    has_listen_address: bool = True
    """This machine has the address that the gateway shall listen on."""
    disks: Mapping[ModelName, ObservedDisk] = field(default_factory=dict)
    """Where the files of models would go that are not here."""
    memory: ObservedMemory = field(default_factory=ObservedMemory)
    templates: Mapping[str, str] = field(default_factory=dict)
    """The gateway's templates by file name."""
    secrets: GatewaySecrets = GatewaySecrets()
    lost_roots: tuple[str, ...] = ()
    """Other roots whose folder is gone, though servers of theirs run."""
    lock: Lock | None = None
    """The lock file's pins; None where it plays no part."""
    hashes: Mapping[str, str] = field(default_factory=dict)
    """Identity of a file -> the hash that its bytes were once found to have."""
    store: ObservedStore = field(default_factory=ObservedStore)
    now: float | None = None
    """The time, for a watch that waits out back-offs; None: an operator asks, and waits not."""
    wedged: Mapping[ProcessRef, str] = field(default_factory=dict)
    """Servers that live and do no work, as a watch found out -> how."""
    outdated: Mapping[ProcessRef, str] = field(default_factory=dict)
    """Servers that run on another program than a new one would -> how the two differ."""
    renders: ObservedRenders | None = None
    """The user's own generated files; None: they were not looked at."""

    def last_exit(self, instance: InstanceName) -> LastExit | None:
        """How its last process that ended by itself did: seen by a run, or found afterwards."""
        known = (self.journal.last_exits.get(instance), self.deaths.get(instance))
        # Of the same death a run saw more, and noted it later than the log's last line.
        return max((one for one in known if one), key=self._when, default=None)

    def _when(self, end: LastExit) -> tuple[bool, float]:
        """What is still to come was before the clock was set back: before all that is over."""
        return self.now is None or end.at <= self.now, end.at
