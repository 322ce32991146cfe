"""Following: what is wanted, while the file that says so is edited, broken or gone.

In: the workspace. Out: the `Candidate` that the file holds now, or why it holds none. Nothing is
decided here: whether a candidate comes into force is for the guards to say.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from reconciler.app import Workspace
from reconciler.core.parse import ParsedDesired, SourceText, parse_desired
from reconciler.drivers.base import Drivers, LockFile
from reconciler.drivers.base_records import Records
from reconciler.drivers.desired_files import lock_path, read_sources
from reconciler.errors import Diagnostic, InvalidDesiredError
from reconciler.look import Wanted
from reconciler.remember import wish_of


@dataclass(frozen=True, slots=True)
class Candidate:
    """A desired state that the file holds, or held."""

    wanted: Wanted
    lock: LockFile | None = None
    """The lock file that belongs to it; None: the one beside the desired file."""
    records: Records | None = None
    """Those that know where it came from; None: they are the same for all."""

    def drivers(self, drivers: Drivers) -> Drivers:
        """These, with what is its own."""
        lock, records = self.lock or drivers.lock, self.records or drivers.records
        return replace(drivers, lock=lock, records=records)

    @property
    def wish(self) -> str:
        """A digest of what is wanted."""
        return wish_of(self.wanted.desired)


class Following:
    """The desired file, read anew whenever its bytes are others."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._sources: tuple[SourceText, ...] | None = None
        """What was read last; None: nothing, or it could not be read."""
        self._known: Candidate | None = None
        self.trouble: tuple[Diagnostic, ...] = ()
        """Why the file as it is now cannot be followed; empty while it can."""

    def read(self) -> Candidate | None:
        """What the file says now; None where it says nothing that can be understood."""
        sources, trouble = self._look()
        if sources is not None and sources == self._sources:
            return self._known
        self._sources, self._known = sources, None
        if sources is not None:
            try:
                self._known = _candidate(parse_desired(sources), sources)
            except InvalidDesiredError as error:
                trouble = error.diagnostics
        self.trouble = trouble
        return self._known

    def is_other(self) -> bool:
        """Whether the file holds something else by now than when it was read last."""
        return self._look()[0] != self._sources

    def _look(self) -> tuple[tuple[SourceText, ...] | None, tuple[Diagnostic, ...]]:
        try:
            return read_sources(self._workspace.desired_path, self._workspace.root), ()
        except InvalidDesiredError as error:
            return None, error.diagnostics

    def hurry(self) -> None:
        """Somebody wants to have it read now; a file is read at each look anyway."""

    def came_into_force(self, current: Candidate | None) -> None:
        """This is what is kept from now on."""

    def kept(self) -> Candidate | None:
        """What was applied last, as it was kept: the file may say something else by now."""
        newest = self._workspace.generations.newest()
        if newest is None or newest.file != self._workspace.site.desired:
            return None
        try:
            return _candidate(parse_desired(newest.sources), newest.sources)
        except InvalidDesiredError:
            # A version of ours that is stricter than the one that kept it.
            return None

    def files(self) -> Iterator[Path]:
        """All files that matter: the desired ones, the lock file, what they name."""
        path, root = self._workspace.desired_path, self._workspace.root
        yield from sorted(path.glob("*.yaml")) if path.is_dir() else [path]
        yield lock_path(path)
        yield from sorted((root / "templates").glob("**/*"))
        yield from self._named()

    def _named(self) -> Iterator[Path]:
        """The files of keys and certificates, the templates of renders, and what they are for."""
        desired = self._known.wanted.desired if self._known else None
        for render in desired.renders if desired else ():
            yield from (self._workspace.root / one for one in (render.template, render.dest))
        gateway = desired and desired.gateway
        if gateway:
            tls = (gateway.tls.cert, gateway.tls.key) if gateway.tls else ()
            named = (one for one in (gateway.keys_file, *tls) if one)
            yield from (Path(self._workspace.site.path(one)) for one in named)

    def folders(self) -> Iterator[Path]:
        """Where something is saved that matters: the file, what it links to, what it names."""
        path = self._workspace.desired_path
        root = self._workspace.root
        place = path if path.is_dir() else path.parent
        yield from dict.fromkeys((place, place.parent, path.resolve().parent, root / "templates"))
        yield lock_path(path).resolve().parent
        yield from (one.parent for one in self._named())


def _candidate(parsed: ParsedDesired, sources: tuple[SourceText, ...]) -> Candidate:
    return Candidate(Wanted(parsed.desired, parsed.marks, parsed.warnings, sources=sources))
