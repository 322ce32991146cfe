"""Makes each mistake in a copy of the sources, and says which of them no test sees.

    PYTHONPATH=tests .venv/bin/python -m mistakes [-j N] [WORD...]

In: the list; with words, only those that have one of them in their reason or file. Out: a line
a mistake; exit 1 where one goes unseen.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mistakes import MISTAKES
from mistakes.mistake import Mistake

ROOT = Path(__file__).resolve().parents[2]
COPIED = "reconciler"
PYTEST = (sys.executable, "-m", "pytest", "-x", "--no-header", "--tb=no", "-rfE")


def copy_to(folder: Path, one: Mistake) -> None:
    """The checkout, with the mistake in it; what is not touched is linked."""
    for entry in ROOT.iterdir():
        if entry.name != COPIED and not entry.name.startswith("."):
            (folder / entry.name).symlink_to(entry)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / COPIED, folder / COPIED, ignore=ignored)
    wrong = folder / one.file
    wrong.write_text(wrong.read_text(encoding="utf-8").replace(one.old, one.new), encoding="utf-8")


def seen_by(one: Mistake) -> str:
    """The test that fails; empty where none does."""
    with tempfile.TemporaryDirectory() as folder:
        copy_to(Path(folder), one)
        for tests in one.tests:
            done = subprocess.run(
                [*PYTEST, tests],
                cwd=folder,
                # Before the checkout, which is installed.
                env={**os.environ, "PYTHONPATH": folder},
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode == 1:
                lines = done.stdout.splitlines()
                failed = [line for line in lines if line.startswith(("FAILED ", "ERROR "))]
                return failed[0].split(" - ")[0] if failed else tests
            if done.returncode:
                said = f"{tests}: pytest ended with {done.returncode}"
                raise RuntimeError(f"{said}\n{done.stdout}\n{done.stderr}")
    return ""


def main() -> int:
    parser = argparse.ArgumentParser(description="Which mistakes does no test see?")
    parser.add_argument("-j", type=int, default=1, dest="jobs", help="so many at once")
    parser.add_argument("words", nargs="*")
    options = parser.parse_args()
    chosen = [
        one
        for one in MISTAKES
        if not options.words or any(word in f"{one.why} {one.file}" for word in options.words)
    ]
    unseen = 0
    with ThreadPoolExecutor(options.jobs) as pool:
        for one, seen in zip(chosen, pool.map(seen_by, chosen), strict=True):
            unseen += not seen
            sys.stdout.write(f"{seen or 'UNSEEN':<90} {one.why}\n")
            sys.stdout.flush()
    sys.stdout.write(f"{len(chosen)} mistakes, {unseen} of them unseen.\n")
    return 1 if unseen else 0


if __name__ == "__main__":
    sys.exit(main())
