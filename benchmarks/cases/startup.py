"""From nothing to all ready: `apply` against a shell loop that starts the same servers at once.

In: the engine. Out: wall times, one round after the other in turn, and their ratios. The loop is
given the very argv of our servers, taken from the running processes, but for where they listen;
it polls with nothing but the shell, so that its polling costs less than any program's would.
"""

from __future__ import annotations

import shlex
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks import machine
from benchmarks.lab import LIMIT_S, Bench, BenchmarkError, Lab, end_group, smollm2
from benchmarks.results import Bar, Row, Section, Unit, not_measured, ratio

COUNT = 20
ROUNDS = 6
BAR = Bar(most=1.3, aim=1.1)
GATEWAY, BARE = "`apply -y` with the gateway", "`apply -y` with `gateway: false`"
_LOOP = """\
#!/bin/bash
# Starts all servers at once, asks each until it is ready; ends them when it is ended. Each gets a
# session of its own, as ours have: a busy machine's scheduler shares among sessions.
trap 'kill $(jobs -p); wait; exit' TERM
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
    [ "$SECONDS" -lt {limit} ] || {{ kill $(jobs -p); exit 1; }}
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
    with tempfile.TemporaryDirectory() as folder:
        rows = [*_compared(bench, count, "tiny", None), *_with_smollm2(bench, count, Path(folder))]
    about = f"""
{count} servers from nothing to all answering /health with 200. The loop is bash: it starts the same
servers at once, with the same argv (but for where they listen), environment and log files, and
polls their /health until all are ready. `apply` is the whole process: its own start, the plan,
nginx, the end. A tiny model loads in 30 ms, so that nearly nothing is left but what `apply` itself
costs, which is the same whatever the models; with SmolLM2-135M (98 MB) there is something to load.
"""
    return Section("From nothing to all ready", about, tuple(rows))


def _with_smollm2(bench: Bench, count: int, folder: Path) -> list[Row]:
    weights = smollm2(folder)
    if weights is None:
        return [not_measured("SmolLM2", Unit.SECONDS, "the model could not be fetched")]
    return _compared(bench, count, "SmolLM2", weights)


def _compared(bench: Bench, count: int, model: str, weights: Path | None) -> list[Row]:
    seconds: dict[str, list[float]] = {name: [] for name in ("shell loop", GATEWAY, BARE)}
    with Lab(bench, count, weights) as lab:
        bench.tell(f"startup: {count} servers with the {model} model")
        loop = _loop_of(lab)
        turns = (
            ("shell loop", partial(_run_loop, loop)),
            (GATEWAY, partial(_apply, lab, gateway=True)),
            (BARE, partial(_apply, lab, gateway=False)),
        )
        for number in range(bench.rounds(ROUNDS)):
            # Each comes first, second and last equally often.
            first = number % len(turns)
            for name, start in (*turns[first:], *turns[:first]):
                seconds[name].append(start())
    rows = {name: Row(f"{model}: {name}", Unit.SECONDS, tuple(seconds[name])) for name in seconds}
    by_loop = [
        ratio(f"{model}: {name} / shell loop", rows[name], rows["shell loop"], BAR)
        for name in (GATEWAY, BARE)
    ]
    return [*rows.values(), *by_loop]


def _loop_of(lab: Lab) -> Loop:
    """The loop, made from the servers of a first apply; that also warms the caches for all."""
    lab.apply()
    ports = machine.free_ports(len(lab.names))
    starts: list[str] = []
    env: dict[str, str] = {}
    for (name, pid), port in zip(sorted(lab.servers().items()), ports, strict=True):
        argv, env = lab.same_by_hand(pid, port)
        log = shlex.quote(str(lab.folder / f"{name}.log"))
        starts.append(f"setsid {shlex.join(argv)} >>{log} 2>&1 </dev/null &")
    lab.down()
    script = lab.folder / "loop.sh"
    texts = {"starts": "\n".join(starts), "ports": " ".join(map(str, ports))}
    script.write_text(_LOOP.format(limit=int(LIMIT_S), **texts), encoding="utf-8")
    return Loop(script, env)


def _run_loop(loop: Loop) -> float:
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


def _apply(lab: Lab, *, gateway: bool) -> float:
    lab.write(gateway=gateway)
    timing = lab.apply()
    if len(lab.servers()) != len(lab.names):
        raise BenchmarkError("an apply ended before all its servers were there")
    lab.down()
    return timing.seconds
