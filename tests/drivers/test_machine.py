"""The machine: its memory and what cgroups let us have of it, its limits, what folders lie on."""

from __future__ import annotations

import fcntl
import os
import resource
import subprocess
from pathlib import Path

import psutil
import pytest

from reconciler.core.facts import Folder, Limits
from reconciler.core.resources import ObservedMemory
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
    assert found.gpus is None


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


# ---- kernel and limits


def test_this_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    assert LinuxMachine().kernel() == os.uname().release
    assert LinuxMachine().has_pidfd()

    def refuse(_pid: int) -> int:
        raise PermissionError

    monkeypatch.setattr(os, "pidfd_open", refuse)
    assert not LinuxMachine().has_pidfd()


def test_limits_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    soft = {
        resource.RLIMIT_NOFILE: 1024,
        resource.RLIMIT_MEMLOCK: 65536,
        resource.RLIMIT_NPROC: resource.RLIM_INFINITY,
    }
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (soft[kind], 10**6))
    assert LinuxMachine().limits() == Limits(1024, 65536, None)


# ---- folders

MOUNTS = """\
21 1 8:1 / / rw,relatime - ext4 /dev/root rw
22 21 0:5 / /proc rw - proc proc rw
30 21 0:40 / /mnt rw shared:7 master:1 - xfs /dev/old rw
31 21 0:41 / /mnt rw - nfs4 server:/mnt rw
32 21 0:42 / /mnt/with\\040space rw - fuse.sshfs other:/ rw
33 21 0:43 / /mntx rw - cifs //server/x rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/home/x", "ext4"),
        ("/", "ext4"),
        ("/mnt", "nfs4"),
        ("/mnt/models", "nfs4"),
        ("/mnt/with space/a", "fuse.sshfs"),
        ("/mntx", "cifs"),
        ("/mnt/without", "nfs4"),
    ],
)
def test_what_a_folder_lies_on(
    machine: Path, monkeypatch: pytest.MonkeyPatch, path: str, kind: str
) -> None:
    (machine / "proc" / "self" / "mountinfo").write_text(MOUNTS)
    monkeypatch.setattr(Path, "is_dir", lambda _self: True)
    assert LinuxMachine(machine / "proc").folder(path).file_system == kind


def test_a_folder_of_this_machine(tmp_path: Path) -> None:
    found = LinuxMachine().folder(str(tmp_path / "not" / "yet"), locks=True)
    assert (found.path, found.problem) == (str(tmp_path / "not" / "yet"), "")
    assert found.file_system
    assert found.free_bytes is not None
    assert abs(found.free_bytes - psutil.disk_usage(str(tmp_path)).free) < 2**33
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_known_without_mounts(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_path: object) -> os.statvfs_result:
        raise PermissionError

    monkeypatch.setattr(os, "statvfs", refuse)
    assert LinuxMachine(machine / "proc").folder("/") == Folder("/")


def test_folders_that_are_written_to(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    assert LinuxMachine().folder(str(tmp_path), written=("logs", "run")).problem == ""
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "run"]
    (tmp_path / "logs").symlink_to("/proc")
    said = LinuxMachine().folder(str(tmp_path), written=("run", "logs")).problem
    assert said.startswith(f"no file can be made in {tmp_path / 'logs'}: ")


def test_locks_that_do_not_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "flock", lambda _descriptor, _how: None)
    said = LinuxMachine().folder(str(tmp_path), locks=True).problem
    assert said == f"locks do not work in {tmp_path}: two holders got the same one"


def test_locks_that_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_descriptor: int, _how: int) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    said = LinuxMachine().folder(str(tmp_path), locks=True).problem
    assert said == f"no file can be made and locked in {tmp_path}: No locks available"


def test_a_folder_that_git_would_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shows = LinuxMachine().shows_in_git
    assert not shows(str(tmp_path / "models"))
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    assert shows(str(tmp_path / "models"))
    (tmp_path / ".gitignore").write_text("/models/\n")
    (tmp_path / "models").mkdir()
    assert not shows(str(tmp_path / "models"))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not shows(str(tmp_path / "other"))
