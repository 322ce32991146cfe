"""`status`: rows and JSON from what was seen and what the plan says."""

from __future__ import annotations

from dataclasses import replace

import pytest
from builders import NGINX, desired, holders, instances, observed, plan, running, server, stray
from plan_cases import DIED, NO_NGINX, ONE, STOPPED, TWO

from reconciler.core.desired import DesiredState
from reconciler.core.observed import (
    Journal,
    LastExit,
    ObservedGateway,
    ObservedState,
    PortHolder,
    ProcessRef,
)
from reconciler.core.obstacles import ONCE_MORE
from reconciler.core.status import (
    InstanceRow,
    gateway_phase,
    gateway_trouble,
    instance_rows,
    remarks,
    status_values,
)
from reconciler.core.suspension import Suspension
from reconciler.core.words import InstanceName, ModelName, Phase

Seen = tuple[DesiredState, ObservedState]
SURGE = desired({"a": {"rollout": "surge"}})
FAILED = Journal(
    last_exits={InstanceName("a"): LastExit(1.0, "no memory", instances(ONE)["a"].spec.hash)}
)


def rows(state: DesiredState, seen: ObservedState) -> tuple[InstanceRow, ...]:
    return instance_rows(state, seen, plan(state, seen))


def test_a_row_has_all_fields() -> None:
    state = desired(
        {
            "a": {
                "source": {"repo": "org/far"},
                "quant": "Q4",
                "aliases": ("x", "y"),
                "port": 8001,
                "replicas": 2,
            }
        }
    )
    one = server(state, "a[1]", ref=ProcessRef(7, 9), since=3.5, memory_bytes=10)
    assert rows(state, observed(state, one))[1] == InstanceRow(
        name="a[1]",
        model="a",
        replica=1,
        phase=Phase.READY,
        pid=7,
        port=8001,
        quant="Q4",
        alias=["x", "y"],
        restarts=None,
        since=3.5,
        reason="",
        next="",
        memory_bytes=10,
        spec=one.spec,
    )


