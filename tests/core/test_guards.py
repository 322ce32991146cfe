"""What refuses a whole plan: each guard, just below and just above its limit."""

from __future__ import annotations

from typing import Any

import pytest
from builders import (
    NGINX,
    all_files,
    desired,
    disk,
    disks,
    files_of,
    observed,
    plan,
    running,
    server,
    stray,
)

from reconciler.core.desired import DesiredState
from reconciler.core.guards import Allowed, flags_of, guard
from reconciler.core.observed import FileStatus, Journal, ObservedGateway, ObservedState
from reconciler.core.plan import Guard
from reconciler.core.suspension import Suspension
from reconciler.core.words import ModelName, Phase

EMPTY = desired({})


def many(count: int, **each: Any) -> DesiredState:
    return desired({f"m{number}": each for number in range(count)})


def refuse(
    state: DesiredState, seen: ObservedState, allowed: Allowed | None = None
) -> tuple[Guard, ...]:
    return guard(plan(state, seen), state, seen, allowed or Allowed())


def names(found: tuple[Guard, ...]) -> list[str]:
    return [one.name for one in found]


def test_no_change_no_guard() -> None:
    assert refuse(many(9), running(many(9))) == ()


def test_the_last_one_is_not_stopped() -> None:
    seen = observed(EMPTY, stray("a"))
    assert refuse(EMPTY, seen) == (
        Guard(
            "too many stops",
            "1 of 1 running instances would be stopped: nothing would be left running",
            "--allow-destroy 1",
            "1",
        ),
    )
    assert refuse(EMPTY, seen, Allowed(destroy=1)) == ()


def test_models_empty_stops_nothing() -> None:
    seen = running(many(20))
    (found,) = refuse(EMPTY, seen)
    assert found.message.startswith("20 of 20 running instances would be stopped: nothing")
    assert names(refuse(EMPTY, seen, Allowed(destroy=19))) == ["too many stops"]
    assert refuse(EMPTY, seen, Allowed(destroy=20)) == ()


@pytest.mark.parametrize(
    ("running_count", "stops", "refused"),
    [
        (2, 1, False),
        (3, 2, True),
        (6, 2, True),
        (7, 2, False),
        (10, 3, False),
        (10, 4, True),
        (20, 6, False),
        (20, 7, True),
    ],
)
def test_too_many_stops(running_count: int, stops: int, refused: bool) -> None:
    before = many(running_count)
    after = many(running_count - stops)
    found = refuse(after, observed(after, *running(before).servers))
    assert names(found) == ["too many stops"] * refused
    if refused:
        assert found[0].message == (
            f"{stops} of {running_count} running instances would be stopped: that is more than 30 %"
        )
        allowed = Allowed(destroy=stops)
        assert refuse(after, observed(after, *running(before).servers), allowed) == ()


@pytest.mark.parametrize(
    ("running_count", "replaced", "refused"),
    [(1, 1, False), (2, 2, False), (3, 3, True), (9, 3, True), (10, 3, False), (10, 4, True)],
)
@pytest.mark.parametrize("rollout", ["recreate", "surge"])
def test_too_many_replacements(
    running_count: int, replaced: int, refused: bool, rollout: str
) -> None:
    state = many(running_count, rollout=rollout)
    good = [server(state, f"m{number}") for number in range(replaced, running_count)]
    bad = [stray(f"m{number}") for number in range(replaced)]
    seen = observed(state, *good, *bad)
    found = refuse(state, seen)
    assert names(found) == ["too many replacements"] * refused
    if refused:
        assert found[0].message == (
            f"{replaced} of {running_count} running instances would be replaced: "
            "that is more than 30 %"
        )
        assert found[0].flag == f"--allow-destroy {replaced}"
        assert refuse(state, seen, Allowed(destroy=replaced)) == ()
        assert refuse(state, seen, Allowed(destroy=replaced - 1)) == found


def test_a_rename_of_the_only_model_leaves_something_running() -> None:
    state = desired({"new": {}})
    assert refuse(state, observed(state, stray("old"))) == ()


def test_what_an_operator_stopped_does_not_count_but_is_gone_too() -> None:
    state = many(2)
    journal = Journal(suspended={ModelName("m0"): Suspension(1.0), ModelName("m1"): Suspension(1)})
    assert refuse(state, running(state, journal=journal)) == ()
    one = Journal(suspended={ModelName("m0"): Suspension(1.0)})
    after = desired({"m0": {}})
    seen = observed(after, *running(state).servers, journal=one)
    (found,) = refuse(after, seen)
    assert found.message == (
        "1 of 2 running instances would be stopped: nothing would be left running"
    )
    assert refuse(after, seen, Allowed(destroy=1)) == ()


