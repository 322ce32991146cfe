"""A watch that is killed at each of its moments; the next one brings it all to its end (BARS 9).

By day a sample of the moments. LLM_RECONCILE_NIGHT=1: all of them.
"""

from __future__ import annotations

import pytest
from waiting import eventually

from e2e import machine
from e2e.faults import NIGHT, Fault, Launcher
from e2e.lab import Lab
from e2e.matrix import APPLY, around, within
from e2e.rest import assert_at_rest, assert_no_file_is_torn
from e2e.rounds import MOST, NAMES, WATCH, Rounds

pytestmark = pytest.mark.timeout(7200 if NIGHT else 600)
MOMENTS = 6


class Killed(Rounds):
    """Each round by a watch that dies in it."""

    def broken(self, fault: Fault) -> tuple[str, ...]:
        """Watch until it is killed, or has done all; returns the moments that it passed."""
        pid = self.commands.begin(self.lab, *WATCH, fault=fault)
        eventually(lambda: not machine.lives(pid) or self.is_done(), f"{fault}")
        done = self.commands.kill()
        assert_no_file_is_torn(self.lab)
        return done.moments

    def completed(self) -> None:
        """The next watch has nothing left to do in the end, and can be killed too."""
        self.commands.begin(self.lab, *WATCH)
        eventually(self.is_done, "the next watch completes it")
        self.commands.kill()
        self.lab.run(*APPLY)
        assert_at_rest(self.lab, NAMES)
        assert self.lab.pids()["keep"] == self.keep


def test_killed_at_each_moment(fakes: Lab, commands: Launcher) -> None:
    rounds = Killed(fakes, commands)
    with machine.Twins(fakes.root, MOST):
        rounds.edit()
        moments = rounds.broken(Fault())
        rounds.completed()
        chosen = around(moments) + within(moments)
        assert len(chosen) > MOMENTS
        for moment in chosen if NIGHT else chosen[1 :: len(chosen) // MOMENTS]:
            rounds.edit()
            try:
                rounds.broken(Fault(moment))
                rounds.completed()
            except AssertionError as error:
                error.add_note(moment)
                raise
