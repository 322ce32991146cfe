"""The verbs that let systemd run `watch`: service install, uninstall, status.

In: a desired file. Out: a unit of the user's own manager, or of the system's, and what it is at.
They start and end the watch alone: servers and nginx stay as they are.
"""

from __future__ import annotations

import getpass
import os
import pwd
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from reconciler.app import Workspace, open_file
from reconciler.cli.verbs import (
    FileArgument,
    JsonOption,
    NoColorOption,
    RootOption,
    make_output,
    verb,
)
from reconciler.core.service_unit import Unit, unit_text
from reconciler.drivers.service_manager import LINGER, ServiceManager
from reconciler.drivers.templates import shipped_folder
from reconciler.errors import ExitCode

SystemOption = Annotated[
    bool, typer.Option("--system", help="A unit of the system; default: of the user's manager.")
]


def register(app: typer.Typer) -> None:
    """Add these verbs to the app."""
    group = typer.Typer(
        no_args_is_help=True, help="Let systemd run `watch` (install, uninstall, status)."
    )
    for function in (install, uninstall, status):
        group.command()(function)
    app.add_typer(group, name="service")


@verb
def install(
    file: FileArgument,
    system: SystemOption = False,
    show: Annotated[bool, typer.Option("--print", help="Only print the unit.")] = False,
    root: RootOption = None,
    no_color: NoColorOption = False,
) -> ExitCode:
    """Let systemd keep a `watch` of this file running, from now on and after a reboot."""
    output = make_output(no_color=no_color)
    workspace = open_file(file, root, os.environ)
    workspace.parse()
    unit = _unit(workspace, system=system)
    text = unit_text(unit, (shipped_folder() / "service" / "unit.j2").read_text(encoding="utf-8"))
    if show:
        output.data(text.removesuffix("\n"))
        return ExitCode.OK
    manager = ServiceManager(os.environ, system=system)
    left = manager.install(unit.name, text)
    output.prose(f"Wrote {manager.path(unit.name)}.")
    for command in left:
        output.data(f"To do, where systemd runs: {command}")
    if not left:
        output.prose(f"{unit.name} is enabled and runs.")
    if not system and not (Path(LINGER) / getpass.getuser()).exists():
        output.talk("It ends when you log out, unless you type: loginctl enable-linger")
    return ExitCode.OK


@verb
def uninstall(
    file: FileArgument,
    system: SystemOption = False,
    root: RootOption = None,
    no_color: NoColorOption = False,
) -> ExitCode:
    """End that watch and remove its unit; the servers and nginx go on."""
    output = make_output(no_color=no_color)
    unit = _unit(open_file(file, root, os.environ), system=system)
    manager = ServiceManager(os.environ, system=system)
    if not manager.path(unit.name).exists():
        output.prose(f"There is no {manager.path(unit.name)}.")
        return ExitCode.OK
    left = manager.uninstall(unit.name)
    output.prose(f"Removed {manager.path(unit.name)}. Servers and nginx go on.")
    for command in left:
        output.data(f"To do, where systemd runs: {command}")
    return ExitCode.OK


@verb
def status(
    file: FileArgument,
    system: SystemOption = False,
    root: RootOption = None,
    json: JsonOption = False,
    no_color: NoColorOption = False,
) -> ExitCode:
    """Say whether the unit is installed, enabled and active; exit 3 when it is not active."""
    output = make_output(no_color=no_color, json=json)
    unit = _unit(open_file(file, root, os.environ), system=system)
    manager = ServiceManager(os.environ, system=system)
    state, path = manager.state(unit.name), manager.path(unit.name)
    if json:
        output.document({"unit": unit.name, "path": str(path), **asdict(state)})
    elif state.installed:
        output.prose(f"{path}: {state.enabled}, {state.active}.")
    else:
        output.prose(f"{path}: not installed. `llm-reconcile service install` writes it.")
    return ExitCode.OK if state.active == "active" else ExitCode.NOT_CONVERGED


def _unit(workspace: Workspace, *, system: bool) -> Unit:
    command = Path(sys.argv[0]).absolute()
    own = (
        (str(command),) if command.name == "llm-reconcile" else (sys.executable, "-m", "reconciler")
    )
    words = ("watch", str(workspace.desired_path.absolute()), "--root", str(workspace.root))
    owner = pwd.getpwuid(workspace.root.stat().st_uid)
    home = f"{owner.pw_dir}/.config"
    base = home if system else os.environ.get("XDG_CONFIG_HOME") or home
    return Unit(
        root=str(workspace.root),
        command=(*own, *words),
        environment=os.environ,
        secrets=f"{base}/llm-reconcile/environment",
        user=owner.pw_name if system else "",
    )
