"""The real command, on a machine whose wall clock was set: `shifted_clock.py SECONDS COMMAND ...`.

In: by how much, and a verb's words. Out: what the verb does. Only the wall clock moves, as it does
when somebody sets it; what the kernel counts from boot goes on.
"""

from __future__ import annotations

import sys
from unittest.mock import patch

from reconciler.__main__ import main
from reconciler.drivers.clock import SystemClock

REAL = SystemClock.now


def now(clock: SystemClock) -> float:
    return REAL(clock) + SECONDS


if __name__ == "__main__":
    SECONDS = float(sys.argv[1])
    sys.argv[:] = sys.argv[2:]
    with patch.object(SystemClock, "now", now):
        main()
