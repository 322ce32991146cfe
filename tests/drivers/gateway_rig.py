"""A real nginx in front of small HTTP servers on unix sockets, for the gateway's tests.

In: models as plain dicts. Out: a running gateway, its recorded backends, and a raw HTTP client.
Everything lies in one short folder under /tmp (a socket's path has 107 bytes) and ends with it.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Any

from e2e.machine import free_port
from waiting import PATIENCE_S

from reconciler.core.desired import DesiredState
from reconciler.core.gateway import render_gateway
from reconciler.core.gateway_view import gateway_view
from reconciler.core.observed import ObservedGateway
from reconciler.core.plan import ApplyGateway, RenderedGateway, StopGateway
from reconciler.core.site import Site
from reconciler.core.words import InstanceName
from reconciler.drivers import proc
from reconciler.drivers.clock import SystemClock
from reconciler.drivers.nginx import NginxGateway
from reconciler.drivers.secrets import SecretFiles
from reconciler.drivers.templates import load_templates


def eventually(what: Callable[[], bool], timeout: float = PATIENCE_S) -> None:
    """Poll until it holds."""
    deadline = time.monotonic() + timeout
    while not what():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.01)


@dataclass(frozen=True)
class Seen:
    """One request as a backend got it."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Backend

    def address_string(self) -> str:
        return "unix"

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _answer(self) -> None:
        self.close_connection = True
        path = self.path.partition("?")[0]
        if path == "/health":
            self.server.probes.append(str(self.headers))
            self._reply(self.server.health, {"status": "ok"})
            return
        if path == "/metrics" and self.server.metrics is not None:
            self.server.scrapes.append(str(self.headers))
            self._send(200, "text/plain; version=0.0.4", self.server.metrics.encode())
            return
        if self.server.health == 503:
            self._reply(503, {"error": {"message": "Loading model"}})
            return
        body = self._body()
        headers = {name.lower(): value for name, value in self.headers.items()}
        if path == "/v1/streams/lookup":
            ids = json.loads(body)["conversation_ids"]
            known = self.server.streams
            self._reply(200, [one for one in known if one["conversation_id"] in ids])
            return
        if path == "/v1/chat/completions/control":
            success = json.loads(body)["id"] in [one.get("id") for one in self.server.streams]
            self._reply(200, {"success": success, "message": self.server.name})
            return
        self.server.seen.append(Seen(self.command, self.path, headers, body))
        if path.endswith("/stream") or b'"stream": true' in body:
            self._stream(f"first of {self.server.name}")
        elif b'"stream":true' in body:
            # As scripts of a page write it: they read what comes.
            delta = {"reasoning_content": "<i>hm</i>", "content": f"<b>{self.server.name}</b>"}
            self._stream(json.dumps({"choices": [{"delta": delta}]}))
        elif not path.endswith("/break"):
            self._reply(200, {"backend": self.server.name, "bytes": len(body)})

    do_GET = do_POST = do_PUT = do_DELETE = do_OPTIONS = _answer  # noqa: N815 - the base's names

    def _reply(self, status: int, value: object) -> None:
        self._send(status, "application/json", json.dumps(value).encode())

    def _send(self, status: int, kind: str, data: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _stream(self, first: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self._chunk(f"data: {first}\n\n")
        self.server.go_on.wait(PATIENCE_S)
        self._chunk("data: [DONE]\n\n")
        self.wfile.write(b"0\r\n\r\n")

    def _chunk(self, text: str) -> None:
        self.wfile.write(f"{len(text):x}\r\n{text}\r\n".encode())


class Backend(ThreadingMixIn, UnixStreamServer):
    """Stands for one llama-server."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, path: str, name: str) -> None:
        super().__init__(path, _Handler)
        self.name = name
        self.health = 200
        self.seen: list[Seen] = []
        self.probes: list[str] = []
        """The headers of all questions to /health."""
        self.metrics: str | None = None
        """What it answers on /metrics; None: what it answers on any path."""
        self.scrapes: list[str] = []
        """The headers of all questions to /metrics."""
        self.streams: list[dict[str, object]] = []
        """What it says of conversations at /v1/streams/lookup."""
        self.go_on = threading.Event()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that left is none of the test's business."""

    def close(self) -> None:
        self.go_on.set()
        self.shutdown()
        self.server_close()
        self._thread.join(PATIENCE_S)


@dataclass
class Answer:
    """A whole HTTP answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        """The message of an error in OpenAI's shape."""
        error = self.json["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert self.headers["content-type"] == "application/json"
        return str(error["message"])


@dataclass
class Rig:
    """One root with a gateway."""

    site: Site
    gateway: NginxGateway
    listen: int = field(default_factory=free_port)
    ports: dict[str, int] = field(default_factory=dict)
    backends: dict[str, Backend] = field(default_factory=dict)
    cancel: threading.Event = field(default_factory=threading.Event)
    trust: ssl.SSLContext | None = None
    """With it, all questions go over TLS."""

    def desired(self, models: Mapping[str, Any], **gateway: object) -> DesiredState:
        whole = {name: {"source": {"path": "x.gguf"}, **each} for name, each in models.items()}
        listen = {"listen": f"127.0.0.1:{self.listen}", **gateway}
        return DesiredState.model_validate({"version": 1, "gateway": listen, "models": whole})

    def render(self, models: Mapping[str, Any], **gateway: object) -> RenderedGateway:
        state = self.desired(models, **gateway)
        assert state.gateway
        secrets = SecretFiles(self.site.root, SystemClock()).read(state.gateway)
        view = gateway_view(state, self.site, frozenset(), secrets)
        return render_gateway(view, load_templates(self.site.root))

    def apply(self, rendered: RenderedGateway, restart: float | None = None) -> ObservedGateway:
        now = self.gateway.observe()
        nginx, why = self.gateway.locate("auto")
        assert nginx, why
        effect = ApplyGateway(rendered, nginx, now.master, now.orphans, restart)
        self.gateway.apply(effect, self.cancel)
        after = self.gateway.observe()
        assert after.generation == rendered.generation
        return after

    def stop(self, grace: float = 0.0) -> None:
        now = self.gateway.observe()
        self.gateway.stop(StopGateway(now.master, now.orphans, grace), self.cancel)

    def backend(self, instance: str, slot: str = "a") -> Backend:
        """Start a server for an instance and route to it."""
        key = InstanceName(instance)
        made = Backend(self.site.socket(key, slot), f"{instance}.{slot}")
        self.backends[made.name] = made
        self.route(instance, slot)
        return made

    def route(self, instance: str, slot: str) -> None:
        link = Path(self.site.route(InstanceName(instance)))
        fresh = link.with_suffix(".new")
        fresh.symlink_to(Path(self.site.socket(InstanceName(instance), slot)).name)
        fresh.replace(link)

    def unroute(self, instance: str) -> None:
        Path(self.site.route(InstanceName(instance))).unlink(missing_ok=True)

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        port: int | None = None,
        headers: Mapping[str, str] | None = None,
        chunked: bool = False,
    ) -> Answer:
        """One request on a connection of its own. A body that is no text or bytes goes as JSON."""
        data = body if isinstance(body, str | bytes | None) else json.dumps(body)
        data = data.encode() if isinstance(data, str) else data
        connection = self.connection(port)
        with contextlib.closing(connection):
            if chunked and data is not None:
                parts = [data[at : at + 65536] for at in range(0, len(data), 65536)]
                connection.request(method, path, iter(parts), headers or {}, encode_chunked=True)
            else:
                connection.request(method, path, data, headers or {})
            reply = connection.getresponse()
            fields = {name.lower(): value for name, value in reply.getheaders()}
            return Answer(reply.status, fields, reply.read())

    def raw(self, text: str, *, port: int | None = None) -> int:
        """Send these very bytes; return the status."""
        with contextlib.closing(self.connection(port)) as opened:
            opened.connect()
            connection = opened.sock
            connection.sendall(text.encode())
            head = b""
            while b"\r\n" not in head and (part := connection.recv(4096)):
                head += part
        return int(head.split(b" ")[1])

    def stream(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        port: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        connection = self.connection(port)
        connection.request(method, path, None if body is None else json.dumps(body), headers or {})
        return connection, connection.getresponse()

    def connection(self, port: int | None = None) -> http.client.HTTPConnection:
        where = ("127.0.0.1", port or self.listen)
        if self.trust:
            return http.client.HTTPSConnection(*where, timeout=PATIENCE_S, context=self.trust)
        return http.client.HTTPConnection(*where, timeout=PATIENCE_S)


@contextlib.contextmanager
def rig() -> Iterator[Rig]:
    folder = tempfile.mkdtemp(prefix="lr", dir="/tmp")
    site = Site(root=f"{folder}/root", state=f"{folder}/st", desired="desired.yaml")
    Path(site.sockets).mkdir(parents=True)
    made = Rig(site, NginxGateway(site))
    try:
        yield made
    finally:
        made.cancel.clear()
        try:
            made.stop()
            assert proc.holders_of(site.gateway_lock) == ()
        finally:
            for backend in made.backends.values():
                backend.close()
            shutil.rmtree(folder)


WORLD: dict[str, Any] = {
    "alpha": {"aliases": ("org/alpha:Q4", "__proto__", "\u00fcber")},
    "beta": {"quant": "Q8_0"},
    "twin": {"replicas": 2},
    "down": {},
    "idle": {"state": "present", "aliases": ("asleep",)},
    "zero": {"replicas": 0},
}


@contextlib.contextmanager
def world_of_models() -> Iterator[Rig]:
    """A gateway over one model of every kind, with backends for those that serve."""
    with rig() as made:
        made.ports["alpha"] = free_port()
        alpha = {**WORLD["alpha"], "port": made.ports["alpha"]}
        made.apply(made.render({**WORLD, "alpha": alpha}, server_names=("llm.lan",)))
        for instance in ("alpha", "beta", "twin", "twin[1]"):
            made.backend(instance)
        yield made


def write_keys(world: Rig, text: str) -> None:
    path = Path(world.site.root) / "secrets" / "keys"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o600)


def forget_requests(world: Rig) -> None:
    for backend in world.backends.values():
        backend.seen.clear()
        backend.go_on.clear()
        backend.streams.clear()


def only(world: Rig, name: str) -> Backend:
    """The backend of that name, after a look that no other one got anything."""
    assert [each.name for each in world.backends.values() if each.seen] == [name]
    return world.backends[name]
