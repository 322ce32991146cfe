"""A started engine and plain HTTP to it, for the contract tests.

In: an engine's command, a model, an address. Out: answers, the exit code, the log.
Waits by polling with a deadline; leaves no process behind.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

DEADLINE_S = 30.0
END_S = 15.0
PING_S = 1


def eventually(true: Callable[[], bool], what: str, pause: float = 0.005) -> None:
    """Poll until it holds."""
    deadline = time.monotonic() + DEADLINE_S
    while not true():
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(pause)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class _UnixConnection(http.client.HTTPConnection):
    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(DEADLINE_S)
        self.sock.connect(self.host)


class Server:
    """One engine process. `address` is a socket's path or `127.0.0.1:PORT`."""

    def __init__(self, command: tuple[str, ...], model: Path, address: str, *flags: str) -> None:
        self.address = address
        self.is_socket = address.endswith(".sock")
        host, _, port = ("", "", "") if self.is_socket else address.rpartition(":")
        where = ["--host", address] if self.is_socket else ["--host", host, "--port", port]
        # The flags that the reconciler itself gives every server (core.engine.owned_argv).
        owned = ["--model", str(model), "--alias", "some-name", *where, "--metrics", "--slots"]
        owned += ["--no-ui", "--cors-origins", "localhost", "--sse-ping-interval", str(PING_S)]
        folder = model.parent if not self.is_socket else Path(address).parent
        self.log_path = folder / f"{Path(address).name}.log"
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [*command, *owned, *flags],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={"PATH": os.environ["PATH"], "HOME": "/nonexistent"},
                start_new_session=True,
                umask=0o077,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.process.kill()
        self.process.wait()

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def connect(self) -> http.client.HTTPConnection:
        if self.is_socket:
            return _UnixConnection(self.address, timeout=DEADLINE_S)
        host, _, port = self.address.rpartition(":")
        return http.client.HTTPConnection(host, int(port), timeout=DEADLINE_S)

    def send(self, path: str, body: Mapping[str, Any] | None = None) -> http.client.HTTPConnection:
        """Send a request, and leave its answer to the caller."""
        connection = self.connect()
        method = "GET" if body is None else "POST"
        try:
            connection.request(method, path, None if body is None else json.dumps(body))
        except OSError:
            connection.close()
            raise
        return connection

    def ask(self, path: str, body: Mapping[str, Any] | None = None) -> tuple[int, str]:
        connection = self.send(path, body)
        try:
            answer = connection.getresponse()
            return answer.status, answer.read().decode(errors="replace")
        finally:
            connection.close()

    def json(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        status, text = self.ask(path, body)
        assert status == 200, text
        return json.loads(text)

    def status(self) -> int | None:
        """The status of /health; None while nobody listens."""
        try:
            return self.ask("/health")[0]
        except (FileNotFoundError, ConnectionRefusedError):
            return None

    def wait_status(self, wanted: int) -> None:
        def reached() -> bool:
            assert self.process.poll() is None, self.log
            return self.status() == wanted

        eventually(reached, f"/health answers {wanted}")

    def ready(self) -> Self:
        """Wait until it serves, and until TERM no longer ends it as it does while loading.

        Between the two lie some milliseconds, in llama-server too: it gets ready, then sets its
        handlers.
        """
        self.wait_status(200)
        eventually(self._handles_term, "it handles TERM")
        return self

    def _handles_term(self) -> bool:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        caught = next(line for line in status.splitlines() if line.startswith("SigCgt"))
        return bool(int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1)

    def exit_code(self) -> int:
        """Wait for its end by itself."""
        return self.process.wait(END_S)

    def metric(self, name: str) -> float:
        lines = self.ask("/metrics")[1].splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith(f"{name} "))
