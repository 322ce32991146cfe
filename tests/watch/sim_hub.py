"""The hub of a simulated machine, and what lies on its disk: away, wrong, moved, cut downloads.

In: what the hub has now, and what befalls it. Out: what the real `Files` would see and raise. A
model with a `source.path` has its file always.
"""

from __future__ import annotations

import errno
from enum import StrEnum

from fake_drivers import FakeFiles

from reconciler.core.desired import Model
from reconciler.core.gguf import Facts
from reconciler.core.lockfile import LockedFile, Pin
from reconciler.core.observed import FileStatus, ObservedFile, ObservedFiles
from reconciler.core.plan import FetchFiles
from reconciler.core.transfers import FileProgress
from reconciler.drivers.base import Cancel, Told
from reconciler.errors import HubError

SIZE = 1000


class Weather(StrEnum):
    """How the hub is."""

    FAIR = "fair"
    AWAY = "away"
    WRONG = "wrong"
    """It answers, and with nonsense."""
    CUTS = "cuts"
    """Downloads die in the middle."""
    FULL = "full"
    """There is no room left for what it sends."""


class SimFiles(FakeFiles):
    """One hub and one disk."""

    def __init__(self) -> None:
        super().__init__()
        self.weather = Weather.FAIR
        self.newest: dict[str, int] = {}
        """How often the branch of a repository was moved."""
        self.here: set[str] = set()
        """`repo@commit` of what is on disk."""
        self.came: dict[str, int] = {}

    def inspect(self, model: Model, pin: Pin | None = None, *, deep: bool) -> ObservedFiles:
        repo = model.source.repo
        if repo is None or repo in self.found:
            return super().inspect(model, pin, deep=deep)
        if pin is None or not pin.covers(model):
            if self.weather in {Weather.AWAY, Weather.WRONG}:
                return ObservedFiles(FileStatus.UNKNOWN, reason=f"the hub is {self.weather}")
            commit = f"{self.newest.get(repo, 0):040}"
            facts = Facts("llama") if f"{repo}@{commit}" in self.here else None
            file = LockedFile("x.gguf", SIZE, f"{repo} {commit}")
            pin = Pin(repo, model.source.revision, model.quant or "", commit, (file,), facts=facts)
        key = f"{repo}@{pin.commit}"
        digest, is_here = pin.files[0].digest, key in self.here
        return ObservedFiles(
            FileStatus.PRESENT if is_here else FileStatus.MISSING,
            f"/r/models/{key}/x.gguf",
            f"{key}/x.gguf",
            (ObservedFile("x.gguf", SIZE, key if is_here else "", digest, "", self._came(key)),),
            pin.commit,
            pin=pin,
        )

    def _came(self, key: str) -> int:
        return 0 if key in self.here else self.came.get(key, 0)

    def learn(self, pin: Pin, cancel: Cancel) -> Pin:
        self._require_answer()
        return super().learn(pin, cancel)

    def _require_answer(self) -> None:
        if self.weather in {Weather.AWAY, Weather.WRONG}:
            raise HubError(f"the hub is {self.weather}")

    def fetch(self, fetch: FetchFiles, progress: Told, cancel: Cancel) -> None:
        if fetch.source.repo in self.found:
            return super().fetch(fetch, progress, cancel)
        self._require_answer()
        key = f"{fetch.source.repo}@{fetch.commit}"
        assert key not in self.here, f"{key} is fetched again"
        if self.weather is not Weather.FAIR:
            self.came[key] = min(SIZE - 1, self._came(key) + SIZE // 3)
            progress((FileProgress("x.gguf", self.came[key], SIZE),))
            if self.weather is Weather.FULL:
                raise OSError(errno.ENOSPC, "No space left on device")
            raise HubError("the connection was lost")
        self.here.add(key)
        self.fetched.append(fetch)
        self.known[key] = fetch.files[0].digest
        return progress((FileProgress("x.gguf", SIZE, SIZE),))
