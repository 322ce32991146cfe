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
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

DEADLINE_S = 30.0


def eventually[T](ask: Callable[[], T | None], what: str) -> T:
    raise NotImplementedError
