"""A watch: from a crash to ready, at rest, and how soon a new one has all in hand.

In: the engine. Out: seconds from kill -9 to an answer, beside what a start of the server takes
anyway; CPU, memory and wake-ups of an idle watch. supervisord and a loop that starts again after
0.1 s, as systemd does, have the same servers with the same argv (but for where they listen).
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from benchmarks import machine
from benchmarks.lab import (
    COMMAND,
    Bench,
    BenchmarkError,
    Lab,
    by_hand,
    end_group,
    is_healthy,
    until,
)
from benchmarks.results import Bar, Row, Section, Unit, not_measured
from benchmarks.supervisor import supervised

CRASHES = 8
FEW, MANY = 20, 200
SETTLES_S, IDLE_S = 20.0, 60.0
SERVER_BYTES = 40 * 2**20
"""Of a tiny server, and then some: what must be free for each."""
WATCH, SUPERVISORD, LOOP = "watch", "supervisord", "a loop that sleeps 0.1 s"
Starts = Mapping[str, tuple[Sequence[str], Mapping[str, str], int]]
"""Per server: argv, environment and port of the same one by hand."""


def measure(bench: Bench) -> Section:
    """Measure it."""
    rows = [*_crashes(bench), *_idle(bench, bench.size(FEW)), *_many(bench, bench.size(MANY))]
    about = """
From `kill -9` of a server until its /health is 200 again, each server once: of all there is only
the first crash, which is not waited out. `watch` is asked through the gateway, the others on their
ports, every 2 ms. At rest: from the kernel's counts of the process, all its threads that are there
at both ends; each idle server is asked for a token once a minute by `watch`, and never by the
others. A new watch has all in hand from its exec to its first look's end.
"""
    return Section("A watch", about, tuple(rows))


# ---- what is running


@contextlib.contextmanager
def _watching(lab: Lab) -> Iterator[tuple[int, float]]:
    """A watch: its pid, and how long its first look took from exec on."""
    began = time.perf_counter()
    child = subprocess.Popen(
        [str(COMMAND), "watch", str(lab.file), "--json"],
        cwd=lab.root,
        env=lab.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        for line in child.stdout or ():
            if json.loads(line)["event"] == "accepted":
                break
        else:
            raise BenchmarkError("the watch ended before it had looked")
        yield child.pid, time.perf_counter() - began
    finally:
        end_group(child)


@contextlib.contextmanager
def _looping(starts: Starts, folder: Path) -> Iterator[None]:
    """A shell that starts each server again, 0.1 s after its end."""
    lines = ["trap 'trap - TERM; kill -TERM 0' TERM"]
    for argv, _, _ in starts.values():
        lines.append(f"while :; do {shlex.join(argv)} >/dev/null 2>&1; sleep 0.1; done &")
    script = folder / "loop.sh"
    script.write_text("\n".join([*lines, "wait"]), encoding="utf-8")
    env = next(iter(starts.values()))[1]
    with by_hand(["sh", str(script)], env, folder / "loop.log"):
        yield


def _starts(lab: Lab) -> Starts:
    """How one starts the lab's servers by hand."""
    ports = machine.free_ports(len(lab.names))
    found = sorted(lab.servers().items())
    return {
        name: (*lab.same_by_hand(pid, port), port)
        for (name, pid), port in zip(found, ports, strict=True)
    }


def _listener(argv: Sequence[str]) -> int:
    """The process that has these arguments."""
    for pid in machine.pids():
        with contextlib.suppress(OSError):
            if machine.command_line(pid) == list(argv):
                return pid
    raise BenchmarkError(f"no process has the arguments {shlex.join(argv)}")


# ---- from a crash to ready


def _crashes(bench: Bench) -> list[Row]:
    seconds: dict[str, list[float]] = {}
    with Lab(bench, bench.size(CRASHES)) as lab:
        bench.tell(f"watch: {len(lab.names)} crashes")
        lab.apply()
        starts = _starts(lab)
        with _watching(lab):
            seconds[WATCH] = [_crash_under_watch(lab, name) for name in lab.names]
        lab.down()
        seconds["load"] = [_load(lab, *one) for one in starts.values()]
        env = next(iter(starts.values()))[1]
        argv = {name: one[0] for name, one in starts.items()}
        with supervised(argv, env, lab.folder / "supervisor"):
            seconds[SUPERVISORD] = _crash_each(starts)
        with _looping(starts, lab.folder):
            seconds[LOOP] = _crash_each(starts)
    load = seconds.pop("load")
    rows = [Row("the server's own start to ready", Unit.SECONDS, tuple(load))]
    for name, taken in seconds.items():
        rows.append(Row(f"crash to ready: {name}", Unit.SECONDS, tuple(taken)))
        more = tuple(a - b for a, b in zip(taken, load, strict=True))
        bar = Bar(most=0.3, aim=0.1) if name == WATCH else None
        rows.append(Row(f"crash to ready, above the start: {name}", Unit.SECONDS, more, bar))
    return rows


