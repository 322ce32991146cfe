"""What stands on a slot, and how often the kernel has killed for lack of memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.core.observed import ProcessRef
from reconciler.drivers import oom, slots
from reconciler.drivers.slots import Note

SEVEN, EIGHT = ProcessRef(7, 70), ProcessRef(8, 80)


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("", Note(0)),
        ("log 5\n", Note(5)),
        ("log x\n", Note(None)),
        ("log\n", Note(None)),
        ("ended 7 70\n", Note(None)),
        ("stopping 7 70\n", Note(None, stopping=SEVEN)),
        ("stopping 7\n", Note(None)),
        ("stopping 7 70\nexit 7 70 0\n", Note(None, stopping=SEVEN)),
        ("log 5\noom 3 /sys/a b/c\n", Note(5, oom_kills=3, oom_counter="/sys/a b/c")),
        ("log 5\nrun 7 70 6\n", Note(5, server=SEVEN, parent=6)),
        ("log 5\nrun 7 70 6\nexit 7 70 3\n", Note(5, server=SEVEN, parent=6, code=3)),
        ("log 5\nrun 7 70 6\nexit 7 70 137\n", Note(5, server=SEVEN, parent=6, code=-9)),
        ("log 5\nrun 7 70 6\nexit 8 80 3\n", Note(5, server=SEVEN, parent=6)),
        ("log 5\nrun 7 70 6\nexit 7 71 3\n", Note(5, server=SEVEN, parent=6)),
        ("log 5\nexit 7 70 3\n", Note(5)),
        ("log 5\nrun 7 70 6\nexit 7 70 3\nrun 8 80 9\n", Note(5, server=EIGHT, parent=9)),
        ("log 5\nrun 7 70 6\nexit 7 70 \nex", Note(5, server=SEVEN, parent=6)),
        ("\n\nrun\n", Note(None)),
    ],
)
def test_a_note_is_read(text: str, note: Note) -> None:
    assert slots.parse(text) == note


def test_what_is_written_is_read() -> None:
    assert slots.parse(slots.begin_note(9)) == Note(9)
    assert slots.parse(slots.begin_note(9, (2, "/x"))) == Note(9, oom_kills=2, oom_counter="/x")
    assert slots.parse(slots.stopping_note(SEVEN)).stopping == SEVEN
    assert slots.parse(slots.ended_note(SEVEN)) == Note(None)


@pytest.mark.parametrize(
    ("own", "file"),
    [
        ("0::/user/one\n", "user/one/memory.events"),
        ("9:name=systemd:/x\n4:cpu,memory:/jobs\n0::/\n", "memory/jobs/memory.oom_control"),
        ("4:memory:/gone\n0::/\n", "memory.events"),
    ],
)
def test_the_kernels_count_is_found(tmp_path: Path, own: str, file: str) -> None:
    cgroup, counter = tmp_path / "cgroup", tmp_path / "fs" / file
    cgroup.write_text(own)
    assert oom.counter(cgroup, tmp_path / "fs") is None
    counter.parent.mkdir(parents=True)
    counter.write_text("oom 9\noom_kill 2\n")
    assert oom.counter(cgroup, tmp_path / "fs") == (2, str(counter))
    assert oom.rose(Note(0, oom_kills=2, oom_counter=str(counter))) is False
    assert oom.rose(Note(0, oom_kills=1, oom_counter=str(counter))) is True
    counter.unlink()
    assert oom.rose(Note(0, oom_kills=1, oom_counter=str(counter))) is None
    assert oom.rose(Note(0)) is None
