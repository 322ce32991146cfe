"""A hub with one repository of big-enough files, and ways to fetch from it.

In: contents, faults. Out: clients of it, and what came to lie in the store.
Requests are of 64 KiB, so that small files, too, take many of them over several connections.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hub_faults import Content, Made, sha_of
from hub_models import asked
from hub_server import HubServer
from waiting import after, eventually

from reconciler.core.desired import Source
from reconciler.core.observed import FileStatus, ObservedFile
from reconciler.core.plan import FetchFiles
from reconciler.core.words import ModelName
from reconciler.drivers.base import Cancel, Told
from reconciler.drivers.fetch.order import Limits
from reconciler.drivers.hub import Hub
from reconciler.errors import InterruptedRunError

REPO = "org/Model-GGUF"
KIB = 1 << 10
QUICK = Limits(connections=3, chunk=64 * KIB, stall_s=20, first_pause_s=0.001, tries=5)
HURRIED = replace(QUICK, stall_s=0.3)
"""For a hub that falls silent. On a busy machine a good one, too, is silent so long now and then,
and what it had sent is asked for again: with this nobody counts bytes."""
NEVER = threading.Event()


@dataclass
class Rig:
    """One store before one hub."""

    hub: HubServer
    folder: Path
    limits: Limits = QUICK
    token: str | None = None

    def add(self, files: Mapping[str, Content]) -> None:
        self.hub.add(REPO, files)

    @property
    def client(self) -> Hub:
        return Hub(
            str(self.folder),
            (),
            endpoint=self.hub.endpoint,
            token=self.token,
            limits=self.limits,
        )

    def fetch(
        self,
        quant: str = "Q4",
        progress: Told = lambda _: None,
        cancel: Cancel = NEVER,
    ) -> None:
        """What a run does that finds the files missing."""
        found = self.client.inspect(asked(REPO, "main", quant))
        files = tuple(one for one in found.files if not one.identity)
        step = FetchFiles(ModelName("m"), Source(repo=REPO), found.commit, files)
        self.client.fetch(step, progress, cancel)

    def fetch_file(self, name: str) -> None:
        """What a run does whose plan names this very file."""
        step = FetchFiles(ModelName("m"), Source(repo=REPO), "c" * 40, (ObservedFile(name, 1),))
        self.client.fetch(step, lambda *_: None, NEVER)

    def interrupt(self, at: int = 200 * KIB) -> None:
        """A fetch that is told to end once so many bytes were sent."""
        cancel = threading.Event()
        self.limits, usual = replace(self.limits, bytes_per_s=500_000), self.limits
        with (
            after(lambda: self.hub.sent > at, cancel.set),
            pytest.raises(InterruptedRunError, match="interrupted while downloading"),
        ):
            self.fetch(cancel=cancel)
        self.limits = usual
        all_rest()

    def is_here(self, quant: str = "Q4") -> bool:
        """Whether a plan would find all of it."""
        return self.client.inspect(asked(REPO, "main", quant)).status is FileStatus.PRESENT

    @property
    def blobs(self) -> Path:
        return self.folder / f"models--{REPO.replace('/', '--')}" / "blobs"

    def names(self) -> list[str]:
        """What lies in the store's folder of contents."""
        return sorted(one.name for one in self.blobs.iterdir())

    def assert_right(self, *contents: Content) -> None:
        """Exactly these lie there, whole and right, and no traces of their way."""
        assert self.names() == sorted(sha_of(one) for one in contents)
        for one in contents:
            with (self.blobs / sha_of(one)).open("rb") as file:
                assert hashlib.file_digest(file, "sha256").hexdigest() == sha_of(one)

    def gets(self) -> int:
        """How many requests for weights there were."""
        return sum(one.startswith("GET /cdn/") for one in self.hub.requests)


def all_rest() -> None:
    """Wait for what an interrupted download has left behind: nobody asks for more after that."""
    eventually(
        lambda: not [one for one in threading.enumerate() if one.name.endswith("(_run)")],
        "its connections have ended",
    )


WEIGHTS = Made(1000 * KIB + 7)
