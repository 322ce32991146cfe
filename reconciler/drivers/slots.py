"""What a server's slot and its route say: read here, written by `processes`.

In: a site, an instance, one of its slots. Out: the note on the slot, the copy that is routed to.
A slot is a lock file that its server holds for as long as it lives; its note outlives it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from reconciler.core.observed import ProcessRef
from reconciler.core.site import Site
from reconciler.core.words import InstanceName


def note(site: Site, instance: InstanceName, slot: str) -> str:
    """What stands on the slot; empty when nothing ever held it."""
    return read(Path(site.slot_lock(instance, slot)))


def begin_note(start: int, counter: tuple[int, str] | None = None) -> str:
    """What a slot says while its server lives.

    Where in the log the server's own words begin; and how often the kernel had ended something of
    its cgroup for lack of memory before, and which file says that. A shell adds the rest
    (`parents`): `run PID TICKS SHELL`, `exit PID TICKS STATUS`.
    """
    return f"log {start}\n" + ("" if counter is None else f"oom {counter[0]} {counter[1]}\n")


def stopping_note(server: ProcessRef) -> str:
    """What it says once its server was told to end."""
    return f"stopping {server.pid} {server.start_ticks}\n"


def ended_note(server: ProcessRef) -> str:
    """What it says when the end of its server is known."""
    return f"ended {server.pid} {server.start_ticks}\n"


@dataclass(frozen=True, slots=True)
class Note:
    """What stands on a slot."""

    log_start: int | None
    """Where in the log the words of its server begin; None if its end is known, or asked for."""
    stopping: ProcessRef | None = None
    """Whom it names as told to end."""
    server: ProcessRef | None = None
    """Its last server, where that had a shell above."""
    parent: int = 0
    """The pid of that."""
    code: int | None = None
    """How that very server ended, as subprocess gives it."""
    oom_kills: int = 0
    oom_counter: str = ""
    """Where the kernel says how many there are now; empty: nowhere."""


def parse(text: str) -> Note:
    """Read a note. What is not understood, or tells of an earlier server, counts for nothing.

    The shell of an earlier server may add its line late: the order of lines says nothing.
    """
    known = Note(None if text else 0)
    for words in (line.split(" ", 3) for line in text.splitlines()):
        match words:
            case ["log", start]:
                known = replace(known, log_start=_number(start))
            case ["stopping", _, _]:
                known = replace(known, stopping=_ref(words))
            case ["oom", count, *path]:
                known = replace(known, oom_kills=_number(count) or 0, oom_counter=" ".join(path))
            case ["run", _, _, parent]:
                known = replace(known, server=_ref(words), parent=_number(parent) or 0, code=None)
            case ["exit", _, _, status] if status.isdecimal() and _ref(words) == known.server:
                known = replace(known, code=code_of(int(status)))
    return known


def code_of(status: int) -> int:
    """An exit code as subprocess gives it, of one as a shell does (POSIX: 128 + the signal)."""
    return 128 - status if status > 128 else status


def _ref(words: list[str]) -> ProcessRef | None:
    pid, ticks = (_number(word) for word in (*words[1:3], "", "")[:2])
    return None if pid is None or ticks is None else ProcessRef(pid, ticks)


def _number(word: str) -> int | None:
    return int(word) if word.isdecimal() else None


def routed_to(site: Site, instance: InstanceName) -> str:
    """The address that the instance's stable name leads to; empty when there is none."""
    try:
        target = Path(site.route(instance)).readlink()
    except OSError:
        return ""
    return f"unix:{site.sockets}/{target.name}"


def is_port(address: str) -> bool:
    """Whether it is a TCP port, which needs no route."""
    return not address.startswith("unix:")


def read(path: Path) -> str:
    """A small file of ours; empty when it is not there."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""
