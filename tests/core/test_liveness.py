"""Look after look, whether a server is wedged."""

from __future__ import annotations

import pytest

from reconciler.core.liveness import FAILURES, Pulse, felt
from reconciler.core.vitals import Verdict, Vitals
from reconciler.core.words import InstanceName

A = InstanceName("a")


def pulse(*verdicts: Verdict) -> Pulse:
    known = Pulse()
    for verdict in verdicts:
        known = felt(known, Vitals(A, verdict, reason="it made no token in 10 s"))
    return known


@pytest.mark.parametrize("verdict", [Verdict.SILENT, Verdict.STUCK])
def test_three_failures_in_a_row_are_a_wedged_server(verdict: Verdict) -> None:
    assert pulse(*[verdict] * (FAILURES - 1)).wedged == ""
    found = pulse(*[verdict] * FAILURES).wedged
    assert found == "it is wedged: it made no token in 10 s, 3 times in a row"


@pytest.mark.parametrize("good", [Verdict.OK, Verdict.BUSY, Verdict.ASLEEP])
def test_work_in_between_ends_the_row(good: Verdict) -> None:
    assert not pulse(Verdict.SILENT, Verdict.STUCK, good, Verdict.SILENT).wedged


def test_what_is_not_known_is_neither() -> None:
    unknown = [Verdict.LOADING, Verdict.UNROUTED, Verdict.STOPPING, Verdict.DOWN]
    assert not pulse(*unknown * 5).wedged
    assert pulse(Verdict.SILENT, *unknown, Verdict.SILENT, Verdict.SILENT).wedged


def test_the_tokens_that_it_has_made_are_kept() -> None:
    found = felt(Pulse(), Vitals(A, Verdict.OK, counters={"tokens_predicted_total": 5.0}))
    assert found.made == 5.0
    assert felt(found, Vitals(A, Verdict.SILENT)).made == 5.0
