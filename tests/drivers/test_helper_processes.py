"""Processes that an engine starts beside itself: no servers, and ended with their engine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace

import pytest
from process_rig import COMMAND, NEVER, ProcessRig, process_rig
from waiting import PATIENCE_S, eventually

from reconciler.core.observed import ProcessRef
from reconciler.core.words import InstanceName, Phase
from reconciler.drivers import proc

M = InstanceName("m")
BESIDE = ("/bin/sh", "-c", '(setsid sleep 60 &) ; exec "$@"', "sh", *COMMAND)
"""An engine whose helper has left its session and is nobody's child."""


@pytest.fixture
def rig() -> Iterator[ProcessRig]:
    with process_rig() as made:
        yield made


def start(rig: ProcessRig, slot: str = "a", address: str | None = None) -> ProcessRef:
    before, beside = rig.log().count("up\n"), len(helpers(rig))
    launch = replace(rig.launch("m", slot, address=address), command=BESIDE)
    ref = rig.runtime.start(launch)
    eventually(lambda: rig.log().count("up\n") > before, "up")
    # Until then it looks like its engine, and is in that one's group.
    eventually(lambda: len(helpers(rig)) > beside, "its helper is itself")
    return ref


def helpers(rig: ProcessRig) -> list[int]:
    return [pid for pid in rig.pids() if proc.command_line(pid) == ("sleep", "60")]


def address_of(rig: ProcessRig, slot: str) -> str:
    return f"unix:{rig.site.socket(M, slot)}"


def test_a_helper_is_no_copy_while_its_engine_lives(rig: ProcessRig) -> None:
    ref = start(rig)
    assert len(rig.pids()) == 2
    assert [one.ref for one in rig.fresh().list()] == [ref]


def test_a_helper_without_its_engine_is_to_be_stopped(rig: ProcessRig) -> None:
    """It is where its engine was, and nobody is asked for its health at llama-server's own port."""
    ref = start(rig)
    os.kill(ref.pid, 9)
    assert rig.runtime.wait_gone(ref, PATIENCE_S, NEVER)
    [left] = rig.fresh().list()
    assert left.ref.pid in rig.pids()
    assert (left.phase, left.address) == (Phase.STOPPING, address_of(rig, "a"))


@pytest.mark.parametrize("address", [None, "127.0.0.1:8001"])
def test_forgetting_an_engine_ends_its_helpers(rig: ProcessRig, address: str | None) -> None:
    ref = start(rig, address=address)
    rig.runtime.kill(ref)
    assert rig.runtime.wait_gone(ref, PATIENCE_S, NEVER)
    assert len(rig.pids()) == 1
    rig.fresh().forget(ref, M, address or address_of(rig, "a"))
    assert rig.pids() == []


def test_forgetting_one_copy_leaves_the_other_and_its_helper(rig: ProcessRig) -> None:
    old, new = start(rig, "a"), start(rig, "b")
    rig.runtime.kill(old)
    assert rig.runtime.wait_gone(old, PATIENCE_S, NEVER)
    rig.runtime.forget(old, M, address_of(rig, "a"))
    assert len(rig.pids()) == 2
    assert [one.ref for one in rig.runtime.list()] == [new]


def test_what_it_reads_is_seen_also_below_a_wrapper(rig: ProcessRig) -> None:
    wrapped = ("/bin/sh", "-c", '"$@"; :', "sh", *COMMAND)
    wrapper = rig.runtime.start(replace(rig.launch(), command=wrapped))
    eventually(lambda: "up" in rig.log(), "up")
    assert rig.fresh().bytes_read(wrapper) > proc.loaded_bytes(wrapper.pid) + 2**20


def test_what_it_works_is_seen_also_below_a_wrapper(rig: ProcessRig) -> None:
    work = "(i=0; while [ $i -lt 1000000 ]; do i=$((i+1)); done) &"
    wrapped = ("/bin/sh", "-c", f'{work} "$@"; :', "sh", *COMMAND)
    wrapper = rig.runtime.start(replace(rig.launch(), command=wrapped))
    fresh = rig.fresh()
    eventually(
        lambda: fresh.cpu_seconds(wrapper) > proc.cpu_seconds(wrapper) + 0.2, "it is seen to work"
    )
    rig.runtime.kill(wrapper)
    assert rig.runtime.wait_gone(wrapper, PATIENCE_S, NEVER)
    assert fresh.cpu_seconds(wrapper) == 0.0
