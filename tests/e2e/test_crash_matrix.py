"""Killed before and after each effect of a verb; the same verb again completes it (BARS 9, 18).

By day the middle of an effect has its turn once for each kind. LLM_RECONCILE_NIGHT=1: all of them.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from engine_programs import real_engines
from hub_faults import sha_of
from hub_server import hub_server

from e2e import machine
from e2e.faults import NIGHT, Fault, Launcher
from e2e.lab import Lab, engine_of
from e2e.matrix import (
    EDIT,
    FETCH,
    FIRST,
    HEADLESS,
    STOP,
    Broken,
    Leg,
    Scenario,
    Walk,
    around,
    shared,
    unfetched,
    unfetched_url,
    wants,
    within,
)

SCENARIOS = (EDIT, FIRST, STOP, HEADLESS)
pytestmark = pytest.mark.timeout(7200 if NIGHT else 600)
PARTS = [
    pytest.param(one, part, id=f"{one}-{part}") for one in SCENARIOS for part in range(one.parts)
]


def killed(broken: Broken) -> None:
    assert broken.done.was_killed, broken.done.result.all


def chosen(scenario: Scenario, walk: Walk) -> tuple[list[str], list[str]]:
    """The moments of both legs that are tried."""
    learnt = walk.learn()
    if not NIGHT and not scenario.is_symmetric:
        return around(learnt[0])[::2], around(learnt[1])[1::2]
    there, back = (around(moments) + within(moments) for moments in learnt)
    return (there, back) if NIGHT else shared(scenario, there, back)


def walk_through(lab: Lab, commands: Launcher, scenario: Scenario, part: int = 0) -> None:
    """Kill both legs at each of this part's moments."""
    with machine.Twins(lab.root, scenario.most):
        walk = Walk(scenario, lab, commands)
        there, back = (
            [Fault(one) for one in moments[part :: scenario.parts]]
            for moments in chosen(scenario, walk)
        )
        assert there
        walk.go(there, back, killed)


@pytest.mark.parametrize(("scenario", "part"), PARTS)
def test_killed_at_each_moment(
    fakes: Lab, commands: Launcher, scenario: Scenario, part: int
) -> None:
    walk_through(fakes, commands, scenario, part)


def test_killed_around_a_download(fakes: Lab, commands: Launcher, tiny_model: Path) -> None:
    with hub_server() as hub:
        hub.add("org/a", {"a-Q4_0.gguf": tiny_model.read_bytes()})
        fakes.variables |= {"HF_ENDPOINT": hub.endpoint, "NO_PROXY": "127.0.0.1,localhost"}
        walk_through(fakes, commands, FETCH)


def test_killed_around_a_download_from_a_url(
    fakes: Lab, commands: Launcher, tiny_model: Path
) -> None:
    content = tiny_model.read_bytes()
    with hub_server() as server:
        server.files["a.gguf"] = content
        fakes.variables["NO_PROXY"] = "127.0.0.1,localhost"
        prepare = unfetched_url(f"{server.endpoint}/files/a.gguf", sha_of(content))
        leg = replace(FETCH.there, prepare=prepare)
        walk_through(fakes, commands, replace(FETCH, there=leg, back=leg, first=1))


def test_killed_around_an_update(fakes: Lab, commands: Launcher, tiny_model: Path) -> None:
    """Each time the branch has moved; the same update again completes it."""
    tiny = tiny_model.read_bytes()
    with hub_server() as hub:
        repo = hub.add("org/a", {"a-Q4_0.gguf": tiny})
        fakes.variables |= {"HF_ENDPOINT": hub.endpoint, "NO_PROXY": "127.0.0.1,localhost"}

        def moved(_lab: Lab, turn: int) -> None:
            repo.commit({"a-Q4_0.gguf": tiny + bytes(turn)})

        leg = Leg(("update", "-y"), frozenset({"a"}), moved)
        update = Scenario(
            "update",
            leg,
            leg,
            setting=unfetched,
            is_symmetric=True,
            stride=10,
            past_effects=("outside: ",),
        )
        walk_through(fakes, commands, update)


def test_killed_around_going_back(fakes: Lab, commands: Launcher) -> None:
    """There and back by `rollback --to N`; of the numbers that it makes only twenty are kept."""

    def two_versions(lab: Lab, _turn: int) -> None:
        wants("keep", "rec")(lab, 0)
        lab.apply()
        wants("keep", "rec", version=0.2)(lab, 0)

    def leg(number: int) -> Leg:
        words = ("rollback", "--to", f"{number}", "-y", "--allow-destroy", "9")
        return Leg(words, frozenset({"keep", "rec"}))

    stays = frozenset({"keep"})
    scenario = Scenario("rollback", leg(1), leg(2), setting=two_versions, stays=stays)
    with machine.Twins(fakes.root):
        walk = Walk(scenario, fakes, commands)
        count = 6 if NIGHT else 2
        # Each leg has moments of its own: both do the same.
        there, back = (
            [Fault(one) for one in moments[at * 7 :: len(moments) // count][:count]]
            for at, moments in enumerate(around(one) + within(one) for one in walk.learn())
        )
        walk.go(there, back, killed)


def test_killed_with_real_servers(short_folder: Path, tiny_model: Path, commands: Launcher) -> None:
    """A sample of the same, with a real llama.cpp server."""
    engine = engine_of(real_engines()[-1].name)
    lab = Lab(short_folder, tiny_model, engine=engine)
    with machine.Twins(lab.root, EDIT.most):
        walk = Walk(EDIT, lab, commands)
        there, back = (
            [Fault(one) for one in around(moments)[5 :: 3 if NIGHT else 10]]
            for moments in walk.learn()
        )
        walk.go(there, back, killed)
    assert lab.close() == []
