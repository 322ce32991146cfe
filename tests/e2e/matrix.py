"""Scenarios whose runs are broken off at each of their moments, and the walk through them.

A scenario is a pair of legs that lead from one state to another and back. Each leg is run once to
learn its moments. Then, in turn, a leg is run with its next fault, looked at, run again without
one, and must have come to the same end as if nothing had happened.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from e2e import machine
from e2e.faults import NIGHT, Ended, Fault, Launcher
from e2e.lab import Lab
from e2e.rest import assert_at_rest, assert_no_file_is_torn

PLAN_EVERY = 3
"""By day a plan is asked for only so often whether it finds anything to do."""
LOG_LIMIT = 50 * 2**20
"""A log of this size is moved aside at the next start."""


PAST_EFFECTS = (
    "outside: open state/run.lock",
    "outside: open state/gateway.lock",
    "outside: open state/slots/",
    "outside: subprocess.Popen ",
)
"""Locks are made as they are taken (a kill in between leaves a free one); Popen asks for --help."""


def nothing(_lab: Lab, _turn: int) -> None:
    """No preparation."""


Prepare = Callable[[Lab, int], None]


@dataclass(frozen=True)
class Leg:
    """One verb, and what is there after it."""

    words: tuple[str, ...]
    after: frozenset[str]
    prepare: Prepare = nothing
    gateway: bool = True
    settles: bool = True
    """A plan finds nothing to do afterwards."""


@dataclass(frozen=True)
class Scenario:
    """There and back again."""

    name: str
    there: Leg
    back: Leg
    setting: Prepare = nothing
    """What was applied before all of it."""
    parts: int = 1
    """Tests that share its moments, to run side by side."""
    most: Mapping[str, int] = field(default_factory=dict)
    """Instances of which two may live at once: no run may leave them without any."""
    stays: frozenset[str] = frozenset()
    """Instances that no run may touch."""
    is_symmetric: bool = False
    """Both legs do the same, to other names: by day they share the moments."""
    stride: int = 2
    """By day of a symmetric one: two of so many moments are tried, one in each leg."""
    first: int = 0
    """The first of them: of two scenarios that do nearly the same each has moments of its own."""
    past_effects: tuple[str, ...] = PAST_EFFECTS
    """What may change the machine without being one of our effects."""

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Broken:
    """A run with a fault in it, what was there before it, and how it ended."""

    scenario: Scenario
    leg: Leg
    lab: Lab
    servers: Mapping[str, list[int]]
    master: int | None
    fault: Fault
    done: Ended


Look = Callable[[Broken], None]


def wants(*names: str, version: float = 0.1) -> Prepare:
    """Write the file; another version replaces `rec` and `sur`, another turn renames `keep`."""

    def write(lab: Lab, turn: int) -> None:
        special: dict[str, dict[str, Any]] = {
            "keep": {"aliases": [f"alias-{turn}"]},
            "rec": {"params": {"temp": version}},
            "sur": {"params": {"temp": version}, "rollout": "surge"},
            "deaf": {"args": {"fake-ignore-term": True}, "grace": "0.1s"},
        }
        lab.write({name: special.get(name, {}) for name in names})

    return write


def fresh(lab: Lab, turn: int) -> None:
    """As if nothing had ever been applied."""
    for path in (lab.state, lab.root / "run", lab.root / "logs"):
        shutil.rmtree(path, ignore_errors=True)
    wants("a", "b")(lab, turn)


def unfetched(lab: Lab, _turn: int) -> None:
    """`a` is only on the hub, and not pinned."""
    _forget_files(lab)
    lab.write({"a": {"source": {"repo": "org/a"}, "quant": "Q4_0"}})


def unfetched_url(url: str, sha256: str) -> Prepare:
    """`a` is only at a URL."""

    def prepare(lab: Lab, _turn: int) -> None:
        _forget_files(lab)
        lab.write({"a": {"source": {"url": url, "sha256": sha256}}})

    return prepare


def _forget_files(lab: Lab) -> None:
    """What was fetched goes; of the way it came nothing may be left."""
    store = lab.root / "models"
    assert [path.name for path in store.rglob("*.reconcile.*")] == []
    shutil.rmtree(store, ignore_errors=True)
    lab.lock.unlink(missing_ok=True)


def full_log(lab: Lab, _turn: int) -> None:
    """`deaf` has said much."""
    os.truncate(lab.root / "logs" / "deaf.log", LOG_LIMIT)


def headless(lab: Lab, _turn: int) -> None:
    """kill -9 of nginx's master: its workers serve on."""
    master = lab.nginx().master
    assert master
    machine.kill([master])


FILE_EFFECTS = ("mkdir", "write", "note", "link", "unlink", "chmod", "rename", "rmtree", "append")
AFTER_A_FILE = [["after", one] for one in FILE_EFFECTS]

