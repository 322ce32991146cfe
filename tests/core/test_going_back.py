"""Going back to what served: which launch that is, and what is not tried a second time."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest
from builders import (
    SITE,
    all_files,
    desired,
    disk,
    disks,
    files_of,
    holders,
    instances,
    observed,
    plan,
    server,
    steps_of,
    stray,
)

from reconciler.core.causes import REBOOTED
from reconciler.core.desired import DesiredState
from reconciler.core.launch import LastGood, Launch, read_last_good
from reconciler.core.observed import (
    Crashes,
    FileStatus,
    Journal,
    LastExit,
    ObservedServer,
)
from reconciler.core.obstacles import launch_id
from reconciler.core.plan import Action, AwaitReady, Change, Plan, StartServer, StopServer
from reconciler.core.planner import make_plan
from reconciler.core.words import InstanceName, ModelName, Phase, SpecHash

ONE = desired({"a": {}})
SURGE = desired({"a": {"rollout": "surge"}})
AGAIN = frozenset({ModelName("a")})


def start_in(made: Plan) -> StartServer:
    [found] = [step.effect for step in made.steps if isinstance(step.effect, StartServer)]
    return found


def stops_in(made: Plan) -> list[StopServer]:
    return [step.effect for step in made.steps if isinstance(step.effect, StopServer)]


def of_instance(made: Plan) -> Change:
    return next(one for one in made.changes if one.address == "instance.a")


def test_it_is_what_served() -> None:
    held = {"env": (("A", "1"),), "base_env": (("LD_LIBRARY_PATH", "/own"), ("PATH", "/bin"))}
    started = {"command": ("/old/engine",), "argv": ("--model", "/old"), "files": "1:2:3:4"}
    old = stray("a", **started, **held, slot="b")
    start = start_in(plan(ONE, observed(ONE, old)))
    assert start.end_if_late
    assert start.fallback == replace(
        start.launch,
        env=(("LD_LIBRARY_PATH", "/own"), ("PATH", "/bin"), ("A", "1")),
        spec_hash=old.spec,
        command=old.command,
        argv=old.argv,
        slot="b",
        address=old.address,
        files=old.files,
        weights=(),
    )
    [stop] = stops_in(plan(ONE, observed(ONE, old)))
    assert stop.last_good == LastGood(start.fallback, start.launch.spec_hash)


def test_it_is_what_gives_no_answer_unless_something_else_served_before() -> None:
    """A server with more requests than threads answers nobody, /health neither."""
    silent = stray("a", phase=Phase.UNHEALTHY)
    start = start_in(plan(ONE, observed(ONE, silent)))
    assert start.fallback
    assert start.fallback.spec_hash == silent.spec
    before = replace(start.fallback, spec_hash=SpecHash("before"))
    journal = Journal(last_good={InstanceName("a"): LastGood(before, silent.spec)})
    seen = observed(ONE, silent, journal=journal)
    assert start_in(plan(ONE, seen)).fallback == before


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


# ---- after a run that was killed between the stop of the old one and the readiness of the new one

OLD = stray("a", command=("/old/engine",), argv=("--model", "/old"), files="1:2:3:4")
NEW = instances(ONE)["a"].spec.hash
A = InstanceName("a")


def noted(
    failed: str = "", tried: SpecHash = NEW, spec: SpecHash = OLD.spec, *, began: bool = False
) -> Journal:
    """What that run left: the old one's launch."""
    start = start_in(plan(ONE, observed(ONE, OLD)))
    assert start.fallback
    launch = replace(start.fallback, spec_hash=spec)
    return Journal(last_good={A: LastGood(launch, tried, failed, began)})


def old_launch() -> Launch:
    return noted().last_good[A].launch


def died(reason: str = "no memory") -> dict[InstanceName, LastExit]:
    return {A: LastExit(5.0, reason, SpecHash(""), seen=False)}


@pytest.mark.parametrize(
    "live",
    [None, stray("a", spec=SpecHash("3" * 12), phase=Phase.STARTING)],
    ids=["nothing runs", "a third one loads"],
)
def test_the_new_one_is_tried_with_the_old_one_to_go_back_to(live: ObservedServer | None) -> None:
    made = plan(ONE, observed(ONE, *([live] if live else []), journal=noted()))
    start = start_in(made)
    assert (start.launch.spec_hash, start.fallback) == (NEW, old_launch())
    assert start.end_if_late
    wanted = [LastGood(old_launch(), NEW)] if live else []
    assert [stop.last_good for stop in stops_in(made)] == wanted


