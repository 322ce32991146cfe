"""What downloads of a run share: turns of files, a limit on their speed."""

from __future__ import annotations

import threading
import time

import pytest
from waiting import eventually

from reconciler.drivers.fetch.allowance import Allowance
from reconciler.drivers.fetch.order import Limits

NEVER = threading.Event()


def test_so_many_files_are_on_their_way_at_once_and_no_more() -> None:
    allowance = Allowance(Limits(files=2))
    inside: list[int] = []
    most: list[int] = []
    lock, go = threading.Lock(), threading.Event()

    def take(number: int) -> None:
        with allowance.turn(NEVER) as is_mine:
            assert is_mine
            with lock:
                inside.append(number)
                most.append(len(inside))
            go.wait(20)
            with lock:
                inside.remove(number)

    threads = [threading.Thread(target=take, args=(number,)) for number in range(6)]
    for one in threads:
        one.start()
    eventually(lambda: len(inside) == 2, "two have their turn")
    go.set()
    for one in threads:
        one.join()
    assert len(most) == 6
    assert max(most) == 2


def test_who_is_to_stop_gets_no_turn() -> None:
    allowance, stop = Allowance(Limits(files=1)), threading.Event()
    with allowance.turn(NEVER) as is_mine:
        assert is_mine
        threading.Timer(0.05, stop.set).start()
        with allowance.turn(stop) as other:
            assert not other
    with allowance.turn(stop) as other:
        assert not other
    with allowance.turn(NEVER) as is_mine:
        assert is_mine


def test_a_turn_that_ends_by_an_error_is_given_back() -> None:
    allowance = Allowance(Limits(files=1))
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), allowance.turn(NEVER):
            _ = 1 / 0
    with allowance.turn(NEVER) as is_mine:
        assert is_mine


def test_all_share_one_limit_on_speed() -> None:
    allowance = Allowance(Limits(bytes_per_s=1000))
    began = time.monotonic()
    pauses = [allowance.throttle.pause(500) for _ in range(4)]
    assert pauses == sorted(pauses)
    assert 2.0 - (time.monotonic() - began) <= pauses[-1] <= 2.0
    assert Allowance(Limits()).throttle.pause(10**12) == 0
