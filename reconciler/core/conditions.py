"""Conditions: what is so of an instance, in the four words that dashboards and scripts ask for.

In: its row of `status`, the plan's change, the journal. Out: Ready, Progressing, Degraded, Stalled,
each true, false or unknown, with a reason (a word), a message, and since when where anybody was
there to see it begin. Nothing is kept for it: it follows from what was seen, each time anew.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum

from reconciler.core.backoff import FATAL_TIMES
from reconciler.core.observed import Crashes, ObservedState
from reconciler.core.plan import Action, Change, Plan, ResourceType
from reconciler.core.resolve import model_of
from reconciler.core.status import InstanceRow
from reconciler.core.words import InstanceName, Phase

AS_WANTED = "as-wanted"


class ConditionType(StrEnum):
    """What may be so."""

    READY = "Ready"
    """It answers requests."""
    PROGRESSING = "Progressing"
    """Something is done, or will be by itself, to make it as wanted."""
    DEGRADED = "Degraded"
    """It does less than it should: it ended by itself lately, or is not as the file says."""
    STALLED = "Stalled"
    """Nothing more is done until somebody mends something."""


class Truth(StrEnum):
    """Whether it is so."""

    TRUE = "true"
    FALSE = "false"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Condition:
    """One of them."""

    type: ConditionType
    status: Truth
    reason: str
    """One word, for programs."""
    message: str = ""
    """The same for people."""
    since: float | None = None
    """Since when, in seconds since the epoch; None: nobody saw it begin."""
    observed_generation: int | None = None
    """The generation in force when it was looked at; None: nothing was applied yet."""


@dataclass(frozen=True, slots=True)
class _Case:
    row: InstanceRow
    change: Change
    observed: ObservedState

    @property
    def name(self) -> InstanceName:
        return InstanceName(self.row.name)

    @property
    def crashes(self) -> Crashes:
        return self.observed.journal.crashes.get(self.name, Crashes())

    @property
    def began(self) -> float | None:
        """When the phase that it is in began."""
        match self.row.phase:
            case Phase.READY:
                start = self.observed.journal.starts.get(self.name)
                return self.row.since and self.row.since + (start.seconds if start else 0)
            case Phase.STARTING:
                return self.row.since
            case Phase.EXITED:
                ended = self.observed.last_exit(self.name)
                return ended.at if ended else None
            case Phase.SUSPENDED:
                asked = self.observed.journal.suspended.get(model_of(self.name))
                return asked.since if asked else None
            case _:
                return None


def conditions_of(
    rows: Iterable[InstanceRow], observed: ObservedState, plan: Plan, generation: int | None
) -> dict[str, tuple[Condition, ...]]:
    """The conditions of each instance; `generation` is the number of the one in force."""
    changes = {one.name: one for one in plan.changes if one.type is ResourceType.INSTANCE}
    cases = (_Case(row, changes[row.name], observed) for row in rows)
    return {one.row.name: _conditions(one, generation) for one in cases}


def condition_values(found: Iterable[Condition]) -> list[dict[str, object]]:
    """As plain values."""
    return [asdict(one) for one in found]


def _conditions(case: _Case, generation: int | None) -> tuple[Condition, ...]:
    found = {
        ConditionType.READY: _ready(case),
        ConditionType.PROGRESSING: _progressing(case),
        ConditionType.DEGRADED: _degraded(case),
        ConditionType.STALLED: _stalled(case),
    }
    return tuple(Condition(kind, *said, generation) for kind, said in found.items())


_Said = tuple[Truth, str, str, float | None]


def _ready(case: _Case) -> _Said:
    phase = case.row.phase
    if phase is Phase.READY:
        return Truth.TRUE, phase, "it answers requests", case.began
    if phase is Phase.UNHEALTHY:
        return Truth.UNKNOWN, phase, case.row.reason, None
    return Truth.FALSE, phase, case.row.reason, case.began


def _progressing(case: _Case) -> _Said:
    phase, change = case.row.phase, case.change
    if phase in {Phase.STARTING, Phase.STOPPING}:
        return Truth.TRUE, phase, case.row.reason, case.began
    if change.waits_until:
        return Truth.TRUE, "back-off", change.blocked, case.began
    if change.blocked:
        return Truth.FALSE, "blocked", change.blocked, None
    if phase is Phase.SUSPENDED:
        return Truth.FALSE, phase, case.row.reason, case.began
    if change.action is Action.NO_OP:
        return Truth.FALSE, AS_WANTED, "", case.began
    if case.observed.now is None:
        return Truth.FALSE, "not-watched", case.row.next, None
    return Truth.TRUE, "planned", case.row.next, None


def _degraded(case: _Case) -> _Said:
    phase, change, crashes = case.row.phase, case.change, case.crashes
    if phase is Phase.UNHEALTHY:
        return Truth.TRUE, phase, case.row.reason, None
    if crashes.count:
        times = f"it ended {crashes.count} times in a row" if crashes.count > 1 else "it ended"
        return Truth.TRUE, "ended", f"{times}, last: {crashes.reason}", crashes.at
    if phase is Phase.READY and change.blocked:
        return Truth.TRUE, "blocked", f"it runs, not as wanted: {change.blocked}", None
    if phase is Phase.READY and change.drift:
        return Truth.TRUE, "drift", change.drift, None
    return Truth.FALSE, AS_WANTED if phase is Phase.READY else phase, "", case.began


def _stalled(case: _Case) -> _Said:
    change, crashes = case.change, case.crashes
    if not change.blocked or change.waits_until:
        return Truth.FALSE, "not-stalled", "", case.began
    if crashes.fatal >= FATAL_TIMES:
        return Truth.TRUE, "given-up", change.blocked, crashes.at
    return Truth.TRUE, "blocked", change.blocked, None
