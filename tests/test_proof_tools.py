"""A proof that cannot be had here does not pass unseen."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from proof_tools import TOOLS

NEEDY = Path(__file__).parent / "drivers" / "test_strangers.py"


def collect(folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Collect a test that needs a namespace, on a machine without any programs."""
    words = [sys.executable, "-m", "pytest", "--collect-only", "-p", "no:xdist", str(NEEDY)]
    environment = {**os.environ, "PATH": str(folder), **variables}
    return subprocess.run(words, capture_output=True, text=True, check=False, env=environment)


def test_what_is_missing_is_left_out_and_named(tmp_path: Path) -> None:
    done = collect(tmp_path, LLM_RECONCILE_WHOLE_PROOF="", LLM_RECONCILE_NIGHT="")
    assert done.returncode == 0, done.stdout
    assert "test_who_got_a_servers_pid_is_never_signalled" not in done.stdout
    assert "1 deselected" in done.stdout
    for tool in TOOLS:
        assert tool in done.stdout.partition("MISSING: ")[2]
    assert "(left to `make night`: continue, litellm, open-webui)" in done.stdout


def test_the_whole_proof_needs_what_can_be_installed(tmp_path: Path) -> None:
    done = collect(tmp_path, LLM_RECONCILE_WHOLE_PROOF="1")
    assert done.returncode == 4
    assert "the whole proof needs " in done.stderr
    assert "strace; see .ci/run" in done.stderr
