"""Words for people: sizes, durations, long values, guards."""

from __future__ import annotations

import pytest

from reconciler.core.plan import Action, Change, Detail, Guard, Plan, ResourceType
from reconciler.core.present import JSON_ACTIONS, SIGNS, human_bytes, human_seconds, plan_text


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (2**20 - 1, "1024.0 KiB"),
        (2**20, "1.0 MiB"),
        (4.9 * 2**30, "4.9 GiB"),
        (241e9, "224.4 GiB"),
        (2**40, "1.0 TiB"),
        (2**50, "1024.0 TiB"),
    ],
)
def test_bytes(count: float, said: str) -> None:
    assert human_bytes(count) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0 s"),
        (59.4, "59 s"),
        (59.6, "1m00s"),
        (200, "3m20s"),
        (3599, "59m59s"),
        (3600, "1h00m"),
        (7500, "2h05m"),
        (86399, "23h59m"),
        (86400, "1d0h"),
        (273600, "3d4h"),
    ],
)
def test_seconds(seconds: float, said: str) -> None:
    assert human_seconds(seconds) == said


def test_every_action_has_its_sign_and_its_json() -> None:
    assert SIGNS.keys() == JSON_ACTIONS.keys() == set(Action)


def shown(*details: Detail) -> list[str]:
    change = Change(
        "instance.a", ResourceType.INSTANCE, "a", Action.REPLACE, "its launch changed", details
    )
    return plan_text(Plan("x.yaml", (change,))).splitlines()[1:-2]


def test_long_values_keep_their_end_and_stay_on_one_line() -> None:
    long = "/models/" + "x" * 60 + "/y.gguf"
    assert shown(Detail("model", "a\nb", long, forces_restart=True)) == [
        f"      model: a\\nb -> …{long[-60:]}  # forces restart"
    ]
    assert shown(Detail("x", None, "1", forces_restart=True), Detail("y", None, "2")) == [
        "      x: (none) -> 1  # forces restart",
        "      y: 2",
    ]


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("a=1," + "x" * 90, "a=2," + "x" * 90, f"a=1,{'x' * 56}… -> a=2,{'x' * 56}…"),
        ("k" * 50 + "1" + "x" * 60, "k" * 50 + "2" + "x" * 60, f"…{'k' * 20}1{'x' * 39}… -> …"),
        ("x" * 70, "x" * 75, f"…{'x' * 20} -> …{'x' * 25}"),
    ],
)
def test_of_long_values_that_end_alike_the_difference_is_shown(
    before: str, after: str, said: str
) -> None:
    [line] = shown(Detail("args.override-kv", before, after))
    assert line.startswith(f"      args.override-kv: {said}")
    left, right = line.removeprefix("      args.override-kv: ").split(" -> ")
    assert left != right


def test_guards_stand_below_the_plan_with_their_flag() -> None:
    guards = (Guard("a", "2 of 3 would go", "--allow-destroy 2", "2"), Guard("b", "no room", ""))
    assert plan_text(Plan("x.yaml"), guards) == (
        "Plan: 0 to add, 0 to change, 0 to replace, 0 to remove, 0 unchanged.\n"
        "\n"
        "Refused: 2 of 3 would go.\n"
        "  If that is what you want: --allow-destroy 2\n"
        "\n"
        "Refused: no room.\n"
    )
