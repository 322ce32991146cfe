"""When an instance that ended by itself is started again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.core.backoff import (
    FIRST_S,
    JITTER,
    LONGEST_S,
    RESET_AFTER_S,
    Hold,
    after_end,
    forgotten,
    hold,
    wait_s,
)
from reconciler.core.observed import Crashes, Journal, LastExit
from reconciler.core.words import InstanceName, SpecHash

A, B = InstanceName("a"), InstanceName("b")
NOW = 1_000_000.0


def end(reason: str = "killed by SIGSEGV", *, final: bool = False, at: float = NOW) -> LastExit:
    return LastExit(at, reason, SpecHash("s"), final=final)


def row(*ends: LastExit, launch: str = "one", known: Crashes | None = None) -> Crashes:
    for one in ends:
        known = after_end(A, known, one, launch, NOW)
    assert known
    return known


def test_the_first_end_costs_no_wait() -> None:
    first = row(end())
    assert first == Crashes("one", 1, 0, NOW, "killed by SIGSEGV", NOW)
    assert hold(first, "one", NOW) is None


def test_waits_double_from_10_s_to_300_s() -> None:
    waits = [wait_s(A, count) for count in range(1, 2000)]
    assert waits[0] == 0.0
    for wait, full in zip(waits[1:], (10, 20, 40, 80, 160, *[300] * 2000), strict=False):
        assert full * (1 - JITTER) <= wait <= full


def test_those_that_died_together_do_not_come_back_together() -> None:
    assert len({wait_s(InstanceName(f"m[{number}]"), 2) for number in range(1, 20)}) > 15


def test_a_second_end_is_waited_out_and_said() -> None:
    second = row(end(), end("exit code 3"))
    found = hold(second, "one", NOW)
    assert found == Hold(
        f"ended 2 times, last: exit code 3; next start in {round(second.next_at - NOW)} s",
        second.next_at,
    )
    assert hold(second, "one", second.next_at) is None
    # A first end has no wait, unless the clock was set back meanwhile.
    assert hold(Crashes("one", 1, 0, NOW, "x", NOW + 5), "one", NOW) == Hold(
        "ended, last: x; next start in 5 s", NOW + 5
    )


def test_an_operator_waits_for_nothing() -> None:
    assert hold(row(end(), end()), "one", None) is None
    assert hold(row(*[end(final=True)] * 3), "one", None) is None


def test_another_launch_begins_anew() -> None:
    second = row(end(), end())
    assert hold(second, "two", NOW) is None
    assert row(end(), launch="two", known=second).count == 1


def test_the_same_final_cause_three_times_is_given_up() -> None:
    bad = end("the engine rejects the flag --x", final=True)
    assert row(bad, bad).fatal == 2
    given_up = row(bad, bad, bad)
    found = hold(given_up, "one", NOW + 1e9)
    assert found == Hold("given up: 3 times in a row the engine rejects the flag --x", None)
    assert hold(given_up, "two", NOW) is None


@pytest.mark.parametrize("other", [end(), end("its address is taken", final=True)])
def test_another_cause_in_between_is_another_story(other: LastExit) -> None:
    bad = end("not enough memory", final=True)
    assert row(bad, bad, other).fatal <= 1
    assert row(bad, bad, other, bad).fatal == 1


def test_600_s_ready_make_the_past_forgotten() -> None:
    long_ago, lately = row(end(), end()), row(end())
    journal = Journal(crashes={A: long_ago, B: lately})
    found = forgotten(journal, {A: RESET_AFTER_S, B: RESET_AFTER_S - 1}).crashes
    assert found == {A: Crashes("one", 0, 0, NOW, "killed by SIGSEGV", 0.0), B: lately}
    assert forgotten(journal, {}) == journal
    assert row(end(), known=found[A]).next_at == NOW


@given(st.floats(-1e9, 1e9), st.integers(1, 50))
def test_whatever_the_clock_does_nothing_waits_longer_than_300_s(jump: float, count: int) -> None:
    crashes = row(*[end()] * count)
    held = hold(crashes, "one", NOW + jump)
    if held:
        assert held.until is not None
        assert 0 < held.until - (NOW + jump) <= LONGEST_S
    assert wait_s(A, count) <= LONGEST_S
    assert FIRST_S < LONGEST_S
