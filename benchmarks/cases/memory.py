"""What of ours is there when nothing happens: nginx's memory, the state folder, no process else.

In: the engine. Out: bytes of nginx (master and workers, shared pages divided), of the servers for
comparison, of the state folder; how many processes of our own are left after an apply.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks import machine
from benchmarks.lab import Bench, Lab, total
from benchmarks.results import Bar, Row, Section, Unit

COUNT = 20


def measure(bench: Bench) -> Section:
    """Measure it."""
    count = bench.size(COUNT)
    with Lab(bench, count) as lab:
        bench.tell(f"memory: {count} servers")
        lab.apply()
        nginx, servers = lab.nginx(), lab.servers().values()
        left = [pid for pid in machine.pids() if _is_verb(pid, lab)]
        rows = (
            _bytes("nginx, master and workers", sum(map(machine.proportional_bytes, nginx))),
            _bytes(f"the {count} servers", sum(map(machine.proportional_bytes, servers))),
            _bytes("state folder, on disk", _on_disk(lab.state)),
            _count("files in the state folder", len(list(lab.state.rglob("*")))),
            _count("processes of nginx", len(nginx)),
            _count("processes of llm-reconcile left after apply", len(left), Bar(most=0)),
        )
    about = f"""
{count} servers behind the gateway, right after an `apply`. Memory is PSS: pages that several
processes share are divided among them.
"""
    return Section("At rest", about, rows)


def _bytes(name: str, value: int) -> Row:
    return Row(name, Unit.BYTES, (total([value]),))


def _count(name: str, value: int, bar: Bar | None = None) -> Row:
    return Row(name, Unit.COUNT, (total([value]),), bar)


def _is_verb(pid: int, lab: Lab) -> bool:
    """Whether it is one of our own commands: they, and no server or nginx, see this setting."""
    return machine.environment(pid).get("XDG_STATE_HOME") == lab.environment["XDG_STATE_HOME"]


def _on_disk(folder: Path) -> int:
    # st_blocks counts 512 bytes, whatever the file system (stat(2)).
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*"))
