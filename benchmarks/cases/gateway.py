"""Requests through the gateway, against the server itself and llama-server's own router mode.

In: the engine, wrk. Out: requests a second and their ratios, and the first streamed byte. All run
at the same time and are asked in turn; what is not asked is idle. Every answer is checked: one
that is not a 200 with what was asked for makes its row invalid, and the row says so.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import machine
from benchmarks.lab import FLAGS, Bench, BenchmarkError, Lab, by_hand, smollm2, until
from benchmarks.results import Bar, Row, Section, Unit, not_measured, percentile, ratio
from benchmarks.wrk import CONNECTIONS, Load, post
from reconciler.core.site import Site
from reconciler.drivers.nginx import NginxGateway

ROUNDS, SECONDS = 5, 2
STREAMS = 100
FIRST_BYTE_S = 0.020
PATIENCE_S = 60.0
DIRECT, GATEWAY, ROUTER = "direct", "gateway", "router mode"
BARE = "nginx that only passes on"
_BARE_CONF = """\
daemon off; worker_processes 2; pid nginx.pid; error_log error.log;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi; scgi_temp_path scgi;
    upstream server {{ server "unix:{socket}"; keepalive 0; }}
    server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://server; }} }}
}}
"""
"""The least that nginx can do for a request: no model is looked for, nothing checked or logged."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of request, and what is hoped of it."""

    name: str
    path: str
    body: Mapping[str, object]
    piece: str
    """What a good answer holds."""
    over_direct: Bar | None = None
    over_router: Bar | None = None
    times: int = 1
    """So many times longer than others it is asked for."""


_PROMPT = {"prompt": "hello there", "ignore_eos": True}
KINDS = (
    Kind(
        "POST /tokenize",
        "/tokenize",
        {"content": "hello there"},
        '"tokens"',
        over_router=Bar(least=4),
    ),
    Kind(
        "completion of 1 token",
        "/v1/completions",
        {**_PROMPT, "max_tokens": 1},
        '"completion_tokens":1,',
    ),
    Kind(
        "completion of 16 tokens",
        "/v1/completions",
        {**_PROMPT, "max_tokens": 16},
        '"completion_tokens":16,',
    ),
)
REAL = tuple(
    Kind(
        f"SmolLM2, completion of {tokens} token{'s' if tokens > 1 else ''}",
        "/v1/completions",
        {**_PROMPT, "max_tokens": tokens},
        f'"completion_tokens":{tokens},',
        over_direct=Bar(least=0.8),
        times=3,
    )
    for tokens in (1, 16)
)


@dataclass
class Rivals:
    """Where the same model is served, by what."""

    model: str
    ports: dict[str, int] = field(default_factory=dict)
    lacking: dict[str, str] = field(default_factory=dict)
    """What is not served, and why."""


def measure(bench: Bench) -> Section:
    """Measure it."""
    with contextlib.ExitStack() as stack:
        lab = stack.enter_context(Lab(bench, 2))
        rivals = _start(lab, stack)
        _add_router(lab, rivals, stack)
        _add_bare(lab, rivals, stack)
        rows = [row for kind in KINDS for row in _load(bench, kind, rivals)]
        rows += _first_bytes(bench, rivals)
    rows += _real(bench)
    about = f"""
One tiny model, served by the same program with the same flags: a server asked directly (TCP), one
behind the gateway (unix socket), the same one behind an nginx of ten lines that only passes on, and
one behind llama-server's router mode. The gateway and the router find the model by the `model` in
the body. wrk with {CONNECTIONS} connections, {SECONDS} s a turn, in turn; every answer is
checked. First streamed byte: a new connection, until the first `data:` has arrived. Real
completions are those of a model that one would serve: SmolLM2-135M, a small one. Through the
gateway each request has a connection of its own to its server: llama-server closes kept ones, and a
kept one would go on leading to a server that was replaced. That is most of what the gateway adds,
alike for the smallest request and the longest answer, and what the other nginx adds too.
"""
    return Section("Requests through the gateway", about, tuple(rows))


def _real(bench: Bench) -> Iterator[Row]:
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        weights = smollm2(folder)
        if weights is None:
            yield not_measured("SmolLM2", Unit.RATE, "the model could not be fetched")
            return
        lab = stack.enter_context(Lab(bench, 1, weights))
        rivals = _start(lab, stack)
        for kind in REAL:
            yield from _load(bench, kind, rivals)


# ---- the rivals


def _start(lab: Lab, stack: contextlib.ExitStack) -> Rivals:
    lab.bench.tell("gateway: one model, directly and behind the gateway")
    lab.apply()
    name, pid = sorted(lab.servers().items())[0]
    (direct,) = machine.free_ports(1)
    argv, env = lab.same_by_hand(pid, direct)
    stack.enter_context(by_hand(argv, env, lab.folder / "direct.log"))
    rivals = Rivals(name, {DIRECT: direct, GATEWAY: lab.port})
    for rival, port in rivals.ports.items():
        _until_served(rival, port, name)
    return rivals


def _add_router(lab: Lab, rivals: Rivals, stack: contextlib.ExitStack) -> None:
    if lab.bench.engine.name != "llama-server":
        rivals.lacking[ROUTER] = "only the real llama-server has a router mode"
        return
    (port,) = machine.free_ports(1)
    _, env = lab.same_by_hand(lab.servers()[rivals.model], port)
    stack.enter_context(by_hand(_router_argv(lab, port), env, lab.folder / "router.log"))
    rivals.ports[ROUTER] = port
    _until_served(ROUTER, port, rivals.model)


