"""Writers that are killed in the middle of their work: for test_torn_files, which reads meanwhile.

In: a folder, a number of rounds. Out: on stdout how many kills left something half-written behind.
In each round a fork of this process writes version after version, until it is killed: the first at
once, the last after about three versions.
"""

from __future__ import annotations

import itertools
import os
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


def write_on(folder: Path, number: int) -> None:
    """Write until killed."""
    for count in itertools.count():
        write_version(folder, f"{number}.{count}")


def main() -> None:
    folder, rounds = Path(sys.argv[1]), int(sys.argv[2])
    began = time.monotonic()
    for count in range(3):
        write_version(folder, f"first.{count}")
    longest_life_s = time.monotonic() - began
    left = 0
    for number in range(rounds):
        child = os.fork()
        if child == 0:
            write_on(folder, number)
        time.sleep(longest_life_s * number / rounds)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        left += any(folder.glob(".*.tmp"))
        effects.sweep(folder)
    sys.stdout.write(f"{left}\n")


if __name__ == "__main__":
    main()
