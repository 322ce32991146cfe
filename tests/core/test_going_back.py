"""Going back to what served: which launch that is, and what is not tried a second time."""

from __future__ import annotations

from dataclasses import replace

import pytest
from builders import SITE, desired, instances, observed, plan, server, stray

from reconciler.core.desired import DesiredState
from reconciler.core.observed import Journal, LastExit, ObservedServer
from reconciler.core.plan import Action, Change, Plan, StartServer
from reconciler.core.planner import make_plan
from reconciler.core.words import InstanceName, ModelName, Phase, SpecHash

ONE = desired({"a": {}})
SURGE = desired({"a": {"rollout": "surge"}})
AGAIN = frozenset({ModelName("a")})


def start_in(made: Plan) -> StartServer:
    [found] = [step.effect for step in made.steps if isinstance(step.effect, StartServer)]
    return found


def of_instance(made: Plan) -> Change:
    return next(one for one in made.changes if one.address == "instance.a")


def test_it_is_what_served() -> None:
    old = stray("a", command=("/old/engine",), argv=("--model", "/old"), files="1:2:3:4", slot="b")
    start = start_in(plan(ONE, observed(ONE, old)))
    assert start.end_if_late
    assert start.fallback == replace(
        start.launch,
        env=old.env,
        spec_hash=old.spec,
        command=old.command,
        argv=old.argv,
        slot="b",
        address=old.address,
        files=old.files,
    )


@pytest.mark.parametrize(
    ("state", "live", "again"),
    [
        (ONE, stray("a", phase=Phase.STARTING), frozenset()),
        (ONE, stray("a", address="127.0.0.1:8001"), frozenset()),
        (ONE, server(ONE, "a"), AGAIN),
        (SURGE, stray("a"), frozenset()),
    ],
    ids=["never served", "held a port", "the same", "stays"],
)
def test_there_is_nothing_to_go_back_to(
    state: DesiredState, live: ObservedServer, again: frozenset[ModelName]
) -> None:
    made = make_plan(state, SITE, observed(state, live), restart=again)
    assert start_in(made).fallback is None


def tried(at: float, spec: SpecHash | None = None, *, began: bool = True) -> Journal:
    failed = spec or instances(ONE)["a"].spec.hash
    exits = {InstanceName("a"): LastExit(at, "no memory", failed, began=began)}
    return Journal(last_exits=exits)


@pytest.mark.parametrize("state", [ONE, SURGE], ids=["recreate", "surge"])
def test_what_failed_while_another_serves_is_not_tried_again(state: DesiredState) -> None:
    seen = observed(state, stray("a", since=5.0), journal=tried(6.0))
    said = "this version was tried, and failed: no memory"
    assert of_instance(plan(state, seen)).blocked == (
        f"{said}; `llm-reconcile restart a` tries it once more"
    )
    asked = of_instance(make_plan(state, SITE, seen, restart=AGAIN))
    assert asked.action in {Action.REPLACE, Action.SURGE}


@pytest.mark.parametrize(
    ("live", "journal"),
    [
        (stray("a", since=7.0), tried(6.0)),
        (stray("a"), tried(6.0, began=False)),
        (stray("a"), tried(6.0, SpecHash("f" * 12))),
        (stray("a", phase=Phase.STARTING), tried(6.0)),
        (None, tried(6.0)),
    ],
    ids=[
        "before it was started",
        "no process",
        "another version",
        "nothing serves",
        "nothing runs",
    ],
)
def test_other_failures_keep_nobody_from_trying(
    live: ObservedServer | None, journal: Journal
) -> None:
    seen = observed(ONE, *([live] if live else []), journal=journal)
    assert not plan(ONE, seen).blocked
