"""When the user's own files are looked at: with all of the file, and by no verb about models."""

from __future__ import annotations

import threading
from dataclasses import replace

from fake_drivers import FakeWorld
from launches import SITE

from reconciler.core.guards import Allowed
from reconciler.core.parse import SourceText, parse_desired
from reconciler.core.words import ModelName
from reconciler.look import Round, Scope, Wanted, look, nothing_wanted
from reconciler.loop import carry_out

TEXT = b"""
version: 1
gateway: false
models:
  a: {source: {path: a.gguf}, port: 8001}
renders: [{template: t.j2, dest: run/t}]
"""


def test_renders_are_looked_at_with_all_of_the_file_alone() -> None:
    world = FakeWorld()
    world.renders.templates["t.j2"] = "{{ models | length }}\n"
    parsed = parse_desired((SourceText("desired/x.yaml", TEXT),))
    what = Wanted(parsed.desired, parsed.marks)

    def seen(one: Wanted = what, scope: Scope | None = None) -> Round:
        return look(one, SITE, world.drivers, Allowed(), scope)

    carry_out(what, seen(), world.drivers, lambda _: None, threading.Event())
    assert world.renders.files == {"run/t": "1\n"}
    world.renders.files["run/t"] = "mine"
    one = seen(scope=Scope(frozenset({ModelName("a")})))
    ended = seen(replace(what, desired=nothing_wanted(what.desired), stops=True))
    assert (one.observed.renders, ended.observed.renders) == (None, None)
    assert "render.run/t" in {step.address for step in seen().plan.steps}


def test_a_command_that_takes_long_is_in_nobodys_way() -> None:
    """Once all else is done, the run lock goes: a server can be stopped meanwhile."""
    world = FakeWorld()
    world.renders.templates["t.j2"] = "x"
    parsed = parse_desired((SourceText("desired/x.yaml", TEXT),))
    what = Wanted(parsed.desired, parsed.marks)
    released = threading.Event()
    waited: list[bool] = []
    world.renders.at_work = lambda: waited.append(released.wait(30.0))
    seen = look(what, SITE, world.drivers, Allowed())
    done = carry_out(
        what, seen, world.drivers, lambda _: None, threading.Event(), release=released.set
    )
    assert waited == [True]
    assert not done.failed
    assert world.renders.files == {"run/t": "x"}
