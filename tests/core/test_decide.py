"""The decision table, every combination of it."""

from __future__ import annotations

import itertools

import pytest

from reconciler.core.decide import Decision, Wish, decide
from reconciler.core.words import Phase

N, S, A, R, X = Decision.NOTHING, Decision.START, Decision.AWAIT, Decision.REPLACE, Decision.STOP

# wish and same spec:     RUN same  RUN other  REST same  REST other
TABLE: dict[Phase, tuple[Decision, Decision, Decision, Decision]] = {
    Phase.ABSENT: (S, S, N, N),
    Phase.EXITED: (S, S, N, N),
    Phase.BLOCKED: (S, S, N, N),
    Phase.SUSPENDED: (S, S, N, N),
    Phase.STARTING: (A, R, X, X),
    Phase.UNHEALTHY: (A, R, X, X),
    Phase.READY: (N, R, X, X),
    Phase.STOPPING: (R, R, X, X),
}
COLUMNS = list(itertools.product(Wish, (True, False)))


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize(("wish", "same"), COLUMNS)
def test_the_table(phase: Phase, wish: Wish, same: bool) -> None:
    assert decide(wish, phase, same_spec=same) is TABLE[phase][COLUMNS.index((wish, same))]
