"""From nothing to all ready: `apply` against a shell loop that starts the same servers at once.

In: the engine. Out: wall times, one round after the other in turn, and their ratios. The loop is
given the very argv of our servers, taken from the running processes, but for where they listen;
it polls with nothing but the shell, so that its polling costs less than any program's would.
"""

from __future__ import annotations

import shlex
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks import machine
from benchmarks.lab import LIMIT_S, Bench, BenchmarkError, Lab, end_group
from benchmarks.results import Bar, Row, Section, Unit, ratio

COUNT = 20
ROUNDS = 6
BAR = Bar(most=1.3, aim=1.1)
_LOOP = """\
#!/bin/bash
# Starts all servers at once, asks each until it is ready.
{starts}
is_ready() {{
  {{ exec 3<>"/dev/tcp/127.0.0.1/$1"; }} 2>/dev/null || return 1
  printf 'GET /health HTTP/1.0\\r\\n\\r\\n' >&3
  read -r _ status _ <&3
  exec 3>&-
  [ "$status" = 200 ]
}}
for port in {ports}; do
  until is_ready "$port"; do
    [ "$SECONDS" -lt {limit} ] || exit 1
    sleep 0.05
  done
done
echo ready
wait
"""


@dataclass(frozen=True, slots=True)
class Loop:
    """A shell script that starts all servers, and the environment that it gives them."""

    script: Path
    env: Mapping[str, str]


def measure(bench: Bench) -> Section:
    """Measure it."""
    count = bench.size(COUNT)
    loops: list[float] = []
    behind: list[float] = []
    bare: list[float] = []
    with Lab(bench, count) as lab:
        bench.tell(f"startup: {count} servers")
        loop = _loop_of(lab)
        turns = ((_run_loop, loops), (_behind_gateway, behind), (_bare, bare))
        for number in range(bench.rounds(ROUNDS)):
            # Each comes first, second and last equally often.
            first = number % len(turns)
            for start, seconds in (*turns[first:], *turns[:first]):
                seconds.append(start(lab, loop))
    rows = [
        Row(f"shell loop, {count} servers", Unit.SECONDS, tuple(loops)),
        Row(f"`apply -y` with the gateway, {count} servers", Unit.SECONDS, tuple(behind)),
        Row(f"`apply -y` with `gateway: false`, {count} servers", Unit.SECONDS, tuple(bare)),
    ]
    rows += [ratio(f"{name} / shell loop", row, rows[0], BAR) for name, row in _named(rows)]
    about = f"""
{count} servers from nothing to all answering /health with 200. The loop is bash: it starts the same
servers at once, with the same argv (but for where they listen), environment and log files, and
polls their /health until all are ready. `apply` is the whole process: its own start, the plan,
nginx, the end.
"""
    return Section("From nothing to all ready", about, tuple(rows))


def _named(rows: list[Row]) -> list[tuple[str, Row]]:
    return [("apply with the gateway", rows[1]), ("apply with `gateway: false`", rows[2])]


def _loop_of(lab: Lab) -> Loop:
    """The loop, made from the servers of a first apply; that also warms the caches for all."""
    lab.apply()
    ports = machine.free_ports(len(lab.names))
    starts: list[str] = []
    env: dict[str, str] = {}
    for (name, pid), port in zip(sorted(lab.servers().items()), ports, strict=True):
        argv, env = lab.same_by_hand(pid, port)
        log = shlex.quote(str(lab.folder / f"{name}.log"))
        starts.append(f"{shlex.join(argv)} >>{log} 2>&1 </dev/null &")
    lab.down()
    script = lab.folder / "loop.sh"
    texts = {"starts": "\n".join(starts), "ports": " ".join(map(str, ports))}
    script.write_text(_LOOP.format(limit=int(LIMIT_S), **texts), encoding="utf-8")
    return Loop(script, env)


def _run_loop(_: Lab, loop: Loop) -> float:
    began = time.perf_counter()
    child = subprocess.Popen(
        ["bash", str(loop.script)],
        env=loop.env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        if child.stdout is None or child.stdout.readline() != b"ready\n":
            raise BenchmarkError("the shell loop did not get its servers ready")
        return time.perf_counter() - began
    finally:
        end_group(child)


def _behind_gateway(lab: Lab, _: Loop) -> float:
    return _apply(lab, gateway=True)


def _bare(lab: Lab, _: Loop) -> float:
    return _apply(lab, gateway=False)


def _apply(lab: Lab, *, gateway: bool) -> float:
    lab.write(gateway=gateway)
    timing = lab.apply()
    if len(lab.servers()) != len(lab.names):
        raise BenchmarkError("an apply ended before all its servers were there")
    lab.down()
    return timing.seconds