def test_the_old_one_is_gone_back_to_on_its_new_port() -> None:
    state = desired({"a": {"port": 8005}})
    start = start_in(plan(state, observed(state, journal=noted(tried=SpecHash("x")))))
    assert start.fallback == replace(old_launch(), public_port=8005)


def test_one_that_loads_is_waited_for_and_then_gone_back_from() -> None:
    loading = server(ONE, "a", phase=Phase.STARTING, routed=False)
    [step] = plan(ONE, observed(ONE, loading, journal=noted())).steps
    assert isinstance(step.effect, AwaitReady)
    assert (step.effect.fallback, step.effect.end_if_late) == (LastGood(old_launch(), NEW), True)


@pytest.mark.parametrize("others", [(), (stray("a"),)], ids=["alone", "beside the old one"])
def test_one_that_got_ready_is_proven_before_anything_else(
    others: tuple[ObservedServer, ...],
) -> None:
    """Else its end, months later, would pass for that of a version that was tried in vain."""
    seen = observed(ONE, server(ONE, "a"), *others, journal=noted())
    made = plan(ONE, seen)
    [wait] = [one.effect for one in made.steps if isinstance(one.effect, AwaitReady)]
    assert wait.fallback == (None if others else LastGood(old_launch(), NEW))
    assert not wait.is_back
    change = of_instance(made)
    assert change.action is Action.ADOPT
    assert change.reason.startswith("ready, and not noted yet")


@pytest.mark.parametrize(
    "journal",
    [Journal(), noted(tried=SpecHash("3" * 12)), noted(spec=NEW)],
    ids=["nothing is noted", "another one was tried", "it is gone back to"],
)
def test_one_that_is_proven_is_left_alone(journal: Journal) -> None:
    assert not plan(ONE, observed(ONE, server(ONE, "a"), journal=journal)).steps


def test_what_is_served_by_another_copy_needs_no_going_back() -> None:
    loading = server(SURGE, "a", phase=Phase.STARTING, routed=False, slot="b")
    seen = observed(SURGE, loading, stray("a"), journal=noted())
    waits = [one.effect for one in plan(SURGE, seen).steps if isinstance(one.effect, AwaitReady)]
    assert [(one.end_if_late, one.fallback) for one in waits] == [(True, None)]


FAILED = (
    "this version was tried, and failed: no memory; `llm-reconcile restart a` tries it once more"
)


def test_one_that_failed_is_left_for_the_old_one() -> None:
    begun = noted(began=True)
    for special in ({"journal": noted("no memory")}, {"journal": begun, "deaths": died()}):
        made = plan(ONE, observed(ONE, **special))
        given_up = LastGood(old_launch(), NEW, "no memory")
        assert start_in(made) == StartServer(old_launch(), 600.0, given_up=given_up)
        assert start_in(made).is_back
        change = of_instance(made)
        assert (change.action, change.blocked) == (Action.CREATE, FAILED)
        assert change.reason == "what served before is started again"
        assert (made.summary.add, made.summary.blocked, made.summary.unchanged) == (1, 1, 0)


@pytest.mark.parametrize(
    ("ended", "next_at", "starts"),
    [(SpecHash(""), 110.0, False), (SpecHash(""), 100.0, True), (NEW, 110.0, True)],
    ids=["it waits", "its wait is over", "the new one ended"],
)
def test_an_old_one_that_ends_too_waits_like_any_other(
    ended: SpecHash, next_at: float, *, starts: bool
) -> None:
    """Else a crash of what served before would be a loop without any wait."""
    launch = launch_id(instances(ONE)["a"], observed(ONE))
    crashes = {A: Crashes(launch, count=2, at=100.0, reason="SIGSEGV", next_at=next_at)}
    exits = {A: LastExit(100.0, "SIGSEGV", ended)}
    journal = replace(noted("no memory"), crashes=crashes, last_exits=exits)
    made = plan(ONE, observed(ONE, journal=journal, now=100.0))
    assert bool(made.steps) is starts
    assert of_instance(made).blocked


def test_an_operator_may_try_it_again() -> None:
    made = make_plan(ONE, SITE, observed(ONE, journal=noted("no memory")), restart=AGAIN)
    assert (start_in(made).launch.spec_hash, start_in(made).fallback) == (NEW, old_launch())


@pytest.mark.parametrize(
    "special",
    [
        {"journal": noted("no memory", SpecHash("f" * 12))},
        {"journal": noted(began=True), "deaths": died(REBOOTED.reason)},
        {"journal": noted(), "deaths": died()},
        {"journal": noted("no memory", spec=NEW)},
    ],
    ids=["another version", "the machine went down", "what served died", "it is what is wanted"],
)
def test_that_is_no_failure_of_this_version(special: dict[str, object]) -> None:
    made = plan(ONE, observed(ONE, **special))
    assert not made.blocked
    assert start_in(made).launch.spec_hash == NEW