def _crash_under_watch(lab: Lab, name: str) -> float:
    def is_ready() -> bool:
        return is_healthy(lab.port, f"/api/{name}/health")

    until(is_ready, f"{name} is ready")
    return _crash(lab.servers()[name], is_ready)


def _crash_each(starts: Starts) -> list[float]:
    for _, _, port in starts.values():
        until(partial(is_healthy, port), "a server is ready")
    # supervisord counts a start as one only after a second.
    time.sleep(1.5)
    return [_crash(_listener(argv), partial(is_healthy, port)) for argv, _, port in starts.values()]


def _crash(pid: int, is_ready: Callable[[], bool]) -> float:
    os.kill(pid, signal.SIGKILL)
    gone = until(lambda: not machine.environment(pid), "it is gone")
    return gone + until(is_ready, "it is ready again")


def _load(lab: Lab, argv: Sequence[str], env: Mapping[str, str], port: int) -> float:
    with by_hand(argv, env, lab.folder / "load.log"):
        return until(partial(is_healthy, port), "a server is ready")


# ---- at rest


def _many(bench: Bench, count: int) -> list[Row]:
    if machine.available_bytes() < 2 * count * SERVER_BYTES:
        what = f"at rest, {count} servers"
        return [not_measured(what, Unit.COUNT, "the machine has too little memory")]
    return _idle(bench, count)


def _idle(bench: Bench, count: int) -> list[Row]:
    with Lab(bench, count) as lab:
        bench.tell(f"watch: at rest with {count} servers")
        lab.apply()
        before, starts = lab.servers(), _starts(lab)
        with _watching(lab) as (pid, _):
            rows = _at_rest(bench, f"{WATCH}, {count} servers", pid)
        taken = []
        for _ in range(bench.rounds(3)):
            with _watching(lab) as (_, seconds):
                taken.append(seconds)
        restarted = float(sum(lab.servers().get(name) != pid for name, pid in before.items()))
        rows.append(Row(f"a new watch has {count} in hand", Unit.SECONDS, tuple(taken)))
        rows.append(Row(f"of {count}, restarted by it", Unit.COUNT, (restarted,), Bar(most=0)))
        lab.down()
        env = next(iter(starts.values()))[1]
        argv = {name: one[0] for name, one in starts.items()}
        with supervised(argv, env, lab.folder / "supervisor") as pid:
            for _, _, port in starts.values():
                until(partial(is_healthy, port), "ready")
            rows += _at_rest(bench, f"{SUPERVISORD}, {count} servers", pid)
    return rows


def _at_rest(bench: Bench, what: str, pid: int) -> list[Row]:
    time.sleep(SETTLES_S / 10 if bench.quick else SETTLES_S)
    cpu, switches, began = machine.cpu_seconds(pid), machine.wake_ups(pid), time.monotonic()
    time.sleep(IDLE_S / 10 if bench.quick else IDLE_S)
    lasted = time.monotonic() - began
    share = (machine.cpu_seconds(pid) - cpu) / lasted
    after = machine.wake_ups(pid)
    woken = sum(after[thread] - switches.get(thread, 0) for thread in after)
    is_ours = what.startswith(f"{WATCH}, {FEW} ")
    memory = float(machine.proportional_bytes(pid))
    most_bytes = Bar(most=100 * 2**20) if is_ours else None
    most_share = Bar(most=36) if is_ours else None
    return [
        Row(f"{what}: CPU time in an hour", Unit.SECONDS, (share * 3600,), most_share),
        Row(f"{what}: memory", Unit.BYTES, (memory,), most_bytes),
        Row(f"{what}: wake-ups a minute", Unit.COUNT, (woken * 60 / lasted,)),
    ]
