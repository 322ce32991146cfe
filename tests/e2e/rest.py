"""What must be true of a root's processes and files: in the middle of a run, and after one.

In: a lab. Out: a failed assertion. Like machine.py it looks without the product's own eyes; only
the lock file and generations are read with them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection

from waiting import PATIENCE_S, eventually

from e2e import machine
from e2e.lab import Lab
from reconciler.core.gateway import PART
from reconciler.core.generations import read_generation
from reconciler.core.lock_reader import read_lock
from reconciler.drivers.templates import NAMES

MOMENT_S = 0.5
PID_FILE = re.compile(r"\d+\n\d*\n")
SLOT_NOTE = re.compile(
    r"(((stopping|ended) \d+ \d+|log \d+|oom \d+ /\S+|(run|exit) \d+ \d+ \d+)\n)*"
)


def assert_no_file_is_torn(lab: Lab) -> None:
    """Each file of ours is whole: the old one or the new one, or there is none."""
    gateway = lab.state / "gateway"
    for path in (lab.state / "journal.json", gateway / "live.json", gateway / "status.json"):
        if path.exists():
            assert isinstance(json.loads(path.read_text()), dict), path
    history = lab.state / "history.jsonl"
    for line in history.read_text().splitlines() if history.exists() else ():
        assert json.loads(line)["number"], history
    kept = [*(lab.state / "generations").glob("*.json")]
    assert all(read_generation(path.read_text()) for path in kept)
    for path in (lab.root / "run").glob("*.pid"):
        assert PID_FILE.fullmatch(path.read_text()), path
    for path in (lab.state / "slots").glob("*"):
        assert SLOT_NOTE.fullmatch(path.read_text()), (path, path.read_text())
    if lab.lock.exists():
        read_lock(lab.lock.name, lab.lock.read_bytes())
    current = gateway / "current"
    if current.is_symlink():
        config = (current / "nginx.conf").read_text()
        assert config.count("{") == config.count("}") > 0
        for name in NAMES:
            if name.startswith(PART):
                continue
            assert (current / name.removesuffix(".j2")).read_text().endswith("\n")


def assert_at_rest(
    lab: Lab, wanted: Collection[str], *, gateway: bool = True, patience_s: float = PATIENCE_S
) -> None:
    """One server for each instance and one nginx, all of them answer, and nothing else is left."""
    assert_no_file_is_torn(lab)
    servers, nginx = lab.pids(), lab.nginx()
    assert set(servers) == set(wanted)
    for name, pid in servers.items():
        held = {str(lab.state / "slots" / f"{name}.{slot}") for slot in "ab"}
        assert len(held & machine.open_files(pid)) == 1, f"{name} holds no slot"
    assert bool(nginx.master) is gateway
    masters = [nginx.master] if nginx.master else []
    shells = {machine.parent(pid) for pid in servers.values()}
    eventually(
        lambda: set(machine.mentioning(f"{lab.folder}/")) - shells == {*servers.values(), *masters},
        "no process is left over",
        patience_s,
    )
    eventually(
        lambda: (
            set(machine.holders(lab.state / "gateway.lock")) == {*masters, *lab.nginx().workers}
        ),
        "nobody else holds the gateway's lock",
        patience_s,
    )
    _assert_nothing_left(lab, servers, gateway=gateway)
    for name in wanted if gateway else ():
        assert lab.complete(name, 1).status == 200, name


def is_at_rest(lab: Lab, wanted: Collection[str]) -> bool:
    """The same, for who polls: a look that waits would wait for what has changed meanwhile."""
    try:
        assert_at_rest(lab, wanted, patience_s=MOMENT_S)
    except (AssertionError, OSError):
        return False
    return True


def _assert_nothing_left(lab: Lab, servers: dict[str, int], *, gateway: bool) -> None:
    sockets = {machine.listens_on(pid) for pid in servers.values()}
    control = {str(lab.state / "s" / "gateway.sock")} if gateway else set()
    entries = list((lab.state / "s").glob("*"))
    routes = {str(entry.parent / entry.readlink()) for entry in entries if entry.is_symlink()}
    assert {str(entry) for entry in entries if not entry.is_symlink()} == sockets | control
    assert routes == sockets
    assert sum(entry.is_symlink() for entry in entries) == len(routes)
    pid_files = {path.stem: path.read_text() for path in (lab.root / "run").glob("*.pid")}
    assert {name: int(text.split()[0]) for name, text in pid_files.items()} == servers
    assert list(lab.folder.rglob(".*.tmp")) == []
