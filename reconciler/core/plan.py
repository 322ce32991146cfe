"""A plan as data: what changes for the user, and the steps that make it so.

In: decisions of `core.planner`. Out: frozen values that can be compared, printed, serialised.
A `Change` is what a person reads (one per resource); a `Step` is what the executor does (one
effect, with the steps that it needs). Nothing here decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from reconciler.core.desired import Render, Source
from reconciler.core.launch import LastGood, Launch
from reconciler.core.lockfile import Pin
from reconciler.core.observed import ObservedFile, ProcessRef
from reconciler.core.outline import Outline
from reconciler.core.resources import ObservedDisk
from reconciler.core.stored import Removal
from reconciler.core.words import Generation, InstanceName, ModelName
from reconciler.errors import Diagnostic


class Action(StrEnum):
    """What happens to one resource."""

    NO_OP = "no-op"
    CREATE = "create"
    UPDATE = "update"
    REPLACE = "replace"
    """Stop first, then start."""
    SURGE = "surge"
    """Start first, then stop."""
    DELETE = "delete"
    ADOPT = "adopt"
    """Already there and right, but something about it is unfinished (still loading, not routed)."""


class ResourceType(StrEnum):
    """The kinds of resource that a plan speaks of."""

    MODEL_FILE = "model_file"
    INSTANCE = "instance"
    GATEWAY = "gateway"
    LOCK = "lock"
    RENDER = "render"


@dataclass(frozen=True, slots=True)
class Detail:
    """One field's difference. `before` or `after` None: it was not, or will not be, there."""

    path: str
    before: str | None
    after: str | None
    forces_restart: bool = False


@dataclass(frozen=True, slots=True)
class Impact:
    """What a change costs. None is unknown."""

    download_bytes: int = 0
    verify_bytes: int = 0
    """Read from disk and hashed, once."""
    freed_bytes: int = 0
    drain_s: float | None = None
    """How long running requests get to finish before the first stop; longer ones are cut. None:
    nothing is stopped, or nothing of it can be waited for."""
    downtime_s: float | None = None
    """How long nobody answers, where no request has to be waited for."""
    hold_s: float | None = None
    """How long a request that comes in that time waits for the new server at most, before it gets
    503 (`gateway.hold`); 0: it gets 503 at once. None: no such time is known, another replica
    answers meanwhile, there is no gateway, or it is not known what that one does."""
    memory_bytes: int | None = None
    """The weights that a new server holds; its context and caches come on top."""


@dataclass(frozen=True, slots=True)
class DiskUse:
    """What a change does to the file system where files of a model lie."""

    disk: ObservedDisk
    taken_bytes: int
    """Of what is free there; below 0: it becomes free."""


@dataclass(frozen=True, slots=True)
class Change:
    """What the plan means for one resource."""

    address: str
    type: ResourceType
    name: str
    action: Action
    reason: str
    details: tuple[Detail, ...] = ()
    obstacles: tuple[str, ...] = ()
    """All reasons why this resource cannot be made as wanted now; what runs of it stays."""
    drift: str = ""
    """What differs from what was set up, but is left alone."""
    impact: Impact = Impact()
    disk: DiskUse | None = None
    """None: it fetches and removes nothing, or the file system was not looked at."""
    waits_until: float | None = None
    """Of a server that ended by itself, when a watch starts it again (seconds since the epoch)."""

    @property
    def blocked(self) -> str:
        """The obstacles in one line; empty when there are none."""
        return "; ".join(self.obstacles)


@dataclass(frozen=True, slots=True)
class FetchFiles:
    """Download a model's missing files."""

    model: ModelName
    source: Source
    commit: str
    """Of a repository, the one that has these files."""
    files: tuple[ObservedFile, ...]


@dataclass(frozen=True, slots=True)
class VerifyFiles:
    """Hash files of a model that nobody hashed yet, before a server starts on them."""

    model: ModelName
    folder: str
    files: tuple[ObservedFile, ...]


