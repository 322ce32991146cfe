"""Sleeping until something happens: what wakes, and how often."""

from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Iterator

import pytest

from reconciler.core.observed import ProcessRef
from reconciler.drivers import proc
from reconciler.drivers.wake import ENDED, Wake


@pytest.fixture
def wake() -> Iterator[Wake]:
    one = Wake()
    yield one
    one.close()


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["/bin/sleep", "600"]) as process:
        yield process
        process.kill()


def ref(process: subprocess.Popen[bytes]) -> ProcessRef:
    found = proc.ref_of(process.pid)
    assert found
    return found


def test_an_end_wakes_once(wake: Wake, sleeper: subprocess.Popen[bytes]) -> None:
    """Who cannot act on it yet (all is down, another run has the lock) names it again and again."""
    known = ref(sleeper)
    wake.follow([known])
    assert not wake.wait(0.0)
    sleeper.kill()
    assert wake.wait(60.0) == {ENDED}
    sleeper.wait()
    wake.follow([known])
    assert not wake.wait(0.0)


def test_the_end_of_one_that_is_gone_already_wakes_once(
    wake: Wake, sleeper: subprocess.Popen[bytes]
) -> None:
    known = ref(sleeper)
    sleeper.kill()
    sleeper.wait()
    wake.follow([known])
    assert wake.wait(0.0) == {ENDED}
    wake.follow([known])
    assert not wake.wait(0.0)
    wake.follow([])
    wake.follow([known])
    assert wake.wait(0.0) == {ENDED}


def test_one_that_cannot_be_followed_now_is_followed_later(
    wake: Wake, sleeper: subprocess.Popen[bytes]
) -> None:
    known = ref(sleeper)
    spare = os.open("/dev/null", os.O_RDONLY)
    os.close(spare)
    _, most = limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (spare, most))
    try:
        wake.follow([known])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert not wake.wait(0.0)
    wake.follow([known])
    sleeper.kill()
    assert wake.wait(60.0) == {ENDED}
