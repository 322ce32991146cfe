"""How much memory the machine has, and what its cgroups let us have of it."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from reconciler.core.observed import ObservedMemory
from reconciler.drivers.machine import LinuxMachine

MEMINFO = """\
MemTotal:       24684092 kB
MemFree:         1000000 kB
MemAvailable:   23000000 kB
SwapTotal:        204800 kB
HugePages_Total:       7
"""


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """Folders that stand for /proc and /sys/fs/cgroup."""
    for name in ("proc/self", "cgroup"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "proc" / "meminfo").write_text(MEMINFO)
    return tmp_path


def memory(machine: Path) -> ObservedMemory:
    return LinuxMachine(machine / "proc", machine / "cgroup").memory()


def cgroup(machine: Path, line: str, **limits: str) -> None:
    """Our cgroup, and what is written into files below /sys/fs/cgroup (`__` for a slash)."""
    with (machine / "proc" / "self" / "cgroup").open("a") as file:
        file.write(f"{line}\n")
    for name, text in limits.items():
        path = machine / "cgroup" / name.replace("__", "/")
        path = path.with_name(path.name.replace("memory_", "memory."))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")


def test_this_very_machine() -> None:
    found, seen = LinuxMachine().memory(), psutil.virtual_memory()
    assert found.ram_bytes == seen.total
    assert 0 < found.available_bytes <= seen.total
    assert found.swap_bytes == psutil.swap_memory().total
    assert 0 < found.usable_bytes <= seen.total
    assert found.gpus == ()


def test_memory_and_swap(machine: Path) -> None:
    assert memory(machine) == ObservedMemory(
        ram_bytes=24684092 * 1024, available_bytes=23000000 * 1024, swap_bytes=204800 * 1024
    )


def test_the_least_limit_of_all_cgroups_above_counts(machine: Path) -> None:
    cgroup(
        machine,
        "0::/a/b/c",
        a__memory_max="5000",
        a__b__memory_max="7000",
        a__b__c__memory_max="max",
    )
    found = memory(machine)
    assert (found.limit_bytes, found.usable_bytes) == (5000, 5000)


def test_the_limit_of_a_container_stands_at_the_top(machine: Path) -> None:
    cgroup(machine, "0::/", memory_max="5000")
    assert memory(machine).limit_bytes == 5000
    (machine / "memory.max").write_text("1")
    assert memory(machine).limit_bytes == 5000


def test_the_older_cgroups(machine: Path) -> None:
    cgroup(machine, "9:name=systemd:/x")
    cgroup(
        machine,
        "4:cpuset,memory:/x",
        memory__x__memory_limit_in_bytes="6000",
        memory__memory_limit_in_bytes="9223372036854771712",
    )
    assert memory(machine).limit_bytes == 6000
    (machine / "cgroup" / "memory" / "x" / "memory.limit_in_bytes").unlink()
    found = memory(machine)
    assert found.usable_bytes == found.ram_bytes


def test_a_machine_that_tells_nothing(tmp_path: Path) -> None:
    assert LinuxMachine(tmp_path, tmp_path).memory() == ObservedMemory()


def test_a_cgroup_out_of_sight(machine: Path) -> None:
    """A container without a namespace of its own names a path that is not there."""
    cgroup(machine, "0::/outside/../odd", memory_max=os.urandom(4).hex() + "x")
    assert memory(machine).limit_bytes is None
