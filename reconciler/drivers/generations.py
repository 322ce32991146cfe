"""Generations in the state folder: a file for each desired state that was applied.

In: what was applied, as it was written. Out: the same. A file is written whole or not at all, for
our user alone; one that cannot be understood is passed over. Nothing here decides what is applied.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from reconciler.core.generations import (
    LARGEST,
    Generation,
    generation_text,
    read_generation,
    superseded,
)
from reconciler.core.history import Origin
from reconciler.core.parse import SourceText
from reconciler.core.site import Site
from reconciler.drivers import effects, locks


class KeptGenerations:
    """The real `Generations` of `drivers.base_generations`."""

    def __init__(self, site: Site) -> None:
        self._file = site.desired
        self._folder = Path(site.state) / "generations"

    def newest(self) -> Generation | None:
        """The one that was applied last; None: nothing was, or it is lost."""
        paths = self._paths()
        return next((one for number in sorted(paths)[::-1] if (one := _read(paths[number]))), None)

    def all(self) -> tuple[Generation, ...]:
        """Those that are kept, the oldest first."""
        paths = self._paths()
        return tuple(one for number in sorted(paths) if (one := _read(paths[number])))

    def note(
        self, sources: Sequence[SourceText], lock: str | None, origin: Origin, at: float
    ) -> Generation | None:
        """Keep what is being applied; where that is the newest one already, it stays as it is.

        None: it is too large to be kept.

        Raises:
            OSError: it cannot be written.
        """
        newest = self.newest()
        if newest and newest.holds(self._file, sources, lock):
            return newest
        effects.make_folder(self._folder)
        with locks.only_writer(self._folder):
            # A broken file has had its number, too.
            number = max(self._paths(), default=0) + 1
            made = Generation(number, at, self._file, tuple(sources), lock, origin)
            if made.size > LARGEST:
                return None
            self._write(made)
            paths = self._paths()
            for old in superseded(paths):
                effects.unlink(paths[old])
        return made

    def amend(self, generation: Generation, lock: str | None) -> None:
        """Applying it has led to this lock file.

        Raises:
            OSError: it cannot be written.
        """
        if generation.lock != lock:
            self._write(replace(generation, lock=lock))

    def _write(self, generation: Generation) -> None:
        path = self._folder / f"{generation.number}.json"
        effects.write_atomic(path, generation_text(generation))

    def _paths(self) -> dict[int, Path]:
        found = self._folder.glob("*.json")
        return {int(path.stem): path for path in found if path.stem.isdecimal()}


def _read(path: Path) -> Generation | None:
    try:
        return read_generation(path.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return None
