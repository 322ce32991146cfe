"""Measurements of llm-reconcile beside what people would use instead: `python -m benchmarks`.

In: this machine, the real engine and nginx. Out: docs/benchmarks.md, written by the harness only.
`cases` holds what is measured, one module each; `lab` starts real servers and ends them again;
`results` are plain data and `document` their text. Nothing here judges: a bar is shown beside its
number, no test fails of it, and numbers are compared only within one run.
"""

from __future__ import annotations

import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent

# One recipe for the tiny model, for finding engines and for a hub: the tests'.
sys.path += [str(REPOSITORY / "tests"), str(REPOSITORY / "tests" / "fakes")]
