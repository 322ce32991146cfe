"""Plans from one desired state to another, on a machine that nobody looked at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from builders import SITE, TEMPLATES, desired, pin_of
from hypothesis import given
from strategies import desired_states

from reconciler.core.assumed import applied
from reconciler.core.desired import DesiredState
from reconciler.core.guards import Allowed, guard
from reconciler.core.lockfile import Lock
from reconciler.core.observed import ObservedState
from reconciler.core.plan import Action, Plan
from reconciler.core.planner import make_plan
from reconciler.core.words import ModelName

HUB = {"source": {"repo": "org/a"}, "quant": "Q4_0", "quants": {"Q4_0": "1GB", "Q8_0": "2GB"}}
URL = {"source": {"url": "https://host/a.gguf", "sha256": "a" * 64}}


def seen(before: DesiredState, after: DesiredState, *locks: Lock) -> ObservedState:
    first, second = locks or ({}, {})
    return applied(before, after, SITE, (first, second), TEMPLATES)


def plan(before: DesiredState, after: DesiredState, *locks: Lock) -> Plan:
    return make_plan(after, SITE, seen(before, after, *locks))


def changed(made: Plan) -> Mapping[str, Action]:
    return {one.address: one.action for one in made.changes if one.action is not Action.NO_OP}


def pins(state: DesiredState) -> Lock:
    return {
        ModelName(name): pin_of(model) for name, model in state.models.items() if model.source.repo
    }


@given(desired_states())
def test_a_state_that_was_applied_needs_nothing(state: DesiredState) -> None:
    for lock in ({}, pins(state)):
        made = plan(state, state, lock, lock)
        assert changed(made) == {}
        assert made.steps == ()
        assert not made.blocked


def test_every_change_of_a_model_is_told_with_its_details() -> None:
    same = {"env": {"X": "1"}, "args": {"jinja": True}}
    before = desired({"a": {"params": {"temp": "1"}, **same}, "b": {}, "c": {}})
    after = desired(
        {"a": {"params": {"temp": "2"}, **same}, "b": {"rollout": "surge", "env": {"X": "1"}}}
    )
    made = plan(before, after)
    assert changed(made) == {
        "gateway": Action.UPDATE,
        "instance.a": Action.REPLACE,
        "instance.b": Action.SURGE,
        "instance.c": Action.DELETE,
    }
    [detail] = next(one.details for one in made.changes if one.address == "instance.a")
    assert (detail.path, detail.before, detail.after) == ("params.temp", "1", "2")
    assert guard(made, after, seen(before, after), Allowed()) == ()


def test_guards_speak_as_they_would_on_the_machine() -> None:
    before, after = desired({"a": {}}), desired({})
    made = plan(before, after)
    [found] = guard(made, after, seen(before, after), Allowed())
    assert found.flag == "--allow-destroy 1"


def fetched(made: Plan) -> int:
    return sum(one.impact.download_bytes for one in made.changes)


def models(**one: Any) -> DesiredState:
    return desired({"a": one})


def test_what_is_new_is_fetched_as_the_catalogue_says() -> None:
    before, after = models(**HUB), models(**{**HUB, "quant": "Q8_0"})
    made = plan(before, after)
    assert changed(made) == {
        "gateway": Action.UPDATE,
        "instance.a": Action.REPLACE,
        "model_file.a": Action.CREATE,
    }
    assert fetched(made) == 2 * 10**9
    assert fetched(plan(before, before)) == 0


def test_pins_say_what_a_download_brings() -> None:
    state = models(**HUB)
    one = pins(state)
    [file] = one[ModelName("a")].files
    moved = replace(
        one[ModelName("a")],
        commit="d" * 40,
        files=(file, replace(file, name="b.gguf", size=7, sha256="6" * 64)),
    )
    made = plan(state, state, one, {ModelName("a"): moved})
    # The new pins are what the lock file holds: nothing is to be written into it.
    assert changed(made) == {"instance.a": Action.REPLACE, "model_file.a": Action.CREATE}
    assert fetched(made) == 7


def test_what_is_there_is_verified() -> None:
    before, after = models(**HUB), models(**HUB, params={"temp": "1"})
    lock = pins(before)
    assert changed(plan(before, after, lock, lock)) == {"instance.a": Action.REPLACE}


def test_a_url_is_known_by_its_content() -> None:
    there, other = models(**URL), {**URL["source"], "url": "https://mirror/a.gguf"}
    assert changed(plan(there, models(source=other))) == {}
    made = plan(there, models(source={**other, "sha256": "b" * 64}))
    assert changed(made) == {"instance.a": Action.REPLACE, "model_file.a": Action.CREATE}


def test_without_a_gateway_each_has_its_port() -> None:
    before = desired({"a": {"port": 8001}}, gateway=False)
    assert changed(plan(before, before)) == {}
    made = plan(before, desired({"a": {"port": 8002}}, gateway=False))
    assert changed(made) == {"instance.a": Action.REPLACE}
    assert "gateway" in changed(plan(before, desired({"a": {"port": 8001}})))


def test_keys_and_certificate_are_there_whatever_they_are() -> None:
    tls = {"cert": "c.pem", "key": "k.pem"}
    safe = desired({"a": {}}, gateway={"keys_file": "secrets/keys", "tls": tls})
    assert changed(plan(safe, safe)) == {}
    made = plan(desired({"a": {}}), safe)
    assert changed(made) == {"gateway": Action.UPDATE}
    [change] = [one for one in made.changes if one.address == "gateway"]
    assert [one.path for one in change.details] == ["keys", "keys.any", "tls"]