@pytest.mark.parametrize(
    "live",
    [
        replace(OLD, phase=Phase.STARTING, routed=False),
        replace(OLD, routed=False),
        stray("a", spec=SpecHash("3" * 12), routed=False),
    ],
    ids=["loads", "is not routed", "another one is not routed"],
)
def test_an_old_one_that_was_started_again_is_waited_for(live: ObservedServer) -> None:
    made = plan(ONE, observed(ONE, live, journal=noted("no memory")))
    [step] = made.steps
    assert step.effect == AwaitReady(A, live.ref, live.address, 600.0, is_back=True)
    change = of_instance(made)
    assert (change.action, change.blocked) == (Action.ADOPT, FAILED)
    assert change.reason == "what served before is to serve again"


@pytest.mark.parametrize(
    "live",
    [OLD, stray("a", spec=SpecHash("3" * 12)), replace(OLD, phase=Phase.UNHEALTHY)],
    ids=["serves again", "yet another one", "is silent"],
)
def test_else_it_stays_as_it_is(live: ObservedServer) -> None:
    made = plan(ONE, observed(ONE, live, journal=noted("no memory")))
    assert made.steps == ()
    assert of_instance(made).blocked == FAILED


def test_what_is_blocked_for_another_reason_is_gone_back_from_too() -> None:
    state = desired({"a": {"port": 8001}}, gateway=False)
    old = stray("a", address="127.0.0.1:8001")
    [stop] = stops_in(plan(state, observed(state, old)))
    assert stop.last_good
    journal = Journal(last_good={A: replace(stop.last_good, began=True)})
    made = plan(state, observed(state, journal=journal, ports=holders(8001)))
    assert start_in(made).launch.spec_hash == old.spec
    assert start_in(made).given_up == stop.last_good
    failed = replace(stop.last_good, tried=SpecHash("f" * 12), failed="no memory")
    seen = observed(state, journal=Journal(last_good={A: failed}), ports=holders(8001))
    assert start_in(plan(state, seen)).given_up == failed
    # From a port to a socket there is no way back.
    assert start_in(plan(ONE, observed(ONE, journal=journal))).fallback is None


# ---- after a run that was killed while it drained the old one


def test_one_that_was_being_drained_serves_on_where_it_cannot_be_replaced() -> None:
    state = desired({"a": {"port": 8001}})
    drained = stray("a", routed=False)
    seen = observed(state, drained, ports=holders(8001))
    made = plan(state, seen)
    [step] = made.steps
    assert step.effect == AwaitReady(A, drained.ref, drained.address, 600.0, is_back=True)
    assert "8001 is held by" in of_instance(made).blocked
    # Nobody is sent to one that does no work, or loads.
    assert not plan(state, replace(seen, wedged={drained.ref: "it is stuck"})).steps
    assert not plan(state, replace(seen, servers=(replace(drained, phase=Phase.STARTING),))).steps


@pytest.mark.parametrize(
    ("rollout", "stop", "start"),
    [("recreate", "<1,3", "<1,2,3"), ("surge", "<1,3,4", "<1,3")],
)
def test_one_that_was_being_drained_serves_on_while_files_come(
    rollout: str, stop: str, start: str
) -> None:
    hub = {"source": {"repo": "o/m"}, "quant": "Q4_K_M", "rollout": rollout}
    state = desired({"a": hub})
    files = all_files(state, a=files_of(state.models["a"], FileStatus.MISSING))
    special = {"files": files, "disks": disks(disk(2**40), "a")}
    made = plan(state, observed(state, stray("a", routed=False), **special))
    assert steps_of(made) == [
        "1 FetchFiles model_file.a",
        f"2 StopServer instance.a {stop}",
        "3 AwaitReady instance.a",
        f"4 StartServer instance.a {start}",
    ]
    assert len(plan(state, observed(state, stray("a"), **special)).steps) == 3


def test_what_is_not_wanted_is_not_gone_back_to() -> None:
    nothing = desired({})
    assert plan(nothing, observed(nothing, journal=noted("no memory"))).steps == ()


def test_what_was_noted_is_read_again() -> None:
    [one] = noted("no memory").last_good.values()
    assert read_last_good(json.loads(json.dumps(asdict(one)))) == one
    assert Journal().keeping(A, one).last_good == {A: one}
    assert noted().keeping(A, None).last_good == {}
