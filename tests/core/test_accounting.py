"""What a watch remembers of instances that ended, or did no work."""

from __future__ import annotations

from dataclasses import replace

from builders import desired, instances, observed, server

from reconciler.core.accounting import Ended, counted, newly_ended, newly_wedged
from reconciler.core.observed import Journal, LastExit
from reconciler.core.words import InstanceName, ModelName, SpecHash

A = InstanceName("a")
STATE = desired({"a": {}, "b": {}})
END = LastExit(100.0, "killed by SIGSEGV", SpecHash("s"))
NOW = 200.0


def test_an_end_counts_once() -> None:
    seen = observed(STATE, server(STATE, "b"), deaths={A: END})
    [found] = newly_ended(STATE, seen, ())
    assert found == Ended(instances(STATE)["a"], END)
    journal = counted(seen.journal, seen, [found], NOW)
    assert (journal.crashes[A].count, journal.restarts[A]) == (1, 1)
    assert newly_ended(STATE, replace(seen, journal=journal), ()) == ()
    again = replace(seen, journal=journal, deaths={A: replace(END, at=101.0)})
    journal = counted(journal, again, newly_ended(STATE, again, ()), NOW)
    assert (journal.crashes[A].count, journal.restarts[A]) == (2, 2)


def test_an_end_after_the_clock_was_set_back_counts_once() -> None:
    """What was counted last is still to come by then."""
    seen = observed(STATE, server(STATE, "b"), deaths={A: END}, now=NOW)
    journal = counted(seen.journal, seen, newly_ended(STATE, seen, ()), NOW)
    journal = replace(journal, last_exits={A: replace(END, reason="seen by a run")})
    back = replace(seen, journal=journal, deaths={A: replace(END, at=50.0)}, now=60.0)
    [found] = newly_ended(STATE, back, ())
    assert found.end == back.deaths[A]
    journal = counted(journal, back, [found], 60.0)
    assert journal.crashes[A].count == 2
    assert newly_ended(STATE, replace(back, journal=journal), ()) == ()


def test_no_cause_is_final_while_another_server_makes_room() -> None:
    """One model follows another on a card that holds one of them, and the other one drains."""
    lacking = replace(END, reason="not enough memory on the graphics card", final=True)
    before, after = desired({"b": {}}), desired({"a": {}})
    seen = observed(after, server(before, "b"), deaths={A: lacking}, now=NOW)
    [found] = newly_ended(after, seen, ())
    assert found.end == replace(lacking, final=False)
    assert counted(seen.journal, seen, [found], NOW).crashes[A].fatal == 0
    alone = replace(seen, servers=())
    assert [one.end for one in newly_ended(after, alone, ())] == [lacking]


def test_what_lives_or_is_in_hand_or_never_ended_does_not_count() -> None:
    live = observed(STATE, server(STATE, "a"), deaths={A: END})
    assert newly_ended(STATE, live, ()) == ()
    dead = observed(STATE, deaths={A: END})
    assert newly_ended(STATE, dead, {ModelName("a")}) == ()
    assert newly_ended(desired({"b": {}}), dead, ()) == ()
    assert newly_ended(STATE, observed(STATE), ()) == ()


def test_a_wedged_server_that_is_replaced_counts_as_one_that_ended() -> None:
    live = server(STATE, "a")
    seen = observed(STATE, live, server(STATE, "b"), wedged={live.ref: "no token"}, now=NOW)
    assert newly_wedged(STATE, seen, ()) == ()
    [found] = newly_wedged(STATE, seen, {A, InstanceName("b")})
    assert found.end == LastExit(NOW, "no token", live.spec)
    journal = counted(Journal(), seen, [found], NOW)
    assert journal.crashes[A].reason == "no token"
    assert journal.crashes[A].next_at == NOW