def _add_bare(lab: Lab, rivals: Rivals, stack: contextlib.ExitStack) -> None:
    folder = lab.folder / "bare"
    folder.mkdir()
    (port,) = machine.free_ports(1)
    argv = machine.command_line(lab.servers()[rivals.model])
    conf = _BARE_CONF.format(socket=argv[argv.index("--host") + 1], port=port)
    (folder / "nginx.conf").write_text(conf, encoding="utf-8")
    # As root nginx's default user could not reach the socket.
    user = ["-g", "user root;"] if os.geteuid() == 0 else []
    command, _ = NginxGateway(Site("/", "/", "")).locate("auto")
    words = [*command, "-p", str(folder), "-c", "nginx.conf", "-e", str(folder / "log"), *user]
    stack.enter_context(by_hand(words, lab.environment, folder / "said"))
    rivals.ports[BARE] = port
    _until_served(BARE, port, rivals.model)


def _router_argv(lab: Lab, port: int) -> list[str]:
    models = lab.folder / "router"
    models.mkdir()
    for name in lab.names:
        shutil.copy(lab.weights, models / f"{name}.gguf")
    flags = [word for name, value in FLAGS.items() for word in (_spelled(name), str(value))]
    listens = ["--host", "127.0.0.1", "--port", str(port)]
    return [*lab.bench.engine.command, "--models-dir", str(models), *listens, *flags]


def _spelled(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _until_served(rival: str, port: int, model: str) -> None:
    """Wait until the model answers there; router mode loads it at its first request."""
    body = {"model": model, "content": "hello"}
    until(lambda: _answers(port, body), f"{rival}: an answer of the model on port {port}")


def _answers(port: int, body: Mapping[str, object]) -> bool:
    try:
        return b" 200 " in b"".join(_parts(port, "/tokenize", body))[:20]
    except OSError:
        return False


# ---- requests a second


def _load(bench: Bench, kind: Kind, rivals: Rivals) -> list[Row]:
    if not shutil.which("wrk"):
        return [not_measured(kind.name, Unit.RATE, "wrk is not installed")]
    bench.tell(f"gateway: {kind.name}")
    body = json.dumps({"model": rivals.model, **kind.body})
    loads: dict[str, list[Load]] = {rival: [] for rival in rivals.ports}
    for number in range(bench.rounds(ROUNDS)):
        names = list(rivals.ports)
        first = number % len(names)
        for rival in (*names[first:], *names[:first]):
            url = f"http://127.0.0.1:{rivals.ports[rival]}{kind.path}"
            seconds = kind.times * bench.rounds(SECONDS)
            loads[rival].append(post(url, body, kind.piece, seconds))
    rows = {rival: _rates(f"{kind.name}: {rival}", seen) for rival, seen in loads.items()}
    for rival, why in rivals.lacking.items():
        rows[rival] = not_measured(f"{kind.name}: {rival}", Unit.RATE, why)
    bars = {DIRECT: kind.over_direct, ROUTER: kind.over_router}
    ratios = [
        ratio(f"{kind.name}: gateway / {rival}", rows[GATEWAY], row, bars.get(rival))
        for rival, row in rows.items()
        if rival != GATEWAY
    ]
    return [*rows.values(), *ratios]


def _rates(name: str, loads: Sequence[Load]) -> Row:
    complaints = list(dict.fromkeys(one.complaint for one in loads if one.complaint))
    rates = tuple(one.rate for one in loads)
    return Row(name, Unit.RATE, rates, note="; ".join(complaints[:2]))


# ---- the first streamed byte


def _first_bytes(bench: Bench, rivals: Rivals) -> list[Row]:
    bench.tell("gateway: first streamed byte")
    body = {"model": rivals.model, **_PROMPT, "max_tokens": 16, "stream": True}
    seconds: dict[str, list[float]] = {DIRECT: [], GATEWAY: []}
    for _ in range(bench.size(STREAMS)):
        for rival, seen in seconds.items():
            seen.append(_first_byte(rivals.ports[rival], body))
    rows = [
        Row(f"first streamed byte: {rival}", Unit.SECONDS, tuple(seen))
        for rival, seen in seconds.items()
    ]
    added = [b - a for a, b in zip(seconds[DIRECT], seconds[GATEWAY], strict=True)]
    name = "first streamed byte: gateway - direct"
    late = tuple(percentile(seen, 0.99) for seen in seconds.values())
    return [
        *rows,
        Row(name, Unit.SECONDS, tuple(added), Bar(most=FIRST_BYTE_S)),
        Row("first streamed byte, 99th percentile: direct", Unit.SECONDS, late[:1]),
        Row("first streamed byte, 99th percentile: gateway", Unit.SECONDS, late[1:]),
    ]


def _first_byte(port: int, body: Mapping[str, object]) -> float:
    began = time.perf_counter()
    answer, first = b"", 0.0
    for part in _parts(port, "/v1/completions", body):
        answer += part
        if not first and b"\r\n\r\n" in answer and b"data:" in answer:
            first = time.perf_counter() - began
    if not first or b"[DONE]" not in answer:
        raise BenchmarkError(f"a stream on port {port} was no stream: {answer[:200]!r}")
    return first


def _parts(port: int, path: str, body: Mapping[str, object]) -> Iterator[bytes]:
    """Send one POST on a connection of its own; yields what arrives, as it arrives."""
    content = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as connection:
        connection.sendall(head.encode() + content)
        while part := connection.recv(65536):
            yield part
