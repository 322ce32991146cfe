"""A watch and the user's own files: made, put back, and not tried again and again."""

from __future__ import annotations

from watch_world import World, models

RENDERS = 'renders:\n  - {template: t.j2, dest: run/t, reload: "go"}\n'
NAMES = "{% for model in models %}{{ model.name }}\n{% endfor %}"


def watched(**each: str) -> World:
    world = World(text=models(**each) + RENDERS)
    world.renders.templates["t.j2"] = NAMES
    world.begin()
    world.step()
    return world


def test_a_file_follows_the_models_its_template_and_nobody_else() -> None:
    world = watched(a="", b="")
    assert world.renders.files == {"run/t": "a\nb\n"}
    world.renders.files["run/t"] = "mine"
    world.step()
    assert world.renders.files == {"run/t": "a\nb\n"}
    world.renders.templates["t.j2"] = "new\n"
    world.step()
    assert world.renders.files == {"run/t": "new\n"}
    told = list(world.renders.told)
    for _ in range(20):
        world.clock.advance(world.look())
    assert world.renders.told == told
    assert world.names() == ["a", "b"]
    world.text = models(a="", b="")
    world.step()
    assert world.renders.files == {}


def test_what_failed_is_tried_again_once_it_is_something_else() -> None:
    world = watched(a="")
    world.renders.failing.add("run/t")
    world.renders.templates["t.j2"] = "new\n"
    world.step()
    notes = dict(world.renders.notes)
    assert notes["run/t"].failed
    for _ in range(20):
        world.clock.advance(world.step())
    assert world.renders.notes == notes
    world.renders.failing.clear()
    for _ in range(20):
        world.clock.advance(world.step())
    assert world.renders.files == {"run/t": "a\n"}
    world.renders.templates["t.j2"] = "newer\n"
    for _ in range(20):
        world.clock.advance(world.step())
    assert world.renders.files == {"run/t": "newer\n"}
    assert world.names() == ["a"]
