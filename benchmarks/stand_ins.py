"""Stand-ins for more servers than a machine can hold: a shell that waits, a socket that answers.

In: nothing. Out: an `engine` for a desired file; each start of it is a process of 1 MB with a
server's argv and environment, and a thread here answers every request to its socket with 200.
It must never stand in where the engine itself is measured.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import shutil
import socket
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Self

_ENGINE = """\
#!/bin/sh
# Says where it was told to listen, then waits until it is ended.
if [ "$1" = --help ]; then
  printf '%s N    a flag\\n' --model --alias --host --port --ctx-size --threads
  exit 0
fi
while [ "$1" != --host ]; do shift; done
echo "$2" >{started}
read -r _ <{never}
"""
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n"
_END = "end"


class StandIns:
    """A context in which the stand-ins' sockets are answered."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="lb"))
        self._started, never = self._folder / "started", self._folder / "never"
        for path in (self._started, never):
            os.mkfifo(path)
        self._program = self._folder / "stand-in"
        text = _ENGINE.format(started=self._started, never=never)
        self._program.write_text(text, encoding="ascii")
        self._program.chmod(0o755)
        self._thread = threading.Thread(target=self._serve, daemon=True)

    @property
    def engine(self) -> Mapping[str, str]:
        """What the desired file says as its `engine`."""
        return {"kind": "llama-server", "command": str(self._program)}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._started.write_text(f"{_END}\n", encoding="ascii")
        self._thread.join()
        shutil.rmtree(self._folder)

    def _serve(self) -> None:
        """Listen wherever a stand-in says it was told to, and answer whoever connects."""
        # Opened for both, so that it never ends, whoever writes to it.
        with selectors.DefaultSelector() as waiting, self._started.open("r+b", buffering=0) as pipe:
            waiting.register(pipe, selectors.EVENT_READ)
            rest = ""
            while True:
                for key, _ in waiting.select():
                    if isinstance(key.fileobj, socket.socket):
                        _answer(key.fileobj)
                        continue
                    *lines, rest = (rest + pipe.read(65536).decode()).split("\n")
                    if _END in lines:
                        return
                    for line in lines:
                        waiting.register(_listen(line), selectors.EVENT_READ)


def _listen(path: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(64)
    return listener


def _answer(listener: socket.socket) -> None:
    connection, _ = listener.accept()
    # What asks here sends its whole question at once, and waits.
    with contextlib.suppress(OSError), connection:
        connection.recv(65536)
        connection.sendall(_ANSWER)
