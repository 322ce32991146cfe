"""The one decision table: what is wished of an instance x the phase it is in x same spec or not.

In: three small values. Out: a `Decision`. Total: every combination has an entry, checked by the
type checker and enumerated in a test. Nothing else in the program decides about an instance.
"""

from __future__ import annotations

from enum import StrEnum
from typing import assert_never

from reconciler.core.words import Phase


class Wish(StrEnum):
    """What the desired state (and an operator's suspension) wants of an instance."""

    RUN = "run"
    REST = "rest"


class Decision(StrEnum):
    """What is to be done about an instance."""

    NOTHING = "nothing"
    START = "start"
    AWAIT = "await"
    """It is the right one: wait until it is ready, and route to it."""
    REPLACE = "replace"
    STOP = "stop"


def decide(wish: Wish, phase: Phase, *, same_spec: bool) -> Decision:
    """Look up the table.

    An unhealthy server with the right spec is waited for, not replaced: without a watch there is
    one look only, and one silent answer proves nothing. One that is stopping has had its TERM:
    it will go, whatever its spec, so it is replaced.
    """
    match phase:
        case Phase.ABSENT | Phase.EXITED | Phase.BLOCKED | Phase.SUSPENDED:
            return Decision.START if wish is Wish.RUN else Decision.NOTHING
        case Phase.STOPPING:
            return Decision.REPLACE if wish is Wish.RUN else Decision.STOP
        case Phase.STARTING | Phase.UNHEALTHY | Phase.READY:
            if wish is Wish.REST:
                return Decision.STOP
            if not same_spec:
                return Decision.REPLACE
            return Decision.NOTHING if phase is Phase.READY else Decision.AWAIT
        case _:
            assert_never(phase)
