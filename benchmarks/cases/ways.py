"""What each way through the gateway costs: by model, by path, with keys, among many models.

In: the engine, wrk. Out: requests a second, their median and 99th percentile, ratios to the server
asked directly; and nginx's memory for streams in which nothing happens. Every answer is checked.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import socket
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from benchmarks import machine
from benchmarks.lab import Bench, BenchmarkError, Lab, by_hand, is_healthy, until
from benchmarks.results import Row, Section, Unit, not_measured, ratio
from benchmarks.wrk import CONNECTIONS, Load, post
from reconciler.core.site import Site
from reconciler.core.words import InstanceName

ROUNDS, SECONDS = 5, 2
MODELS = 100
STREAMS = 500
KEY = "benchmark-key-of-nobody"
BODY = {"content": "hello there"}
DIRECT, BY_PATH, BY_MODEL = "direct", "by path", "by model"
WITH_KEYS, AMONG_MANY = "by model, with keys", f"by model, {MODELS} models"
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"


@dataclass
class Way:
    """One address of the same model."""

    url: str
    key: str = ""
    loads: list[Load] = field(default_factory=list)


def measure(bench: Bench) -> Section:
    """Measure it."""
    about = f"""
One tiny model, `POST /tokenize`, the smallest request there is: what a way costs is seen best.
Direct: the same server on a TCP port. By path: `/api/NAME/tokenize`, whose body nobody looks into.
With keys: two keys in `gateway.keys_file`, one for this model only. {MODELS} models: all in the
desired file, one of them runs. wrk with {CONNECTIONS} connections, {SECONDS} s a turn, in turn.
Streams: each has had its first event and then nothing; memory is nginx's PSS, master and workers.
"""
    title = "Ways through the gateway"
    if not shutil.which("wrk"):
        return Section(title, about, (not_measured(DIRECT, Unit.RATE, "wrk is not installed"),))
    with contextlib.ExitStack() as stack:
        labs = [stack.enter_context(Lab(bench, 1)) for _ in range(3)]
        bench.tell("ways: one model, plain, with keys, and among many")
        ways = _start(labs, bench, stack)
        body = json.dumps({"model": labs[0].names[0], **BODY})
        for number in range(bench.rounds(ROUNDS)):
            order = list(ways.values())
            first = number % len(order)
            for way in (*order[first:], *order[:first]):
                way.loads.append(post(way.url, body, '"tokens"', bench.rounds(SECONDS), way.key))
        rows = (*_rows(ways), *_idle_streams(bench, labs[0]))
    return Section(title, about, rows)


def _start(labs: list[Lab], bench: Bench, stack: contextlib.ExitStack) -> dict[str, Way]:
    plain, keyed, many = labs
    (name,) = plain.names
    _edit(keyed, gateway={"keys_file": "keys"})
    keys = keyed.root / "keys"
    keys.write_text(f"bench:{KEY}:{name}\nother:another-key\n", encoding="utf-8")
    keys.chmod(0o600)
    idle = {
        f"idle{number}": {"source": {"path": str(many.weights)}, "state": "present"}
        for number in range(1, bench.size(MODELS))
    }
    _edit(many, models=idle)
    for lab in labs:
        lab.apply()
    (port,) = machine.free_ports(1)
    argv, env = plain.same_by_hand(plain.servers()[name], port)
    stack.enter_context(by_hand(argv, env, plain.folder / "direct.log"))
    ways = {
        DIRECT: Way(f"http://127.0.0.1:{port}/tokenize"),
        BY_PATH: Way(f"http://127.0.0.1:{plain.port}/api/{name}/tokenize"),
        BY_MODEL: Way(f"http://127.0.0.1:{plain.port}/tokenize"),
        WITH_KEYS: Way(f"http://127.0.0.1:{keyed.port}/tokenize", KEY),
        AMONG_MANY: Way(f"http://127.0.0.1:{many.port}/tokenize"),
    }
    until(partial(is_healthy, port), "the server asked directly is ready")
    return ways


def _edit(lab: Lab, **sections: Mapping[str, object]) -> None:
    """Add to sections of the desired file."""
    desired = json.loads(lab.file.read_text(encoding="utf-8"))
    for name, more in sections.items():
        desired[name] |= more
    lab.file.write_text(json.dumps(desired), encoding="utf-8")


def _rows(ways: Mapping[str, Way]) -> Iterator[Row]:
    rates = {}
    for name, way in ways.items():
        complaints = list(dict.fromkeys(one.complaint for one in way.loads if one.complaint))
        note = "; ".join(complaints[:2])
        rates[name] = Row(name, Unit.RATE, tuple(one.rate for one in way.loads), note=note)
        yield rates[name]
        late = {"median": [x.p50_s for x in way.loads], "p99": [x.p99_s for x in way.loads]}
        for what, values in late.items():
            yield Row(f"{name}: {what}", Unit.SECONDS, tuple(values), note=note)
    for name in (BY_PATH, BY_MODEL):
        yield ratio(f"{name} / {DIRECT}", rates[name], rates[DIRECT])
    for name in (WITH_KEYS, AMONG_MANY):
        yield ratio(f"{name} / {BY_MODEL}", rates[name], rates[BY_MODEL])


# ---- streams in which nothing happens


def _idle_streams(bench: Bench, lab: Lab) -> Iterator[Row]:
    count = bench.size(STREAMS)
    bench.tell(f"ways: {count} idle streams")
    (name,) = lab.names
    site = Site(str(lab.root), str(lab.state), str(lab.file))
    before = sum(map(machine.proportional_bytes, lab.nginx()))
    with _silent_server(site, name), contextlib.ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(_stream(lab.port, name))
        after = sum(map(machine.proportional_bytes, lab.nginx()))
    yield Row("nginx, no stream", Unit.BYTES, (float(before),))
    yield Row(f"nginx, {count} idle streams", Unit.BYTES, (float(after),))
    yield Row("nginx, for each idle stream", Unit.BYTES, ((after - before) / count,))


@contextlib.contextmanager
def _stream(port: int, model: str) -> Iterator[None]:
    body = json.dumps({"model": model, "stream": True}).encode()
    head = (
        f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        connection.sendall(head.encode() + body)
        answer = b""
        while b"data:" not in answer:
            part = connection.recv(4096)
            if not part:
                raise BenchmarkError(f"an idle stream was no stream: {answer[:200]!r}")
            answer += part
        yield


@contextlib.contextmanager
def _silent_server(site: Site, model: str) -> Iterator[None]:
    """Stands behind the model's route: one event a request, then nothing.

    A llama-server that was asked so often would queue: what nginx needs is what is measured here.
    """
    opened, ended = threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()
    path = f"{site.sockets}/silent.sock"

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(_HEAD + b"data: {}\n\n")
        await ended.wait()
        writer.close()

    async def serve() -> None:
        async with await asyncio.start_unix_server(answer, path, backlog=STREAMS):
            opened.set()
            await ended.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    opened.wait()
    try:
        with _swapped(Path(site.route(InstanceName(model))), path):
            yield
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join()
        loop.close()


@contextlib.contextmanager
def _swapped(route: Path, path: str) -> Iterator[None]:
    """Let the route lead elsewhere."""
    before = str(route.readlink())
    _lead(route, path)
    try:
        yield
    finally:
        _lead(route, before)


def _lead(route: Path, target: str) -> None:
    fresh = route.with_suffix(".new")
    fresh.symlink_to(target)
    fresh.replace(route)
