"""A part of a file applied beside a watch: no consent to the rest, and nothing to undo."""

from __future__ import annotations

from watch_world import World, models

from reconciler.watch.watch import LOOK_EVERY_S

FOUR = models(a="", b="", c="", d="")
OTHER = ", params: {ctx_size: 512}"
LESS = models(a="", b=OTHER)
"""Half of them would be stopped: a guard holds it back."""


def world_of(text: str = FOUR) -> World:
    world = World(text=text)
    assert world.apply()
    world.begin()
    world.step()
    return world


def is_held(world: World) -> bool:
    return world.watch is not None and world.watch.force.held is not None


def test_a_part_of_what_waits_does_not_let_the_rest_through() -> None:
    world = world_of()
    world.text = LESS
    world.step()
    assert is_held(world)
    wish = world.state.read().wish
    # There is nothing to do for it.
    assert world.apply_part("a")
    world.step()
    assert is_held(world)
    assert (world.names(), world.state.read().wish) == (["a", "b", "c", "d"], wish)
    assert world.apply()
    world.step()
    assert (world.names(), is_held(world)) == (["a", "b"], False)
    assert world.state.read().parts == {}


def test_a_watch_leaves_the_part_of_what_waits_as_the_operator_made_it() -> None:
    world = world_of()
    world.text = LESS
    world.step()
    assert world.apply_part("b")
    pid = world.server("b").ref
    world.did.clear()
    for _ in range(3):
        world.step()
    assert world.server("b").ref == pid
    assert not [one for one in world.did if one.startswith("runtime.")]
    # Nor does one that is started afterwards, with what was in force before.
    world.begin()
    for _ in range(3):
        world.step()
    assert is_held(world)
    assert world.server("b").ref == pid
    assert world.state.read().parts.keys() == {"b"}


def test_a_part_that_stopped_what_the_file_wants_no_more_stays_so() -> None:
    world = world_of()
    world.text = models(a="")
    world.step()
    assert world.apply_part("d")
    for _ in range(3):
        world.step()
    assert world.names() == ["a", "b", "c"]
    # The file is as it was: nothing waits, and it wants `d`.
    world.text = FOUR
    world.step()
    assert world.names() == ["a", "b", "c", "d"]


def test_a_watch_that_rests_after_down_leaves_a_part_alone() -> None:
    world = world_of()
    assert world.down()
    world.step()
    assert world.apply_part("b")
    world.did.clear()
    assert world.step() == LOOK_EVERY_S
    assert (world.names(), world.did) == (["b"], [])
    assert world.state.read().is_down
    assert world.apply()
    world.step()
    assert world.names() == ["a", "b", "c", "d"]


def test_a_render_that_was_made_alone_stays_as_the_operator_made_it() -> None:
    renders = "renders: [{template: t.j2, dest: run/t}]\n"
    world = World(text=FOUR + renders)
    world.renders.templates["t.j2"] = "{% for model in models %}{{ model.name }}{% endfor %}"
    assert world.apply()
    world.begin()
    world.text = LESS + renders
    world.step()
    assert is_held(world)
    assert world.renders.files == {"run/t": "abcd"}
    assert world.apply_part("render.run/t")
    for _ in range(3):
        world.step()
    assert is_held(world)
    assert (world.renders.files, world.names()) == ({"run/t": "ab"}, ["a", "b", "c", "d"])
