"""Health and metrics: what a server's own words come to."""

from __future__ import annotations

from dataclasses import replace

import pytest
from builders import desired, server

from reconciler.core.vitals import (
    Usage,
    Verdict,
    Vitals,
    down,
    health_values,
    parse_counters,
    total,
    unasked,
    usage,
)
from reconciler.core.words import InstanceName, Phase

A = InstanceName("a")
ONE = server(desired({"a": {}}), "a", memory_bytes=100)
TEXT = """\
# HELP llamacpp:prompt_tokens_total Number of prompt tokens processed.
# TYPE llamacpp:prompt_tokens_total counter
llamacpp:prompt_tokens_total 300
llamacpp:prompt_seconds_total 1.5
llamacpp:tokens_predicted_total 1
llamacpp:tokens_predicted_seconds_total 1e-06
llamacpp:requests_processing 2
llamacpp:requests_deferred 1
llamacpp:broken what
other:requests_processing 9
"""


def test_counters_are_read_without_comments_strangers_and_nonsense() -> None:
    assert parse_counters(TEXT) == {
        "prompt_tokens_total": 300.0,
        "prompt_seconds_total": 1.5,
        "tokens_predicted_total": 1.0,
        "tokens_predicted_seconds_total": 1e-06,
        "requests_processing": 2.0,
        "requests_deferred": 1.0,
    }
    assert parse_counters("") == {}


def test_what_is_in_hand() -> None:
    known = Vitals(A, Verdict.OK, counters=parse_counters(TEXT))
    assert (known.running, known.waiting, known.in_hand) == (2, 1, 3)
    unknown = Vitals(A, Verdict.OK)
    assert (unknown.running, unknown.waiting, unknown.in_hand) == (None, None, 0)


@pytest.mark.parametrize(
    ("phase", "verdict"),
    [
        (Phase.STARTING, Verdict.LOADING),
        (Phase.STOPPING, Verdict.STOPPING),
        (Phase.UNHEALTHY, Verdict.SILENT),
    ],
)
def test_who_cannot_answer_is_not_asked(phase: Phase, verdict: Verdict) -> None:
    found = unasked(replace(ONE, phase=phase))
    assert found is not None
    assert (found.verdict, bool(found.reason)) == (verdict, True)


def test_who_is_reached_by_nobody_is_not_asked() -> None:
    found = unasked(replace(ONE, routed=False))
    assert found is not None
    assert found.verdict is Verdict.UNROUTED
    assert not found.verdict.is_good


def test_who_is_ready_is_asked() -> None:
    assert unasked(ONE) is None


def test_only_who_serves_is_well() -> None:
    good = {verdict for verdict in Verdict if verdict.is_good}
    assert good == {Verdict.OK, Verdict.BUSY, Verdict.ASLEEP}


def test_health_as_values() -> None:
    asked = Vitals(A, Verdict.OK, 0.0123456, counters={"requests_processing": 0.0})
    assert health_values([asked, down(A, "not running")]) == [
        {
            "name": "a",
            "health": "ok",
            "healthy": True,
            "token_seconds": 0.0123,
            "running": 0,
            "waiting": None,
            "reason": "",
        },
        {
            "name": "a",
            "health": "down",
            "healthy": False,
            "token_seconds": None,
            "running": None,
            "waiting": None,
            "reason": "not running",
        },
    ]


def test_a_row_of_metrics_uses_counters_and_no_meaningless_rate() -> None:
    assert usage(ONE, parse_counters(TEXT), 5) == Usage(
        name="a",
        running=2,
        waiting=1,
        prompt_tokens=300,
        generated_tokens=1,
        prompt_tokens_per_second=200.0,
        generated_tokens_per_second=None,
        memory_bytes=100,
        gpu_memory_bytes=5,
    )


def test_a_server_that_said_nothing_has_its_memory_only() -> None:
    assert usage(ONE, {"prompt_seconds_total": 1.0}, None) == Usage("a", memory_bytes=100)


def test_all_together() -> None:
    one, two = Usage("a", running=1, memory_bytes=5), Usage("b", running=2)
    assert total([one, two]) == Usage("", running=3, memory_bytes=5)
    assert total([]) == Usage("")
