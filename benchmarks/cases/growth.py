"""How parsing and planning grow with the number of models, and whole commands with up to 1,000.

In: nothing but generated files; stand-ins for servers where there are too many for real ones.
Out: times of the pure core in one process, per model, and wall times of the whole command.
"""

from __future__ import annotations

import gc
import json
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from benchmarks.lab import COMMAND, FLAGS, Bench, BenchmarkError, Lab, Timing
from benchmarks.results import Bar, Row, Section, Unit, not_measured, ratio
from benchmarks.stand_ins import StandIns
from reconciler.core.desired import DesiredState
from reconciler.core.observed import (
    FileStatus,
    ObservedFile,
    ObservedFiles,
    ObservedGateway,
    ObservedServer,
    ObservedState,
    ProcessRef,
)
from reconciler.core.observed_engine import ObservedEngine
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
WHOLE = (1, 20, 200, 1000)
WHOLE_S = 2.0
VERBS = ("validate", "apply", "plan")
IMPORTS = """\
import gc; gc.disable()  # As `reconciler.__main__` does.
from reconciler.cli.main import command_line; command_line("plan")
"""
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
Whole processes: `validate`, and `apply` and `plan` that find nothing to do, with stand-ins for
servers (a shell that waits, a socket that answers /health). `docker-compose config` reads as many
services from one file, judges them and asks no daemon. The imports are part of each process.
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
    counts = sorted({bench.size(count) for count in WHOLE})
    seen = {count: _of(bench, count) for count in counts}
    few, most = counts[1], counts[-1]
    rows = [row for count in counts for row in seen[count].rows]
    rows[-1] = replace(rows[-1], bar=Bar(most=WHOLE_S))
    rows += seen[most].peaks
    for verb in VERBS:
        over, under = (_each(seen[count].row(verb), count) for count in (most, counts[-2]))
        rows.append(ratio(f"whole `{verb}`: per model, {most:,} / {counts[-2]:,}", over, under))
    rows.append(ratio("imports / no-op `plan`", seen[few].imports, seen[few].row("plan")))
    name = f"`validate` / `docker-compose config`, {few} each"
    return [*rows, seen[few].compose, ratio(name, seen[few].row("validate"), seen[few].compose)]


@dataclass(frozen=True, slots=True)
class Whole:
    """What whole commands took with so many models, which all run."""

    count: int
    timings: Mapping[str, Sequence[Timing]]
    """`imports`: only those of `plan`; `compose`: `docker-compose config` of as many services."""

    @property
    def rows(self) -> list[Row]:
        """The time of each verb."""
        return [self.row(verb) for verb in VERBS]

    @property
    def peaks(self) -> list[Row]:
        """The memory of each verb."""
        return [
            Row(
                f"{self._name(verb)}: peak memory", Unit.BYTES, tuple(one.peak_bytes for one in its)
            )
            for verb in VERBS
            if (its := self.timings[verb])
        ]

    @property
    def imports(self) -> Row:
        """The time that goes before anything is done."""
        return self._seconds("imports", "the imports of `plan`")

    @property
    def compose(self) -> Row:
        """The time of another program that reads a file and judges it."""
        name = f"`docker-compose config`, {self.count:,} services"
        if not self.timings["compose"]:
            return not_measured(name, Unit.SECONDS, "docker-compose is not installed")
        return self._seconds("compose", name)

    def row(self, verb: str) -> Row:
        """The time of a verb."""
        return self._seconds(verb, self._name(verb))

    def _name(self, verb: str) -> str:
        models = "1 model" if self.count == 1 else f"{self.count:,} models"
        return f"whole `{verb}`, {models}"

    def _seconds(self, key: str, name: str) -> Row:
        return Row(name, Unit.SECONDS, tuple(one.seconds for one in self.timings[key]))


def _of(bench: Bench, count: int) -> Whole:
    timings: dict[str, list[Timing]] = {key: [] for key in (*VERBS, "imports", "compose")}
    with StandIns() as stand_ins, Lab(bench, count) as lab:
        bench.tell(f"growth: {count:,} stand-ins")
        lab.write(engine=stand_ins.engine)
        lab.apply()
        services = _services(lab, count)
        for _ in range(bench.rounds(ROUNDS)):
            timings["validate"].append(lab.timed(str(COMMAND), "validate", str(lab.file)))
            timings["apply"].append(lab.apply())
            timings["plan"].append(lab.plan())
            timings["imports"].append(lab.timed(sys.executable, "-c", IMPORTS))
            if services:
                words = ("docker-compose", "-f", services, "config", "--quiet")
                timings["compose"].append(lab.timed(*words))
        lab.kill()
    return Whole(count, timings)


def _services(lab: Lab, count: int) -> str | None:
    """As many services in docker-compose's own form; None without the program."""
    if not shutil.which("docker-compose"):
        return None
    services = {
        name: {"image": "llama-server", "command": ["--ctx-size", "512"], "ports": [f"{port}:8080"]}
        for name, port in list(lab.ports.items())[:count]
    }
    path = lab.folder / "compose.yaml"
    path.write_text(json.dumps({"version": "3", "services": services}), encoding="utf-8")
    return str(path)
