"""Pulses on a virtual clock: who is asked for a token, how often, and when it counts as wedged."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count, pairwise

import pytest
from fake_drivers import FakeWorld
from fake_runtime import FakeProber
from launches import make_launch

from reconciler.core.observed import ObservedServer
from reconciler.core.vitals import Answer
from reconciler.core.words import InstanceName, Phase
from reconciler.watch.pulses import LEAST_PAUSE_S, PROOF_S, TOKEN_S, WEDGED, Pulses

EVERY_S = 10.0
BAD = Answer(TOKEN_S, "no token within 10 s")


ASKED_A_LOOK = 2
"""A server that fails is asked once more at once."""


class Ward:
    """Servers that are asked for their pulse."""

    def __init__(self, *names: str, flags: tuple[str, ...] = ()) -> None:
        self.world = FakeWorld()
        self.world.prober = Asking(self)
        self.words: list[str] = []
        self.asked: list[tuple[float, str]] = []
        """When whom for a token."""
        self.failing: Iterator[bool] | None = None
        self.meanwhile: Callable[[], None] = lambda: None
        """What happens while one is asked for a token."""
        for name in names:
            self.start(name, *flags)
        self.every = dict.fromkeys(names, EVERY_S)
        self.pulses = Pulses(self.world.drivers, self.world.cancel(), self.words.append)
        self.follow()

    def start(self, name: str, *flags: str) -> None:
        launch = make_launch(name, flags=flags)
        self.world.runtime.start(launch)
        self.world.runtime.route(launch.instance, launch.address)

    def make_token(self, address: str, timeout: float) -> Answer:
        self.asked.append((self.world.clock.now(), address))
        self.meanwhile()
        fails = self.failing is not None and next(self.failing)
        answer = BAD if fails else self.world.prober.answers.get(address, Answer(0.03))
        self.world.clock.advance(min(answer.seconds, timeout))
        return answer

    def servers(self, phase: Phase = Phase.READY) -> list[ObservedServer]:
        return [replace(one, phase=phase) for one in self.world.runtime.list()]

    def follow(self, phase: Phase = Phase.READY) -> None:
        self.pulses.follow(self.servers(phase), self.every)

    def address(self, name: str = "m") -> str:
        return next(one.address for one in self.servers() if one.instance == name)

    def pass_time(self, seconds: float) -> None:
        until = self.world.clock.now() + seconds
        while self.world.clock.now() < until:
            self.world.clock.advance(self.pulses.round())

    def stuck(self, name: str = "m") -> None:
        self.world.prober.answers[self.address(name)] = BAD


class Asking(FakeProber):
    """The prober of a ward."""

    def __init__(self, ward: Ward) -> None:
        super().__init__(ward.world.runtime, ward.world.clock)
        self._ward = ward

    def make_token(self, address: str, timeout: float) -> Answer:
        return self._ward.make_token(address, timeout)


@pytest.fixture
def ward() -> Ward:
    return Ward("m")


def test_nobody_is_asked_before_it_is_due(ward: Ward) -> None:
    assert ward.pulses.round() == EVERY_S
    assert ward.asked == []


def test_an_idle_server_is_asked_for_a_token_once_a_minute(ward: Ward) -> None:
    ward.world.prober.says[ward.address()] = {"tokens_predicted_total": 5.0}
    ward.pass_time(600)
    times = [at for at, _ in ward.asked]
    assert 8 <= len(times) <= 10
    assert all(after - before >= PROOF_S for before, after in pairwise(times))


def test_one_that_makes_tokens_for_others_is_not_asked(ward: Ward) -> None:
    address = ward.address()
    ward.world.prober.says[address] = {"tokens_predicted_total": 0.0}
    ward.pass_time(15)
    first = len(ward.asked)
    for made in range(1, 30):
        ward.world.prober.says[address] = {"tokens_predicted_total": float(made)}
        ward.pass_time(EVERY_S)
    assert len(ward.asked) == first


def test_one_that_puts_its_weights_away_is_never_asked() -> None:
    ward = Ward("m", flags=("--sleep-idle-seconds", "300"))
    ward.world.prober.says[ward.address()] = {"tokens_predicted_total": 0.0}
    ward.pass_time(3600)
    assert ward.asked == []


def test_one_that_never_sleeps_is_asked() -> None:
    ward = Ward("m", flags=("--sleep-idle-seconds", "-1"))
    ward.world.prober.says[ward.address()] = {"tokens_predicted_total": 0.0}
    ward.pass_time(30)
    assert ward.asked


def test_one_that_sleeps_is_not_woken(ward: Ward) -> None:
    ward.world.prober.asleep.add(ward.address())
    ward.pass_time(600)
    assert (ward.asked, ward.pulses.wedged()) == ([], {})


def test_three_failures_in_a_row_are_a_wedge_and_two_are_none(ward: Ward) -> None:
    ward.stuck()
    while len(ward.asked) < ASKED_A_LOOK * 2:
        ward.world.clock.advance(ward.pulses.round())
    assert ward.pulses.wedged() == {}
    assert ward.words == []
    ward.world.clock.advance(ward.pulses.round())
    [reason] = ward.pulses.wedged().values()
    assert "3 times in a row" in reason
    assert ward.words == [WEDGED]


def test_a_wedge_is_found_within_180_seconds(ward: Ward) -> None:
    ward.world.prober.says[ward.address()] = {"tokens_predicted_total": 1.0}
    ward.pass_time(60)
    began = ward.world.clock.now()
    ward.stuck()
    while not ward.words:
        ward.world.clock.advance(ward.pulses.round())
    assert ward.world.clock.now() - began < 180


def test_a_success_between_two_failures_ends_the_row(ward: Ward) -> None:
    ward.failing = iter([*[True] * ASKED_A_LOOK * 2, False] * 20)
    ward.pass_time(900)
    assert len(ward.asked) > 20
    assert ward.words == []


def test_one_that_is_not_ready_yet_or_stopping_is_not_followed(ward: Ward) -> None:
    ward.stuck()
    for phase in (Phase.STARTING, Phase.STOPPING):
        ward.follow(phase)
        ward.pass_time(120)
    assert ward.asked == []


def test_one_that_does_not_answer_health_is_wedged_in_the_end(ward: Ward) -> None:
    server = ward.world.runtime.servers[0]
    server.behaviour = replace(server.behaviour, silent=True)
    ward.follow(Phase.UNHEALTHY)
    ward.pass_time(60)
    assert ward.words
    assert ward.asked == []


def test_one_that_answers_again_is_asked_for_its_token(ward: Ward) -> None:
    ward.follow(Phase.UNHEALTHY)
    ward.pass_time(15)
    assert ward.asked
    assert ward.words == []


def test_a_busy_one_that_moves_is_left_alone_for_ever(ward: Ward) -> None:
    address = ward.address()
    ward.world.prober.in_hand[address] = [1]
    ward.world.prober.tokens[address] = list(range(10_000))
    ward.pass_time(600)
    assert (ward.asked, ward.words) == ([], [])


def test_a_busy_one_that_only_computes_is_left_alone_for_ever(ward: Ward) -> None:
    ward.world.prober.in_hand[ward.address()] = [1]
    ward.world.runtime.cpu_a_look = 0.4
    ward.pass_time(600)
    assert (ward.asked, ward.words) == ([], [])


def test_a_busy_one_that_does_nothing_is_wedged(ward: Ward) -> None:
    ward.world.prober.in_hand[ward.address()] = [1]
    ward.pass_time(180)
    assert ward.asked == []
    assert ward.words


def test_what_is_gone_is_forgotten_and_its_successor_begins_anew(ward: Ward) -> None:
    ward.stuck()
    ward.pass_time(90)
    assert ward.pulses.wedged()
    ward.world.runtime.kill(ward.servers()[0].ref)
    ward.start("m")
    ward.follow()
    assert ward.pulses.wedged() == {}


def test_a_look_again_does_not_put_it_off(ward: Ward) -> None:
    ward.stuck()
    for _ in range(100):
        ward.world.clock.advance(1.0)
        ward.follow()
        ward.pulses.round()
    assert ward.words


def test_one_that_wants_no_probe_is_not_asked(ward: Ward) -> None:
    ward.every = {"m": 0.0}
    ward.follow()
    assert ward.pulses.round() >= LEAST_PAUSE_S


def test_a_day_in_which_one_probe_in_twenty_fails_by_chance_restarts_nothing() -> None:
    names = ("a", "b", "c")
    ward = Ward(*names)
    ward.failing = (zlib.crc32(b"%d" % number) % 20 == 0 for number in count())
    for name in names:
        address = ward.address(InstanceName(name))
        ward.world.prober.says[address] = {"tokens_predicted_total": 1.0}
    ward.pass_time(24 * 3600.0)
    assert len(ward.asked) > 3 * 24 * 45
    assert ward.words == []


def test_what_a_round_saw_while_one_was_asked_is_kept() -> None:
    """`last` gets its route, and is to be asked more often, while another one is being asked."""
    ward = Ward("first", "last")
    unrouted = [replace(one, routed=one.instance != "last") for one in ward.servers()]
    ward.pulses.follow(unrouted, ward.every)
    ward.every["last"] = EVERY_S / 5
    ward.meanwhile = ward.follow
    ward.pass_time(EVERY_S + 1)
    assert [address for _, address in ward.asked] == [ward.address("first")]
    ward.pass_time(EVERY_S / 2)
    assert ward.address("last") in [address for _, address in ward.asked]
