"""A change while clients ask: how long it takes, and what they lose by it.

In: the real llama-server. Out: for the gateway and for llama-server's own router mode, side by
side, the seconds until a change is in force and the requests and streams that were lost meanwhile.
Two changes: a model's parameters (its server is replaced), and one more name in the file.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from e2e.client import Stream, ask
from e2e.load import Clients

from benchmarks import machine
from benchmarks.lab import COMMAND, FLAGS, Bench, BenchmarkError, Lab, by_hand, until
from benchmarks.results import Bar, Row, Section, Unit, not_measured

ROUNDS = 5
CLIENTS, STREAMS, TOKENS = 4, 4, 96
"""Clients of short answers, streams at any time, tokens of a stream."""
FIRST = "m0000"
"""The model that is asked, and changed."""
GATEWAY, ROUTER = "gateway", "router mode"
GOOD = "good"
PARAMETERS, NEW = "a model's parameters", "one more name"


@dataclass
class Rival:
    """One way to serve the models, and to change them."""

    port: int
    change: Callable[[int, str], None]
    """Bring a change into force: the number of the turn, and which of the two."""
    seconds: list[float] = field(default_factory=list)
    lost: list[float] = field(default_factory=list)
    cut: list[float] = field(default_factory=list)
    answered: list[float] = field(default_factory=list)

    def empty(self) -> Self:
        """The same without numbers."""
        return type(self)(self.port, self.change)


def measure(bench: Bench) -> Section:
    """Measure it."""
    about = f"""
Two tiny models behind each, asked by {CLIENTS} clients with short answers and {STREAMS} streams of
{TOKENS} tokens, without a pause. The new name has nothing to load. Gateway: the desired file is
edited and `apply -y` run (`rollout: surge`); its time is the whole command's. Router mode: its
preset file is edited and `GET /models?reload=1` asked; its time ends with the first answer of the
model. Lost: an answer that is no 200. Cut: a stream that does not come to its end.
"""
    title = "Changes under load"
    if bench.engine.name != "llama-server":
        why = "only the real llama-server has a router mode"
        return Section(title, about, (not_measured("a change", Unit.SECONDS, why),))
    with contextlib.ExitStack() as stack:
        lab = stack.enter_context(Lab(bench, 2))
        rivals = _start(lab, stack)
        rows = [row for kind in (PARAMETERS, NEW) for row in _turns(bench, kind, rivals)]
    return Section(title, about, tuple(rows))


def _start(lab: Lab, stack: contextlib.ExitStack) -> dict[str, Rival]:
    lab.bench.tell("changes: two models behind the gateway, and behind router mode")
    desired = json.loads(lab.file.read_text(encoding="utf-8"))
    desired["models"][FIRST]["rollout"] = "surge"
    (port,) = machine.free_ports(1)
    presets = lab.folder / "presets.ini"
    sections = {name: {"model": str(lab.weights), **FLAGS} for name in lab.names}

    def apply(turn: int, kind: str) -> None:
        _alter(desired["models"], turn, kind)
        lab.file.write_text(json.dumps(desired), encoding="utf-8")
        lab.timed(str(COMMAND), "apply", "-y", str(lab.file))

    def reload(turn: int, kind: str) -> None:
        if kind == NEW:
            sections[f"new{turn}"] = {**sections[FIRST]}
        else:
            sections[FIRST]["temp"] = turn / 1000
        _write_presets(presets, sections)
        if ask(port, "/models?reload=1").status != 200:
            raise BenchmarkError("router mode did not reload its presets")
        _until_served(port)

    _write_presets(presets, sections)
    apply(0, PARAMETERS)
    _, pid = sorted(lab.servers().items())[0]
    _, env = lab.same_by_hand(pid, port)
    listens = ["--host", "127.0.0.1", "--port", str(port)]
    argv = [*lab.bench.engine.command, "--models-preset", str(presets), *listens]
    stack.enter_context(by_hand(argv, env, lab.folder / "router.log"))
    rivals = {GATEWAY: Rival(lab.port, apply), ROUTER: Rival(port, reload)}
    for rival in rivals.values():
        _until_served(rival.port)
    return rivals


def _alter(models: dict[str, Any], turn: int, kind: str) -> None:
    if kind == NEW:
        # A name for a server that runs: as in router mode, nothing has to be loaded for it.
        models[FIRST].setdefault("aliases", []).append(f"new{turn}")
    else:
        models[FIRST]["params"] = {"temp": turn / 1000}


def _write_presets(path: Path, sections: dict[str, dict[str, Any]]) -> None:
    lines = ["version = 1"]
    for name, values in sections.items():
        lines += [
            f"[{name}]",
            *(f"{key.replace('_', '-')} = {each}" for key, each in values.items()),
        ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _body(tokens: int) -> dict[str, Any]:
    return {"model": FIRST, "prompt": "hello", "max_tokens": tokens, "ignore_eos": True}


def _until_served(port: int) -> None:
    until(lambda: _short(port) == GOOD, f"an answer of the model on port {port}")


def _short(port: int) -> str:
    try:
        status = ask(port, "/v1/completions", _body(4)).status
    except (OSError, http.client.HTTPException) as error:
        return repr(error)
    return GOOD if status == 200 else str(status)


def _long(port: int) -> str:
    with contextlib.closing(Stream(port, "/v1/completions", _body(TOKENS))) as stream:
        events = stream.rest()
        is_whole = stream.status == 200 and stream.finished
        return GOOD if is_whole else f"{stream.status} after {events} events"


@contextlib.contextmanager
def _load(port: int) -> Iterator[tuple[Clients, Clients]]:
    short = Clients(CLIENTS, 0.005, lambda: _short(port))
    long = Clients(STREAMS, 0.005, lambda: _long(port))
    short.start()
    long.start()
    try:
        short.some_more()
        yield short, long
        short.some_more()
    finally:
        short.stop()
        long.stop()


def _turns(bench: Bench, kind: str, rivals: dict[str, Rival]) -> Iterator[Row]:
    bench.tell(f"changes: {kind}")
    seen = {name: rival.empty() for name, rival in rivals.items()}
    for turn in range(1, bench.rounds(ROUNDS) + 1):
        for rival in seen.values():
            with _load(rival.port) as (short, long):
                began = time.perf_counter()
                rival.change(turn, kind)
                rival.seconds.append(time.perf_counter() - began)
            rival.lost.append(float(short.counts.total() - short.counts[GOOD]))
            rival.cut.append(float(long.counts.total() - long.counts[GOOD]))
            rival.answered.append(float(short.counts[GOOD] + long.counts[GOOD]))
    for name, rival in seen.items():
        none = Bar(most=0) if name == GATEWAY else None
        yield Row(f"{kind}: {name}", Unit.SECONDS, tuple(rival.seconds))
        yield Row(f"{kind}: {name}: requests lost", Unit.COUNT, tuple(rival.lost), none)
        yield Row(f"{kind}: {name}: streams cut", Unit.COUNT, tuple(rival.cut), none)
        yield Row(f"{kind}: {name}: good answers", Unit.COUNT, tuple(rival.answered))
