"""Writers that are killed in the middle of their work: for test_torn_files, which reads meanwhile.

In: a folder, how many rounds at least; more follow until stdin is closed. Out: on stdout how many
rounds there were, and how many kills left something half-written behind.
In each round a fork of this process writes version after version; it is killed after none, one or
two of them, somewhere in the next.
"""

from __future__ import annotations

import itertools
import os
import select
import signal
import sys
import time
from pathlib import Path

from reconciler.drivers import effects

LINES = 4000
"""Several pages: a file that is written in place would be seen in the middle."""


def text_of(version: str) -> str:
    return f"{version}\n" * LINES


def write_version(folder: Path, version: str) -> None:
    effects.write_atomic(folder / "file", text_of(version))
    effects.swap_link(folder / "link", version)


def write_on(folder: Path, number: int, whole: int) -> None:
    """Write until killed; one byte into the pipe WHOLE for each version that is complete."""
    for count in itertools.count():
        write_version(folder, f"{number}.{count}")
        os.write(whole, b".")


def life(folder: Path, number: int, one_version_s: float) -> None:
    """One writer, from fork to kill."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        write_on(folder, number, writing)
    os.close(writing)
    for _ in range(number % 3):
        os.read(reading, 1)
    time.sleep(one_version_s * (number % 31) / 31)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(reading)


def enough() -> bool:
    """The reader closed our stdin."""
    return bool(select.select([sys.stdin], [], [], 0)[0])


def main() -> None:
    folder, rounds = Path(sys.argv[1]), int(sys.argv[2])
    began = time.monotonic()
    write_version(folder, "first")
    one_version_s = time.monotonic() - began
    left = number = 0
    while number < rounds or not enough():
        life(folder, number, one_version_s)
        left += any(folder.glob(".*.tmp"))
        effects.sweep(folder)
        number += 1
    sys.stdout.write(f"{number} {left}\n")


if __name__ == "__main__":
    main()
