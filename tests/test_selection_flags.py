"""`--target` and `--exclude` as typed: what they may name, and what is said of the rest."""

from __future__ import annotations

import pytest
from builders import desired
from fake_drivers import FakeWorld

from reconciler.cli.selection import selection_of, there_by
from reconciler.core.renders import RenderNote
from reconciler.core.selection import Selection
from reconciler.errors import UsageError

STATE = desired({"a": {}}, renders=({"template": "t.j2", "dest": "run/x"},))


def of(*targets: str, but: tuple[str, ...] = ()) -> Selection:
    world = FakeWorld()
    # It is no longer in the file, and still there.
    world.renders.notes["run/old"] = RenderNote("1")
    return selection_of(targets, but, (), STATE, there_by(world.drivers, STATE))


def test_renders_are_named_by_their_address() -> None:
    chosen = of("a", "render.run/x", "render.run/old", "gateway")
    assert chosen.targets == {"a", "render.run/x", "render.run/old", "gateway"}
    assert of(but=("render.run/x",)).excludes == {"render.run/x"}


@pytest.mark.parametrize("name", ["render.run/y", "run/x"])
def test_a_wrong_address_is_told_the_right_ones(name: str) -> None:
    with pytest.raises(UsageError, match=f"--target {name}: that is no address of a render") as no:
        of(name)
    assert no.value.hint == "there are: render.run/old, render.run/x"
    bare = desired({"a": {}})
    there = there_by(FakeWorld().drivers, bare)
    with pytest.raises(UsageError) as none:
        selection_of((name,), (), (), bare, there)
    assert "the file has none" in none.value.hint or name == "run/x"


@pytest.mark.parametrize("name", ["instance.a", "model_file.a", "instance.a[1]"])
def test_who_types_an_address_of_a_plan_is_told_the_name(name: str) -> None:
    with pytest.raises(UsageError) as no:
        of(name)
    assert no.value.hint == "did you mean a?"