APPLY = ("apply", "-y", "--allow-destroy", "9", "desired/x.yaml")
EDIT = Scenario(
    "edit",
    Leg(APPLY, frozenset({"keep", "rec", "sur", "new"}), wants("keep", "rec", "sur", "new")),
    Leg(
        APPLY,
        frozenset({"keep", "rec", "sur", "old"}),
        wants("keep", "rec", "sur", "old", version=0.2),
    ),
    parts=2,
    most={"sur": 2},
    stays=frozenset({"keep"}),
    is_symmetric=True,
    stride=10,
)
FIRST = Scenario(
    "first",
    Leg(APPLY, frozenset({"a", "b"}), fresh),
    Leg(("down", "-y"), frozenset(), gateway=False, settles=False),
)
STOP = Scenario(
    "stop",
    Leg(("stop", "deaf"), frozenset({"keep"})),
    Leg(("start", "deaf"), frozenset({"keep", "deaf"}), full_log),
    setting=wants("keep", "deaf"),
    stays=frozenset({"keep"}),
)
HEADLESS = Scenario(
    "headless",
    Leg(APPLY, frozenset({"keep"}), headless),
    Leg(("restart", "keep"), frozenset({"keep"})),
    setting=wants("keep"),
)


FETCH = Scenario(
    "fetch",
    Leg(APPLY, frozenset({"a"}), unfetched),
    Leg(APPLY, frozenset({"a"}), unfetched),
    is_symmetric=True,
    stride=8,
    past_effects=("outside: ",),
)


class Walk:
    """One scenario in one lab."""

    def __init__(self, scenario: Scenario, lab: Lab, commands: Launcher) -> None:
        self._scenario, self._lab, self._commands = scenario, lab, commands
        self._legs = (scenario.there, scenario.back)
        self._turn = 0
        self.unreached: list[str] = []
        scenario.setting(lab, 0)
        if scenario.setting is not nothing:
            lab.apply()

    def learn(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The moments of both legs, as they are from the second time on."""
        moments = [self._run(leg) for _ in range(2) for leg in self._legs]
        return moments[2], moments[3]

    def _run(self, leg: Leg) -> tuple[str, ...]:
        self._prepare(leg)
        done = self._commands.run(self._lab, *leg.words, fault=Fault())
        assert done.code == 0, done.result.all
        assert_at_rest(self._lab, leg.after, gateway=leg.gateway)
        # What does not go through drivers/effects.py would have no moment of its own.
        outside = [one for one in done.moments if one.startswith("outside: ")]
        unknown = [one for one in outside if not one.startswith(self._scenario.past_effects)]
        assert unknown == [], unknown
        return done.moments

    def go(self, there: Iterable[Fault], back: Iterable[Fault], look: Look) -> None:
        """Each leg with each of its faults."""
        waiting = [list(there), list(back)]
        while any(waiting):
            for leg, faults in zip(self._legs, waiting, strict=True):
                fault = faults.pop(0) if faults else None
                try:
                    self._prepare(leg)
                    if fault and not self._break_off(leg, fault, look):
                        self._put_off(fault, faults)
                    self._complete(leg)
                except AssertionError as error:
                    error.add_note(f"`{' '.join(leg.words[:2])}` with {fault}")
                    raise

    def _prepare(self, leg: Leg) -> None:
        self._turn += 1
        leg.prepare(self._lab, self._turn)

    def _break_off(self, leg: Leg, fault: Fault, look: Look) -> bool:
        """Whether it got to the moment of the fault."""
        servers, master = self._lab.servers(), self._lab.nginx().master
        done = self._commands.run(self._lab, *leg.words, fault=fault)
        assert_no_file_is_torn(self._lab)
        if fault.at and fault.at not in done.moments:
            assert done.code == 0, done.result.all
            return False
        look(Broken(self._scenario, leg, self._lab, servers, master, fault, done))
        return True

    def _put_off(self, fault: Fault, faults: list[Fault]) -> None:
        """Steps run at once: a second `mkdir` of one folder happens in some runs only."""
        if fault.at not in self.unreached:
            self.unreached.append(fault.at)
            faults.append(fault)
        else:
            assert "(#" in fault.at or " mkdir " in fault.at, f"never reached again: {fault.at}"

    def _complete(self, leg: Leg) -> None:
        done = self._commands.run(self._lab, *leg.words)
        assert done.code == 0, done.result.all
        if leg.settles and (NIGHT or self._turn % PLAN_EVERY == 0):
            plan = self._commands.run(self._lab, "plan", "--detailed-exitcode", "desired/x.yaml")
            assert plan.code == 0, plan.result.all
        assert_at_rest(self._lab, leg.after, gateway=leg.gateway)


def shared(scenario: Scenario, there: list[str], back: list[str]) -> tuple[list[str], list[str]]:
    """By day: the moments of both legs of a symmetric scenario that are tried."""
    first, stride = scenario.first, scenario.stride
    return there[first::stride], back[first + stride // 2 :: stride]


def around(moments: Iterable[str]) -> list[str]:
    """Those before and after an effect.

    By day not after what only changes a file: nothing happens from there to the next effect.
    """
    found = [one for one in moments if one.startswith(("before ", "after "))]
    return [one for one in found if NIGHT or one.split()[:2] not in AFTER_A_FILE]


def within(moments: Iterable[str]) -> list[str]:
    """Those in the middle of an effect; by day, of the last one of each kind."""
    effects: dict[str, list[str]] = {}
    for one in moments:
        if one.startswith("within "):
            effects.setdefault(one.partition(": ")[0], []).append(one)
    kinds = {effect.split()[1]: effect for effect in effects}
    return [one for effect in (effects if NIGHT else kinds.values()) for one in effects[effect]]
