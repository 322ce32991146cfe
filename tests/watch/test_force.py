"""Which desired state is in force: what is held back, what lets it through, what was agreed to."""

from __future__ import annotations

from dataclasses import replace

from builders import SITE, desired, observed, server, stray

from reconciler.core.desired import DesiredState
from reconciler.core.guards import Allowed
from reconciler.core.observed import Journal, ObservedState
from reconciler.core.plan import Action
from reconciler.look import Round, Wanted, replan
from reconciler.remember import wish_of
from reconciler.watch.following import Candidate
from reconciler.watch.force import Force, Look

NAMES = [f"m{number}" for number in range(10)]
ALL = desired({name: {} for name in NAMES})
FEW = desired({name: {} for name in NAMES[:4]})
"""Six of ten would be stopped."""
FEWER = desired({name: {} for name in NAMES[:3]})


def candidate(state: DesiredState) -> Candidate:
    return Candidate(Wanted(state, {}))


def running(*names: str) -> ObservedState:
    return observed(ALL, *(server(ALL, name) for name in names))


def looking_at(seen: ObservedState) -> Look:
    def look(one: Candidate) -> Round:
        return replan(one.wanted, SITE, seen, Allowed())

    return look


def in_force(force: Force) -> DesiredState:
    assert force.current
    return force.current.wanted.desired


def is_held(force: Force) -> bool:
    return force.held is not None


def held(journal: Journal | None = None) -> Force:
    """`ALL` is in force, `FEW` waits."""
    force = Force(candidate(ALL))
    force.offer(candidate(FEW), journal or Journal(), looking_at(running(*NAMES)))
    assert force.held
    assert "6 of 10" in force.held.reason
    assert in_force(force) == ALL
    return force


def offered(force: Force, state: DesiredState, wish: str, *names: str) -> DesiredState:
    """What is in force after this was offered; an operator has wanted `wish` last."""
    look = looking_at(running(*(names or NAMES)))
    force.offer(candidate(state), Journal(wish=wish), look)
    return in_force(force)


def test_nothing_is_in_force_before_something_passed_the_guards() -> None:
    force = Force()
    look = looking_at(running(*NAMES))
    assert force.offer(None, Journal(), look) is None
    assert force.offer(candidate(FEW), Journal(), look) is None
    assert is_held(force)
    seen = force.offer(candidate(ALL), Journal(), look)
    assert seen
    assert in_force(force) == ALL
    assert not is_held(force)
    assert seen.guards == ()


def test_an_operator_lets_through_what_waits() -> None:
    assert offered(held(), FEW, wish_of(FEW)) == FEW


def test_who_applies_something_else_lets_nothing_through() -> None:
    assert offered(held(), FEW, "another") == ALL


def test_what_was_applied_before_it_was_held_is_no_consent() -> None:
    """By now its plan may be another one than the operator saw."""
    journal = Journal(wish=wish_of(FEW))
    force = held(journal)
    assert offered(force, FEW, wish_of(FEW)) == ALL
    # Not even when it is offered again and again.
    assert offered(force, FEW, wish_of(FEW)) == ALL


def test_who_applies_it_once_more_consents_though_it_was_applied_before() -> None:
    force = held(Journal(wish=wish_of(FEW)))
    assert offered(force, FEW, "another") == ALL
    assert offered(force, FEW, wish_of(FEW)) == FEW


def test_consent_is_for_what_was_held_and_nothing_newer() -> None:
    """The file was saved once more after the operator had read it for the `apply`."""
    assert offered(held(), FEWER, wish_of(FEWER)) == ALL


def test_consent_that_comes_late_counts() -> None:
    force = held()
    assert offered(force, FEW, "another") == ALL
    assert offered(force, FEW, wish_of(FEW)) == FEW


def test_what_waits_no_more_is_not_let_through_later() -> None:
    force = held()
    assert offered(force, ALL, "") == ALL
    assert force.held is None
    assert offered(force, FEW, wish_of(FEW)) == ALL


def test_a_broken_file_keeps_what_is_in_force() -> None:
    force = held()
    seen = force.offer(None, Journal(), looking_at(running(*NAMES)))
    assert seen
    assert seen.plan.is_noop
    assert (in_force(force), force.held) == (ALL, None)


def agreed() -> Force:
    """An operator has let `FEW` through: six stops were agreed to."""
    force = held()
    assert offered(force, FEW, wish_of(FEW)) == FEW
    return force


def guards_of(force: Force, seen: ObservedState) -> tuple[str, ...]:
    found = force.offer(candidate(FEW), Journal(wish=wish_of(FEW)), looking_at(seen))
    assert found
    return tuple(one.name for one in found.guards)


def test_what_was_agreed_to_is_not_guarded_again_while_it_is_made() -> None:
    force = agreed()
    assert guards_of(force, running(*NAMES)) == ()
    # Two of the six are gone; the rest of them goes on.
    assert guards_of(force, running(*NAMES[:8])) == ()


def test_what_was_agreed_to_is_done_once() -> None:
    """What comes back afterwards is nobody's wish: its stop is judged anew."""
    force = agreed()
    assert guards_of(force, running(*NAMES[:4])) == ()
    assert guards_of(force, running(*NAMES)) == ("too many stops",)


def test_something_else_was_not_agreed_to() -> None:
    """The six stops were; that all others are replaced was not."""
    force = agreed()
    changed = [stray(name) for name in NAMES[:4]]
    seen = observed(ALL, *changed, *(server(ALL, name) for name in NAMES[4:]))
    assert guards_of(force, seen) == ("too many replacements",)


def test_a_stop_that_leaves_what_was_agreed_to_start_leaves_something() -> None:
    force = Force()
    force.offer(candidate(FEW), Journal(), looking_at(observed(FEW)))
    found = force.judged(looking_at(observed(FEW, stray("old")))(candidate(FEW)))
    assert Action.DELETE in {one.action for one in found.plan.changes}
    assert found.guards == ()


def test_another_action_was_not_agreed_to() -> None:
    """They were to be started; now they run as something else, and would be replaced."""
    force = Force()
    force.offer(candidate(FEW), Journal(), looking_at(observed(FEW)))
    seen = observed(FEW, *(stray(name) for name in NAMES[:4]))
    found = force.judged(looking_at(seen)(candidate(FEW)))
    assert {one.action for one in found.plan.changes if one.address.startswith("instance.")} == {
        Action.REPLACE
    }
    assert [one.name for one in found.guards] == ["too many replacements"]


def test_other_positions_are_no_other_wish() -> None:
    force = Force(candidate(ALL))
    moved = replace(candidate(ALL), wanted=Wanted(ALL, {}, stops=False, locked=True))
    force.offer(moved, Journal(), looking_at(running(*NAMES)))
    assert force.current is moved