def test_what_is_stopping_already_is_neither_running_nor_stopped() -> None:
    state = many(4, protect=True)
    servers = [server(state, f"m{number}", phase=Phase.STOPPING) for number in range(4)]
    assert refuse(state, observed(state, *servers)) == ()
    assert refuse(EMPTY, observed(EMPTY, *servers)) == ()
    assert names(refuse(EMPTY, observed(EMPTY, *servers, stray("x")))) == ["too many stops"]


def test_a_protected_model() -> None:
    state = desired({"a": {"protect": True, "replicas": 2}, "b": {}})
    seen = observed(state, stray("a"), stray("a[1]"), server(state, "b"))
    assert refuse(state, seen) == (
        Guard(
            "protected model",
            "a is protected and would be stopped or replaced",
            "--allow-protected a",
            "a",
        ),
    )
    assert refuse(state, seen, Allowed(protected=frozenset({"a"}))) == ()
    assert refuse(state, running(state)) == ()


def test_a_protected_model_whose_entry_was_removed_stays_protected() -> None:
    state = desired({"b": {}, "c": {}})
    journal = Journal(protected=frozenset({ModelName("a"), ModelName("b")}))
    seen = observed(state, stray("a"), stray("b"), server(state, "c"), journal=journal)
    found = refuse(state, seen)
    # `b` is still there and says itself that it is not protected any more.
    assert [one.message for one in found] == ["a is protected and would be stopped or replaced"]


def test_a_protected_model_may_not_be_suspended() -> None:
    state = desired({"a": {"protect": True}})
    journal = Journal(suspended={ModelName("a"): Suspension(1.0)})
    assert names(refuse(state, running(state, journal=journal))) == ["protected model"]


@pytest.mark.parametrize(
    ("last", "switch", "refused"),
    [
        (None, False, False),
        ("desired/x.yaml", False, False),
        ("desired/y.yaml", False, True),
        ("desired/y.yaml", True, False),
    ],
)
def test_another_desired_file(last: str | None, switch: bool, refused: bool) -> None:
    state = many(1)
    seen = running(state, journal=Journal(desired=last))
    found = refuse(state, seen, Allowed(switch_file=switch))
    assert names(found) == ["another desired file"] * refused
    if refused:
        assert found[0].message == (
            "this root was last applied from desired/y.yaml, not from desired/x.yaml"
        )
        assert (found[0].flag, found[0].answer) == ("--switch-file", "desired/x.yaml")


def test_another_desired_file_matters_while_something_runs() -> None:
    journal = Journal(desired="desired/y.yaml")
    nothing = observed(EMPTY, journal=journal, gateway=ObservedGateway())
    assert refuse(EMPTY, nothing) == ()
    assert names(refuse(EMPTY, observed(EMPTY, journal=journal, gateway=NGINX))) == [
        "another desired file"
    ]


@pytest.mark.parametrize(("free", "refused"), [(3071, True), (3072, False)])
def test_all_downloads_need_room_together(free: int, refused: bool) -> None:
    a, b = ({"source": {"repo": f"org/{name}"}, "quant": "Q4"} for name in ("far", "other"))
    state = desired({"a": a, "b": b})
    files = all_files(
        state,
        a=files_of(state.models["a"], FileStatus.MISSING, 1024),
        b=files_of(state.models["b"], FileStatus.MISSING, 2048),
    )
    found = refuse(state, observed(state, files=files, disks=disks(disk(free), "a", "b")))
    message = "3.0 KiB to download, 5.0 GiB free in /r/models, of which 5.0 GiB stay free"
    assert found == ((Guard("not enough disk", message, ""),) if refused else ())


def test_several_guards_at_once_in_a_fixed_order() -> None:
    journal = Journal(desired="y", protected=frozenset({ModelName("a")}))
    seen = observed(EMPTY, stray("a"), journal=journal)
    assert names(refuse(EMPTY, seen)) == [
        "another desired file",
        "too many stops",
        "protected model",
    ]


def test_what_lets_several_through_is_one_flag_that_does() -> None:
    """The last of two would count, however small it is."""
    before = many(9)
    three = desired({f"m{number}": {"params": {"temp": "0.1"}} for number in range(3)})
    found = refuse(three, running(before))
    assert names(found) == ["too many stops", "too many replacements"]
    assert [(one.flag, one.answer) for one in found] == [
        ("--allow-destroy 6", "6"),
        ("--allow-destroy 6", "3"),
    ]
    assert flags_of(found) == "--allow-destroy 6"
    assert refuse(three, running(before), Allowed(destroy=6)) == ()
    assert flags_of((*found, Guard("protected model", "", "--allow-protected a"))) == (
        "--allow-destroy 6 --allow-protected a"
    )
    # What no flag lets through is let through by none of the others either.
    assert flags_of((*found, Guard("not enough disk", "", ""))) == ""
    assert flags_of(()) == ""
