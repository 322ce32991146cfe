"""In force: which desired state is kept now, and which one waits for somebody to let it through.

In: what the file holds, the journal, looks at the machine. Out: the round to be carried out.
A candidate comes into force when its whole plan passes the guards, or when an operator's `apply`
has let it through; until then the one before it is kept. What came into force was agreed to: its
changes are not held against the guards again while they are made one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

from reconciler.core.desired import DesiredState
from reconciler.core.guards import Allowed, guard
from reconciler.core.observed import Journal
from reconciler.core.plan import Action, Guard, Plan
from reconciler.core.plan_parts import leave_out
from reconciler.core.resolve import model_of
from reconciler.core.words import InstanceName, ModelName
from reconciler.look import Round
from reconciler.watch.following import Candidate

Look = Callable[[Candidate], Round]
IN_PART = "an operator has applied it in part, of what waits"


@dataclass(frozen=True, slots=True)
class Held:
    """A candidate that its guards hold back."""

    candidate: Candidate
    seen: Round
    wish: str
    """What an operator had wanted last when that was found last."""

    @property
    def reason(self) -> str:
        """For people."""
        return "; ".join(one.message for one in self.seen.guards)


class Force:
    """The desired state that is kept."""

    def __init__(self, current: Candidate | None = None) -> None:
        self.current = current
        self.held: Held | None = None
        self._agreed: dict[str, Action] = {}

    def offer(self, candidate: Candidate | None, journal: Journal, look: Look) -> Round | None:
        """A round of what is in force once this one was judged; None where nothing ever was.

        `candidate` None: the file says nothing that can be understood.
        """
        if candidate is None or (self.current and candidate.wish == self.current.wish):
            self.held = None
            if candidate and self.current:
                # Positions and texts may be others, what is wanted is not.
                self.current = candidate
        else:
            seen = look(candidate)
            if not seen.guards or self._let_through(candidate, journal):
                self.current, self.held = candidate, None
                self._agreed = {one.address: one.action for one in seen.plan.changes}
                return replace(seen, guards=())
            self.held = Held(candidate, seen, journal.wish)
        if self.current is None:
            return None
        return self.judged(look(self.current))

    def judged(self, seen: Round) -> Round:
        """A round of what is in force, with the guards that are met by what nobody agreed to."""
        desired = self.current.wanted.desired if self.current else DesiredState(version=1)
        if self.held and (made := _made(self.held.seen.plan, seen.observed.journal.parts)):
            models = frozenset(map(ModelName, made))
            seen = replace(seen, plan=leave_out(seen.plan, models, IN_PART, renders=made))
        return replace(seen, guards=self._guards(seen, desired))

    def _let_through(self, candidate: Candidate, journal: Journal) -> bool:
        """Whether an operator has applied it since it was held back."""
        if self.held is None or self.held.candidate.wish != candidate.wish:
            return False
        return journal.wish == candidate.wish != self.held.wish

    def _guards(self, seen: Round, desired: DesiredState) -> tuple[Guard, ...]:
        now = {one.address: one.action for one in seen.plan.changes}
        self._agreed = {
            address: action
            for address, action in self._agreed.items()
            if now.get(address, Action.NO_OP) is not Action.NO_OP
        }
        if not seen.guards:
            # Without the starts that were agreed to, a stop might seem to leave nothing running.
            return ()
        return guard(_without(seen.plan, self._agreed), desired, seen.observed, Allowed())


def _made(plan: Plan, parts: Collection[str]) -> frozenset[str]:
    """The models and renders that are as what waits wants them, by a part that was applied."""
    changes = [one for one in plan.changes if one.action is not Action.NO_OP]
    still = {str(model_of(InstanceName(one.name))) for one in changes}
    return frozenset(parts) - still - {one.address for one in changes}


def _without(plan: Plan, agreed: dict[str, Action]) -> Plan:
    changes = (
        replace(one, action=Action.NO_OP) if agreed.get(one.address) is one.action else one
        for one in plan.changes
    )
    return replace(plan, changes=tuple(changes))
