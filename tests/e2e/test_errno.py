"""The machine says no in the middle of a run: what serves serves on, the next run heals (BARS 18).

Each effect, and each call that it makes, is told ENOSPC, EACCES, EIO and EMFILE; by day one of the
four, by turns. LLM_RECONCILE_NIGHT=1: all of them. Then the real things: no descriptors, no disk.
"""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from proof_tools import own_disk

from e2e import machine
from e2e.faults import DEFECTS, HINTS, NIGHT, Fault, Launcher, launcher
from e2e.lab import Lab, Result
from e2e.matrix import EDIT, FIRST, STOP, Broken, Scenario, Walk, around, shared, within

DESCRIPTORS = (8, 9, 10, 11, 12, 14, 17, 21, 100)
"""With fewer of them Python itself cannot start."""
SCENARIOS = (EDIT, FIRST, STOP)
pytestmark = pytest.mark.timeout(7200 if NIGHT else 600)
PARTS = [
    pytest.param(one, part, id=f"{one}-{part}") for one in SCENARIOS for part in range(one.parts)
]


def errors_at(moments: list[str], turn: int) -> list[Fault]:
    """An error at each of these moments: every error, or by day one of them in turn."""
    numbers = list(HINTS)
    if NIGHT:
        return [Fault(one, number) for one in moments for number in numbers]
    return [Fault(one, numbers[(turn + at) % 4]) for at, one in enumerate(moments)]


def where_it_fails(scenario: Scenario, walk: Walk) -> tuple[list[str], list[str]]:
    """An effect fails before it changed anything, or at one of its calls."""
    there, back = (
        [one for one in around(moments) if one.startswith("before ")] + within(moments)
        for moments in walk.learn()
    )
    if NIGHT:
        return there, back
    return shared(scenario, there, back) if scenario.is_symmetric else (there[::5], back[::5])


def object_of(moment: str) -> str:
    """What an effect is on, as far as its name is alike in each run."""
    verb, what = moment.partition(": ")[0].split()[1:3]
    if verb.startswith("SIG") or verb == "KILL":
        return "process "
    return Path(what).name.partition(".slot")[0].replace("GENERATION", "")


def told_and_serving(broken: Broken) -> None:
    """What was refused is said with what to do about it, and what served serves."""
    assert broken.fault.errno is not None
    assert_said_well(broken.done.result, broken.fault.errno)
    if broken.done.code:
        assert object_of(broken.fault.at) in broken.done.result.err
    assert_serving(broken)


def assert_said_well(result: Result, number: int) -> None:
    assert result.code in {0, 1, 3}, result.all
    assert not [word for word in DEFECTS if word in result.all], result.all
    if result.code:
        assert os.strerror(number) in result.err
        assert HINTS[number] in result.err


def assert_serving(broken: Broken) -> None:
    """Who is not to be replaced is the same; who lives on, or is to surge, is served all along."""
    lab, servers = broken.lab, broken.lab.servers()
    for name in broken.scenario.stays:
        assert servers[name] == broken.servers[name]
    if broken.leg.gateway and broken.master:
        assert lab.nginx().master == broken.master
        for name in broken.leg.after & broken.servers.keys():
            lives = set(servers.get(name, ())) & set(broken.servers[name])
            if lives or name in broken.scenario.most:
                assert lab.complete(name, 1).status == 200, (name, servers)


@pytest.mark.parametrize(("scenario", "part"), PARTS)
def test_an_error_at_each_moment(
    fakes: Lab, commands: Launcher, scenario: Scenario, part: int
) -> None:
    with machine.Twins(fakes.root, scenario.most):
        walk = Walk(scenario, fakes, commands)
        there, back = (
            errors_at(moments[part :: scenario.parts], part)
            for moments in where_it_fails(scenario, walk)
        )
        walk.go(there, back, told_and_serving)


@pytest.mark.needs("mounts")
@pytest.mark.parametrize(("resource", "size"), [("blocks", "size=1m"), ("inodes", "nr_inodes=200")])
def test_a_disk_that_is_really_full(
    short_folder: Path, tiny_model: Path, resource: str, size: str
) -> None:
    (short_folder / "s").mkdir()
    argv = [*own_disk(str(short_folder / "s"), size), sys.executable, "-m", "e2e.full_disk"]
    path = {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [*argv, str(short_folder), str(tiny_model), resource],
        env=os.environ | path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_no_descriptors_left(fakes: Lab, tmp_path: Path) -> None:
    """From a limit under which nothing can be looked at, to one under which all can be done.

    Coverage needs descriptors too: where it has none it tells a traceback of its own.
    """
    codes = []

    def look(broken: Broken) -> None:
        codes.append(broken.done.code)
        assert_said_well(broken.done.result, errno.EMFILE)
        assert_serving(broken)

    faults = [Fault(limits={"RLIMIT_NOFILE": limit}) for limit in DESCRIPTORS]
    with launcher(tmp_path, measured=False) as commands:
        walk = Walk(EDIT, fakes, commands)
        walk.learn()
        walk.go(faults, [], look)
    assert codes[0] == 1
    assert 3 in codes
    assert codes[-1] == 0
