"""A running watch is told an error at each moment of a round: it lives on, and heals by itself.

What was refused is said with what to do about it, what serves serves on, and nothing spins
(BARS 18). By day a sample of the moments; LLM_RECONCILE_NIGHT=1: all of them, with every error.
"""

from __future__ import annotations

import errno
import json
import os
import signal
from typing import Any

import pytest
from waiting import eventually

from e2e import machine
from e2e.faults import DEFECTS, HINTS, NIGHT, Fault, Launcher
from e2e.lab import Lab
from e2e.matrix import within
from e2e.rest import is_at_rest
from e2e.rounds import MOST, NAMES, WATCH, Rounds

pytestmark = pytest.mark.timeout(14400 if NIGHT else 600)
MOMENTS = 6
LOOP = "reconciler.watch.watch"
WAITS = {
    f"{LOOP}:RETRY_FIRST_S": 0.3,
    f"{LOOP}:FAILED_EVERY_S": 0.3,
    "reconciler.core.backoff:FIRST_S": 0.3,
}
"""How long it really waits is shown in a world with a time of its own (tests/watch)."""
TROUBLE = ("trouble", "watch")
STARTS = "before spawn /bin/sh"
WITHOUT_A_WORD = (
    "generations/",
    "history.jsonl",
    "events.jsonl",
    "gateway/status.json",
    "journal.json",
    "slots/",
    ".slot.sock",
    " run/",
    " rmtree ",
)
"""What only people read, or the next look sees anyway, hinders no round."""


class Told(Rounds):
    """Rounds of one watch, in which it is told errors."""

    def begin(self) -> None:
        """Let it watch, and learn what it passes in a round."""
        self.pid = self.commands.begin(self.lab, *WATCH, fault=Fault(), waits=WAITS)
        self.round(Fault())
        self.moments = self.round(Fault())

    def round(self, fault: Fault) -> tuple[str, ...]:
        """One edit, with this fault in it; the moments that were passed until all was at rest."""
        self.commands.arm(fault)
        self.edit()
        eventually(lambda: self.is_reached(fault) or self.is_done(), f"{fault}")
        self.assert_serving()
        self.assert_healed()
        return self.commands.passed

    def is_reached(self, fault: Fault) -> bool:
        return fault.at in self.commands.passed

    def assert_serving(self) -> None:
        """Nobody is to notice it of what is not replaced, or has another copy meanwhile."""
        assert self.lab.servers()["keep"] == [self.keep]
        for name in ("keep", *MOST):
            assert self.lab.complete(name, 1).status == 200, name

    def assert_healed(self) -> None:
        eventually(self.is_done, f"it heals by itself:\n{self.commands.said}")
        eventually(lambda: is_at_rest(self.lab, NAMES), f"it comes to rest:\n{self.commands.said}")
        assert machine.lives(self.pid)

    def refused(self) -> list[dict[str, Any]]:
        """What it has said to have been refused in this round."""
        lines = [json.loads(one) for one in self.commands.said.splitlines()]
        return [
            one
            for one in lines
            if one.get("outcome") == "failed" or (one["event"], one.get("about")) == TROUBLE
        ]


def assert_said_well(one: dict[str, Any], number: int) -> None:
    said = json.dumps(one)
    assert os.strerror(number) in said
    assert HINTS[number] in said
    assert not [word for word in DEFECTS if word in said]


def chosen(moments: tuple[str, ...]) -> list[Fault]:
    """Every error at each moment, or by day one of them in turn at some of the moments."""
    found = [one for one in moments if one.startswith("before ")] + within(moments)
    if NIGHT:
        return [Fault(one, number) for one in found for number in HINTS]
    assert len(found) > MOMENTS
    some = found[1 :: len(found) // MOMENTS]
    return [Fault(one, list(HINTS)[at % 4]) for at, one in enumerate(some)]


def test_an_error_at_each_moment_of_a_round(fakes: Lab, commands: Launcher) -> None:
    rounds = Told(fakes, commands)
    with machine.Twins(fakes.root, MOST):
        rounds.begin()
        unreached = []
        for fault in chosen(rounds.moments):
            assert fault.errno
            try:
                passed = rounds.round(fault)
                if fault.at not in passed:
                    # Lanes run at once: not every round has the same moments in number.
                    unreached.append(fault.at)
                    continue
                heard = rounds.refused()
                for one in heard:
                    assert_said_well(one, fault.errno)
                assert heard or any(one in fault.at for one in WITHOUT_A_WORD)
                assert len(passed) < 3 * len(rounds.moments), "it does too much about it"
            except AssertionError as error:
                error.add_note(f"{fault}\n{commands.said}")
                raise
        assert not [one for one in unreached if "(#" not in one]

        # A disk that stays full for a while.
        commands.arm(Fault(STARTS, errno.ENOSPC, lasts=True))
        rounds.edit()
        eventually(lambda: len(rounds.refused()) >= 4, "it is tried again")
        rounds.assert_serving()
        commands.arm(Fault())
        rounds.assert_healed()

    os.kill(rounds.pid, signal.SIGTERM)
    done = commands.end()
    assert done.code == 0
    assert "Traceback" not in done.result.err
