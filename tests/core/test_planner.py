"""Plans as a person and a script read them, and what their steps carry."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from builders import (
    SITE,
    all_files,
    desired,
    files_of,
    holders,
    instances,
    observed,
    plan,
    ports_in,
    rendered,
    running,
    server,
    steps_of,
    stray,
)
from plan_cases import BARE, CASES, FULL, HUB, NEW, NO_NGINX, ONE, SWAPPED, TWO, shown, with_files

from reconciler.core.guards import Allowed, guard
from reconciler.core.observed import FileStatus, ObservedGateway, ProcessRef
from reconciler.core.plan import (
    Action,
    ApplyGateway,
    AwaitReady,
    FetchFiles,
    Plan,
    StartServer,
    StopGateway,
    StopServer,
    Summary,
)
from reconciler.core.plan_parts import restrict, with_reason
from reconciler.core.planner import make_plan
from reconciler.core.present import plan_text, plan_values
from reconciler.core.words import ModelName, Phase

GOLDEN = Path(__file__).parent.parent / "data" / "plans.txt"


def golden() -> dict[str, str]:
    parts = GOLDEN.read_text(encoding="utf-8").split("===== ")[1:]
    return {name: text.strip("\n") for name, _, text in (part.partition("\n") for part in parts)}


@pytest.mark.parametrize("name", CASES)
def test_the_whole_text_of_a_plan(name: str) -> None:
    assert shown(name) == golden()[name]


def test_every_golden_plan_has_its_case() -> None:
    assert list(golden()) == list(CASES)


@pytest.mark.parametrize("name", CASES)
def test_nothing_to_do_is_said_exactly_when_it_is_so(name: str) -> None:
    made = plan(*CASES[name])
    assert ("No changes." in plan_text(made)) == (made.is_noop and not made.blocked)
    quiet = all(change.action is Action.NO_OP for change in made.changes)
    assert made.is_noop == (quiet and name != "blocked by a flag, two copies")


def effect_of(made: Plan, kind: type[Any]) -> Any:
    """The only effect of a kind."""
    (found,) = [step.effect for step in made.steps if isinstance(step.effect, kind)]
    return found


def test_a_launch_carries_everything() -> None:
    launch = effect_of(plan(FULL, observed(FULL)), StartServer).launch
    assert launch.command == ("/bin/engine",)
    assert launch.argv == (
        "--model",
        "/r/a.gguf",
        "--alias",
        "a",
        "--host",
        SITE.socket(launch.instance, "a"),
        "--ctx-size",
        "4096",
        "--jinja",
        "--temp",
        "0.7",
    )
    assert (launch.slot, launch.address) == ("a", f"unix:{SITE.socket(launch.instance, 'a')}")
    assert launch.public_port == 8001
    assert launch.files == "1:2:140:3"
    assert launch.spec_hash == instances(FULL)[launch.instance].spec.hash
    assert dict(launch.env) == {"HF_TOKEN": "hf_old", "A": "1"}


def test_without_a_gateway_a_server_listens_on_its_port() -> None:
    made = plan(BARE, observed(BARE, server(BARE, "b")))
    launch = effect_of(made, StartServer).launch
    assert launch.address == "127.0.0.1:8001"
    assert launch.argv[4:8] == ("--host", "127.0.0.1", "--port", "8001")


@pytest.mark.parametrize(("live", "new"), [("a", "b"), ("b", "a")])
def test_a_surge_takes_the_other_slot_and_ends_what_is_late(live: str, new: str) -> None:
    state = desired({"a": {"rollout": "surge"}})
    start = effect_of(plan(state, observed(state, stray("a", slot=live))), StartServer)
    assert start.launch.slot == new
    assert start.launch.address == f"unix:{SITE.socket(start.launch.instance, new)}"
    assert start.end_if_late
    start = effect_of(plan(ONE, observed(ONE, stray("a", slot=live))), StartServer)
    assert (start.launch.slot, start.end_if_late) == ("a", True)
    assert start.fallback.slot == live


@pytest.mark.parametrize(
    ("probe", "size", "seconds"),
    [({}, 140, 600.0), ({}, 10**11, 2000.0), ({"startup": "5s"}, 10**11, 5.0)],
)
def test_how_long_a_start_may_take(probe: dict[str, str], size: int, seconds: float) -> None:
    state = desired({"a": {"probe": probe}})
    files = all_files(state, a=files_of(state.models["a"], size=size))
    assert effect_of(plan(state, observed(state, files=files)), StartServer).startup_s == seconds
    loading = server(state, "a", phase=Phase.STARTING)
    wait = effect_of(plan(state, observed(state, loading, files=files)), AwaitReady)
    assert (wait.startup_s, wait.server) == (seconds, loading.ref)


def test_a_stop_carries_its_times_and_who_it_is_for() -> None:
    state = desired({"a": {"drain": "7s", "grace": "3s"}})
    old = stray("a")
    stop = effect_of(plan(state, observed(state, old)), StopServer)
    expected = StopServer(old.instance, old.ref, "a", old.address, 7.0, 3.0, unroute=True)
    assert replace(stop, last_good=None) == expected
    gone = effect_of(plan(desired({}), observed(desired({}), old)), StopServer)
    assert (gone.drain_s, gone.grace_s) == (300.0, 30.0)
    ending = stray("a", phase=Phase.STOPPING)
    assert effect_of(plan(state, observed(state, ending)), StopServer).drain_s == 0.0
    bare = stray("a", address="127.0.0.1:8001")
    assert not effect_of(plan(state, observed(state, bare)), StopServer).unroute


def test_a_fetch_names_the_missing_files_only() -> None:
    state = HUB
    effect = effect_of(plan(state, with_files(state, FileStatus.MISSING)), FetchFiles)
    assert (effect.source.place, effect.commit) == ("org/far@main", "c" * 40)
    assert [file.name for file in effect.files] == ["Q4.gguf"]


def test_the_most_useful_copy_is_kept() -> None:
    right = {"slot": "b", "routed": False}
    for phase in (Phase.READY, Phase.STARTING, Phase.UNHEALTHY):
        old, new = stray("a"), server(ONE, "a", phase=phase, **right)
        assert effect_of(plan(ONE, observed(ONE, old, new)), AwaitReady).server == new.ref
    both = server(ONE, "a", phase=Phase.STARTING), server(ONE, "a", **right)
    assert effect_of(plan(ONE, observed(ONE, *both)), StopServer).server == both[0].ref
    both = server(ONE, "a", routed=False), server(ONE, "a", slot="b")
    assert effect_of(plan(ONE, observed(ONE, *both)), StopServer).server == both[0].ref


def test_what_an_operator_may_not_lose_is_counted() -> None:
    made = plan(TWO, observed(TWO, stray("a"), stray("z"), server(TWO, "b", routed=False)))
    assert made.summary == Summary(add=0, change=1, replace=1, remove=1)
    assert plan(NEW, CASES["blocked by a flag, runs on"][1]).summary == Summary(blocked=1)
    assert plan(HUB, with_files(HUB, FileStatus.MISSING)).download_bytes == 5 * 2**30


# ---- the gateway


def test_a_reload_goes_to_the_master_and_a_start_ends_orphans() -> None:
    reload = effect_of(plan(*CASES["gateway: a port changed"]), ApplyGateway)
    assert (reload.master, reload.orphans) == (ProcessRef(50, 5), ())
    orphan = ProcessRef(51, 5)
    start = effect_of(plan(*CASES["gateway: master killed"]), ApplyGateway)
    assert (start.master, start.orphans) == (None, (orphan,))
    silent = plan(*CASES["gateway: silent"])
    assert effect_of(silent, StopGateway).master == ProcessRef(50, 5)
    assert effect_of(silent, ApplyGateway).master is None
    off = plan(BARE, observed(BARE, gateway=ObservedGateway(None, (orphan,))))
    assert effect_of(off, StopGateway).orphans == (orphan,)


def test_a_strangers_port_is_left_out_of_the_gateway() -> None:
    seen = running(TWO, ports=holders(8002))
    assert ports_in(rendered(TWO, seen)) == {8888, 8001}
    assert ports_in(rendered(TWO, running(TWO))) == {8888, 8001, 8002}


def test_the_port_of_a_blocked_server_is_left_out_too() -> None:
    made = plan(*CASES["gateway: on, one is blocked"])
    assert ports_in(effect_of(made, ApplyGateway).rendered) == {8888, 8002}
    assert steps_of(made)[-2:] == ["2 ApplyGateway gateway <1", "3 StartServer instance.b <1"]


def test_a_blocked_server_may_hold_the_gateways_own_port() -> None:
    bare = desired({"a": {"port": 8888}, "b": {"port": 8002}}, gateway=False)
    seen = with_files(TWO, FileStatus.BAD, server(bare, "a"), server(bare, "b"))
    made = make_plan(TWO, SITE, replace(seen, gateway=NO_NGINX))
    said = {change.address: change.blocked for change in made.blocked}
    taken = "port 8888 is still held by a, which is blocked"
    assert said["gateway"] == taken
    assert said["instance.b"] == f"the gateway is blocked: {taken}"
    assert made.is_noop


def test_without_a_gateway_wanted_or_running_nothing_is_said_of_it() -> None:
    made = plan(BARE, observed(BARE))
    assert "gateway" not in {change.address for change in made.changes}


# ---- a part of a plan


def only(made: Plan, *models: str) -> Plan:
    return restrict(made, frozenset(ModelName(name) for name in models))


def test_a_part_of_a_plan_holds_its_models_and_a_missing_gateway() -> None:
    made = only(plan(TWO, observed(TWO, gateway=NO_NGINX)), "b")
    assert {change.address for change in made.changes} == {
        "gateway",
        "instance.b",
        "model_file.b",
    }
    assert steps_of(made) == ["1 ApplyGateway gateway", "3 StartServer instance.b"]
    assert not only(plan(*CASES["gateway: a port changed"]), "a").steps
    assert only(plan(HUB, with_files(HUB, FileStatus.MISSING)), "a").download_bytes


def test_a_part_that_needs_others_first_is_blocked_and_says_so() -> None:
    whole = plan(SWAPPED, observed(SWAPPED, server(BARE, "a"), server(BARE, "b")))
    assert only(whole, "a", "b") == whole
    part = only(whole, "a")
    assert part.is_noop
    assert plan_text(part).splitlines()[0] == (
        "  ! instance.a                       blocked: instance.b has to change first: "
        "`apply` does all of it"
    )
    assert part.summary == Summary(blocked=1)
    off = only(plan(*CASES["gateway: off"]), "a")
    assert [change.blocked for change in off.blocked] == [
        "gateway has to change first: `apply` does all of it"
    ]
    on = only(plan(*CASES["gateway: on"]), "a")
    assert {change.address for change in on.blocked} == {"gateway"}
    assert steps_of(on) == ["1 StopServer instance.a", "4 StartServer instance.a <1"]


def test_what_needs_a_blocked_part_is_blocked_too() -> None:
    three = desired({name: {"port": 8001 + at} for at, name in enumerate("bca")}, gateway=False)
    before = desired({name: {"port": 8001 + at} for at, name in enumerate("abc")}, gateway=False)
    whole = plan(three, observed(three, *(server(before, name) for name in "abc")))
    assert {change.address for change in only(whole, "a", "b").blocked} == {
        "instance.a",
        "instance.b",
    }


def test_another_reason_for_all_that_is_removed() -> None:
    made = with_reason(plan(desired({}), running(desired({}), servers=(stray("a"),))), "down")
    assert [change.reason for change in made.changes if change.name == "a"] == ["down"]
    assert with_reason(plan(ONE, running(ONE)), "down") == plan(ONE, running(ONE))


# ---- as JSON


def test_json_form() -> None:
    state, seen = CASES["replace with other files"]
    made = plan(state, seen)
    assert plan_values(made, guard(made, state, seen, Allowed())) == {
        "format_version": "1.0",
        "resource_changes": [
            _values("gateway", "gateway", ["no-op"], "serves this configuration"),
            _values(
                "instance.a",
                "instance",
                ["delete", "create"],
                "its launch changed",
                change={
                    "before": {"model": "/r/a.gguf"},
                    "after": {"model": "/r/models/org/far/Q4.gguf"},
                    "replace_paths": ["model"],
                },
                depends_on=["model_file.a"],
                drain=300.0,
                memory=5 * 2**30,
            ),
            _values(
                "model_file.a",
                "model_file",
                ["create"],
                "not on disk",
                change={
                    "after": {"commit": "c" * 40, "path": "/r/models/org/far/Q4.gguf"},
                },
                download=5 * 2**30,
            ),
        ],
        "resource_drift": [],
        "guards": [],
        "disks": [],
        "summary": {
            "add": 0,
            "change": 0,
            "replace": 1,
            "remove": 0,
            "unchanged": 0,
            "blocked": 0,
        },
    }


def _values(
    address: str,
    kind: str,
    actions: list[str],
    reason: str,
    *,
    change: dict[str, Any] | None = None,
    depends_on: list[str] | None = None,
    download: int = 0,
    drain: float | None = None,
    memory: int | None = None,
) -> dict[str, Any]:
    whole = {"actions": actions, "before": None, "after": None, "replace_paths": []}
    return {
        "address": address,
        "type": kind,
        "name": address.partition(".")[2] or "gateway",
        "change": {**whole, **(change or {})},
        "action_reason": reason,
        "blocked": None,
        "depends_on": depends_on or [],
        "impact": {
            "download_bytes": download,
            "verify_bytes": 0,
            "freed_bytes": 0,
            "drain_s": drain,
            "downtime_s": None,
            "hold_s": None,
            "memory_bytes": memory,
        },
    }


@pytest.mark.parametrize(("rollout", "action"), [("recreate", "-/+"), ("surge", "+/-")])
def test_a_restart_replaces_by_the_rollout_and_says_so(rollout: str, action: str) -> None:
    state = desired({"a": {"rollout": rollout}, "b": {}})
    made = make_plan(state, SITE, running(state), restart=frozenset({ModelName("a")}))
    line = plan_text(made).splitlines()[0]
    assert line.split() == [action, "instance.a", *["a", "restart", "was", "asked", "for"]]
    assert {step.address for step in made.steps} == {"instance.a"}


def test_another_build_of_the_engine_is_told_and_taken_only_on_demand() -> None:
    said = "engine changed: it runs an older build"
    state = desired({"a": {}, "b": {}})
    a, b = running(state).servers
    seen = observed(state, a, b, outdated={a.ref: said})
    made = plan(state, seen)
    assert made.is_noop
    assert {one.address: one.drift for one in made.changes if one.drift} == {
        "instance.a": f"{said}; `restart` takes the new one"
    }
    state = desired({"a": {}, "b": {}}, engine={"on_change": "replace"})
    made = plan(state, seen)
    assert {one.name: one.reason for one in made.changes if one.action is Action.REPLACE} == {
        "a": said
    }


def test_json_tells_drift_blocks_and_guards() -> None:
    state, seen = CASES["drift of a file"]
    assert plan_values(plan(state, seen))["resource_drift"] == [
        {
            "address": "instance.a",
            "type": "instance",
            "reason": "its weights on disk are not the ones it loaded; "
            "`restart` takes the new ones",
        }
    ]
    state, seen = CASES["removed"]
    made = plan(state, seen)
    assert plan_values(made, guard(made, state, seen, Allowed()))["guards"] == [
        {
            "name": "too many stops",
            "message": "1 of 1 running instances would be stopped: nothing would be left running",
            "flag": "--allow-destroy 1",
            "answer": "1",
        }
    ]