STARTS = "apply starts it"
MENDS = "apply tries again once that is mended"
HELD = "port 8001 is held by pid 77 (sleep 1)"
CASES: dict[str, tuple[Seen, Phase, str, str]] = {
    "absent": ((ONE, observed(ONE)), Phase.ABSENT, "not running", STARTS),
    "exited": (
        (ONE, observed(ONE, journal=DIED)),
        Phase.EXITED,
        "exited: not enough memory",
        STARTS,
    ),
    "blocked": (
        (ONE, observed(ONE, ports=holders(8001))),
        Phase.BLOCKED,
        f"{HELD}: stop it, or give a another `port`",
        MENDS,
    ),
    "blocked and running": (
        (ONE, observed(ONE, stray("a"), ports=holders(8001))),
        Phase.READY,
        f"{HELD}: stop it, or give a another `port`",
        MENDS,
    ),
    "suspended": (
        (ONE, observed(ONE, journal=STOPPED)),
        Phase.SUSPENDED,
        "suspended by `stop`: too hot",
        "`llm-reconcile start a` ends it",
    ),
    "suspended and running": (
        (ONE, running(ONE, journal=Journal(suspended={ModelName("a"): Suspension(1.0)}))),
        Phase.READY,
        "suspended by `stop`",
        "`llm-reconcile start a` ends it",
    ),
    "loading": (
        (ONE, observed(ONE, server(ONE, "a", phase=Phase.STARTING))),
        Phase.STARTING,
        "still loading",
        "apply waits for it",
    ),
    "not routed": (
        (ONE, observed(ONE, server(ONE, "a", routed=False))),
        Phase.READY,
        "not routed",
        "apply sends it requests",
    ),
    "other launch": (
        (ONE, observed(ONE, stray("a"))),
        Phase.READY,
        "its launch changed",
        "apply replaces it",
    ),
    "other launch, surge": (
        (SURGE, observed(SURGE, stray("a"))),
        Phase.READY,
        "its launch changed",
        "apply replaces it",
    ),
    "not wanted": (
        (desired({}), observed(desired({}), stray("a"))),
        Phase.READY,
        "no longer in the file",
        "apply stops it",
    ),
    "second copy": (
        (ONE, observed(ONE, server(ONE, "a"), stray("a", slot="b", routed=False))),
        Phase.READY,
        "ready, its second copy is stopped",
        "apply stops its second copy",
    ),
    "blocked, but it runs": (
        (ONE, running(ONE, ports=holders(8001))),
        Phase.READY,
        f"{HELD}: stop it, or give a another `port`",
        "apply tries again once that is mended",
    ),
    "tried, and failed": (
        (ONE, observed(ONE, stray("a"), journal=FAILED)),
        Phase.READY,
        f"this version was tried, and failed: no memory; `llm-reconcile restart a` {ONCE_MORE}",
        "",
    ),
    "drift": (
        (ONE, observed(ONE, server(ONE, "a", files="1:2:3:4"))),
        Phase.READY,
        "its weights on disk are not the ones it loaded; `restart` takes the new ones",
        "",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_phase_reason_and_what_comes_next(name: str) -> None:
    (state, seen), phase, reason, follows = CASES[name]
    (row,) = rows(state, seen)
    assert (row.phase, row.reason, row.next) == (phase, reason, follows)


@pytest.mark.parametrize("routed_first", [True, False])
def test_of_two_copies_the_routed_one_is_shown(routed_first: bool) -> None:
    old, new = stray("a"), server(ONE, "a", slot="b", routed=False)
    (row,) = rows(ONE, observed(ONE, *((old, new) if routed_first else (new, old))))
    assert row.pid == old.ref.pid


def test_a_server_that_is_not_in_the_file_has_no_port() -> None:
    (row,) = rows(desired({}), observed(desired({}), stray("a")))
    assert (row.port, row.quant, row.alias) == (None, None, [])


def test_what_is_said_below_the_table() -> None:
    """One reason is a sentence, several are a list, and what is as wanted is not spoken of."""
    state = desired({"a": {}, "b": {"port": 8002}, "c": {}})
    seen = observed(state, server(state, "a"), ports=holders(8002))
    made = plan(state, seen)
    found = instance_rows(state, seen, made)
    one, other = remarks(found, made)
    assert one.startswith("b: ")
    assert one.endswith("; apply tries again once that is mended.")
    assert other == "c: not running; apply starts it."
    reasons = ("no such file", "no such flag")
    many = replace(
        made,
        changes=tuple(
            replace(change, obstacles=reasons) if change.name in {"b", "c"} else change
            for change in made.changes
        ),
    )
    assert remarks(found, many) == [
        f"b: blocked for 2 reasons; {MENDS}:\n  - no such file\n  - no such flag",
        "c: blocked for 2 reasons; apply starts it:\n  - no such file\n  - no such flag",
    ]
    silent = (replace(found[1], next=""),)
    assert remarks(silent, many)[0].startswith("b: blocked for 2 reasons:\n")


def test_json_of_a_machine_that_is_as_wanted() -> None:
    seen = running(TWO)
    values = status_values(TWO, seen, plan(TWO, seen))
    assert list(values) == ["converged", "instances", "gateway", "drift", "suspended"]
    assert values["converged"] is True
    assert values["gateway"] == {
        "phase": Phase.READY,
        "listen": "127.0.0.1:8888",
        "generation": seen.gateway.generation,
    }
    assert (values["drift"], values["suspended"]) == ([], [])
    instances = values["instances"]
    assert isinstance(instances, list)
    assert [one["name"] for one in instances] == ["a", "b"]
    assert list(instances[0]) == list(InstanceRow.__dataclass_fields__)


def test_json_of_a_machine_that_is_not() -> None:
    seen = observed(
        TWO,
        server(TWO, "b", files="1:2:3:4"),
        journal=STOPPED,
        gateway=NO_NGINX,
    )
    values = status_values(TWO, seen, plan(TWO, seen))
    assert values["converged"] is False
    assert values["suspended"] == ["a"]
    drift = values["drift"]
    assert isinstance(drift, list)
    assert [one["address"] for one in drift] == ["instance.b"]


def test_blocked_is_not_converged() -> None:
    seen = observed(ONE, ports=holders(8001))
    assert plan(ONE, seen).is_noop
    assert status_values(ONE, seen, plan(ONE, seen))["converged"] is False


def test_no_gateway() -> None:
    state = desired({}, gateway=False)
    for gateway, phase in ((NO_NGINX, Phase.ABSENT), (NGINX, Phase.UNHEALTHY)):
        seen = observed(state, gateway=gateway)
        shown = status_values(state, seen, plan(state, seen))["gateway"]
        assert shown == {"phase": phase, "listen": None, "generation": None}


def test_phases_of_the_gateway() -> None:
    good = running(ONE)
    orphans = ObservedGateway(None, (ProcessRef(9, 9),))
    for seen, phase in (
        (good, Phase.READY),
        (replace(good, gateway=NGINX), Phase.UNHEALTHY),
        (replace(good, gateway=orphans), Phase.UNHEALTHY),
        (replace(good, gateway=NO_NGINX), Phase.ABSENT),
        (replace(good, gateway=NO_NGINX, nginx=()), Phase.BLOCKED),
    ):
        assert gateway_phase(seen, plan(ONE, seen)) is phase


def test_what_is_not_as_wanted_about_nginx() -> None:
    taken = PortHolder(8888, 7, "x", root="/other")
    assert str(taken) == "port 8888 is held by the gateway of /other (nginx, pid 7)"
    for seen, trouble in (
        (running(ONE), ""),
        (observed(desired({}, gateway=False)), ""),
        (running(ONE, gateway=NO_NGINX), "not running"),
        (
            running(ONE, gateway=NO_NGINX, ports={8888: taken}),
            f"{taken}: stop it, or change `gateway.listen`",
        ),
    ):
        state = ONE if seen.servers else desired({}, gateway=False)
        assert gateway_trouble(plan(state, seen)) == trouble


def test_the_processes_of_a_server() -> None:
    one = server(ONE, "a", ref=ProcessRef(7, 1), helpers=(8, 9))
    assert one.pids == (7, 8, 9)
