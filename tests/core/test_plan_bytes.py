"""A plan's JSON is the same to the byte in every process, whatever its sets and hashes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

CODE = """
import json, sys
from builders import plan
from plan_cases import CASES
from reconciler.core.guards import Allowed, guard
from reconciler.core.present import plan_values
for name, (state, seen) in CASES.items():
    made = plan(state, seen)
    print(name, json.dumps(plan_values(made, guard(made, state, seen, Allowed()))))
"""
FOLDERS = (Path(__file__).parent, Path(__file__).parents[1], Path(__file__).parents[2])


def test_another_process_says_the_same() -> None:
    said = set()
    for seed in ("1", "2", "3"):
        environment = os.environ | {
            "PYTHONHASHSEED": seed,
            "PYTHONPATH": ":".join(map(str, FOLDERS)),
        }
        argv = [sys.executable, "-c", CODE]
        done = subprocess.run(argv, env=environment, capture_output=True, check=True)
        assert done.stdout.count(b"\n") > 50
        said.add(done.stdout)
    assert len(said) == 1
