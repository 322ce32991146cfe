"""A snapshot's file: the same plan comes of it as of the look, and no secret is in it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from builders import SITE, desired, observed, plan, running, server
from hypothesis import given
from plan_cases import CASES
from strategies import TAPES, any_world, desired_states
from world import Luck

from reconciler.core.basis import basis_of
from reconciler.core.desired import DesiredState
from reconciler.core.guards import Allowed, guard
from reconciler.core.keys import GatewayKey
from reconciler.core.launch import LastGood, Launch
from reconciler.core.observed import GatewaySecrets, Journal, ObservedState, ProcessRef
from reconciler.core.plan import Plan
from reconciler.core.plan_file import read_plan_file
from reconciler.core.present import plan_text, plan_values
from reconciler.core.recalled import Checkout, recall
from reconciler.core.renders import ObservedRender, RenderNote, digest_of
from reconciler.core.resources import ObservedDisk
from reconciler.core.sealed import seal
from reconciler.core.snapshot import (
    SNAPSHOT,
    Snapshot,
    age_text,
    asked_of,
    is_snapshot,
    read_snapshot,
    snapshot_text,
)
from reconciler.core.stored import Blob, Link, ObservedStore, StoredRepo
from reconciler.core.words import InstanceName, ModelName, SpecHash
from reconciler.errors import UsageError

NOW = 1_000_000.0
STATE = desired({"a": {"env": {"HF_TOKEN": "hf_old", "CUDA_VISIBLE_DEVICES": "0"}}, "b": {}})


def taken(state: DesiredState, seen: ObservedState) -> Snapshot:
    return Snapshot("gpu1", SITE.root, SITE.state, NOW, asked_of(state), seen)


def read(text: str) -> Snapshot:
    return read_snapshot("x.json", text.encode())


def again(snapshot: Snapshot, state: DesiredState) -> ObservedState:
    """What a plan sees of it elsewhere, where the checkout is that of the machine."""
    seen = snapshot.observed
    checkout = Checkout(seen.lock, seen.templates, seen.renders or {})
    found = recall(read(snapshot_text(snapshot)), state, checkout, NOW)
    assert found.unknown == ()
    return found.observed


def assert_same(state: DesiredState, seen: ObservedState, other: ObservedState) -> Plan:
    first, second = plan(state, seen), plan(state, other)
    guards = guard(first, state, seen, Allowed())
    assert guard(second, state, other, Allowed()) == guards
    assert plan_text(second, guards) == plan_text(first, guards)
    assert plan_values(second, guards) == plan_values(first, guards)
    assert basis_of(second, other) == basis_of(first, seen)
    return first


@given(state=desired_states(trouble=True), tape=TAPES)
def test_the_same_plan_comes_of_it(state: DesiredState, tape: bytes) -> None:
    luck = Luck(tape)
    world = any_world(state, luck, trouble=True)
    seen = world.observe(state)
    other = again(taken(state, seen), state)
    assert plan(state, other) == assert_same(state, seen, other)


@pytest.mark.parametrize("name", sorted(CASES))
def test_the_same_plan_comes_of_every_case(name: str) -> None:
    state, seen = CASES[name]
    assert_same(state, seen, again(taken(state, seen), state))


def test_what_is_known_by_more_than_a_name_comes_back() -> None:
    """Processes and inodes, which JSON has no keys for; of open files those in the store."""
    repo = StoredRepo(
        "models--org--a",
        links=(Link("/l", "c", "n", "d", 0, (1, 2)), Link("/m", "c", "m", "d", 0, None)),
        blobs=(Blob("/b", "d", 3, (1, 3)),),
    )
    opened = {(1, 2): frozenset({7, 8}), (1, 3): frozenset({9}), (1, 4): frozenset({9})}
    seen = replace(
        running(STATE),
        outdated={ProcessRef(1, 2): "b1 -> b2", ProcessRef(1, 1): "b0 -> b2"},
        store=ObservedStore({ModelName("a"): repo}, open=opened),
        templates={},
    )
    whole = replace(taken(STATE, seen), disk=ObservedDisk(1, "/d", 2, 3))
    found = read(snapshot_text(whole))
    assert found.observed.outdated == seen.outdated
    assert found.observed.store.repos == seen.store.repos
    assert found.observed.store.open == {(1, 2): frozenset({7, 8}), (1, 3): frozenset({9})}
    assert (found.disk, found.host, found.at) == (whole.disk, "gpu1", NOW)
    assert found.asked == whole.asked


def test_no_secret_is_in_it() -> None:
    launch = Launch(
        InstanceName("a"), (("PASSWORD", "pw-of-a"),), SpecHash("1"), (), (), "a", "x", None, ""
    )
    seen = running(
        STATE,
        journal=Journal(last_good={InstanceName("a"): LastGood(launch, SpecHash("2"))}),
        renders={
            "ours": ObservedRender("t {{ x }}", digest="1", text="made", note=RenderNote("1")),
            "edited": ObservedRender(digest="2", text="sk-edited", note=RenderNote("1")),
            "foreign": ObservedRender(digest="2", text="sk-foreign"),
            "named": ObservedRender(digest="1", text="a\npassword: pw-x", note=RenderNote("1")),
            "keyed": ObservedRender(digest="1", text="a 'gw-key'", note=RenderNote("1")),
        },
        secrets=GatewaySecrets(keys=(GatewayKey("ann", digest_of("gw-key")),)),
    )
    url = {"source": {"url": "https://host/a.gguf?key=sk-url", "sha256": "a" * 64}}
    text = snapshot_text(taken(desired({"a": url}), seen))
    for secret in ("hf_old", "pw-of-a", "sk-edited", "sk-foreign", "sk-url", "pw-x", "gw-key"):
        assert secret not in text
    found = read(text).observed
    assert dict(found.servers[0].env)["CUDA_VISIBLE_DEVICES"] == "0"
    assert found.renders is not None
    assert [one.text for one in found.renders.values()] == ["made", None, None, None, None]


def test_a_changed_variable_that_every_server_has_is_told_as_on_the_machine() -> None:
    for value, count in (("/old", 0), ("/new", 1)):
        new = desired({"a": {"env": {"HOME": value}, "params": {"temp": "1"}}, "b": {}})
        old = server(STATE, "a", base_env=(("HOME", "/old"),))
        seen = observed(new, old, server(STATE, "b"))
        assert "/old" not in snapshot_text(taken(new, seen))
        made = assert_same(new, seen, again(taken(new, seen), new))
        assert plan_text(made).count("env.HOME: (not shown) -> (not shown)") == count


def test_a_changed_secret_is_told_as_on_the_machine() -> None:
    for value, count in (("hf_old", 0), ("hf_new", 1)):
        env = {"HF_TOKEN": value, "CUDA_VISIBLE_DEVICES": "0"}
        new = desired({"a": {"env": env, "params": {"temp": "1"}}, "b": {}})
        seen = observed(new, server(STATE, "a"), server(STATE, "b"))
        made = assert_same(new, seen, again(taken(new, seen), new))
        assert plan_text(made).count("env.HF_TOKEN: (not shown) -> (not shown)") == count


TEXT = snapshot_text(taken(STATE, running(STATE)))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("version: 1\n", "x.json is no snapshot"),
        (TEXT[:900], "this snapshot is not whole"),
        (TEXT.replace("gpu1", "gpu2"), "is not as it was written"),
        (TEXT.replace('snapshot": 1', 'snapshot": 9'), "in a form that"),
    ],
)
def test_what_is_no_whole_snapshot_says_so(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        read(text)
    assert "status --snapshot" in caught.value.hint


def test_what_no_machine_has_is_refused() -> None:
    for values in ({}, {"snapshot": {"host": 1}}):
        with pytest.raises(UsageError, match="says something that no machine has"):
            read(seal(values, SNAPSHOT))


def test_it_is_no_plan() -> None:
    assert is_snapshot(TEXT.encode())
    assert json.loads(TEXT)["made_by"]
    with pytest.raises(UsageError, match="is no saved plan"):
        read_plan_file("x", TEXT.encode())


def test_its_age() -> None:
    assert age_text(0.0, 11_520.0) == "3h12m old, of 1970-01-01 00:00 UTC"
    said = "of 1970-01-01 00:01 UTC, which is 1m00s ahead of the clock here"
    assert age_text(60.0, 0.0) == said
