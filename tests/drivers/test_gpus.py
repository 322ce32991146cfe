"""Memory of graphics cards: as NVIDIA's tool and the kernel's drivers tell it, or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from reconciler.drivers.gpus import GpuMemory

HERE = os.getpid()


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folders that stand for /dev, /proc and PATH."""
    for name in ("dev", "proc", "bin"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return tmp_path


def gpus(machine: Path) -> GpuMemory:
    return GpuMemory(machine / "dev", machine / "proc")


def nvidia_smi(machine: Path, script: str) -> None:
    (machine / "dev" / "nvidiactl").touch()
    program = machine / "bin" / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    program.chmod(0o755)


def test_a_machine_without_a_card(machine: Path) -> None:
    assert gpus(machine).memory_by_pid() == {}


def test_nvidia_tells_each_card_in_a_line_of_its_own(machine: Path) -> None:
    script = 'echo "$*" > "$0.args"; printf \'7, 100\\n8, 5\\n7, 23\\n9, [N/A]\\nno\\n\''
    nvidia_smi(machine, script)
    assert gpus(machine).memory_by_pid() == {7: 123 * 2**20, 8: 5 * 2**20}
    asked = (machine / "bin" / "nvidia-smi.args").read_text(encoding="utf-8")
    assert asked.split()[0] == "--query-compute-apps=pid,used_gpu_memory"


@pytest.mark.parametrize("script", ["exit 9", "kill -9 $$", "printf '\\n'"])
def test_a_broken_driver_tells_nothing(machine: Path, script: str) -> None:
    nvidia_smi(machine, script)
    assert gpus(machine).memory_by_pid() == {}


def test_a_driver_without_its_tool_tells_nothing(machine: Path) -> None:
    (machine / "dev" / "nvidiactl").touch()
    assert gpus(machine).memory_by_pid() == {}


def test_the_kernels_drivers_tell_each_client_once(machine: Path) -> None:
    (machine / "dev" / "dri").mkdir()
    folder = machine / "proc" / str(HERE) / "fdinfo"
    folder.mkdir(parents=True)
    client = "drm-driver:\tamdgpu\ndrm-client-id:\t{}\ndrm-pdev:\t{}\ndrm-memory-vram:\t{}\n"
    texts = [
        client.format(1, "0000:03:00.0", "1024 KiB"),
        client.format(1, "0000:03:00.0", "1024 KiB"),
        client.format(1, "0000:04:00.0", "2 MiB"),
        client.format(2, "0000:03:00.0", "7"),
        client.format(3, "0000:03:00.0", "many"),
        "pos:\t0\nflags:\t02\n",
    ]
    for number, text in enumerate(texts):
        (folder / str(number)).write_text(text, encoding="utf-8")
    (folder / "gone").symlink_to("nowhere")
    assert gpus(machine).memory_by_pid() == {HERE: 3 * 2**20 + 7}
