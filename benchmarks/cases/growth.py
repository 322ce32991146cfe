"""How parsing and planning grow with the number of models, and `plan` of 1,000, whole process.

In: nothing but generated files; stand-ins for servers where there are too many for real ones.
Out: times of the pure core in one process, per model, and wall times of the whole command.
"""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from benchmarks.lab import FLAGS, Bench, BenchmarkError, Lab
from benchmarks.results import Bar, Row, Section, Unit, ratio
from benchmarks.stand_ins import StandIns
from reconciler.core.desired import DesiredState
from reconciler.core.observed import (
    FileStatus,
    ObservedEngine,
    ObservedFile,
    ObservedFiles,
    ObservedGateway,
    ObservedServer,
    ObservedState,
    ProcessRef,
)
from reconciler.core.parse import SourceText, parse_desired
from reconciler.core.plan import ApplyGateway, Plan, StartServer
from reconciler.core.planner import make_plan
from reconciler.core.site import Site
from reconciler.core.words import EngineKind, ModelName, Phase
from reconciler.drivers.templates import load_templates

SIZES = (10, 100, 1000, 4000)
BASE = 100
"""Growth is told against this many models: with fewer the constant part weighs too much."""
ROUNDS = 5
WHOLE = 1000
WHOLE_S = 2.0
SITE = Site("/srv", "/srv/state", "desired/bench.yaml")


def measure(bench: Bench) -> Section:
    """Measure it."""
    sizes = [bench.size(size) for size in SIZES]
    parsing, planning = _in_one_process(bench, sizes)
    base = bench.size(BASE)
    rows = [*parsing.values(), *planning.values()]
    for name, seen in (("parse", parsing), ("resolve + plan", planning)):
        for size in sizes:
            if size > base:
                row, under = _each(seen[size], size), _each(seen[base], base)
                rows.append(ratio(f"{name}: per model, {size:,} / {base:,}", row, under))
    rows += _whole(bench)
    about = """
In one process: parsing one YAML file, and resolving and planning a machine where all is as wanted.
Whole process: `plan`, with as many stand-ins for servers (a shell that waits, a socket that answers
/health) as there are no real ones for.
"""
    return Section("Growth with the number of models", about, tuple(rows))


def _each(row: Row, count: int) -> Row:
    return replace(row, values=tuple(value / count for value in row.values))


# ---- in one process


@dataclass(frozen=True, slots=True)
class Size:
    """One number of models, ready to be parsed and planned."""

    source: SourceText
    desired: DesiredState
    observed: ObservedState


def _in_one_process(bench: Bench, sizes: Sequence[int]) -> tuple[dict[int, Row], dict[int, Row]]:
    bench.tell(f"growth: {', '.join(f'{size:,}' for size in sizes)} models in one process")
    ready = {size: _prepared(size) for size in sizes}
    parsing: dict[int, list[float]] = {size: [] for size in sizes}
    planning: dict[int, list[float]] = {size: [] for size in sizes}
    for _ in range(bench.rounds(ROUNDS)):
        for size, one in ready.items():
            parsing[size].append(_seconds(partial(parse_desired, [one.source])))
            planning[size].append(_seconds(partial(_no_op, one.desired, one.observed)))
    return (
        {size: _row(f"parse {size:,}", parsing[size]) for size in sizes},
        {size: _row(f"resolve + plan {size:,}", planning[size]) for size in sizes},
    )


def _row(name: str, seconds: Sequence[float]) -> Row:
    return Row(f"{name} models", Unit.SECONDS, tuple(seconds))


def _seconds(call: Callable[[], object]) -> float:
    gc.collect()
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def _prepared(count: int) -> Size:
    names = [f"m{number:05}" for number in range(count)]
    models = {
        name: {"source": {"path": f"{name}.gguf"}, "port": 10000 + number, "aliases": [f"{name}-x"]}
        for number, name in enumerate(names)
    }
    whole = {"version": 1, "defaults": {"params": FLAGS}, "models": models}
    source = SourceText("bench.yaml", json.dumps(whole, indent=1).encode())
    desired = parse_desired([source]).desired
    return Size(source, desired, _as_wanted(desired))


def _as_wanted(desired: DesiredState) -> ObservedState:
    """A machine that looks as if the plan for an empty one had been carried out on it."""
    files = {
        ModelName(name): ObservedFiles(
            FileStatus.PRESENT,
            path=f"/srv/{name}.gguf",
            spec_id=f"/srv/{name}.gguf",
            files=(ObservedFile(f"/srv/{name}.gguf", 1, f"1:{number}:1:1"),),
        )
        for number, name in enumerate(desired.models)
    }
    flags = {
        name: f"--{name}" for name in ("model", "alias", "host", "port", "ctx-size", "threads")
    }
    empty = ObservedState(
        nginx=("/bin/nginx",),
        files=files,
        engine=ObservedEngine(EngineKind.LLAMA_SERVER, ("/bin/llama-server",), flags),
        templates=load_templates("/nowhere"),
    )
    effects = [step.effect for step in make_plan(desired, SITE, empty).steps]
    launches = [effect.launch for effect in effects if isinstance(effect, StartServer)]
    servers = tuple(
        ObservedServer(
            ref=ProcessRef(1000 + number, 1),
            instance=launch.instance,
            spec=launch.spec_hash,
            phase=Phase.READY,
            slot=launch.slot,
            address=launch.address,
            routed=True,
            argv=launch.argv,
            files=launch.files,
        )
        for number, launch in enumerate(launches)
    )
    rendered = next(effect.rendered for effect in effects if isinstance(effect, ApplyGateway))
    nginx = ObservedGateway(master=ProcessRef(999, 1), generation=rendered.generation)
    return replace(empty, servers=servers, gateway=nginx)


def _no_op(desired: DesiredState, observed: ObservedState) -> Plan:
    plan = make_plan(desired, SITE, observed)
    if not plan.is_noop or len(plan.changes) <= len(desired.models):
        raise BenchmarkError("a plan that was to find nothing found something")
    return plan


# ---- the whole command


def _whole(bench: Bench) -> list[Row]:
    count = bench.size(WHOLE)
    with StandIns() as stand_ins, Lab(bench, count) as lab:
        bench.tell(f"growth: {count:,} stand-ins")
        lab.write(engine=stand_ins.engine)
        empty = [lab.plan(code=2).seconds for _ in range(bench.rounds(ROUNDS))]
        lab.apply()
        full = [lab.plan().seconds for _ in range(bench.rounds(ROUNDS))]
        lab.kill()
    bar = Bar(most=WHOLE_S)
    return [
        Row(f"whole `plan`, {count:,} models to start", Unit.SECONDS, tuple(empty)),
        Row(f"whole no-op `plan`, {count:,} models running", Unit.SECONDS, tuple(full), bar),
    ]
