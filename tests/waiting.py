"""Waiting in tests: poll until something holds, never sleep for a fixed time.

In: a condition. Out: nothing, or a failed assertion that says what did not come true.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

PATIENCE_S = 60.0
"""For a machine that is overloaded: what holds is seen at once, what does not fails late."""


def eventually(holds: Callable[[], bool], what: str = "it", patience_s: float = PATIENCE_S) -> None:
    """Poll until it holds."""
    deadline = time.monotonic() + patience_s
    while not holds():
        assert time.monotonic() < deadline, f"did not come true in time: {what}"
        time.sleep(0.005)


@contextlib.contextmanager
def after(holds: Callable[[], bool], act: Callable[[], object]) -> Iterator[None]:
    """Act once it holds, beside what is done meanwhile."""

    def watch() -> None:
        eventually(holds)
        act()

    thread = threading.Thread(target=watch)
    thread.start()
    yield
    thread.join()


def free_port() -> int:
    """A TCP port of the loopback address that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
