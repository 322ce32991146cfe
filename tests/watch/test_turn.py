"""The run lock among lanes: let go while servers load, and what is seen on coming back."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fake_drivers import FakeWorld
from launches import make_launch

from reconciler.core.observed import Journal, ProcessRef
from reconciler.core.suspension import Suspension
from reconciler.core.words import InstanceName, ModelName
from reconciler.errors import InterruptedRunError, LockHeldError
from reconciler.watch.turn import Share, Turn

M, AT = InstanceName("m"), "unix:/s/m.a.sock"
SERVER = ProcessRef(100, 0)


class Rig:
    """A turn in a world, and a lane's share in it."""

    def __init__(self) -> None:
        self.world = FakeWorld()
        self.cancel = self.world.cancel(after=60.0)
        self.turn = Turn(self.world.state, self.cancel)
        self.wishes = [frozenset({""})]
        """As they are one after the other."""

    def share(self) -> Share:
        later, last = iter(self.wishes), self.wishes[-1]
        return Share(self.turn, self.world.drivers, lambda: next(later, last))

    def is_held(self) -> bool:
        return bool(self.world.state.holder)


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_the_last_one_gives_it_back(rig: Rig) -> None:
    with rig.turn.taken(0.0):
        share = rig.share()
    assert rig.is_held()
    assert share.settle()
    assert not rig.is_held()
    assert not share.settle()


def test_what_loads_in_other_lanes_counts(rig: Rig) -> None:
    with rig.turn.taken(0.0):
        assert rig.share().pace is rig.share().pace


def test_another_run_is_waited_for_so_long(rig: Rig) -> None:
    rig.world.state.holder = "another"
    with pytest.raises(LockHeldError):
        rig.turn.take(3.0)
    assert 1003.0 <= rig.world.clock.now() < 1004.0
    with pytest.raises(InterruptedRunError):
        rig.turn.take()


def test_it_is_let_go_while_a_server_loads_and_taken_again(rig: Rig) -> None:
    share = rig.share()
    share.begins()
    with share.away(M, SERVER, AT):
        assert not rig.is_held()
    assert rig.is_held()
    share.ends()
    share.settle()
    assert not rig.is_held()


def test_a_step_that_works_beside_it_keeps_it(rig: Rig) -> None:
    share = rig.share()
    share.begins()
    share.begins()
    with share.away(M, SERVER, AT):
        assert rig.is_held()
        share.ends()
        assert not rig.is_held()
    assert rig.is_held()


def test_two_that_load_both_let_it_go(rig: Rig) -> None:
    share = rig.share()
    share.begins()
    share.begins()
    with share.away(M, SERVER, AT):
        with share.away(InstanceName("n"), SERVER, AT):
            assert not rig.is_held()
        assert rig.is_held()


def test_other_lanes_keep_it_meanwhile(rig: Rig) -> None:
    first, second = rig.share(), rig.share()
    first.begins()
    with first.away(M, SERVER, AT):
        assert rig.is_held()
        second.settle()
        assert not rig.is_held()


def came_back(rig: Rig, *, wish: str = "", stopped: str = "", instance: str = "") -> None:
    """Go away, let others have their way, come back."""
    share = rig.share()
    share.begins()
    with share.away(M, SERVER, AT):
        journal = replace(rig.world.state.read(), wish=wish)
        if stopped:
            journal = replace(journal, suspended={ModelName(stopped): Suspension(0.0)})
        rig.world.state.write(journal)
        if instance:
            rig.world.runtime.start(make_launch("x"))
            rig.world.runtime.start(make_launch(instance, address=AT))


def test_nothing_happened_meanwhile(rig: Rig) -> None:
    came_back(rig)


def test_what_others_stopped_or_started_is_none_of_its_business(rig: Rig) -> None:
    came_back(rig, stopped="n", instance="n")


@pytest.mark.parametrize("journal", ["before", "after"])
def test_the_watchs_own_next_wish_is_nobody_elses(rig: Rig, journal: str) -> None:
    """It was noted just before, or just after, the journal was looked at."""
    rig.wishes = [frozenset({"before"}), frozenset({"after"})]
    came_back(rig, wish=journal)


@pytest.mark.parametrize("others", [{"wish": "down"}, {"stopped": "m"}, {"instance": "m"}], ids=str)
def test_others_had_their_way_with_it(rig: Rig, others: dict[str, str]) -> None:
    with pytest.raises(InterruptedRunError, match="another run had its way"):
        came_back(rig, **others)


def test_its_own_server_is_no_other(rig: Rig) -> None:
    rig.world.runtime.start(make_launch("m", address=AT))
    came_back(rig)


def test_a_replica_of_a_stopped_model_is_stopped(rig: Rig) -> None:
    share = rig.share()
    stopped = {ModelName("m"): Suspension(0.0)}
    with (
        pytest.raises(InterruptedRunError),
        share.away(InstanceName("m[1]"), SERVER, AT),
    ):
        rig.world.state.write(replace(rig.world.state.read(), suspended=stopped))


def test_a_stop_whose_time_is_over_is_none_of_its_business(rig: Rig) -> None:
    over = rig.world.clock.now() + 1.0
    rig.world.state.write(Journal(suspended={ModelName("m"): Suspension(0.0, until=over)}))
    share = rig.share()
    with pytest.raises(InterruptedRunError), share.away(M, SERVER, AT):
        pass
    with share.away(M, SERVER, AT):
        rig.world.clock.advance(1.0)
