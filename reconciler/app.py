"""The composition root: from names that a user typed to a site with its drivers.

In: a desired file or a root, the environment. Out: a `Workspace`. The only place that knows
which driver stands behind which seam; it decides nothing about models.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from reconciler.core.desired import DesiredState
from reconciler.core.observed_engine import ObservedEngine
from reconciler.core.parse import ParsedDesired, parse_desired
from reconciler.core.prune import needed_by
from reconciler.core.site import Site
from reconciler.core.stored import Needed
from reconciler.drivers.base import Drivers, Held
from reconciler.drivers.clock import SystemClock
from reconciler.drivers.desired_files import (
    all_desired,
    find_root,
    lock_path,
    only_desired,
    read_sources,
    refuse_another_user,
    root_from_here,
    shown,
)
from reconciler.drivers.engines import EngineFinder
from reconciler.drivers.fetch.order import Limits
from reconciler.drivers.files import ModelFiles
from reconciler.drivers.generations import KeptGenerations
from reconciler.drivers.gpus import GpuMemory
from reconciler.drivers.hub import Hub
from reconciler.drivers.lock_file import LockFileOnDisk
from reconciler.drivers.machine import LinuxMachine
from reconciler.drivers.nginx import NginxGateway
from reconciler.drivers.ports import TcpPorts
from reconciler.drivers.probes import HttpProber
from reconciler.drivers.processes import ServerProcesses
from reconciler.drivers.records import RunRecords
from reconciler.drivers.renders import RenderedFiles
from reconciler.drivers.secrets import SecretFiles, hidden_values, known_secrets
from reconciler.drivers.state import StateFolder, state_folder
from reconciler.drivers.store import ModelStore
from reconciler.drivers.templates import load_templates
from reconciler.drivers.verified import Verified
from reconciler.drivers.watch_socket import ask_watch
from reconciler.errors import UsageError
from reconciler.observe import observe_files


@dataclass(frozen=True, slots=True)
class Workspace:
    """One root, opened: where it lies, what it is told, and how to reach its parts."""

    site: Site
    root: Path
    desired_path: Path
    environment: Mapping[str, str]

    @property
    def typed(self) -> str:
        """The desired file as it can be typed in a shell, standing where we stand."""
        path = os.path.normpath(self.desired_path.absolute())
        near = os.path.relpath(path)
        return shlex.quote(path if near.startswith("..") else near)

    def parse(self) -> ParsedDesired:
        """Read and check the desired file.

        Raises:
            InvalidDesiredError: with every mistake in it.
        """
        return parse_desired(read_sources(self.desired_path, self.root))

    def watch_lock(self) -> Held:
        """Be the one watch of this root, for life.

        Raises:
            LockHeldError: there is one, which it names.
        """
        return StateFolder(self.site.state).watch_lock()

    def watch(self) -> Mapping[str, object] | None:
        """What the watch of this root says of itself; None: there is none."""
        return ask_watch(self.site.watch_socket)

    @property
    def records(self) -> RunRecords:
        """What runs have left to be read."""
        return RunRecords(self.site, self.desired_path)

    @property
    def generations(self) -> KeptGenerations:
        """What was applied to this root, as it was written."""
        return KeptGenerations(self.site)

    def _secrets(
        self, desired: DesiredState, env: Iterable[tuple[str, str]] = ()
    ) -> frozenset[str]:
        """What nothing that is said may repeat, as it is now; `env`: variables of servers, too."""
        token_file = hub_token_file(self.environment)
        known = known_secrets(str(self.root), desired, self.environment, token_file)
        return known | hidden_values(env)

    def drivers(
        self, desired: DesiredState, limits: Limits | None = None, *, offline: bool = False
    ) -> Drivers:
        """The real drivers for this root; `limits` are those of downloads.

        `offline`: the hub is never asked.

        Raises:
            StateFolderError: the state folder is not ours.
        """
        state = StateFolder(self.site.state)
        state.check()
        refuse_another_user(self.root)
        clock, secrets = SystemClock(), partial(self._secrets, desired)
        store = str(self.root / desired.store)
        hub = Hub(
            store,
            hub_caches(self.environment),
            endpoint=self.environment.get("HF_ENDPOINT", "").rstrip("/") or None,
            token=self.environment.get("HF_TOKEN") or None,
            limits=limits,
            offline=offline,
        )
        hub.verified = Verified(Path(self.site.state))
        return Drivers(
            runtime=ServerProcesses(self.site, self.environment, clock, secrets),
            prober=HttpProber(),
            files=ModelFiles(str(self.root), store, hub),
            store=ModelStore(Path(store), partial(needed_elsewhere, self)),
            lock=LockFileOnDisk(lock_path(self.desired_path), self.site.lock),
            gateway=NginxGateway(self.site),
            secrets=SecretFiles(str(self.root), clock),
            ports=TcpPorts(),
            engines=EngineFinder(cache_folder(self.environment), str(self.root)),
            state=state,
            records=self.records,
            generations=self.generations,
            clock=clock,
            machine=LinuxMachine(),
            gpus=GpuMemory(),
            renders=RenderedFiles(self.site, secrets),
            templates=load_templates(self.root),
        )


def renewed(
    drivers: Drivers, workspace: Workspace, desired: DesiredState, limits: Limits
) -> Drivers:
    """The drivers for another desired state of the same root; what they know of servers stays."""
    fresh = workspace.drivers(desired, limits)
    return replace(fresh, runtime=drivers.runtime, state=drivers.state)


def needed_of(workspace: Workspace, desired: DesiredState) -> Needed:
    """What a desired file needs of the store, as far as that can be told without the hub."""
    drivers = workspace.drivers(desired, offline=True)
    lock = drivers.lock.read()
    return needed_by(desired, lock, observe_files(desired, drivers, (), lock=lock))


def refuse_shared_store(workspace: Workspace, desired: DesiredState) -> None:
    """See that files in the store are ours alone to remove.

    Raises:
        UsageError: it is the cache where the hub's own tools put theirs.
    """
    caches = {Path(one).resolve() for one in hub_caches(workspace.environment)}
    if (workspace.root / desired.store).resolve() in caches:
        raise UsageError(
            f"`store: {desired.store}` is the hub's own cache, which other tools use too",
            hint="`hf cache` shows and removes what is in it",
        )


def needed_elsewhere(workspace: Workspace) -> dict[str, Needed]:
    """What the other desired files of the same root need of the store.

    Raises:
        InvalidDesiredError: one of them cannot be read.
        UsageError: other tools use this store too.
    """
    refuse_shared_store(workspace, workspace.parse().desired)
    others = {
        str(one.desired_path.resolve()): one
        for one in open_all(workspace.root, workspace.environment)
        if one.desired_path.resolve() != workspace.desired_path.resolve()
    }
    return {one.site.desired: needed_of(one, one.parse().desired) for one in others.values()}


def open_file(path: Path, root: Path | None, environment: Mapping[str, str]) -> Workspace:
    """The workspace of a desired file.

    Raises:
        UsageError: the given root is no folder.
        StateFolderError: there can be no state folder for it.
    """
    return _workspace(_root_of(path, root), path, environment)


def check_file(
    path: Path, root: Path | None, here: Path | None = None
) -> tuple[str, ParsedDesired]:
    """Read a desired file and nothing else: its name for people, and what it says.

    `here`: the folder that names start from, instead of the root; of files in many roots each is
    found by its own.

    Raises:
        InvalidDesiredError: with every mistake in it.
        UsageError: the given root is no folder.
    """
    found = _root_of(path, root)
    base = here or found
    return shown(path, base), parse_desired(read_sources(path, base))


def find_engine(
    path: Path, root: Path | None, desired: DesiredState, environment: Mapping[str, str]
) -> ObservedEngine:
    """The engine that would serve what this desired file wants, here.

    Raises:
        UsageError: the given root is no folder.
    """
    finder = EngineFinder(cache_folder(environment), _root_of(path, root))
    return finder.find(desired.engine.kind, desired.engine.command)


def _root_of(path: Path, root: Path | None) -> Path:
    if root is not None and not root.is_dir():
        raise UsageError(f"--root {root} is not a folder")
    return root.resolve() if root else find_root(path)


def open_root(root: Path | None, environment: Mapping[str, str]) -> Workspace:
    """The workspace of the root here (or the given one) and the file last applied to it.

    Raises:
        UsageError: there is no root here, or no telling which file is meant.
    """

    def is_known(one: Path) -> bool:
        return StateFolder(state_folder(str(one), environment)).read().desired is not None

    # A root that was moved or removed while its servers ran can still be looked at, and stopped.
    if root is not None and not root.is_dir() and not is_known(root.resolve()):
        raise UsageError(f"--root {root} is not a folder")
    folder = root.resolve() if root else root_from_here(Path.cwd(), is_known)
    journal = StateFolder(state_folder(str(folder), environment)).read()
    return _workspace(folder, only_desired(folder, journal.desired), environment)


def open_all(root: Path | None, environment: Mapping[str, str]) -> tuple[Workspace, ...]:
    """The workspaces of all desired files of the root here (or the given one).

    Raises:
        UsageError: there is no root here, or it has no desired file.
    """
    if root is not None and not root.is_dir():
        raise UsageError(f"--root {root} is not a folder")
    folder = root.resolve() if root else root_from_here(Path.cwd(), lambda _: False)
    journal = StateFolder(state_folder(str(folder), environment)).read()
    found = all_desired(folder, journal.desired)
    if not found:
        raise UsageError(f"{folder} has no desired file", hint="name another root with --root")
    return tuple(_workspace(folder, path, environment) for path in found)


def _workspace(root: Path, path: Path, environment: Mapping[str, str]) -> Workspace:
    state = state_folder(str(root), environment)
    lock = shown(lock_path(path), root)
    return Workspace(Site(str(root), state, shown(path, root), lock), root, path, environment)


def hub_caches(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Where other tools keep hub files, as the hub's own client finds it."""
    named = environment.get("HF_HUB_CACHE") or environment.get("HUGGINGFACE_HUB_CACHE")
    return (str(Path(named or f"{_hub_home(environment)}/hub").expanduser()),)


def hub_token_file(environment: Mapping[str, str]) -> str:
    """Where the hub's own client keeps the token that `hf auth login` was given."""
    named = environment.get("HF_TOKEN_PATH") or f"{_hub_home(environment)}/token"
    return str(Path(named).expanduser())


def _hub_home(environment: Mapping[str, str]) -> str:
    base = environment.get("XDG_CACHE_HOME") or "~/.cache"
    return environment.get("HF_HOME") or f"{base}/huggingface"


def cache_folder(environment: Mapping[str, str]) -> Path:
    """Our own cache: things that can be made again, like an engine's help."""
    base = environment.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "llm-reconcile"
