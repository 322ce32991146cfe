"""Running plans in a world in memory, for the tests of the executor.

In: steps, a cancel signal. Out: their results, what was told on the way, what the drivers did.
"""

from __future__ import annotations

from fake_drivers import FakeWorld
from fake_runtime import Behaviour
from launches import make_launch, plan_of

from reconciler.core.launch import Launch
from reconciler.core.plan import Step
from reconciler.drivers.base import Cancel
from reconciler.execute import Progress, StepResult, execute


class Run:
    """A world, and what running plans in it said."""

    def __init__(self) -> None:
        self.world = FakeWorld()
        self.told: list[Progress | StepResult] = []

    def execute(self, *steps: Step, cancel: Cancel | None = None) -> list[StepResult]:
        results = execute(
            plan_of(*steps), self.world.drivers, self.told.append, cancel or self.world.cancel()
        )
        assert [one.step for one in results] == list(steps)
        return list(results)

    def only(self, one: Step, cancel: Cancel | None = None) -> StepResult:
        [result] = self.execute(one, cancel=cancel)
        return result

    def begin(self, how: Behaviour | None = None) -> Launch:
        """The server `m` in slot `a` runs already, as `how` says, and is routed."""
        self.behave(how or Behaviour())
        launch = make_launch("m", "a")
        self.world.runtime.start(launch)
        self.world.runtime.route(launch.instance, launch.address)
        self.world.runtime.calls.clear()
        return launch

    def behave(self, how: Behaviour) -> None:
        """What is started as `m` from now on behaves like this."""
        self.world.runtime.behaviours["m"] = how

    def did(self) -> list[str]:
        """What the runtime was told to do, without mere looks."""
        return [call for call in self.world.runtime.calls if call not in {"list", "in_flight"}]

    def texts(self) -> list[str]:
        return [one.text for one in self.told if isinstance(one, Progress)]
