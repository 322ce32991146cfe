"""What `doctor` looked at: the machine, its programs and folders, and what is wanted of it.

In: answers of the drivers, put together by `survey`. Out: one `Facts` for `core.doctor`.
Plain frozen values. Of environment variables only the names are kept, never a value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from reconciler.core.desired import DesiredState
from reconciler.core.observed import ObservedFiles
from reconciler.core.observed_engine import AmbientSetting, ObservedEngine
from reconciler.core.plan import Guard, Plan
from reconciler.core.resources import ObservedMemory
from reconciler.core.words import ModelName


@dataclass(frozen=True, slots=True)
class EngineNature:
    """What an engine says of itself."""

    version: str = ""
    devices: tuple[str, ...] | None = None
    """What it can compute on besides the CPU; None where it does not tell."""


@dataclass(frozen=True, slots=True)
class NginxNature:
    """What an nginx says of itself; `command` empty: there is none, for `reason`."""

    command: str = ""
    reason: str = ""
    version: str = ""
    lacks: tuple[str, ...] = ()
    """Of the directives that the gateway is made of, those that it does not take."""


@dataclass(frozen=True, slots=True)
class Folder:
    """Where something of ours lies, or will: the folder itself may not be there yet."""

    path: str
    file_system: str = ""
    """Its type as the kernel calls it (`ext4`, `nfs4`)."""
    problem: str = ""
    """Why it cannot be used; for the state folder, too, why its locks cannot be relied on, and for
    the root, why nothing can be written where logs and pid files lie."""
    free_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """What the kernel lets each of our processes have (getrlimit(2), soft); None: no limit."""

    open_files: int | None = None
    locked_bytes: int | None = None
    processes: int | None = None


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """A file that llama-server reads by itself, and what it sets."""

    path: str
    settings: tuple[AmbientSetting, ...]
    reaches_ours: bool
    """Whether servers started by us read it too."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """The desired file and what it leads to here; nothing of it where there is none."""

    path: str = ""
    reason: str = ""
    """Why there is none to look at."""
    mistakes: tuple[str, ...] = ()
    """What is wrong in it, each at its place."""
    state: DesiredState | None = None
    plan: Plan | None = None
    guards: tuple[Guard, ...] = ()
    files: Mapping[ModelName, ObservedFiles] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Facts:
    """All that was looked at."""

    python: str
    kernel: str
    has_pidfd: bool
    engine: ObservedEngine
    engine_nature: EngineNature
    nginx: NginxNature
    memory: ObservedMemory
    barred_devices: tuple[str, ...]
    """Devices of graphics cards that this user may not use."""
    limits: Limits
    state: Folder
    root: Folder | None
    """None: no root was found."""
    store: Folder | None
    store_in_git: bool
    """What is fetched into the store would show up in `git status`."""
    configs: tuple[EngineConfig, ...] = ()
    variables: frozenset[str] = frozenset()
    """Names of environment variables that are set."""
    wanted: Wanted = field(default_factory=Wanted)