@dataclass(frozen=True, slots=True)
class RemoveFiles:
    """Take files of a model out of the store."""

    model: ModelName
    removals: tuple[Removal, ...]


@dataclass(frozen=True, slots=True)
class WritePins:
    """Put pins into the lock file, or (None) take them out."""

    pins: tuple[tuple[ModelName, Pin | None], ...]
    learn: bool = False
    """Read the models' headers from the hub first."""


@dataclass(frozen=True, slots=True)
class StopServer:
    """Unroute, drain, TERM, grace, KILL."""

    instance: InstanceName
    server: ProcessRef
    slot: str
    address: str
    drain_s: float
    grace_s: float
    unroute: bool
    """Take the instance's stable socket name away first, if it still points at this copy."""
    last_good: LastGood | None = None
    """What is to be had back if its successor fails: noted before it ends, as runs are killed."""


@dataclass(frozen=True, slots=True)
class StartServer:
    """Start a process, wait until it is ready, route to it."""

    launch: Launch
    startup_s: float
    end_if_late: bool = False
    """A new copy that does not get ready in time is ended: the old one serves, on or again."""
    fallback: Launch | None = None
    """What served until now and was stopped for this one: started again if this one fails."""
    given_up: LastGood | None = None
    """This one is what served before: that, and why another one failed, is to be known first."""

    @property
    def instance(self) -> InstanceName:
        """Whose process it is."""
        return self.launch.instance

    @property
    def is_back(self) -> bool:
        """It is what served before: that it is ready proves nothing of what is wanted."""
        return self.given_up is not None


@dataclass(frozen=True, slots=True)
class AwaitReady:
    """Wait for a server that already runs to be ready, then route to it."""

    instance: InstanceName
    server: ProcessRef
    address: str
    startup_s: float
    end_if_late: bool = False
    """As in `StartServer`: another copy serves meanwhile, left by a surge that was cut."""
    fallback: LastGood | None = None
    """What served before it, if nothing serves now: started if this one fails."""
    is_back: bool = False
    """As in `StartServer`."""


@dataclass(frozen=True, slots=True)
class RenderedGateway:
    """A whole gateway configuration: file name -> text, and the generation over all of it."""

    generation: Generation
    files: Mapping[str, str] = field(hash=False)
    outline: Outline = field(default=Outline(), hash=False)
    """What it is made of; it lies among the files too, to be read when this one runs."""


@dataclass(frozen=True, slots=True)
class ApplyGateway:
    """Make nginx run this configuration: start it, or test, swap and reload."""

    rendered: RenderedGateway
    nginx: tuple[str, ...]
    master: ProcessRef | None
    """The running master to reload; None: start one."""
    orphans: tuple[ProcessRef, ...]
    """Workers that a killed master left behind: they must end first, they hold the ports."""
    restart_grace_s: float | None = None
    """Stop `master`, once the new configuration has passed its test, and start anew: how long
    running requests may take to finish. None: a reload will do."""


@dataclass(frozen=True, slots=True)
class StopGateway:
    """End nginx: QUIT lets running requests finish until `grace_s`, then TERM and KILL."""

    master: ProcessRef | None
    orphans: tuple[ProcessRef, ...]
    grace_s: float


@dataclass(frozen=True, slots=True)
class WriteRender:
    """Put this text in place of a file, once it was judged good, and tell of it."""

    render: Render
    text: str = field(repr=False)
    found: str = ""
    """A digest of what the file holds now; empty: it is not there."""


@dataclass(frozen=True, slots=True)
class RemoveRender:
    """Take away a file that nobody wants to be made any more, or (not `is_ours`) only forget it."""

    dest: str
    is_ours: bool
    """It holds what we wrote."""
    found: str = ""
    """A digest of what it holds now."""


StepEffect = (
    WritePins
    | FetchFiles
    | VerifyFiles
    | RemoveFiles
    | StopServer
    | StartServer
    | AwaitReady
    | ApplyGateway
    | StopGateway
    | WriteRender
    | RemoveRender
)


