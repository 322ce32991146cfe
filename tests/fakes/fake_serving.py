"""The working half of fake_llama_server: a stand-in's HTTP, slots, loading and end.

In: the flags, parsed. Out: the answers, messages and exit codes of the real one.
It must import nothing but the standard library (see fake_llama_server.py).
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from fake_gguf import LoadError, check_gguf


def log(level: str, text: str) -> None:
    sys.stderr.write(f"0.00.000.000 {level} srv  {text}\n")
    sys.stderr.flush()


class Engine:
    """The state that all connections share."""

    def __init__(self, flags: dict[str, str]) -> None:
        self.flags = flags
        self.ready = threading.Event()
        self.stopping = threading.Event()
        self.changed = threading.Condition()
        wanted = int(flags.get("parallel", "-1"))
        self.slots: list[dict[str, int] | None] = [None] * (wanted if wanted > 0 else 4)
        self.deferred = 0
        self.predicted = 0
        self.wedged = False
        self.looks = 0
        """How often /metrics was asked for: by that a test knows that it is being watched."""
        self.task = 0

    @property
    def alias(self) -> str:
        return sorted(self.flags.get("alias", Path(self.flags["model"]).stem).split(","))[0]

    @property
    def processing(self) -> int:
        return sum(slot is not None for slot in self.slots)

    def die(self) -> None:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.kill(os.getpid(), int(self.flags.get("fake-crash-signal", signal.SIGABRT)))

    def is_wedged(self) -> bool:
        """Whether no completion gets as far as a slot any more."""
        if taken := self.flags.get("fake-wedge-once"):
            with contextlib.suppress(FileNotFoundError):
                Path(taken).unlink()
                self.wedged = True
        return self.wedged

    @contextlib.contextmanager
    def slot(self) -> Iterator[dict[str, int]]:
        """Wait for a free slot and hold it."""
        with self.changed:
            self.deferred += 1
            self.changed.wait_for(lambda: None in self.slots)
            self.deferred -= 1
            number = self.slots.index(None)
            self.task += 1
            task = {"id_task": self.task, "n_decoded": 0}
            self.slots[number] = task
        try:
            yield task
        finally:
            with self.changed:
                self.slots[number] = None
                self.changed.notify_all()

    def slots_json(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for number, task in enumerate(self.slots):
            found.append({"id": number, "n_ctx": 256, "is_processing": task is not None})
            if task is not None:
                tokens = [{"has_next_token": True, "n_decoded": task["n_decoded"]}]
                found[-1] |= {"id_task": task["id_task"], "next_token": tokens}
                found[-1]["n_prompt_tokens_processed"] = 1
        return found

    def metrics(self) -> str:
        self.looks += 1
        values = {
            "tokens_predicted_total": self.predicted,
            "requests_processing": self.processing,
            "requests_deferred": self.deferred,
            "fake_looks_total": self.looks,
        }
        return "".join(f"llamacpp:{name} {value}\n" for name, value in values.items())

    def models(self) -> dict[str, Any]:
        meta = {"n_ctx": 256, "n_ctx_train": 2048, "n_params": 32992, "size": 131968, "n_embd": 32}
        entry = {"id": self.alias, "object": "model", "owned_by": "llamacpp", "meta": meta}
        return {"object": "list", "data": [entry]}

    def props(self) -> dict[str, Any]:
        known = {"model_alias": self.alias, "model_path": self.flags["model"]}
        return {"total_slots": len(self.slots), "build_info": "fake", "is_sleeping": False} | known


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    engine: Engine

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        answers: dict[str, Callable[[], Any]] = {
            "/health": lambda: {"status": "ok"},
            "/v1/models": self.engine.models,
            "/models": self.engine.models,
            "/props": self.engine.props,
            "/slots": self.engine.slots_json,
        }
        if self._unavailable():
            return
        if self.path == "/metrics" and "metrics" in self.engine.flags:
            self._send(200, self.engine.metrics().encode(), "text/plain; version=0.0.4")
        elif self.path in answers:
            self._json(200, answers[self.path]())
        else:
            self._error(404, "File Not Found", "not_found_error")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self._unavailable():
            return
        try:
            request = json.loads(body or b"{}")
        except ValueError:
            self._error(400, "the body is not JSON", "invalid_request_error")
            return
        if self.path == "/tokenize":
            self._json(200, {"tokens": list(str(request.get("content", "")).encode())})
        elif self.path.removeprefix("/v1") in {"/chat/completions", "/completions", "/completion"}:
            self._complete(request)
        else:
            self._error(404, "File Not Found", "not_found_error")

    def _unavailable(self) -> bool:
        if not self.engine.ready.is_set():
            self._error(503, "Loading model", "unavailable_error")
            return True
        if "fake-silent" in self.engine.flags:
            self._wait_for_client()
            return True
        return False

    def _complete(self, request: dict[str, Any]) -> None:
        flags = self.engine.flags
        if "fake-crash-on-request" in flags:
            self.engine.die()
        if self.engine.is_wedged():
            self._wait_for_client()
            return
        limit = request.get("max_tokens", request.get("n_predict", -1))
        count = limit if limit >= 0 else int(flags.get("fake-tokens", "8"))
        with self.engine.slot() as task:
            if "fake-wedge" in flags:
                self._wait_for_client()
            elif request.get("stream"):
                self._stream(task, count)
            else:
                self._answer(task, count)

    def _stream(self, task: dict[str, int], count: int) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for piece in self._tokens(task, count):
            choice = {"index": 0, "delta": {"content": piece}, "text": piece, "finish_reason": None}
            self._chunk(
                f"data: {json.dumps({'model': self.engine.alias, 'choices': [choice]})}\n\n"
            )
        if self.engine.stopping.is_set():
            # The real one notices at its next ping, and then closes in the middle of the body.
            time.sleep(float(self.engine.flags.get("sse-ping-interval", "30")))
            self.close_connection = True
            return
        end = {"choices": [{"index": 0, "delta": {}, "text": "", "finish_reason": "length"}]}
        self._chunk(f"data: {json.dumps(end)}\n\ndata: [DONE]\n\n")
        self.wfile.write(b"0\r\n\r\n")

    def _answer(self, task: dict[str, int], count: int) -> None:
        text = "".join(self._tokens(task, count))
        if self.engine.stopping.is_set():
            # TERM ends the generation; the connection lives until its client leaves.
            self._wait_for_client()
            return
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "finish_reason": "length", "text": text, "message": message}
        usage = {"prompt_tokens": 1, "completion_tokens": count, "total_tokens": count + 1}
        answer = {"model": self.engine.alias, "content": text, "choices": [choice], "usage": usage}
        self._json(200, answer)

    def _tokens(self, task: dict[str, int], count: int) -> Iterator[str]:
        seconds = float(self.engine.flags.get("fake-token-seconds", "0"))
        for number in range(count):
            if self.engine.stopping.wait(seconds) or self._client_left():
                return
            task["n_decoded"] += 1
            self.engine.predicted += 1
            yield f"w{number} "

    def _client_left(self) -> bool:
        readable, _, _ = select.select([self.connection], [], [], 0)
        return bool(readable) and not self.connection.recv(1, socket.MSG_PEEK)

    def _wait_for_client(self) -> None:
        while not self._client_left():
            time.sleep(0.02)
        self.close_connection = True

    def _chunk(self, text: str) -> None:
        self.wfile.write(f"{len(text):x}\r\n{text}\r\n".encode())

    def _error(self, code: int, message: str, kind: str) -> None:
        self._json(code, {"error": {"message": message, "type": kind, "code": code}})

    def _json(self, code: int, value: Any) -> None:
        self._send(code, json.dumps(value).encode(), "application/json; charset=utf-8")

    def _send(self, code: int, body: bytes, kind: str) -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class TcpServer(ThreadingHTTPServer):
    allow_reuse_address = True
    # Connections are joined by hand: idle kept ones must not hold up a stop.
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


class UnixServer(TcpServer):
    address_family = socket.AF_UNIX

    def server_bind(self) -> None:
        self.socket.bind(self.server_address)
        self.server_name, self.server_port = "localhost", 0


def listen(flags: dict[str, str]) -> TcpServer:
    host, port = flags.get("host", "127.0.0.1"), int(flags.get("port", "8080"))
    try:
        if host.endswith(".sock"):
            return UnixServer(host, Handler)  # type: ignore[arg-type]
        return TcpServer((host, port), Handler)
    except OSError:
        log("E", f"       start: couldn't bind HTTP server socket, hostname: {host}, port: {port}")
        log("E", "llama_server: exiting due to HTTP server error")
        sys.exit(1)


def load(engine: Engine) -> None:
    """Stand in for loading; returns when the model would be loaded."""
    path = Path(engine.flags["model"])
    # llama.cpp reads the file twice, first only to see what fits; that one's errors stop nothing.
    with contextlib.suppress(LoadError):
        check_gguf(path)
    time.sleep(float(engine.flags.get("fake-load-seconds", "0")))
    try:
        check_gguf(path)
        if "fake-exit-loading" not in engine.flags:
            return
        log("E", "llama_model_load: error loading model: asked to fail")
    except LoadError as error:
        log("E", f"llama_model_load: error loading model: {error}")
    log("E", f"  load_model: failed to load model, '{path}'")
    log("E", "llama_server: exiting due to model loading error")
    sys.exit(int(engine.flags.get("fake-exit-loading", "1")))


def on_term(engine: Engine) -> None:
    if engine.stopping.is_set():
        sys.stderr.write("Received second interrupt, terminating immediately.\n")
        sys.stderr.flush()
        os._exit(1)
    engine.stopping.set()


def serve(flags: dict[str, str]) -> None:
    """Live as a server, until TERM."""
    engine = Engine(flags)
    ignores = "fake-ignore-term" in engine.flags
    signal.signal(signal.SIGTERM, signal.SIG_IGN if ignores else signal.SIG_DFL)
    Handler.engine = engine
    server = listen(engine.flags)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    log("I", "llama_server: loading model")
    load(engine)
    if not ignores:
        signal.signal(signal.SIGTERM, lambda *_: on_term(engine))
    engine.ready.set()
    log("I", "llama_server: model loaded")
    if "fake-crash-after" in engine.flags:
        threading.Timer(float(engine.flags["fake-crash-after"]), engine.die).start()
    engine.stopping.wait()
    server.shutdown()
    server.server_close()
    with engine.changed:
        engine.changed.wait_for(lambda: engine.processing == 0)
