"""A stranger is never signalled, though it has the pid that our notes tell of (BARS 11).

With real pid reuse in a namespace, after a reboot, and with a wall clock that jumps. The trials in
great numbers are those of tests/drivers/test_strangers.py.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from waiting import eventually

from e2e import machine
from e2e.lab import Lab
from e2e.pid_world import Stranger, World, some_stranger

SHIFTED = Path(__file__).with_name("shifted_clock.py")
YEAR_S = 365 * 86400


@pytest.fixture
def world(fakes: Lab) -> Iterator[World]:
    made = World()
    made.house(fakes)
    try:
        yield made
        fakes.run("down", "-y")
    finally:
        fakes.under = ()
        made.close()


def every_verb(lab: Lab, strangers: list[Stranger]) -> None:
    """All that may signal, while strangers have the pids of `a`, and of nginx."""
    for words in (
        ("stop", "a"),
        ("start", "a"),
        ("restart", "a"),
        ("down", "-y"),
        ("apply", str(lab.file), "-y"),
    ):
        lab.run(*words)
        assert all(one.is_unharmed for one in strangers), words
    assert set(lab.pids()) == {"a", "b"}


@pytest.mark.needs("pid namespaces")
def test_pids_that_came_round(fakes: Lab, world: World) -> None:
    """A server and nginx's master have died; strangers have got their very pids, in one second."""
    fakes.write({"a": {}, "b": {}})
    fakes.apply()
    nginx = fakes.nginx()
    assert nginx.master
    noted = fakes.pid_file("a").read_text()
    strangers = [
        world.takes_over(fakes.pids()["a"]),
        world.takes_over(nginx.master, *nginx.workers),
    ]
    assert fakes.pid_file("a").read_text() == noted
    assert "a" not in fakes.servers()
    every_verb(fakes, strangers)


def test_notes_of_an_earlier_boot(fakes: Lab) -> None:
    """Nothing runs any more; pid files, notes of stops and nginx's pid file tell of strangers."""
    fakes.write({"a": {}, "b": {}})
    fakes.apply()
    command = machine.command_line(fakes.pids()["a"])
    machine.kill([*fakes.pids().values(), *machine.holders(fakes.state / "gateway.lock")])
    eventually(lambda: not fakes.servers() and not fakes.nginx().workers, "all is dead")
    strangers = [some_stranger(command), some_stranger("nginx: master process")]
    try:
        fakes.pid_file("a").write_text(f"{strangers[0].pid}\n\n")
        (fakes.state / "gateway" / "nginx.pid").write_text(f"{strangers[1].pid}\n")
        ticks = machine.stat(strangers[0].pid)[19]
        note = f"stopping {strangers[0].pid} {ticks}\n"
        (fakes.state / "slots" / "a.a").write_text(note)
        every_verb(fakes, strangers)
        assert fakes.pid_file("a").read_text() == f"{fakes.pids()['a']}\n\n"
    finally:
        machine.kill(one.pid for one in strangers)


@contextlib.contextmanager
def clock_set(lab: Lab, seconds: int) -> Iterator[None]:
    """The wall clock of every verb is set forward, or back."""
    lab.under = (sys.executable, str(SHIFTED), str(seconds))
    yield
    lab.under = ()


def test_a_clock_that_jumps(fakes: Lab) -> None:
    """Ten years on, ten years back: the same servers, nothing restarted, and the right one ends."""
    fakes.write({"a": {}, "b": {}})
    fakes.apply()
    pids, nginx = fakes.pids(), fakes.nginx()
    for years in (10, -10):
        with clock_set(fakes, years * YEAR_S):
            assert fakes.apply().out.startswith("No changes.")
    assert (fakes.pids(), fakes.nginx()) == (pids, nginx)
    with clock_set(fakes, 10 * YEAR_S):
        fakes.run("stop", "a")
    with clock_set(fakes, -10 * YEAR_S):
        fakes.apply()
        assert fakes.pids() == {"b": pids["b"]}
        fakes.run("start", "a")
    assert fakes.apply().out.startswith("No changes.")
    assert fakes.pids()["b"] == pids["b"]
