"""Running a watch: what wakes it, whom it tells that it lives, and its end.

In: a workspace, a cancel signal, who is told. Out: nothing, for months. Sleeps until something
happens; whether that changes anything is for the next look to see. What comes too often (a save
of the same bytes) leads to no look at all.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from reconciler.app import Workspace, renewed
from reconciler.core.desired import DesiredState
from reconciler.core.pending import Watching
from reconciler.core.resolve import instance_names
from reconciler.core.words import ModelName
from reconciler.drivers.base import Cancel
from reconciler.drivers.fetch.order import Limits
from reconciler.drivers.file_events import BURST_MS, FileEvents
from reconciler.drivers.git_branch import GitBranch, forget_branch
from reconciler.drivers.notify import Notifier
from reconciler.drivers.templates import load_templates
from reconciler.drivers.wake import Wake
from reconciler.drivers.watch_socket import WatchSocket
from reconciler.errors import (
    GatewayError,
    InvalidDesiredError,
    ReconcileError,
    StateFolderError,
)
from reconciler.watch.branch import FollowingBranch
from reconciler.watch.following import Candidate, Following
from reconciler.watch.pulses import Pulses
from reconciler.watch.telling import Telling
from reconciler.watch.watch import Watch

SAVED = "a file was saved"
ASKED = "somebody wants it to look now"
FETCH_EVERY_S = 60.0
REST_S = BURST_MS / 1000
"""How long a file that others than its saves made us look at may take to come to rest."""


@dataclass(frozen=True, slots=True)
class Git:
    """Which branch is followed instead of the file."""

    branch: GitBranch
    every_s: float


class Running:
    """A watch at work."""

    def __init__(
        self,
        workspace: Workspace,
        limits: Limits,
        cancel: Cancel,
        wake: Wake,
        telling: Telling,
        git: Git | None = None,
    ) -> None:
        """Begin with what was in force last.

        Raises:
            InvalidDesiredError: there is no such thing, and the file is none that can be followed.
        """
        self._workspace, self._limits, self._cancel, self._wake = workspace, limits, cancel, wake
        self._notifier = Notifier.from_environment(os.environ)
        self._git = git
        self._following = FollowingBranch(workspace, git.branch) if git else Following(workspace)
        kept = self._following.kept()
        first = self._following.read() or kept
        if first is None and self._following.trouble:
            raise InvalidDesiredError(self._following.trouble)
        known = kept or first
        desired = known.wanted.desired if known else DesiredState(version=1)
        self._store = desired.store
        drivers = workspace.drivers(desired, limits)
        self._pulses = Pulses(drivers, cancel, wake.set)
        self._watch = Watch(workspace.site, drivers, cancel, wake.set, telling, kept)
        self._began = drivers.clock.now()
        self._known = b""
        self._shown: Watching | None = None
        self._claim = ExitStack()
        """The lock and the socket of this root's only watch."""
        self._answers: WatchSocket | None = None

    def run(self, begun: Callable[[], None]) -> None:
        """Go on until the cancel signal; `begun` is told once it is this root's only watch.

        Raises:
            LockHeldError: this root has a watch already.
        """
        with ExitStack() as ending:
            ending.callback(self._claim.close)
            self._claim_root()
            begun()
            ending.callback(self._hide)
            events = FileEvents(self._folders, lambda: self._wake.set(SAVED))
            events.start()
            ending.callback(events.stop)
            self._notifier.ready("looking for the first time")
            self._pulses.start()
            self._start_git()
            ending.callback(self._notifier.stopping)
            self._go_on()
            self._watch.close()

    def _claim_root(self) -> None:
        """Be this root's only watch; anew where the state folder was removed meanwhile.

        Raises:
            LockHeldError: another one is.
        """
        if self._answers and not self._answers.is_lost():
            return
        self._claim.close()
        self._claim.enter_context(self._workspace.watch_lock())
        answers = WatchSocket(self._workspace.site.watch_socket, self.values)
        answers.open()
        self._claim.callback(answers.close)
        self._answers = answers

    def _start_git(self) -> None:
        if self._git and isinstance(self._following, FollowingBranch):
            self._following.start(self._wake.set, self._git.every_s, self._cancel)
        else:
            forget_branch(self._workspace.site)

    def _go_on(self) -> None:
        clock = self._watch.drivers.clock
        words = frozenset({SAVED})
        while not self._cancel.is_set():
            if not words & {SAVED, ASKED}:
                self._let_rest()
            # What keeps it from being claimed keeps the round from being made, which says so.
            with suppress(OSError, StateFolderError):
                self._claim_root()
            candidate = self._following.read()
            self._known = self._fingerprint()
            self._renew()
            due = clock.monotonic() + self._watch.round(
                candidate, self._trouble(), self._pulses.wedged()
            )
            self._following.came_into_force(self._watch.force.current)
            self._follow()
            self._show()
            self._notifier.status(self._summary())
            words = self._sleep(due)

    def _let_rest(self) -> None:
        """A file that is being saved over and over is left alone until it rests.

        Who looks anew, after a run say, would read it in the middle, and begin a run with that.
        """
        clock = self._watch.drivers.clock
        until = clock.monotonic() + REST_S
        while self._following.is_other() and (left := until - clock.monotonic()) > 0:
            words = self._wake.wait(left)
            self._notifier.watchdog()
            if words & {SAVED, ASKED} or self._cancel.is_set():
                return

    def _show(self) -> None:
        """Let the page say what the watch is at; written only when that is something else."""
        held = self._watch.force.held
        watching = Watching(self._began, self._trouble(), held.reason if held else "")
        if watching != self._shown:
            with suppress(OSError):
                if self._workspace.records.show_watch(watching):
                    self._shown = watching

    def _hide(self) -> None:
        with suppress(OSError):
            self._workspace.records.show_watch(None)

    def _sleep(self, due: float) -> frozenset[str]:
        """Until something happened that may matter, or it is time; returns the words that came."""
        clock, beat = self._watch.drivers.clock, self._notifier.watchdog_s
        while not self._cancel.is_set():
            left = due - clock.monotonic()
            words = self._wake.wait(min(left, beat / 2) if beat else left)
            self._notifier.watchdog()
            if ASKED in words:
                self._following.hurry()
            if words - {SAVED} or clock.monotonic() >= due:
                return words
            if words and self._fingerprint() != self._known:
                return words
        return frozenset()

    def _renew(self) -> None:
        """Templates may have been edited, and models may lie elsewhere now."""
        watch, root = self._watch, self._workspace.root
        current = watch.force.current
        if current and current.wanted.desired.store != self._store:
            desired = current.wanted.desired
            self._store = desired.store
            watch.drivers = renewed(watch.drivers, self._workspace, desired, self._limits)
        with suppress(GatewayError):
            # One that is being edited: those that were read last will do.
            watch.drivers = replace(watch.drivers, templates=load_templates(root))

    def _follow(self) -> None:
        """Be woken by the end of what lives now, and ask those that are ready for their pulse."""
        observed, current = self._watch.observed, self._watch.force.current
        if not observed or not current:
            return
        gateway = observed.gateway
        masters = [gateway.master] if gateway.master else []
        self._wake.follow([*(one.ref for one in observed.servers), *masters, *gateway.orphans])
        self._pulses.follow(observed.servers, dict(_periods(current)))

    def _folders(self) -> Iterator[Path]:
        yield from self._following.folders()
        yield Path(self._workspace.site.state)

    def _fingerprint(self) -> bytes:
        """Of all files that matter: a save of the same bytes changes nothing."""
        digest = hashlib.sha256()
        for path in self._following.files():
            try:
                digest.update(path.read_bytes())
            except OSError:
                digest.update(b"-")
        with suppress(ReconcileError):
            # What is the matter with it, the round says.
            digest.update(repr(self._watch.drivers.state.read()).encode())
        return digest.digest()

    def _trouble(self) -> str:
        found = self._following.trouble
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        return f"{found[0].line}{more}" if found else ""

    def _summary(self) -> str:
        observed, held = self._watch.observed, self._watch.force.held
        count = len(observed.servers) if observed else 0
        trouble = self._trouble() or (f"held back: {held.reason}" if held else "")
        return f"{count} servers{'; ' if trouble else ''}{trouble}"

    def values(self) -> dict[str, object]:
        """What the watch is at, for who asks its socket."""
        watch = self._watch
        held = watch.force.held
        return {
            "pid": os.getpid(),
            "since": self._began,
            "file": self._workspace.site.desired,
            "rounds": watch.rounds,
            "trouble": self._trouble(),
            "held": held.reason if held else "",
            "in_hand": sorted(watch.lanes.models),
        }


def _periods(current: Candidate) -> Iterator[tuple[str, float]]:
    """How often each instance wants to be asked whether it works."""
    for key, model in current.wanted.desired.models.items():
        for name in instance_names(ModelName(key), model):
            yield name, model.probe.liveness
