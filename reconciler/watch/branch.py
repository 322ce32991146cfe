"""Following a branch of git instead of the file: what its newest commit wants.

In: a `GitBranch`, asked again and again by a thread of its own. Out: the same as `Following` gives.
A commit that cannot be understood, or whose lock file does not fit, is rejected, once; what was
accepted before stays wanted, also while the remote is away.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from reconciler.app import Workspace
from reconciler.core.git_branch import Fetched, Rejected
from reconciler.core.parse import parse_desired
from reconciler.core.plan_lock import refuse_changes
from reconciler.drivers.base import Cancel
from reconciler.drivers.git_branch import GitBranch
from reconciler.drivers.lock_file import KeptLockFile
from reconciler.errors import Diagnostic, GitError, InvalidDesiredError, Severity
from reconciler.look import Wanted
from reconciler.watch.following import Candidate, Following

PUSHED = "a commit was pushed"
_SHORT = 12


class FollowingBranch(Following):
    """The branch, fetched every so often."""

    def __init__(self, workspace: Workspace, branch: GitBranch) -> None:
        super().__init__(workspace)
        self._branch = branch
        self._found: Fetched | Rejected | None = None
        self._away = ""
        self._read: Fetched | None = None
        self._hurry = threading.Event()

    def start(self, wake: Callable[[str], None], every_s: float, cancel: Cancel) -> None:
        """Fetch from now on, and wake whoever is concerned when there is something new."""

        def go_on() -> None:
            while not cancel.is_set():
                before = (self._found, self._away)
                self.fetch()
                if (self._found, self._away) != before:
                    wake(PUSHED)
                self._hurry.wait(every_s)
                self._hurry.clear()

        threading.Thread(target=go_on, name="git", daemon=True).start()

    def hurry(self) -> None:
        """Fetch now, without waiting for its time."""
        self._hurry.set()

    def fetch(self) -> None:
        """Look once what the branch has now."""
        try:
            self._found, self._away = self._branch.fetch(), ""
        except GitError as error:
            self._away = error.message
        except OSError as error:
            self._away = error.strerror or str(error)

    def read(self) -> Candidate | None:
        """What the newest commit wants; None where it is not to be followed, or none is known."""
        found, away = self._found, self._away
        if isinstance(found, Fetched) and found != self._read:
            found = self._take(found)
        trouble = []
        if away:
            trouble.append(f"{self._branch.branch} cannot be fetched: {away}; it is tried again")
        if isinstance(found, Rejected):
            self._read, self._known = None, None
            said = f"commit {found.commit[:_SHORT]} of {self._branch.branch} is not applied"
            trouble.append(f"{said}: {found.reason}")
        self.trouble = tuple(Diagnostic(Severity.ERROR, one) for one in trouble)
        return self._known

    def is_other(self) -> bool:
        """A commit is never in the middle of a save."""
        return False

    def _take(self, fetched: Fetched) -> Fetched | Rejected:
        """Make a candidate of a commit, or reject it."""
        site = self._workspace.site
        lock = KeptLockFile(fetched.lock, site.lock)
        try:
            parsed = parse_desired(fetched.sources)
            refuse_changes(parsed.desired, lock.read(), parsed.marks, site.lock)
        except InvalidDesiredError as error:
            self._found = Rejected(fetched.commit, str(error.diagnostics[0]).partition("\n")[0])
            with suppress(OSError):
                self._branch.reject(fetched.commit, self._found.reason)
            return self._found
        wanted = Wanted(parsed.desired, parsed.marks, parsed.warnings, sources=fetched.sources)
        records = self._workspace.records
        records.fetched = fetched
        self._read, self._known = fetched, Candidate(wanted, lock, records)
        return fetched

    def came_into_force(self, current: Candidate | None) -> None:
        """Note how far the branch was followed."""
        if self._read and current is self._known:
            with suppress(OSError):
                self._branch.accept(self._read.commit)

    def kept(self) -> Candidate | None:
        """What was applied last, with its own lock file."""
        found, newest = super().kept(), self._workspace.generations.newest()
        if not found or not newest:
            return None
        return replace(found, lock=KeptLockFile(newest.lock, self._workspace.site.lock))

    def files(self) -> Iterator[Path]:
        """All files that matter: what the desired ones name."""
        yield from sorted((self._workspace.root / "templates").glob("**/*"))
        yield from self._named()
