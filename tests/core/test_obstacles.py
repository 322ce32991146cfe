"""Resource guards: why one server cannot be started, with the place in the file."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from builders import ENGINE, SITE, all_files, desired, files_of, holders, observed, server, stray

from reconciler.core.desired import DesiredState
from reconciler.core.observed import FileStatus, ObservedFiles, ObservedState, PortHolder
from reconciler.core.observed_engine import FlagUsage, ObservedEngine, ValueKind
from reconciler.core.obstacles import Marks
from reconciler.core.planner import make_plan
from reconciler.core.words import ModelName
from reconciler.errors import Position


def blocked(state: DesiredState, seen: ObservedState, marks: Marks | None = None) -> dict[str, str]:
    made = make_plan(state, SITE, seen, marks)
    return {change.address: change.blocked for change in made.blocked}


def test_an_engine_that_is_not_there() -> None:
    state = desired({"a": {}})
    seen = observed(state, engine=ObservedEngine(None, reason="no llama-server on PATH"))
    assert blocked(state, seen) == {"instance.a": "no llama-server on PATH"}


@pytest.mark.parametrize("status", [FileStatus.BAD, FileStatus.UNKNOWN])
@pytest.mark.parametrize("reason", ["it is cut", ""])
def test_files_that_cannot_be_had(status: FileStatus, reason: str) -> None:
    state = desired({"a": {}})
    seen = observed(state, files=all_files(state, a=ObservedFiles(status, reason=reason)))
    assert blocked(state, seen) == {"instance.a": reason or status.value}


def test_files_that_were_not_looked_at() -> None:
    state = desired({"a": {}})
    assert blocked(state, observed(state, files={})) == {
        "instance.a": "its files were not looked at"
    }


FLAGS: dict[str, Any] = {"params": {"bogus": "1", "temp": "1"}, "args": {"--draft": "1"}}


def test_flags_are_shown_where_they_stand() -> None:
    state = desired({"a": FLAGS})
    marks: Marks = {
        ("models", "a", "params", "bogus"): Position("x.yaml", 5, 7),
        ("models", "a", "params", "temp"): Position("x.yaml", 6, 7),
        ("defaults", "args", "--draft"): Position("x.yaml", 2, 9),
    }
    bogus = "the engine (embedded) does not know the flag --bogus"
    draft = "--draft is gone from this engine: use --spec-draft"
    assert blocked(state, observed(state), marks) == {
        "instance.a": f"x.yaml:5:7: {bogus}; x.yaml:2:9: {draft}"
    }
    assert blocked(state, observed(state)) == {"instance.a": f"{bogus}; {draft}"}


def test_a_negated_flag_is_found_by_its_key() -> None:
    state = desired({"a": {"args": {"mmap": False}}})
    marks: Marks = {("models", "a", "args", "mmap"): Position("x.yaml", 5, 7)}
    assert blocked(state, observed(state), marks) == {
        "instance.a": "x.yaml:5:7: the engine (embedded) does not know the flag --no-mmap"
    }


@pytest.mark.parametrize(
    ("section", "key", "value", "said"),
    [
        ("params", "ctx_sice", "1", "--ctx-sice; did you mean `ctx_size`?"),
        ("args", "ctx-sice", "1", "--ctx-sice; did you mean `ctx-size`?"),
        ("args", "--ctx_sice", "1", "--ctx-sice; did you mean `ctx-size`?"),
        ("args", "slot", False, "--no-slot; did you mean `slots`?"),
        ("params", "no_slot", True, "--no-slot; did you mean `no_slots`?"),
    ],
)
def test_the_nearest_flag_in_the_spelling_of_its_section(
    section: str, key: str, value: Any, said: str
) -> None:
    state = desired({"a": {section: {key: value}}})
    known = {name: f"--{name}" for name in ("ctx-size", "no-slots")}
    seen = observed(state, engine=replace(ENGINE, flags=known))
    assert blocked(state, seen) == {
        "instance.a": f"the engine (embedded) does not know the flag {said}"
    }


def test_files_that_the_engine_has_no_flag_for() -> None:
    state = desired({"a": {"source": {"repo": "org/x", "mmproj": True}, "quant": "Q4"}})
    files = replace(files_of(state.models["a"]), companions={"mmproj": "/m", "model-draft": "/d"})
    seen = observed(state, files={ModelName("a"): files})
    assert blocked(state, seen) == {
        "instance.a": "the engine knows no --mmproj, which `source.mmproj` needs; "
        "the engine knows no --model-draft, which `source.draft` needs"
    }
    flags = {**ENGINE.flags, "mmproj": "--mmproj", "model-draft": "--model-draft"}
    assert blocked(state, replace(seen, engine=replace(ENGINE, flags=flags))) == {}


def test_a_value_that_the_engine_would_refuse_is_shown_where_it_stands() -> None:
    state = desired({"a": {"params": {"ctx_size": "lots"}}})
    usage = {"ctx-size": FlagUsage(ValueKind.NUMBER)}
    marks: Marks = {("models", "a", "params", "ctx_size"): Position("x.yaml", 5, 7)}
    seen = observed(state, server(desired({"a": {}}), "a"), engine=replace(ENGINE, usage=usage))
    made = make_plan(state, SITE, seen, marks)
    said = "x.yaml:5:7: --ctx-size needs a number, not `lots`"
    assert {one.address: (one.blocked, one.reason) for one in made.blocked} == {
        "instance.a": (said, "keeps running")
    }
    assert made.is_noop


def test_a_stranger_of_another_user_is_not_named() -> None:
    state = desired({"a": {"port": 8001}})
    seen = observed(state, ports={8001: PortHolder(8001, None)})
    assert blocked(state, seen) == {
        "instance.a": (
            "port 8001 is held by a process of another user: stop it, or give a another `port`"
        )
    }


def test_our_own_servers_are_no_strangers() -> None:
    state = desired({"a": {"port": 8001}}, gateway=False)
    old = stray("z", address="127.0.0.1:8001")
    assert blocked(state, observed(state, old, ports=holders(z=8001))) == {}
    assert blocked(state, observed(state, ports=holders(gateway=8001))) == {}


def test_what_runs_right_meets_no_obstacle() -> None:
    state = desired({"a": FLAGS})
    files = all_files(state, a=files_of(state.models["a"], FileStatus.BAD))
    seen = observed(state, server(state, "a"), files=files, engine=ObservedEngine(None))
    assert blocked(state, seen) == {}


def chain(count: int) -> tuple[DesiredState, ObservedState]:
    """Each model moves to the port of the one before; the first one cannot leave its own."""
    names = [f"m{number}" for number in range(count)]
    before = desired({n: {"port": 8001 + at} for at, n in enumerate(names)}, gateway=False)
    after = desired(
        {n: {"port": 8001 + at - 1 if at else 9000} for at, n in enumerate(names)}, gateway=False
    )
    servers = [server(before, name) for name in names]
    files = all_files(after, m0=files_of(after.models["m0"], FileStatus.BAD))
    return after, observed(after, *servers, files=files)


def test_a_blocked_server_blocks_all_that_wait_for_its_port() -> None:
    state, seen = chain(4)
    found = blocked(state, seen)
    assert found["instance.m1"] == "port 8001 is still held by m0, which is blocked"
    assert found["instance.m3"] == "port 8003 is still held by m2, which is blocked"
    assert make_plan(state, SITE, seen).is_noop
    free = replace(seen, servers=seen.servers[1:])
    assert set(blocked(state, free)) == {"instance.m0"}
