"""What a saved plan stands on: what makes it stale, what does not, and how that is said."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

from builders import (
    ENGINE,
    NGINX,
    all_files,
    desired,
    files_of,
    observed,
    pin_of,
    plan,
    running,
    server,
    with_pin,
)

from reconciler.core.basis import Basis, basis_of, differences, pins_digest
from reconciler.core.desired import DesiredState
from reconciler.core.observed import FileStatus, ObservedGateway, ObservedState, ProcessRef
from reconciler.core.words import InstanceName, ModelName, Phase

A = ModelName("a")
TWO = desired({"a": {"env": {"HF_TOKEN": "hf_secret"}}, "b": {}})
HUB = desired({"a": {"source": {"repo": "org/far"}, "quant": "Q4"}})
NOTHING = observed(TWO, gateway=ObservedGateway())
DRIFT = "what the plan found of it is not what is there now"


def basis(state: DesiredState, seen: ObservedState) -> Basis:
    return basis_of(plan(state, seen), seen)


def said(state: DesiredState, before: ObservedState, after: ObservedState) -> list[str]:
    """What has changed from one machine to the other."""
    first, now = plan(state, before), plan(state, after)
    actions = {one.address: one.action for one in first.changes}
    return list(differences(basis_of(first, before), actions, basis_of(now, after), now))


def hub(status: FileStatus, came: int = 0) -> ObservedState:
    files = with_pin(files_of(HUB.models["a"], status), HUB.models["a"], None)
    shards = tuple(replace(one, came=came) for one in files.files)
    return observed(HUB, files={A: replace(files, files=shards)}, lock={})


def test_the_same_machine_is_no_difference() -> None:
    for seen in (NOTHING, running(TWO)):
        assert said(TWO, seen, seen) == []
    assert json.loads(json.dumps(asdict(basis(TWO, NOTHING)))) == asdict(basis(TWO, NOTHING))


def test_a_secret_is_no_part_of_it() -> None:
    assert "hf_secret" not in repr(basis(TWO, NOTHING))


def test_what_appears_on_an_empty_machine() -> None:
    found = said(TWO, NOTHING, replace(NOTHING, servers=(server(TWO, "a"),)))
    assert found == ["instance.a: it was to be created; now it would stay as it is (ready)"]


def test_what_came_or_went() -> None:
    seen = running(TWO)
    gone = replace(seen, servers=seen.servers[1:])
    assert said(TWO, seen, gone) == [
        "instance.a: it was to stay as it is; now it would be created (not running)"
    ]
    fresh = replace(seen, servers=(server(TWO, "a"), seen.servers[1]))
    assert said(TWO, seen, fresh) == [f"instance.a: {DRIFT}"]
    stray = replace(server(TWO, "b"), instance=InstanceName("x"))
    more = replace(seen, servers=(*seen.servers, stray))
    now = "now it would be stopped or removed (no longer in the file)"
    assert said(TWO, seen, more) == [f"instance.x: the plan says nothing of it; {now}"]
    assert said(TWO, more, seen) == [
        "instance.x: it was to be stopped or removed; by now there is nothing of it"
    ]


def test_a_server_that_got_ready_changes_nothing() -> None:
    seen = running(TWO)
    loads = replace(seen.servers[0], phase=Phase.STARTING)
    assert said(TWO, replace(seen, servers=(loads, seen.servers[1])), seen) == []


def test_the_machine_its_engine_and_nginx() -> None:
    assert said(TWO, NOTHING, replace(NOTHING, boot_id="other")) == [
        "the machine was started anew, or it is another one"
    ]
    other = replace(ENGINE, flags={**ENGINE.flags, "new": "--new"})
    assert said(TWO, NOTHING, replace(NOTHING, engine=other)) == ["the engine is another one"]
    seen = running(TWO)
    assert said(TWO, seen, replace(seen, engine=other)) == [], "nothing is to start"
    nginx = replace(seen.gateway, master=ProcessRef(51, 6))
    assert NGINX.master != nginx.master
    assert said(TWO, seen, replace(seen, gateway=nginx)) == [f"gateway: {DRIFT}"]


def test_bytes_that_came_change_nothing_and_a_whole_file_does() -> None:
    missing = hub(FileStatus.MISSING)
    assert said(HUB, missing, hub(FileStatus.MISSING, came=100)) == []
    found = said(HUB, missing, hub(FileStatus.PRESENT))
    assert any(one.startswith("model_file.a: it was to be created") for one in found)


def test_pins_are_those_that_the_plan_leads_to() -> None:
    model = HUB.models["a"]
    done = {A: pin_of(model)}
    assert basis(HUB, hub(FileStatus.MISSING)).pins == pins_digest(done)
    assert pins_digest({A: replace(done[A], facts=None)}) == pins_digest(done)
    assert pins_digest({A: replace(done[A], commit="d" * 40)}) != pins_digest(done)
    assert basis(TWO, observed(TWO, files=all_files(TWO), lock=done)).pins == pins_digest({})
