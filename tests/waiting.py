"""Waiting in tests: poll until something holds, never sleep for a fixed time.

In: a condition. Out: nothing, or a failed assertion that says what did not come true.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

PATIENCE_S = 20.0


def eventually(holds: Callable[[], bool], what: str = "it") -> None:
    """Poll until it holds."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, f"did not come true in time: {what}"
        time.sleep(0.005)


def free_port() -> int:
    """A TCP port of the loopback address that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
