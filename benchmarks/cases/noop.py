"""A plan and an apply that find nothing to do, whole process, for 20 and for 200 real servers.

In: the engine. Out: wall time and peak memory, beside an empty Python program and a playbook of 20
equal tasks in `ansible-playbook --check`. Every measured plan and apply must be a no-op.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from hub_server import hub_server

from benchmarks.hub import REPO
from benchmarks.lab import Bench, BenchmarkError, Lab, Timing
from benchmarks.results import Bar, Row, Section, Unit, not_measured, ratio

ROUNDS = 7
FEW, MANY = 20, 200
NO_OP_S = 0.6
_PLAYBOOK_HEAD = """\
- hosts: localhost
  connection: local
  gather_facts: false
  tasks:
"""
_PLAYBOOK_TASK = """\
    - name: setting {number}
      ansible.builtin.copy: {{content: "value {number}", dest: "{folder}/{number}.conf"}}
"""


def measure(bench: Bench) -> Section:
    """Measure it."""
    few, many = bench.size(FEW), bench.size(MANY)
    rows = [*_beside_others(bench, few), _pinned(bench, few), *_alone(bench, many)]
    about = f"""
Whole processes, from exec to exit, where all servers run and all is as the file says: {few} and
{many} real servers, each with a tiny model behind the gateway. The playbook has {few} equal tasks
(`ansible.builtin.copy` of a file that is there already), without facts, on a local connection.
Of the {few} models that are pinned by a lock file, each a quant of a repository, the hub is asked
nothing: it is counted.
"""
    return Section("Nothing to do", about, tuple(rows))


def _beside_others(bench: Bench, count: int) -> list[Row]:
    timings: dict[str, list[Timing]] = {"pass": [], "plan": [], "apply": [], "ansible": []}
    with Lab(bench, count) as lab:
        bench.tell(f"noop: {count} servers")
        lab.apply()
        playbook = _playbook(lab, count)
        for _ in range(bench.rounds(ROUNDS)):
            timings["pass"].append(lab.timed(sys.executable, "-c", "pass"))
            timings["plan"].append(lab.plan())
            timings["apply"].append(_no_op_apply(lab))
            if playbook:
                timings["ansible"].append(lab.timed("ansible-playbook", "--check", playbook))
    empty, plan, apply = (_row(name, timings[key]) for name, key in _names(count))
    ansible_name = f"`ansible-playbook --check`, {count} equal tasks"
    ansible = _row(ansible_name, timings["ansible"])
    if not playbook:
        ansible = not_measured(ansible_name, Unit.SECONDS, "ansible-playbook is not installed")
    plan = Row(plan.name, plan.unit, plan.values, Bar(most=NO_OP_S))
    peaks = [_peak(name, timings[key]) for name, key in _names(count)]
    if playbook:
        peaks.append(_peak(ansible_name, timings["ansible"]))
    return [
        *(empty, plan, apply, ansible),
        ratio("plan / `python -c pass`", plan, empty),
        ratio("plan / ansible-playbook", plan, ansible),
        ratio("apply / ansible-playbook", apply, ansible),
        *peaks,
    ]


def _pinned(bench: Bench, count: int) -> Row:
    with hub_server() as hub, Lab(bench, count) as lab:
        bench.tell(f"noop: {count} models of a hub")
        tiny = lab.weights.read_bytes()
        # llama.cpp does not mind what follows the tensors: so each has bytes of its own.
        names = (f"tiny-{name.upper()}.gguf" for name in lab.names)
        hub.add(REPO, {name: tiny + bytes(number) for number, name in enumerate(names)})
        lab.hub = hub.endpoint
        lab.write(repo=REPO)
        lab.apply()
        asked = len(hub.requests)
        plans = [lab.plan() for _ in range(bench.rounds(ROUNDS))]
        if not asked or len(hub.requests) != asked:
            raise BenchmarkError("a plan asked the hub for what is pinned")
    seconds = tuple(one.seconds for one in plans)
    name = f"no-op `plan`, {count} models of a hub, pinned"
    return Row(name, Unit.SECONDS, seconds, Bar(most=NO_OP_S))


def _alone(bench: Bench, count: int) -> list[Row]:
    plans, applies = [], []
    with Lab(bench, count) as lab:
        bench.tell(f"noop: {count} servers")
        lab.apply()
        for _ in range(bench.rounds(ROUNDS)):
            plans.append(lab.plan())
            applies.append(_no_op_apply(lab))
    named = ((f"no-op `plan`, {count} servers", plans), (f"no-op `apply -y`, {count}", applies))
    return [_row(*one) for one in named] + [_peak(*one) for one in named]


def _names(count: int) -> tuple[tuple[str, str], ...]:
    return (
        ("`python -c pass`", "pass"),
        (f"no-op `plan`, {count} servers", "plan"),
        (f"no-op `apply -y`, {count} servers", "apply"),
    )


def _row(name: str, timings: list[Timing]) -> Row:
    return Row(name, Unit.SECONDS, tuple(one.seconds for one in timings))


def _peak(name: str, timings: list[Timing]) -> Row:
    return Row(f"{name}: peak memory", Unit.BYTES, tuple(one.peak_bytes for one in timings))


def _no_op_apply(lab: Lab) -> Timing:
    before = lab.servers()
    timing = lab.apply()
    if lab.servers() != before:
        raise BenchmarkError("an apply that had nothing to do changed what runs")
    return timing


def _playbook(lab: Lab, count: int) -> str | None:
    """Write the playbook and carry it out once; None without the program."""
    if not shutil.which("ansible-playbook"):
        return None
    path, folder = lab.folder / "playbook.yaml", Path(lab.folder, "settings")
    folder.mkdir()
    tasks = [_PLAYBOOK_TASK.format(number=number, folder=folder) for number in range(count)]
    path.write_text(_PLAYBOOK_HEAD + "".join(tasks), encoding="utf-8")
    lab.timed("ansible-playbook", str(path))
    return str(path)
