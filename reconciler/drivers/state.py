"""The state folder of one root: the journal and the run lock.

In: the site. Out: `Journal`, the lock as a context. It holds what must survive a `git clean` and
has no process to live on; identities live on the processes, so losing this folder stops nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

from reconciler.core.downtime import LastStart
from reconciler.core.launch import read_last_good
from reconciler.core.observed import Crashes, Journal, LastExit
from reconciler.core.os_errors import explain_os
from reconciler.core.site import SOCKET_PATH_LIMIT
from reconciler.core.suspension import Suspension
from reconciler.core.text import printable
from reconciler.core.words import InstanceName, ModelName, SpecHash
from reconciler.drivers import effects, locks, proc
from reconciler.drivers.base import Cancel
from reconciler.errors import InterruptedRunError, LockHeldError, StateFolderError

_LONGEST_SOCKET_NAME = len("/s/123-12345678901.a.sock")


def state_folder(root: str, environment: Mapping[str, str]) -> str:
    """`${XDG_STATE_HOME:-~/.local/state}/llm-reconcile/<12 hex of the root's real path>`.

    Raises:
        StateFolderError: unix sockets would not fit under it.
    """
    home = environment.get("HOME") or str(Path.home())
    declared = environment.get("XDG_STATE_HOME", "")
    # The kernel names open files by their real paths: through a link we would not find our own.
    base = os.path.realpath(declared if declared.startswith("/") else f"{home}/.local/state")
    if not home.startswith("/") and not declared.startswith("/"):
        raise StateFolderError(
            f"HOME is not an absolute path: {home}", hint="set HOME or XDG_STATE_HOME to one"
        )
    folder = f"{base}/llm-reconcile/{hashlib.sha256(os.fsencode(root)).hexdigest()[:12]}"
    if len(os.fsencode(folder)) + _LONGEST_SOCKET_NAME > SOCKET_PATH_LIMIT:
        raise StateFolderError(
            f"the state folder's path is too long for unix sockets: {folder}",
            hint="set XDG_STATE_HOME to a shorter path",
        )
    return folder


class StateFolder:
    """The real `State` of `drivers.base`."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)
        self._writing = threading.Lock()

    def check(self) -> None:
        """Make sure that the folder, if it is there, is ours alone.

        Raises:
            StateFolderError: it belongs to another user.
        """
        try:
            owner = self._folder.stat().st_uid
        except FileNotFoundError:
            return
        except OSError as error:
            raise self._unusable(error) from error
        if owner != os.geteuid():
            raise StateFolderError(
                f"{self._folder} belongs to another user (uid {owner})",
                hint="run as that user, or set XDG_STATE_HOME to a folder of your own",
            )

    def boot_id(self) -> str:
        """The kernel's identity of this boot."""
        return proc.boot_id()

    def read(self) -> Journal:
        """The journal; empty when there is none."""
        path = self._folder / "journal.json"
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            return Journal(
                desired=values["desired"],
                protected=frozenset(ModelName(name) for name in values["protected"]),
                suspended={
                    ModelName(name): Suspension(**value)
                    for name, value in values["suspended"].items()
                },
                last_exits={
                    InstanceName(name): LastExit(
                        value["at"],
                        value["reason"],
                        SpecHash(value["spec"]),
                        seen=value.get("seen", True),
                        began=value.get("began", True),
                        final=value.get("final", False),
                        hint=value.get("hint", ""),
                    )
                    for name, value in values["last_exits"].items()
                },
                wish=values.get("wish", ""),
                parts=values.get("parts", {}),
                crashes={
                    InstanceName(name): Crashes(**value)
                    for name, value in values.get("crashes", {}).items()
                },
                restarts={
                    InstanceName(name): int(value)
                    for name, value in values.get("restarts", {}).items()
                },
                starts={
                    InstanceName(name): LastStart(**value)
                    for name, value in values.get("starts", {}).items()
                },
                last_good={
                    InstanceName(name): read_last_good(value)
                    for name, value in values.get("last_good", {}).items()
                },
            )
        except FileNotFoundError:
            return Journal()
        except OSError as error:
            raise self._unusable(error) from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise StateFolderError(
                f"{path} cannot be read: {error}",
                hint="remove it: suspensions and the memory of the last applied file are lost",
            ) from error

    def write(self, journal: Journal) -> None:
        """Replace the journal, if it differs."""
        if journal == self.read():
            return
        values = asdict(journal) | {"protected": sorted(journal.protected)}
        text = json.dumps(values, indent=1, sort_keys=True)
        with self._usable():
            effects.make_folder(self._folder)
            effects.write_atomic(self._folder / "journal.json", text + "\n")

    def update(self, change: Callable[[Journal], Journal]) -> Journal:
        """Read, change, write, and return what is there now."""
        with self._writing:
            journal = change(self.read())
            self.write(journal)
            return journal

    def run_holder(self) -> str:
        """Who holds the run lock; empty when nobody does."""
        return _holder(str(self._folder / "run.lock"))

    @contextlib.contextmanager
    def run_lock(
        self, timeout: float, cancel: Cancel | None = None
    ) -> Iterator[Callable[[], None]]:
        """Hold the run lock while effects run; it dies with us and nobody inherits it."""
        path = str(self._folder / "run.lock")
        deadline = time.monotonic() + timeout
        while (lock := self._take(path)) is None:
            if time.monotonic() >= deadline:
                raise LockHeldError(
                    f"another run is at work on this root: {_holder(path) or 'it has just ended'}",
                    hint="wait for it to end (`llm-reconcile status` shows what runs), or end it "
                    "by Ctrl-C: what it has downloaded is kept",
                )
            if cancel and cancel.is_set():
                raise InterruptedRunError("interrupted while another run was waited for")
            time.sleep(0.05)
        with contextlib.ExitStack() as held:
            held.callback(os.close, lock)
            yield held.close

    @contextlib.contextmanager
    def watch_lock(self) -> Iterator[Callable[[], None]]:
        """Be the one watch of this root; the lock dies with us.

        Raises:
            LockHeldError: there is one, which it names.
        """
        path = str(self._folder / "watch.lock")
        lock = self._take(path)
        if lock is None:
            raise LockHeldError(
                f"this root is watched already: {_holder(path) or 'by one that has just ended'}",
                hint="`llm-reconcile status` shows what it is at",
            )
        with contextlib.ExitStack() as held:
            held.callback(os.close, lock)
            yield held.close

    def _take(self, path: str) -> int | None:
        with self._usable():
            return locks.take(path)

    @contextlib.contextmanager
    def _usable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._unusable(error) from error

    @staticmethod
    def _unusable(error: OSError) -> StateFolderError:
        message, hint = explain_os(error)
        return StateFolderError(
            f"the state folder cannot be used: {message}",
            hint=f"{hint}; or set XDG_STATE_HOME to another folder",
        )


def _holder(path: str) -> str:
    holders = [f"pid {ref.pid} ({_words(ref.pid)})" for ref in proc.holders_of(path)]
    return ", ".join(holders)


def _words(pid: int) -> str:
    """A command line without the interpreter and the folders: `llm-reconcile apply x.yaml`."""
    words = [Path(word).name if word.startswith("/") else word for word in proc.command_line(pid)]
    said = " ".join(words[1:] if words and words[0].startswith("python") else words)
    return printable(said)[:80]
