"""What runs leave for people to read: `history`, the status page, /api/status, /api/history.

In: what a run did and did not. Out: JSON files in the state folder; the gateway's `records.js`
serves them. Nothing here decides anything, and a file that is gone or broken costs nobody a run.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pwd
import re
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from reconciler.core.git_branch import Fetched
from reconciler.core.history import (
    LARGEST_FILE,
    Ending,
    Origin,
    Record,
    next_number,
    read_records,
    record_line,
    shortened,
)
from reconciler.core.observed import ProcessRef
from reconciler.core.pending import (
    Coming,
    Status,
    Watching,
    coming_text,
    read_status,
    status_text,
    watching_text,
)
from reconciler.core.site import Site
from reconciler.drivers import effects, locks, proc
from reconciler.drivers.desired_files import in_git, read_sources
from reconciler.drivers.git import commit_of
from reconciler.errors import InvalidDesiredError

_DOWNLOADS = re.compile(r"downloads\.(\d+)\.json")
"""What a process calls the file of what it fetches."""


class RunRecords:
    """`Records` in the state folder."""

    def __init__(self, site: Site, desired: Path) -> None:
        self._site, self._desired = site, desired
        self._status = Path(site.gateway) / "status.json"
        self._history = Path(site.state) / "history.jsonl"
        self.fetched: Fetched | None = None
        """The commit that is followed; None: what the file says counts."""

    def status(self) -> Status:
        """What was pending when the last run ended."""
        try:
            return read_status(self._status.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError):
            return Status()

    def publish(self, status: Status) -> None:
        """Let that be what is pending.

        Raises:
            OSError: it cannot be written.
        """
        effects.make_folder(self._status.parent)
        effects.write_atomic(self._status, status_text(status))
        self._clear()

    def show(self, files: Collection[Coming], at: float) -> None:
        """Let these be the files that this process fetches now; none: it fetches nothing.

        Before the gateway's folder is there, nobody could look.

        Raises:
            OSError: it cannot be written.
        """
        process = _process()
        path = self._status.with_name(f"downloads.{process[0]}.json")
        if path.parent.is_dir():
            effects.show(path, coming_text(files, at, process) if files else None)

    def show_watch(self, watching: Watching | None) -> bool:
        """Let that be what the watch in this process is at; None: it has ended.

        False where nobody could look, before the gateway's folder is there.

        Raises:
            OSError: it cannot be written.
        """
        path = self._status.with_name("watch.json")
        if path.parent.is_dir():
            effects.show(path, watching_text(watching, _process()) if watching else None)
            return True
        return False

    def _clear(self) -> None:
        """What killed runs left is seen as that by their process; here it goes."""
        for path in self._status.parent.glob("downloads.*.json"):
            writer = _DOWNLOADS.fullmatch(path.name)
            if writer and proc.ref_of(int(writer[1])) is None:
                effects.show(path, None)

    def origin(self) -> Origin:
        """Who runs this, and on which state of the desired file."""
        found = Origin(_user())
        with contextlib.suppress(InvalidDesiredError, OSError):
            found = replace(found, process=_process())
            if self.fetched:
                content = b"".join(one.content for one in self.fetched.sources)
                spec = hashlib.sha256(content).hexdigest()
                return replace(found, commit=self.fetched.commit, spec=spec)
            sources = read_sources(self._desired, Path(self._site.root))
            content = b"".join(one.content for one in sources)
            found = replace(found, spec=hashlib.sha256(content).hexdigest())
            commit, dirty = commit_of(*in_git(self._desired, sources))
            found = replace(found, commit=commit, dirty=dirty)
        return found

    def note(self, record: Record) -> Record:
        """Add a record, or what has become of it; one without a number gets the next.

        Raises:
            OSError: it cannot be written.
        """
        path = self._history
        effects.make_folder(path.parent)
        # A download holds no run lock.
        with locks.only_writer(path.parent):
            text = self._text()
            if len(text) > LARGEST_FILE:
                text = shortened(text)
                effects.write_atomic(path, text)
            numbered = record if record.number else replace(record, number=next_number(text))
            # A line that a power cut has torn is closed, and so no part of this one.
            torn = "" if text.endswith("\n") or not text else "\n"
            effects.append_line(path, torn + record_line(numbered))
        return numbered

    def history(self) -> tuple[Record, ...]:
        """The records that there are, the oldest first."""
        found = read_records(self._text())
        running = [one for one in found if one.outcome is Ending.RUNNING]
        dead = {one.number for one in running if not proc.lives(ProcessRef(*one.origin.process))}
        if dead:
            # They may have noted their end, and ended, since the first look.
            found = read_records(self._text())
        return tuple(
            replace(one, outcome=Ending.KILLED)
            if one.outcome is Ending.RUNNING and one.number in dead
            else one
            for one in found
        )

    def _text(self) -> str:
        try:
            return self._history.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return ""


def _process() -> tuple[int, int]:
    own = proc.ref_of(os.getpid())
    return (own.pid, own.start_ticks) if own else (0, 0)


def _user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except (KeyError, OSError):
        return str(os.getuid())
