"""Survey: look at everything that `doctor` judges, whatever state it is in.

In: perhaps a desired file or a root, the environment. Out: `Facts`. It works without a root, and
with a desired file that is broken; what cannot be looked at becomes a fact of its own.
It takes no lock, changes nothing, and judges nothing.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from reconciler.app import Workspace, cache_folder, check_file, open_file, open_root
from reconciler.core.desired import DesiredState
from reconciler.core.facts import EngineNature, Facts, Folder, Wanted
from reconciler.core.guards import Allowed
from reconciler.core.os_errors import explain_os
from reconciler.core.site import Site
from reconciler.drivers.engine_configs import engine_configs
from reconciler.drivers.engines import EngineFinder
from reconciler.drivers.gpus import GpuMemory
from reconciler.drivers.machine import LinuxMachine
from reconciler.drivers.nginx import NginxGateway
from reconciler.drivers.nginx_features import nginx_nature
from reconciler.drivers.state import state_folder
from reconciler.errors import InvalidDesiredError, ReconcileError, StateFolderError, UsageError
from reconciler.look import Wanted as Desired
from reconciler.look import look

DEFAULT = DesiredState(version=1)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where to look: a root with its file, as far as there are any."""

    root: Path | None
    workspace: Workspace | None
    wanted: Wanted
    state_problem: str = ""


def survey(file: Path | None, root: Path | None, environment: Mapping[str, str]) -> Facts:
    """Look at all of it.

    Raises:
        UsageError: the given root is no folder.
    """
    machine, gpus = LinuxMachine(), GpuMemory()
    place = _looked(_place(file, root, environment))
    here = place.root or Path.cwd()
    desired = place.wanted.state or DEFAULT
    finder = EngineFinder(cache_folder(environment), here)
    engine = finder.find(desired.engine.kind, desired.engine.command)
    nginx = desired.gateway.nginx if desired.gateway else "auto"
    tls = bool(desired.gateway and desired.gateway.tls)
    site = Site(root=str(here), state="", desired="")
    store = site.path(desired.store) if place.root else None
    return Facts(
        python=platform.python_version(),
        kernel=machine.kernel(),
        has_pidfd=machine.has_pidfd(),
        engine=engine,
        engine_nature=finder.nature(engine) if engine.kind else EngineNature(),
        nginx=nginx_nature(*NginxGateway(site).locate(nginx), tls=tls),
        memory=replace(machine.memory(), gpus=gpus.cards()),
        barred_devices=gpus.barred(),
        limits=machine.limits(),
        state=_state(place, here, environment, machine),
        root=machine.folder(str(place.root), written=("logs", "run")) if place.root else None,
        store=machine.folder(store) if store else None,
        store_in_git=bool(store) and machine.shows_in_git(str(store)),
        configs=engine_configs(environment),
        variables=frozenset(name for name, value in environment.items() if value),
        wanted=place.wanted,
    )


def _state(
    place: _Place, here: Path, environment: Mapping[str, str], machine: LinuxMachine
) -> Folder:
    try:
        folder = machine.folder(state_folder(str(here), environment), locks=True)
    except StateFolderError as error:
        return Folder("", problem=error.message)
    return replace(folder, problem=place.state_problem or folder.problem)


def _place(file: Path | None, root: Path | None, environment: Mapping[str, str]) -> _Place:
    """Find root and file, and read the file."""
    if root is not None and not root.is_dir():
        raise UsageError(f"--root {root} is not a folder")
    try:
        workspace = open_file(file, root, environment) if file else open_root(root, environment)
    except UsageError as error:
        return _Place(root, None, Wanted(reason=error.message))
    except StateFolderError as error:
        return _Place(root, None, _read(file, root), error.message)
    try:
        parsed = workspace.parse()
    except InvalidDesiredError as error:
        mistakes = tuple(str(one) for one in error.diagnostics)
        return _Place(workspace.root, None, Wanted(workspace.site.desired, mistakes=mistakes))
    wanted = Wanted(workspace.site.desired, state=parsed.desired)
    return _Place(workspace.root, workspace, wanted)


def _read(file: Path | None, root: Path | None) -> Wanted:
    """What a file says where there can be no state folder, and so no plan."""
    if file is None:
        return Wanted(reason="without a state folder there is no telling which file is meant")
    try:
        name, parsed = check_file(file, root)
    except InvalidDesiredError as error:
        return Wanted(str(file), mistakes=tuple(str(one) for one in error.diagnostics))
    return Wanted(name, state=parsed.desired)


def _looked(place: _Place) -> _Place:
    """Add the plan that the file leads to."""
    if place.workspace is None or place.wanted.state is None:
        return place
    site, state = place.workspace.site, place.wanted.state
    try:
        parsed = place.workspace.parse()
        drivers = place.workspace.drivers(state)
        everything = Allowed(sys.maxsize, frozenset(state.models), switch_file=True)
        seen = look(Desired(state, parsed.marks), site, drivers, everything)
    except StateFolderError as error:
        return replace(place, state_problem=error.message)
    except (ReconcileError, OSError) as error:
        said = explain_os(error)[0] if isinstance(error, OSError) else error.message
        return replace(place, wanted=replace(place.wanted, reason=said))
    wanted = replace(place.wanted, plan=seen.plan, guards=seen.guards, files=seen.observed.files)
    return replace(place, wanted=wanted)
