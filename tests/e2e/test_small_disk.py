"""Too little disk: known before the first byte, or in the middle; the disk is really small."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from proof_tools import own_disk


@pytest.mark.needs("mounts")
@pytest.mark.parametrize(
    ("trial", "size"),
    [
        ("refuse", "24m"),
        ("known at once", "24m"),
        ("known in the middle", "24m"),
        ("taken in advance", "24m"),
        pytest.param("apply in the middle", "320m", marks=pytest.mark.needs("strace")),
    ],
)
def test_a_small_disk(short_folder: Path, tiny_model: Path, trial: str, size: str) -> None:
    (short_folder / "s").mkdir()
    argv = [*own_disk(str(short_folder / "s"), f"size={size}"), sys.executable, "-m"]
    folders = [*sys.path, str(Path(__file__).parent.parent / "drivers")]
    path = {"PYTHONPATH": os.pathsep.join(folders), "NO_PROXY": "127.0.0.1,localhost"}
    done = subprocess.run(
        [*argv, "e2e.small_disk", str(short_folder), str(tiny_model), trial],
        env=os.environ | path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
