"""A plan in the making: its changes, its numbered steps, and who stops whom.

In: steps from `core.planner` and `core.plan_gateway`. Out: what the finished `Plan` is made of.
The only mutable thing in the core; it lives for one call of `make_plan` and decides nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import cast

from reconciler.core.launch import LastGood
from reconciler.core.observed import ProcessRef
from reconciler.core.plan import Change, Step, StepEffect, StopServer
from reconciler.core.words import ModelName


@dataclass
class Draft:
    """Changes and steps so far, and the steps by what they free."""

    changes: list[Change] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    pins: dict[ModelName, int] = field(default_factory=dict)
    """The steps that write the pins of models."""
    files: dict[ModelName, set[int]] = field(default_factory=dict)
    """The steps after which the files of models are here, and right."""
    fetches: dict[str, int] = field(default_factory=dict)
    """Where a file will be -> the step that fetches it."""
    verifications: dict[str, int] = field(default_factory=dict)
    """Identity of a file -> the step that verifies it."""
    stops: dict[ProcessRef, int] = field(default_factory=dict)
    leaving: set[int] = field(default_factory=set)
    """The stops of servers in whose place there will be none."""
    port_stops: dict[int, set[int]] = field(default_factory=dict)
    """TCP port of ours -> the steps after which nobody of us holds it any more."""

    def step(
        self,
        address: str,
        effect: StepEffect,
        reason: str,
        needs: set[int],
        after: Iterable[int] = (),
    ) -> int:
        """Append a step and return its number."""
        number = len(self.steps) + 1
        ordered = tuple(sorted(needs)), tuple(sorted(after))
        self.steps.append(Step(number, address, effect, reason, *ordered))
        return number

    def also_needs(self, number: int, needs: set[int]) -> None:
        """Give a step further needs."""
        step = self.steps[number - 1]
        self.steps[number - 1] = replace(step, needs=tuple(sorted({*step.needs, *needs})))

    def keeps(self, number: int, last_good: LastGood) -> None:
        """Let a stop note what can be gone back to."""
        step = self.steps[number - 1]
        effect = replace(cast("StopServer", step.effect), last_good=last_good)
        self.steps[number - 1] = replace(step, effect=effect)