FileEffect = WritePins | FetchFiles | VerifyFiles
"""What brings files; it may take hours."""
LocklessEffect = FileEffect | WriteRender | RemoveRender
"""What is in no other run's way: it needs no run lock."""


@dataclass(frozen=True, slots=True)
class Step:
    """One effect. It runs when all steps in `needs` are done, and is skipped when one failed."""

    number: int
    address: str
    effect: StepEffect
    reason: str
    needs: tuple[int, ...] = ()
    after: tuple[int, ...] = ()
    """It also waits for these to end, but however they do, and where the plan has them."""


@dataclass(frozen=True, slots=True)
class Summary:
    """Counts of instances only."""

    add: int = 0
    change: int = 0
    replace: int = 0
    remove: int = 0
    unchanged: int = 0
    blocked: int = 0


@dataclass(frozen=True, slots=True)
class Guard:
    """A reason to refuse the whole plan, and the flag with which an operator lets it through."""

    name: str
    message: str
    flag: str
    """The flag that lets it through; empty when none does."""
    answer: str = ""
    """What a person at a terminal types instead of the flag."""


@dataclass(frozen=True, slots=True)
class DiskAfter:
    """A file system to which the plan fetches files, or from which it removes some."""

    folder: str
    """Where on it they lie."""
    free_bytes: int
    """What we may take of it, when it was looked at."""
    free_after_bytes: int
    """Once all of the plan is done, if nobody else writes there; below 0: so much is lacking."""


@dataclass(frozen=True, slots=True)
class Plan:
    """All changes, sorted by address, and all steps, numbered from 1."""

    desired: str
    changes: tuple[Change, ...] = ()
    steps: tuple[Step, ...] = ()
    warnings: tuple[Diagnostic, ...] = ()
    """What is allowed but will hardly go well."""
    only: str = ""
    """What alone it is about, for people; empty: all of the desired file."""

    @property
    def summary(self) -> Summary:
        """Count the instances by what happens to them."""
        counts = dict.fromkeys(Action, 0)
        blocked, resting = 0, 0
        for change in self.changes:
            if change.type is ResourceType.INSTANCE:
                counts[change.action] += 1
                blocked += bool(change.blocked)
                resting += change.action is Action.NO_OP and not change.blocked
        return Summary(
            add=counts[Action.CREATE],
            change=counts[Action.UPDATE] + counts[Action.ADOPT],
            replace=counts[Action.REPLACE] + counts[Action.SURGE],
            remove=counts[Action.DELETE],
            unchanged=resting,
            blocked=blocked,
        )

    @property
    def download_bytes(self) -> int:
        """All bytes that the plan would fetch."""
        return sum(change.impact.download_bytes for change in self.changes)

    @property
    def verify_bytes(self) -> int:
        """All bytes that the plan would read and hash."""
        return sum(change.impact.verify_bytes for change in self.changes)

    @property
    def freed_bytes(self) -> int:
        """All bytes that the plan would remove."""
        return sum(change.impact.freed_bytes for change in self.changes)

    @property
    def disks(self) -> tuple[DiskAfter, ...]:
        """What room there will be, on all file systems that it changes as far as they are known."""
        found: dict[int, DiskAfter] = {}
        for use in (change.disk for change in self.changes if change.disk):
            disk = use.disk
            new = DiskAfter(disk.folder, disk.free_bytes, disk.free_bytes)
            one = found.get(disk.device, new)
            left = one.free_after_bytes - use.taken_bytes
            found[disk.device] = replace(one, free_after_bytes=left)
        return tuple(found.values())

    @property
    def blocked(self) -> tuple[Change, ...]:
        """The resources that cannot be made as wanted now."""
        return tuple(change for change in self.changes if change.blocked)

    @property
    def is_noop(self) -> bool:
        """Nothing to do. What is blocked is nothing to do either, but is not what was wanted."""
        return not self.steps
