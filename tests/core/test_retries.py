"""How long a server is left alone."""

from __future__ import annotations

import pytest

from reconciler.core.retries import LONGEST_ASKED_S, pause, retry_after

NOON = 1_700_000_000.0
"""Tue, 14 Nov 2023 22:13:20 GMT."""


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        (" 7 ", 7.0),
        ("99999999", LONGEST_ASKED_S),
        ("Tue, 14 Nov 2023 22:13:50 GMT", 30.0),
        ("Tue, 14 Nov 2023 22:13:00 GMT", 0.0),
        ("Tue, 14 Nov 2033 22:13:00 GMT", LONGEST_ASKED_S),
        ("", None),
        ("-1", None),
        ("soon", None),
        ("\u0663", None),
        ("Tue, 99 Nov 2023 22:13:20 GMT", None),
    ],
)
def test_what_a_server_asks_for(text: str, seconds: float | None) -> None:
    assert retry_after(text, NOON) == seconds


def test_pauses_double_up_to_the_longest() -> None:
    told = [pause(failures, 1.0, first=0.5, longest=30) for failures in (1, 2, 3, 7, 8, 5000)]
    assert told == [0.5, 1.0, 2.0, 30.0, 30.0, 30.0]


def test_chance_spreads_a_pause_over_its_second_half() -> None:
    assert [pause(1, chance, first=8, longest=30) for chance in (0.0, 0.5, 1.0)] == [4, 6, 8]
