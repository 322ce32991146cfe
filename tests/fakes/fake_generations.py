"""The kept generations in memory, which can be made to fail.

In: what is applied. Out: the same. It passes the tests of the real ones,
drivers/test_kept_generations.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from reconciler.core.generations import LARGEST, MOST_KEPT, Generation
from reconciler.core.history import Origin
from reconciler.core.parse import SourceText


class FakeGenerations:
    """The `Generations` of a test."""

    def __init__(self, file: str = "desired/x.yaml") -> None:
        self.fault: OSError | None = None
        self._file = file
        self._kept: list[Generation] = []

    def newest(self) -> Generation | None:
        return self._kept[-1] if self._kept else None

    def all(self) -> tuple[Generation, ...]:
        return tuple(self._kept)

    def note(
        self, sources: Sequence[SourceText], lock: str | None, origin: Origin, at: float
    ) -> Generation | None:
        newest = self.newest()
        if newest and newest.holds(self._file, sources, lock):
            return newest
        if self.fault:
            raise self.fault
        number = newest.number + 1 if newest else 1
        made = Generation(number, at, self._file, tuple(sources), lock, origin)
        if made.size > LARGEST:
            return None
        self._kept = [*self._kept, made][-MOST_KEPT:]
        return made

    def amend(self, generation: Generation, lock: str | None) -> None:
        if self.fault:
            raise self.fault
        changed = replace(generation, lock=lock)
        self._kept = [changed if one.number == changed.number else one for one in self._kept]
