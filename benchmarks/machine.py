"""Looking at the machine: what it is, which programs it has, what a process holds.

In: /proc, programs' own version texts. Out: plain values for the document and the cases. It looks
with its own eyes, not with the product's, and changes nothing.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks import REPOSITORY
from reconciler.drivers.clock import SystemClock

DOCUMENT = "docs/benchmarks.md"


def facts(engine: str, engine_command: Sequence[str], nginx: Sequence[str]) -> dict[str, str]:
    """What a reader must know of this run to judge its numbers."""
    # The program's own name: a build from a source package knows no number of its own.
    engine = Path(engine_command[0]).name if engine == "llama-server" else engine
    now = datetime.datetime.fromtimestamp(SystemClock().now(), datetime.UTC)
    load = Path("/proc/loadavg").read_text(encoding="ascii").split()[0]
    return {
        "date": f"{now:%Y-%m-%d %H:%M} UTC",
        "commit": commit(),
        "CPU": f"{_field('/proc/cpuinfo', 'model name')}, {len(os.sched_getaffinity(0))} cores",
        "memory": _field("/proc/meminfo", "MemTotal"),
        "load before the run": load,
        "kernel": platform.release(),
        "Python": platform.python_version(),
        "engine": f"{engine}: {_said([*engine_command, '--version'])}",
        "nginx": _said([*nginx, "-v"]),
        "wrk": _program("wrk", "-v"),
        "ansible-playbook": _program("ansible-playbook", "--version"),
        "docker-compose": _program("docker-compose", "version"),
        "curl": _program("curl", "--version"),
        "hf": f"huggingface_hub {importlib.metadata.version('huggingface_hub')}",
    }


def commit() -> str:
    """The commit that is measured, and whether the files are exactly its."""
    name = _run(["git", "-C", str(REPOSITORY), "rev-parse", "--short=12", "HEAD"]).strip()
    # What the harness itself writes does not change what it measures.
    others = ["--", ".", f":!{DOCUMENT}"]
    changed = _run(["git", "-C", str(REPOSITORY), "status", "--porcelain", *others]).strip()
    return f"{name or 'unknown'}{' with changes' if changed else ''}"


def _field(path: str, name: str) -> str:
    found = re.search(rf"^{name}\s*:\s*(.*)$", Path(path).read_text(encoding="utf-8"), re.MULTILINE)
    return found[1].strip() if found else "unknown"


def _program(name: str, flag: str) -> str:
    return _said([name, flag]) if shutil.which(name) else "not installed"


def _said(argv: Sequence[str]) -> str:
    """The first line with a number in it of what a program says about itself."""
    lines = (line.strip() for line in _run(argv).splitlines())
    return next((line for line in lines if re.search(r"\d", line)), "unknown")


def _run(argv: Sequence[str]) -> str:
    done = subprocess.run(
        argv, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    return done.stdout


def free_ports(count: int) -> list[int]:
    """TCP ports of the loopback address that nobody listens on right now, all different."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(one.getsockname()[1]) for one in held]
    for one in held:
        one.close()
    return ports


def command_line(pid: int) -> list[str]:
    """A process's arguments."""
    raw = Path(f"/proc/{pid}/cmdline").read_bytes()
    return [word.decode() for word in raw.rstrip(b"\0").split(b"\0")]


def environment(pid: int) -> dict[str, str]:
    """The environment that a process was started with; empty when it is gone or not ours."""
    try:
        raw = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return {}
    pairs = (part.decode(errors="replace").partition("=") for part in raw.split(b"\0") if part)
    return {name: value for name, _, value in pairs}


def pids() -> Iterator[int]:
    """All processes that live now."""
    return (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())


def holders(path: Path) -> list[int]:
    """The processes that have a file open."""
    return [pid for pid in pids() if any(name == str(path) for name in _open_files(pid))]


def _open_files(pid: int) -> Iterator[str]:
    try:
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            yield str(descriptor.readlink())
    except OSError:
        return


def proportional_bytes(pid: int) -> int:
    """A process's memory, shared pages divided among those who share them (PSS, proc(5))."""
    return int(_field(f"/proc/{pid}/smaps_rollup", "Pss").split()[0]) * 1024


def cpu_seconds(pid: int) -> float:
    """CPU time of a process so far, in user mode and in the kernel (proc(5): fields 14 and 15)."""
    text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    fields = text[text.rfind(")") + 2 :].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wake_ups(pid: int) -> dict[str, int]:
    """How often each live thread of a process went to sleep by itself, and so was woken."""
    found = {}
    for thread in Path(f"/proc/{pid}/task").iterdir():
        try:
            found[thread.name] = int(_field(str(thread / "status"), "voluntary_ctxt_switches"))
        except OSError:
            continue
    return found


def available_bytes() -> int:
    """Memory that programs can still have."""
    return int(_field("/proc/meminfo", "MemAvailable").split()[0]) * 1024
