"""What slots and logs say of servers that died while nobody looked."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from process_rig import NEVER, ProcessRig, process_rig
from waiting import PATIENCE_S

from reconciler.core.causes import REBOOTED
from reconciler.core.observed import LastExit
from reconciler.core.site import Site
from reconciler.core.words import InstanceName, SpecHash
from reconciler.drivers.server_logs import deaths

M = InstanceName("m")
LONG_AGO = 1000.0


@pytest.fixture
def site(tmp_path: Path) -> Site:
    made = Site(root=str(tmp_path / "r"), state=str(tmp_path / "s"), desired="x.yaml")
    (tmp_path / "s" / "slots").mkdir(parents=True)
    (tmp_path / "r" / "logs").mkdir(parents=True)
    return made


@pytest.fixture
def rig() -> Iterator[ProcessRig]:
    with process_rig() as made:
        yield made


def leave(site: Site, slot: str, note: str = "", log: str | None = None, name: str = "m") -> None:
    """What a server leaves: its slot's note, its log of 50 seconds later."""
    instance = InstanceName(name)
    lock = Path(site.slot_lock(instance, slot))
    lock.write_text(note, encoding="utf-8")
    os.utime(lock, (LONG_AGO, LONG_AGO))
    if log is not None:
        path = Path(site.log_file(instance))
        path.write_text(log, encoding="utf-8")
        os.utime(path, (LONG_AGO + 50, LONG_AGO + 50))


def test_the_end_of_the_log_tells_why(site: Site) -> None:
    leave(site, "a", log="ok\nggml: failed to allocate buffer\n")
    found = deaths(site, (), 0.0)[M]
    assert (found.at, found.reason, found.seen) == (1050.0, "not enough memory", False)
    assert found.final
    assert "smaller quant" in found.hint


def test_a_start_that_never_was_is_no_death(site: Site) -> None:
    """The slot was taken, and then the run was killed, or its engine could not be executed."""
    leave(site, "a")
    assert deaths(site, (), 0.0) == {}
    leave(site, "a", log="of an earlier server")
    os.utime(site.log_file(M), (LONG_AGO - 1, LONG_AGO - 1))
    assert deaths(site, (), 0.0) == {}


def test_a_death_without_a_word_is_one_too(site: Site) -> None:
    leave(site, "a", log="all is well\n")
    assert deaths(site, (), 0.0) == {
        M: LastExit(1050.0, "it ended, and its log does not say why", SpecHash(""), seen=False)
    }


def test_what_an_earlier_server_said_is_not_its_death(site: Site) -> None:
    said = "error: invalid argument: --x\n"
    leave(site, "a", f"log {len(said)}\n", f"{said}all is well\n")
    assert "does not say why" in deaths(site, (), 0.0)[M].reason
    leave(site, "a", "log 0\n", said)
    assert "--x" in deaths(site, (), 0.0)[M].reason


def test_a_stop_of_ours_is_no_death(site: Site) -> None:
    for note in ("stopping 7 9\n", "ended 7 9\n", "log x\n"):
        leave(site, "a", note, "bye\n")
        assert deaths(site, (), 0.0) == {}


def test_who_lives_has_not_died(site: Site) -> None:
    leave(site, "a", log="x")
    leave(site, "a", log="y", name="m[1]")
    assert set(deaths(site, {(M, "b")}, 0.0)) == {"m[1]"}


def test_after_a_reboot_the_log_says_nothing(site: Site) -> None:
    leave(site, "a", log="failed to allocate\n")
    assert deaths(site, (), LONG_AGO + 60)[M].reason == REBOOTED.reason


def test_nothing_ever_ran(tmp_path: Path) -> None:
    assert deaths(Site(str(tmp_path), str(tmp_path / "none"), "x"), (), 0.0) == {}


def test_a_slot_that_cannot_be_read_tells_nothing(site: Site) -> None:
    Path(site.slot_lock(M, "a")).symlink_to("nowhere")
    assert deaths(site, (), 0.0) == {}


def test_each_death_is_told_whichever_slot_it_was_in(rig: ProcessRig) -> None:
    """A surge has left the last copy in `b`; who follows it begins in `a` again."""
    for slot, number in (("b", signal.SIGSEGV), ("a", signal.SIGILL)):
        ref = rig.start("m", slot)
        os.kill(ref.pid, number)
        assert rig.runtime.wait_gone(ref, PATIENCE_S, NEVER)
        assert number.name in rig.fresh().deaths(())[M].reason
    # And none where the last one was stopped.
    last = rig.start("m", "b")
    rig.runtime.signal_stop(last, M, "b")
    rig.runtime.kill(last)
    assert rig.runtime.wait_gone(last, PATIENCE_S, NEVER)
    assert rig.fresh().deaths(()) == {}


def test_the_copy_that_a_surge_replaces_keeps_its_slot(rig: ProcessRig) -> None:
    old, before = rig.start("m", "a"), Path(rig.site.slot_lock(M, "a")).read_text(encoding="utf-8")
    rig.start("m", "b")
    assert Path(rig.site.slot_lock(M, "a")).read_text(encoding="utf-8") == before
    assert old in {one.ref for one in rig.fresh().list()}


def test_what_must_not_be_repeated_is_not(site: Site) -> None:
    leave(site, "a", log="error: no entry with sesame\n")
    assert deaths(site, (), 0.0)[M].reason == "no entry with sesame"
    found = deaths(site, (), 0.0, lambda said: said.replace("sesame", "***"))
    assert found[M].reason == "no entry with ***"
