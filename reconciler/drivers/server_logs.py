"""The logs of servers on disk, and what they and the slots say of servers that died by themselves.

In: a site, paths, the slots that are taken. Out: tails of text, `LastExit`s.
A slot whose last copy's end was seen says so in its note; one that is free without that note was
left by a death. The shell above the server noted its exit code; where there was none, or it was
killed too, the end of the log has to tell.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Collection
from pathlib import Path

from reconciler.core.causes import REBOOTED, explain
from reconciler.core.observed import LastExit
from reconciler.core.site import Site
from reconciler.core.words import InstanceName, SpecHash
from reconciler.drivers import effects, oom, parents, slots

LOG_LIMIT_BYTES = 50 * 2**20
LOGS_KEPT = 5
_AT_SHUTDOWN = (0, -15, -9)
"""Of a machine that goes down everybody is told to end, then killed."""
_TAIL_BYTES = 64 * 2**10
CAUSE_LINES = 400
"""What a debugger says of a hundred threads can stand behind the line that tells why."""
_FRAME = re.compile(r".+\(\S*\+0x[0-9a-f]+\) ?\[0x[0-9a-f]+\]")
"""A line of the backtrace that ggml prints when it gives up: it tells people nothing."""


def rotate(log: Path, limit: int | None = None) -> None:
    """Before a start, move a full log aside: NAME.log.1 is the newest of the old ones."""
    if not log.exists() or log.stat().st_size < (LOG_LIMIT_BYTES if limit is None else limit):
        return
    make_room(log)
    effects.rename(log, older(log, 1))


def make_room(log: Path) -> None:
    """Let there be no NAME.log.1: it becomes .2, and so on. Of the oldest, one goes.

    A run that was killed in the middle left a gap: there is room already.
    """
    there = range(1, LOGS_KEPT + 1)
    last = next((number for number in there if not older(log, number).exists()), LOGS_KEPT)
    for number in range(last - 1, 0, -1):
        effects.rename(older(log, number), older(log, number + 1))


def older(log: Path, number: int) -> Path:
    """The name of an older part of a log: 1 is the newest of them."""
    return log.with_name(f"{log.name}.{number}")


def first_data(descriptor: int) -> int:
    """Where a file begins, behind the hole that `log_trimming` may have left."""
    try:
        return os.lseek(descriptor, 0, os.SEEK_DATA)
    except OSError as error:
        # ENXIO: it is empty, or nothing but a hole.
        return os.fstat(descriptor).st_size if error.errno == errno.ENXIO else 0


def tail(log: Path, lines: int, start: int = 0) -> str:
    """The last lines of what stands after byte `start`; empty when it cannot be read.

    A backtrace is left out: the whole log has it.
    """
    try:
        with log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(start if start <= size else 0, size - _TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    told = [line for line in text.splitlines() if not _FRAME.fullmatch(line)]
    return "\n".join(told[-lines:])


def deaths(
    site: Site,
    taken: Collection[tuple[InstanceName, str]],
    booted: float,
    hidden: Callable[[str], str] = str,
) -> dict[InstanceName, LastExit]:
    """Of each instance with no copy in `taken`: how its last one ended, unless we stopped it.

    `booted` is the time of the last boot, in seconds since the epoch; `hidden` takes out of a
    server's words what must not be repeated.
    """
    live = {instance for instance, _ in taken}
    found: dict[InstanceName, LastExit] = {}
    # Sorted: of two copies that died (a surge that was cut) the same one is told each time.
    for slot in sorted(Path(site.state, "slots").glob("*.[ab]")):
        instance = InstanceName(slot.name.rpartition(".")[0])
        if instance in live:
            continue
        try:
            note = parents.ended_note(slot)
            noted = slot.stat().st_mtime
        except OSError:
            continue
        if note.log_start is None:
            continue
        if death := _death(Path(site.log_file(instance)), note, noted, booted, hidden):
            found[instance] = death
    return found


def _death(
    log: Path, note: slots.Note, noted: float, booted: float, hidden: Callable[[str], str]
) -> LastExit | None:
    """What a slot and a log tell; None where there was no start.

    Without a shell above it, a server that has said nothing since its slot was taken never was.
    """
    at = log.stat().st_mtime if log.exists() else 0.0
    is_known = note.code is not None
    if note.server is None and at < noted:
        return None
    if noted <= booted and (not is_known or note.code in _AT_SHUTDOWN):
        cause = REBOOTED
    else:
        said = hidden(tail(log, CAUSE_LINES, note.log_start or 0))
        cause = explain(note.code, said, out_of_memory=oom.rose(note))
    when = noted if is_known else max(at, noted) if note.server else at
    spec = SpecHash("")
    return LastExit(when, cause.reason, spec, seen=is_known, final=cause.final, hint=cause.hint)
