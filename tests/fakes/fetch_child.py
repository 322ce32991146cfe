"""A process that fetches one quant or URL, to be killed or measured.

In: the hub, the store, limits. Out: the files; as a program, too, the most memory it held, in KiB,
and how many bytes came. With a number of seconds, or of MiB (`400M`), it keeps nothing, and leaves
off after them: files of any size fit then, sparse. What the hub refuses is no traceback: exit
code 3.
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
import threading
from pathlib import Path

from hub_models import asked

from reconciler.core.desired import Source
from reconciler.core.plan import FetchFiles
from reconciler.core.transfers import FileProgress, total_of
from reconciler.core.words import ModelName
from reconciler.drivers import effects
from reconciler.drivers.base import Told
from reconciler.drivers.fetch.allowance import Allowance
from reconciler.drivers.fetch.order import Limits
from reconciler.drivers.hub import Hub
from reconciler.drivers.urls import UrlFiles
from reconciler.drivers.verified import Verified
from reconciler.errors import HubError, InterruptedRunError

REPO = "org/Model-GGUF"


def fetch(
    endpoint: str,
    store: str,
    limits: Limits,
    quant: str = "Q4",
    progress: Told = lambda _: None,
    cancel: threading.Event | None = None,
) -> None:
    client = Hub(store, (), endpoint=endpoint, limits=limits)
    found = client.inspect(asked(REPO, "main", quant))
    files = tuple(one for one in found.files if not one.identity)
    step = FetchFiles(ModelName("m"), Source(repo=REPO), found.commit, files)
    try:
        client.fetch(step, progress, cancel or threading.Event())
    except HubError:
        sys.exit(3)


def fetch_url(url: str, sha256: str, store: str, limits: Limits) -> None:
    """The same of a file that has a URL."""
    source = Source(url=url, sha256=sha256)
    files = UrlFiles(store, Allowance(limits), Verified(), offline=False)
    step = FetchFiles(ModelName("m"), source, "", files.inspect(source).files)
    files.fetch(step, lambda _: None, threading.Event())


def peak_kib() -> int:
    """The most memory that this process ever held."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def keep_nothing() -> None:
    """From now on files have their size, and holes for content."""

    def sparse(descriptor: int, _path: object, size: int) -> None:
        os.ftruncate(descriptor, size)

    def drop(_descriptor: int, _content: object, _offset: int) -> None:
        pass

    for name, instead in (("preallocate", sparse), ("write_at", drop)):
        setattr(effects, name, instead)


def main() -> None:
    endpoint, store, most = (*sys.argv[1:], "")[:3]
    last: list[tuple[FileProgress, ...]] = [()]
    cancel = threading.Event()
    most_bytes = int(most[:-1]) << 20 if most.endswith("M") else math.inf
    if most:
        keep_nothing()
    if most and math.isinf(most_bytes):
        timer = threading.Timer(float(most), cancel.set)
        timer.daemon = True
        timer.start()

    def tell(files: tuple[FileProgress, ...]) -> None:
        last[0] = files
        if total_of(files).done >= most_bytes:
            cancel.set()

    with contextlib.suppress(InterruptedRunError):
        fetch(endpoint, store, Limits(), progress=tell, cancel=cancel)
    sys.stdout.write(f"{peak_kib()} {total_of(last[0]).done}")


if __name__ == "__main__":
    main()
