"""Where everything of one root lies: the names of its files, sockets and locks.

In: the root, the state folder, the desired file's path. Out: paths as text.
Pure: it names paths, it never looks at them.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from reconciler.core.words import InstanceName

SOCKET_PATH_LIMIT = 107
"""Longest path of a unix socket in bytes (Linux, unix(7): sun_path without its final zero)."""

SLOTS = ("a", "b")
"""The slots that a live copy of an instance may hold: a surge has two copies."""


def socket_key(instance: InstanceName) -> str:
    """A short stable name for an instance's socket: readable head, 44 bits of hash."""
    tail = hashlib.sha256(instance.encode()).hexdigest()[:11]
    head = "".join(c for c in instance[:3] if c.isalnum() or c in "-_")
    return f"{head}-{tail}"


@dataclass(frozen=True, slots=True)
class Site:
    """The folders of one root. Absolute paths; `desired` is relative if inside."""

    root: str
    state: str
    desired: str
    lock: str = ""
    """The lock file, as messages call it; relative if inside."""

    def path(self, declared: str) -> str:
        """A path of the desired file; relative ones start at the root."""
        return declared if declared.startswith("/") else f"{self.root}/{declared}"

    @property
    def sockets(self) -> str:
        """Folder of the servers' unix sockets."""
        return f"{self.state}/s"

    @property
    def gateway(self) -> str:
        """Folder of nginx: generations, logs, lock, control socket."""
        return f"{self.state}/gateway"

    @property
    def gateway_lock(self) -> str:
        """The lock that nginx's master and workers inherit."""
        return f"{self.state}/gateway.lock"

    @property
    def control_socket(self) -> str:
        """Where nginx answers for its generation, whatever else it listens on."""
        return f"{self.sockets}/gateway.sock"

    @property
    def watch_socket(self) -> str:
        """Where a watch says what it is at."""
        return f"{self.state}/watch.sock"

    @property
    def event_log(self) -> str:
        """What a watch saw happen and did."""
        return f"{self.root}/logs/events.jsonl"

    def socket(self, instance: InstanceName, slot: str) -> str:
        """The socket of the live copy of `instance` that holds `slot`."""
        return f"{self.sockets}/{socket_key(instance)}.{slot}.sock"

    def route(self, instance: InstanceName) -> str:
        """The stable name that nginx connects to: a symlink to a live copy's socket."""
        return f"{self.sockets}/{socket_key(instance)}.sock"

    @property
    def render_notes(self) -> str:
        """What we know of the user's own generated files."""
        return f"{self.state}/renders.json"

    def render_copy(self, dest: str, kind: str) -> str:
        """A copy of such a file: the last one that was told of (`good`), or an edit (`edited`)."""
        return f"{self.state}/renders/{kind}/{dest}"

    @property
    def render_locks(self) -> str:
        """Folder of the locks of such files."""
        return f"{self.state}/renders/locks"

    def render_lock(self, dest: str) -> str:
        """The lock that a run holds while it makes such a file and tells of it."""
        return f"{self.render_locks}/{hashlib.sha256(dest.encode()).hexdigest()[:16]}"

    @property
    def slots(self) -> str:
        """Folder of the slots' locks."""
        return f"{self.state}/slots"

    def slot_lock(self, instance: InstanceName, slot: str) -> str:
        """The lock that a live copy of `instance` inherits."""
        return f"{self.slots}/{instance}.{slot}"

    def pid_file(self, instance: InstanceName) -> str:
        """`run/NAME.pid`, for a further replica `run/NAME.1.pid`."""
        return f"{self.root}/run/{_plain(instance)}.pid"

    def log_file(self, instance: InstanceName) -> str:
        """`logs/NAME.log`, for a further replica `logs/NAME.1.log`."""
        return f"{self.root}/logs/{_plain(instance)}.log"


def _plain(instance: InstanceName) -> str:
    return instance.replace("[", ".").replace("]", "")
