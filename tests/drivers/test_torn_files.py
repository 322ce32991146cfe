"""Whoever reads while writers are killed finds the old or the new content, never a part (BARS 18).

LLM_RECONCILE_NIGHT=1 makes it ten times as many kills.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from crashing_writer import LINES

PROGRAM = Path(__file__).with_name("crashing_writer.py")
ROUNDS = 1500 if os.environ.get("LLM_RECONCILE_NIGHT") else 150


def test_no_reader_finds_a_torn_file(tmp_path: Path) -> None:
    """However slow the machine is, the writers go on until the reader has seen enough of them."""
    argv = [sys.executable, str(PROGRAM), str(tmp_path), str(ROUNDS)]
    versions: set[str] = set()
    links: set[str] = set()
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, text=True) as writers:
        assert writers.stdin is not None
        assert writers.stdout is not None
        while writers.poll() is None:
            if (tmp_path / "link").is_symlink():
                versions.add(whole(tmp_path / "file"))
                links.add(str((tmp_path / "link").readlink()))
            if len(versions) > ROUNDS / 20 and len(links) > ROUNDS / 20:
                writers.stdin.close()
        assert writers.returncode == 0
        rounds, kills_in_the_middle = map(int, writers.stdout.read().split())
    assert kills_in_the_middle > rounds / 20
    whole(tmp_path / "file")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["file", "link"]


def whole(path: Path) -> str:
    """The version that is in a file; all of it, or the test fails."""
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) == LINES
    assert len(set(lines)) == 1, f"torn: {sorted(set(lines))}"
    return lines[0]
