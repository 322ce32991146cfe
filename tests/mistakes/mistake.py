"""What a mistake is, and the quick tests that see most of them."""

from __future__ import annotations

from dataclasses import dataclass

GUARDS = ("tests/core/test_guards.py",)
PLANS = (
    "tests/core/test_planner.py",
    "tests/core/test_obstacles.py",
    "tests/core/test_basis.py",
    "tests/core/test_capacity.py",
    "tests/watch/test_rounds.py",
)
ENDS = (
    "tests/core/test_backoff.py",
    "tests/core/test_accounting.py",
    "tests/core/test_liveness.py",
    "tests/watch/test_pulses.py",
)
WATCH = ("tests/watch",)
LOOP = (
    "tests/test_loop.py",
    "tests/test_execute.py",
    "tests/test_execute_servers.py",
    "tests/test_execute_going_back.py",
)


@dataclass(frozen=True, slots=True)
class Mistake:
    """One wrong edit."""

    why: str
    """What would go wrong."""
    file: str
    old: str
    """Stands there exactly once."""
    new: str
    tests: tuple[str, ...]
    """One of them fails. The quick ones first; none of them costs minutes."""
