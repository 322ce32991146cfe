"""What is not as it was applied: each kind is told, and what only loads or was wished is none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from builders import (
    SITE,
    all_files,
    desired,
    files_of,
    holders,
    observed,
    plan,
    rendered,
    running,
    server,
    stray,
    with_pin,
)

from reconciler.core.desired import DesiredState
from reconciler.core.drift import Drift, drift_lines, drift_of, drift_values
from reconciler.core.observed import FileStatus, Journal, ObservedServer, ObservedState
from reconciler.core.observed_engine import ObservedEngine
from reconciler.core.suspension import Suspension
from reconciler.core.words import Generation, ModelName, Phase

A = ModelName("a")
STATE = desired({"a": {"port": 8001, "params": {"temp": "0.7"}}, "b": {}})
OTHER = desired({"a": {"port": 8001, "params": {"temp": "0.1"}}, "b": {}})
BARE = desired({"a": {"port": 8001}}, gateway=False)
SEEN = running(STATE)
UNTOUCHED: Mapping[str, str] = MappingProxyType({})


def drift(
    seen: ObservedState,
    state: DesiredState = STATE,
    edited: Mapping[str, str] = UNTOUCHED,
) -> tuple[Drift, ...]:
    """With nginx's files as they were written, but for those that were edited."""
    lies = rendered(state, seen).files if state.gateway else {}
    return drift_of(state, SITE, seen, plan(state, seen), {**lies, **edited})


def said(seen: ObservedState, state: DesiredState = STATE) -> dict[str, str]:
    return {one.address: one.reason for one in drift(seen, state)}


def beside(one: ObservedServer) -> ObservedState:
    """The same machine with another server of `a`."""
    return replace(SEEN, servers=(one, SEEN.servers[1]))


def test_as_it_was_applied() -> None:
    assert drift(SEEN) == ()
    assert drift_lines((), "desired/x.yaml") == [
        "No drift: all is as it was applied from desired/x.yaml."
    ]
    since = "Since then a, b were applied in part; this is against the last whole apply."
    assert drift_lines((), "f", {"b", "a"})[-1] == since
    assert said(beside(replace(SEEN.servers[0], phase=Phase.STARTING))) == {}
    # What the lock file lacks is the next apply's matter.
    hub = desired({"a": {"source": {"repo": "org/far"}, "quant": "Q4"}})
    pinned = {A: with_pin(files_of(hub.models["a"]), hub.models["a"], None)}
    seen = observed(hub, server(hub, "a"), files=pinned, lock={})
    assert [one.address for one in plan(hub, seen).changes if one.action != "no-op"] == ["lock"]
    assert said(seen, hub) == {}


def test_servers() -> None:
    assert said(replace(SEEN, servers=SEEN.servers[1:])) == {"instance.a": "not running"}
    lost = replace(SEEN.servers[0], routed=False)
    assert said(beside(lost)) == {"instance.a": "not routed"}
    more = replace(SEEN, servers=(*SEEN.servers, stray("x")))
    assert said(more) == {"instance.x": "it runs, and what was applied does not want it"}
    other = drift(beside(server(OTHER, "a")))
    assert other[0].reason == "it is not what was applied"
    assert drift_lines(other, "f") == [
        "  ! instance.a                       it is not what was applied",
        "      params.temp: 0.1 -> 0.7  # forces restart",
        "",
        "Drift: 1 resource not as applied from f.",
    ]
    assert drift_values(other)[0]["details"] == [
        {"path": "params.temp", "before": "0.1", "after": "0.7", "forces_restart": True}
    ]


def test_flags_that_are_not_those_of_the_label() -> None:
    argv = tuple("0.9" if word == "0.7" else word for word in SEEN.servers[0].argv)
    liar = replace(SEEN.servers[0], argv=argv)
    assert said(beside(liar)) == {"instance.a": "it runs with other flags"}
    # Without an engine, or its files, there is no telling what its flags should be.
    assert said(replace(beside(liar), engine=ObservedEngine(None))) == {}
    bad = files_of(STATE.models["a"], FileStatus.BAD)
    told = said(replace(beside(liar), files=all_files(STATE, a=bad)))
    assert "could not be started again" in told["instance.a"]


def test_what_others_did() -> None:
    stopped = Journal(suspended={A: Suspension(1.0, "too hot")})
    seen = replace(SEEN, journal=stopped, servers=SEEN.servers[1:])
    assert said(seen)["instance.a"].startswith("suspended by `stop`: too hot")
    held = observed(BARE, ports=holders(8001))
    assert "port 8001 is held by pid 77" in said(held, BARE)["instance.a"]
    edited = drift(SEEN, STATE, {"nginx.conf": "edited"})
    assert edited[0].reason == "edited by hand: nginx.conf; a reload would read that"
    gone = drift_of(STATE, SITE, SEEN, plan(STATE, SEEN), {})
    assert gone[0].reason.startswith("edited by hand: nginx.conf, outline.json")


def test_another_configuration_of_nginx_is_told_once() -> None:
    seen = replace(SEEN, gateway=replace(SEEN.gateway, generation=Generation("0" * 12)))
    assert list(said(seen)) == ["gateway"]
    assert [one.address for one in drift(seen, STATE, {"nginx.conf": "edited"})] == ["gateway"]
    # nginx runs something that cannot be judged: it is blocked, and that is told already.
    broken = replace(seen, nginx=(), nginx_reason="no nginx was found")
    assert said(broken) == {"gateway": "no nginx was found"}
