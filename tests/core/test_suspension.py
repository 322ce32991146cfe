"""What `stop --until` may be told, how long that lasts, and how it is said to people."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from reconciler.core.observed import Journal
from reconciler.core.suspension import Suspension, moment_of
from reconciler.core.words import ModelName

ZONE = timezone(timedelta(hours=2))
NOW = datetime(2026, 11, 30, 17, 30, 5, tzinfo=ZONE)
"""17:30:05 where the operator is."""


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("30m", "2026-11-30T18:00:05+02:00"),
        ("1h30m", "2026-11-30T19:00:05+02:00"),
        ("0s", "2026-11-30T17:30:05+02:00"),
        ("18:00", "2026-11-30T18:00:00"),
        ("17:30", "2026-12-01T17:30:00"),
        ("9:05", "2026-12-01T09:05:00"),
        ("2026-12-01T08:00", "2026-12-01T08:00:00"),
        ("2026-12-01 08:00:30", "2026-12-01T08:00:30"),
        ("2026-12-01", "2026-12-01T00:00:00"),
        ("2026-12-01T08:00Z", "2026-12-01T08:00:00+00:00"),
        ("2026-12-01T08:00+0100", "2026-12-01T08:00:00+01:00"),
    ],
)
def test_a_moment_is_read_as_it_is_meant(text: str, moment: str) -> None:
    assert moment_of(text, NOW).isoformat() == moment


@pytest.mark.parametrize(
    ("text", "message"),
    [
        *[(text, "expected a time like") for text in ("", "soon", "18", "1800", "18:0", "18:00 ")],
        *[(text, "expected a time like") for text in ("2026-12", "tomorrow 08:00", "8:00pm")],
        ("721h", "from 0s to 720h"),
        ("m", "expected a duration like"),
        ("24:00", "hour must be in"),
        ("12:60", "minute must be in"),
        ("2026-02-30", "day"),
        ("2026-12-01T25:00", "hour must be in"),
    ],
)
def test_what_is_no_moment_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        moment_of(text, NOW)


@pytest.mark.parametrize(
    ("suspension", "said"),
    [
        (Suspension(1.0), "suspended by `stop`"),
        (Suspension(1.0, "hot"), "suspended by `stop`: hot"),
        (Suspension(1.0, "hot", 3600.0), "suspended by `stop` until 1970-01-01 01:00 UTC: hot"),
        (Suspension(1.0, "", 61.0), "suspended by `stop` until 1970-01-01 00:01:01 UTC"),
        (
            Suspension(1.0, "", 3600.0, -5400),
            "suspended by `stop` until 1969-12-31 23:30 UTC-01:30",
        ),
    ],
)
def test_it_is_said_as_the_operator_reads_his_clock(suspension: Suspension, said: str) -> None:
    assert str(suspension) == said


def test_only_what_is_not_over_is_in_force() -> None:
    ever, over, yet = Suspension(1.0), Suspension(1.0, "", 50.0), Suspension(1.0, "", 50.5)
    journal = Journal(
        desired="x", suspended={ModelName("a"): ever, ModelName("b"): over, ModelName("c"): yet}
    )
    left = journal.at(50.0)
    assert left.suspended == {ModelName("a"): ever, ModelName("c"): yet}
    assert left.desired == "x"
