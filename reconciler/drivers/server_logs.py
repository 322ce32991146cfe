"""The logs of servers on disk, and what they and the slots say of servers that died by themselves.

In: a site, paths, the slots that are taken. Out: tails of text, `LastExit`s.
A slot whose last copy's end was seen says so in its note; one that is free without that note was
left by a death. Nobody was there to see its exit code: the end of the log has to tell.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from reconciler.core.causes import explain
from reconciler.core.observed import LastExit
from reconciler.core.site import Site
from reconciler.core.words import InstanceName, SpecHash
from reconciler.drivers import effects

LOG_LIMIT_BYTES = 50 * 2**20
LOGS_KEPT = 5
REBOOTED = "the machine was restarted"
_TAIL_BYTES = 16 * 1024
_DEATH_LINES = 20


def rotate(log: Path) -> None:
    """Before a start, move a full log aside: NAME.log.1 is the newest of the old ones."""
    if not log.exists() or log.stat().st_size < LOG_LIMIT_BYTES:
        return
    for number in range(LOGS_KEPT - 1, 0, -1):
        older = log.with_name(f"{log.name}.{number}")
        if older.exists():
            effects.rename(older, log.with_name(f"{log.name}.{number + 1}"))
    effects.rename(log, log.with_name(f"{log.name}.1"))


def tail(log: Path, lines: int, start: int = 0) -> str:
    """The last lines of what stands after byte `start`; empty when it cannot be read."""
    try:
        with log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(start if start <= size else 0, size - _TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


def begin_note(start: int) -> str:
    """What a slot says while its server lives: where in the log the server's own words begin."""
    return f"log {start}\n"


def log_start(note: str) -> int | None:
    """Where in the log the words of a slot's server begin; None if its end is known."""
    if not note:
        return 0
    word, _, number = note.strip().partition(" ")
    return int(number) if word == "log" and number.isdecimal() else None


def deaths(
    site: Site, taken: Collection[tuple[InstanceName, str]], booted: float
) -> dict[InstanceName, LastExit]:
    """Of each instance with no copy in `taken`: how its last one ended, unless we stopped it.

    `booted` is the time of the last boot, in seconds since the epoch.
    """
    live = {instance for instance, _ in taken}
    found: dict[InstanceName, LastExit] = {}
    # Sorted: of two copies that died (a surge that was cut) the same one is told each time.
    for slot in sorted(Path(site.state, "slots").glob("*.[ab]")):
        instance = InstanceName(slot.name.rpartition(".")[0])
        if instance in live:
            continue
        try:
            start = log_start(slot.read_text(encoding="utf-8", errors="replace"))
            began = slot.stat().st_mtime
        except OSError:
            continue
        if start is None:
            continue
        if death := _death(Path(site.log_file(instance)), start, began, booted):
            found[instance] = death
    return found


def _death(log: Path, start: int, began: float, booted: float) -> LastExit | None:
    """What a log tells; None where it was not written to since the slot was taken: no start."""
    try:
        at = log.stat().st_mtime
    except OSError:
        return None
    if at < began:
        return None
    reason = explain(None, tail(log, _DEATH_LINES, start)).reason if began > booted else REBOOTED
    return LastExit(at, reason, SpecHash(""), seen=False)
