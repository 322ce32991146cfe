"""A process that fetches one quant, to be killed or measured.

In: the hub, the store, limits. Out: the files; as a program, too, the most memory it held, in KiB.
What the hub refuses is no traceback: exit code 3.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from hub_models import asked

from reconciler.core.plan import FetchFiles
from reconciler.core.words import ModelName
from reconciler.drivers.fetch.order import Limits
from reconciler.drivers.hub import Hub
from reconciler.errors import HubError

REPO = "org/Model-GGUF"


def fetch(endpoint: str, store: str, limits: Limits, quant: str = "Q4") -> None:
    client = Hub(store, (), endpoint=endpoint, limits=limits)
    found = client.inspect(asked(REPO, "main", quant))
    files = tuple(one for one in found.files if not one.identity)
    step = FetchFiles(ModelName("m"), REPO, "main", found.commit, files)
    try:
        client.fetch(step, lambda *_: None, threading.Event())
    except HubError:
        sys.exit(3)


def peak_kib() -> int:
    """The most memory that this process ever held."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


if __name__ == "__main__":
    fetch(sys.argv[1], sys.argv[2], Limits())
    sys.stdout.write(str(peak_kib()))
