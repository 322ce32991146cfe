"""Rounds of a watch on one machine, led from one state to another and back while faults befall it.

In: a lab, a launcher, a fault for each round. Out: what it passed, or a failed assertion.
"""

from __future__ import annotations

from e2e import machine
from e2e.faults import Launcher
from e2e.lab import Lab
from e2e.matrix import APPLY, wants

CHANGED = ("rec", "sur")
NAMES = ("keep", *CHANGED)
MOST = {"sur": 2}
WATCH = ("watch", "--json", "desired/x.yaml")


class Rounds:
    """`keep` is never touched, `rec` and `sur` are replaced, and nginx is reloaded, each time."""

    def __init__(self, lab: Lab, commands: Launcher) -> None:
        self.lab, self.commands = lab, commands
        self._turn = 0
        self.edit()
        lab.run(*APPLY)
        self.keep = lab.pids()["keep"]

    def edit(self) -> None:
        """Wish for something else: `rec` and `sur` are replaced, an alias leads to a reload."""
        self._turn += 1
        version = 0.1 + self._turn % 2 / 10
        wants(*NAMES, version=version)(self.lab, self._turn)
        self._wanted = f"{version}"

    def is_done(self) -> bool:
        """Whether all is as wished."""
        try:
            pids = self.lab.pids()
        except AssertionError:
            return False
        said = [machine.command_line(pid) for pid in pids.values()]
        changed = sum(f"--temp {self._wanted}" in one for one in said)
        with_alias = f"alias-{self._turn}" in str(self.lab.ask("/v1/models"))
        return set(pids) == set(NAMES) and changed == len(CHANGED) and with_alias
