"""Accounting: which instances ended by themselves, or do no work, and what a watch remembers of it.

In: desired and observed state, what is in hand. Out: the journal as it becomes. Each end counts
once: by the moment at which it was. It decides nothing: `core.backoff` says what follows.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from reconciler.core.backoff import after_end
from reconciler.core.cases import make_cases
from reconciler.core.decide import Decision
from reconciler.core.desired import DesiredState
from reconciler.core.observed import Crashes, Journal, LastExit, ObservedState
from reconciler.core.obstacles import launch_id
from reconciler.core.resolve import Instance
from reconciler.core.words import InstanceName, ModelName


@dataclass(frozen=True, slots=True)
class Ended:
    """An instance that is to be started again, and how it ended."""

    wanted: Instance
    end: LastExit


def newly_ended(
    desired: DesiredState, observed: ObservedState, in_hand: Collection[ModelName]
) -> tuple[Ended, ...]:
    """Those that have no live copy, though one is wanted, and whose end was not counted yet.

    While another server is on its way out, no cause is final: the memory that one lacks may be
    what the other still has, and nobody would start it again once that has gone.
    """
    found, cases = [], make_cases(desired, observed)
    makes_room = any(case.decision is Decision.STOP for case in cases)
    for case in cases:
        if case.wanted is None or case.keep is not None or case.model_name in in_hand:
            continue
        end, known = observed.last_exit(case.name), observed.journal.crashes.get(case.name)
        if end and (known is None or _is_later(end, known, observed.now or 0.0)):
            found.append(Ended(case.wanted, replace(end, final=end.final and not makes_room)))
    return tuple(found)


def _is_later(end: LastExit, known: Crashes, now: float) -> bool:
    """Whether this is another end than the one that was counted last."""
    # Where that one is still to come, the clock was set back since.
    return end.at > known.at or end.at <= now < known.at


def newly_wedged(
    desired: DesiredState, observed: ObservedState, replaced: Collection[InstanceName]
) -> tuple[Ended, ...]:
    """Those of `replaced` that are replaced because they do no work: that counts as an end."""
    at = observed.now or 0.0
    return tuple(
        Ended(case.wanted, LastExit(at, observed.wedged[case.keep.ref], case.keep.spec))
        for case in make_cases(desired, observed)
        if case.wanted and case.keep and case.is_wedged and case.name in replaced
    )


def counted(
    journal: Journal, observed: ObservedState, ended: Collection[Ended], now: float
) -> Journal:
    """The journal with these ends."""
    crashes, restarts = dict(journal.crashes), dict(journal.restarts)
    for one in ended:
        name = one.wanted.name
        launch = launch_id(one.wanted, observed)
        crashes[name] = after_end(name, crashes.get(name), one.end, launch, now)
        restarts[name] = restarts.get(name, 0) + 1
    return replace(journal, crashes=crashes, restarts=restarts)
