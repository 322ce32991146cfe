"""The socket of a watch: whoever connects is told, as JSON, what the watch is at.

In: the state folder; what is to be said. Out: a listening thread, or the answer of one.
It takes no orders: an operator's verbs change the machine and the journal, and the watch sees that.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from reconciler.drivers import effects

ANSWER_S = 2.0
_LARGEST = 2**20


class WatchSocket:
    """Answers in a thread of its own until it is closed."""

    def __init__(self, path: str, values: Callable[[], Mapping[str, object]]) -> None:
        self._path, self._values = path, values
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._thread = threading.Thread(target=self._run, name="socket", daemon=True)
        self._closed = threading.Event()
        self._file = (0, 0)

    def open(self) -> None:
        """Listen. Whoever calls holds the watch's lock: a socket that is there has no owner.

        Raises:
            OSError: there can be no socket there.
        """
        effects.make_folder(Path(self._path).parent)
        effects.unlink(self._path)
        self._socket.bind(self._path)
        self._socket.listen(8)
        self._file = _identity(self._path)
        self._thread.start()

    def is_lost(self) -> bool:
        """Whether nobody finds it any more: its folder was removed, or another watch has it."""
        return _identity(self._path) != self._file

    def close(self) -> None:
        """Answer no more."""
        self._closed.set()
        is_lost = self.is_lost()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        with contextlib.suppress(OSError):
            if not is_lost:
                effects.unlink(self._path)

    def _run(self) -> None:
        while not self._closed.is_set():
            try:
                client, _ = self._socket.accept()
            except OSError:
                # Closed; or no descriptor is left, which is over some day.
                self._closed.wait(1.0)
                continue
            with client, contextlib.suppress(OSError):
                client.settimeout(ANSWER_S)
                client.sendall(json.dumps(self._values()).encode())


def _identity(path: str) -> tuple[int, int]:
    try:
        status = Path(path).stat()
    except OSError:
        return (0, 0)
    return (status.st_dev, status.st_ino)


def ask_watch(path: str) -> dict[str, object] | None:
    """What a watch says of itself; None when none answers."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(ANSWER_S)
        try:
            client.connect(path)
            said = b""
            while len(said) < _LARGEST and (more := client.recv(65536)):
                said += more
            values = json.loads(said)
        except (OSError, ValueError):
            return None
    return values if isinstance(values, dict) else None
