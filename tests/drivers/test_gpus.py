"""Memory of graphics cards: as NVIDIA's tool and the kernel's drivers tell it, or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from reconciler.core.resources import ObservedGpu
from reconciler.drivers import gpus as gpus_module
from reconciler.drivers.gpus import GpuMemory

HERE = os.getpid()
TOLD = Path(__file__).parents[1] / "data" / "nvidia"
"""What nvidia-smi 580.159 said on a machine with one H100."""


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folders that stand for /dev, /proc and PATH."""
    for name in ("dev", "proc", "bin", "class"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return tmp_path


def gpus(machine: Path) -> GpuMemory:
    return GpuMemory(machine / "dev", machine / "proc", machine / "class")


def nvidia_smi(machine: Path, script: str) -> None:
    (machine / "dev" / "nvidiactl").touch()
    program = machine / "bin" / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    program.chmod(0o755)


def tell(machine: Path, work: str) -> None:
    """An nvidia-smi with the words of a real one; `work` names what pmon says."""
    say = 'while IFS= read -r line; do echo "$line"; done'
    script = (
        f'case "$1" in --query-gpu*) name=cards;; pmon) name={work};; *) name=memory;; esac\n'
        f'{say} < "{TOLD}/$name.txt"'
    )
    nvidia_smi(machine, script)


def test_an_h100_in_its_drivers_words(machine: Path) -> None:
    tell(machine, "work")
    asked = gpus(machine)
    assert asked.cards() == (ObservedGpu("NVIDIA H100 80GB HBM3", 81559 * 2**20),)
    assert asked.memory_by_pid() == {516: 4778 * 2**20, 996: 1552 * 2**20}
    assert [asked.are_busy({pid}) for pid in (516, 996, 1)] == [True, False, False]


@pytest.mark.parametrize("work", ["work-of-none", "work-of-nobody"])
def test_an_h100_at_rest_in_its_drivers_words(machine: Path, work: str) -> None:
    """With a process that has memory and does nothing, and with no process at all."""
    tell(machine, work)
    assert not gpus(machine).are_busy({516})


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


def card(machine: Path, number: int, vendor: str, place: str, vram: str | None = None) -> None:
    """A card as the kernel shows it: a link to its place on the bus."""
    device = machine / "bus" / place
    device.mkdir(parents=True)
    (device / "vendor").write_text(f"{vendor}\n")
    if vram is not None:
        (device / "mem_info_vram_total").write_text(f"{vram}\n")
    folder = machine / "class" / "drm" / f"card{number}"
    folder.mkdir(parents=True)
    (folder / "device").symlink_to(device)


def test_no_card_is_no_card(machine: Path) -> None:
    assert gpus(machine).cards() == ()


def test_nvidias_cards_are_asked_for_once(machine: Path) -> None:
    script = (
        'echo "$*" >> "$0.args"; '
        "printf 'NVIDIA H100 80GB HBM3, 81559\\nNVIDIA GB10, [N/A]\\nodd\\n'"
    )
    nvidia_smi(machine, script)
    asked = gpus(machine)
    expected = (
        ObservedGpu("NVIDIA H100 80GB HBM3", 81559 * 2**20),
        ObservedGpu("NVIDIA GB10", None),
    )
    assert (asked.cards(), asked.cards()) == (expected, expected)
    lines = (machine / "bin" / "nvidia-smi.args").read_text(encoding="utf-8").splitlines()
    assert lines == ["--query-gpu=name,memory.total --format=csv,noheader,nounits"]


@pytest.mark.parametrize("device", ["nvidiactl", "dxg"])
def test_a_driver_without_its_tool_has_a_card_of_unknown_memory(machine: Path, device: str) -> None:
    (machine / "dev" / device).touch()
    assert gpus(machine).cards() == (ObservedGpu("a GPU that nvidia-smi does not tell of", None),)


def test_nvidia_smi_is_not_run_where_there_is_no_card_of_its(machine: Path) -> None:
    nvidia_smi(machine, "touch $0.ran; echo 'card, 5'")
    (machine / "dev" / "nvidiactl").unlink()
    assert gpus(machine).cards() == ()
    assert not (machine / "bin" / "nvidia-smi.ran").exists()


def test_cards_of_the_kernels_drivers(machine: Path) -> None:
    card(machine, 0, "0x1002", "0000:03:00.0", "25753026560")
    card(machine, 1, "0x1002", "0000:04:00.0")
    card(machine, 2, "0x8086", "0000:00:02.0")
    card(machine, 3, "0x8086", "0000:05:00.0")
    card(machine, 4, "0x10de", "0000:06:00.0")
    card(machine, 5, "0x1a03", "0000:07:00.0")
    (machine / "class" / "drm" / "card5-VGA-1" / "device").mkdir(parents=True)
    assert gpus(machine).cards() == (
        ObservedGpu("AMD GPU", 25753026560),
        ObservedGpu("AMD GPU", None),
        ObservedGpu("Intel GPU", None),
        ObservedGpu("NVIDIA GPU without NVIDIA's driver", None),
    )


def test_a_card_with_nvidias_driver_is_not_counted_twice(machine: Path) -> None:
    card(machine, 0, "0x10de", "0000:06:00.0")
    nvidia_smi(machine, "echo 'card, 5'")
    assert gpus(machine).cards() == (ObservedGpu("card", 5 * 2**20),)


def test_devices_that_this_user_may_not_use(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert gpus(machine).barred() == ()
    (machine / "dev" / "dri").mkdir()
    for name in ("kfd", "dri/card0", "dri/renderD129", "dri/renderD128"):
        (machine / "dev" / name).touch()
    assert gpus(machine).barred() == ()
    # Root may do anything, so that rights alone would prove nothing here.
    monkeypatch.setattr(os, "access", lambda path, _how: "renderD128" in str(path))
    assert gpus(machine).barred() == tuple(
        str(machine / "dev" / name) for name in ("kfd", "dri/renderD129")
    )


@pytest.mark.parametrize(
    ("lines", "count"),
    [
        ("drm-total-vram0:\t9 MiB\ndrm-resident-vram0:\t4 MiB\ndrm-shared-vram0:\t1 MiB", 4),
        ("drm-resident-local0:\t4 MiB\ndrm-resident-local1:\t2048 KiB", 6),
        ("drm-total-local0:\t5 MiB\ndrm-total-system0:\t70 MiB", 5),
        ("drm-memory-vram:\t3 MiB\ndrm-memory-gtt:\t70 MiB\ndrm-total-vram:\t9 MiB", 3),
        ("drm-memory-cpu:\t70 MiB\ndrm-engine-gfx:\t9 ns", 0),
    ],
)
def test_each_driver_has_its_own_words(machine: Path, lines: str, count: int) -> None:
    """amdgpu, xe and i915 (the kernel's drm-usage-stats)."""
    (machine / "dev" / "dri").mkdir()
    folder = machine / "proc" / str(HERE) / "fdinfo"
    folder.mkdir(parents=True)
    (folder / "9").write_text(f"drm-client-id:\t1\n{lines}\n", encoding="utf-8")
    assert gpus(machine).memory_by_pid() == ({HERE: count * 2**20} if count else {})


PMON = """\
# gpu         pid   type     sm    mem    enc    dec    jpg    ofa    command
# Idx           #    C/G      %      %      %      %      %      %    name
    0          7     C     97     41      -      -      -      -    llama-server
    0          8     C      0      0      -      -      -      -    llama-server
    1          9     G      -      -      -      -      -      -    Xorg
    2          -     -      -      -      -      -      -      -    -
"""
"""As the manual of nvidia-smi shows it."""


def test_nvidia_tells_whose_work_a_card_does(machine: Path) -> None:
    (machine / "pmon").write_text(PMON, encoding="utf-8")
    nvidia_smi(
        machine, f'echo "$*" > "$0.args"; while read -r l; do echo "$l"; done < {machine}/pmon'
    )
    assert [gpus(machine).are_busy({pid}) for pid in (7, 8, 9, 10)] == [True, False, False, False]
    assert gpus(machine).are_busy({8, 7})
    asked = (machine / "bin" / "nvidia-smi.args").read_text(encoding="utf-8")
    assert asked.split() == ["pmon", "--count", "1", "--select", "u"]


@pytest.mark.parametrize("script", ["exit 9", "printf '# gpu pid\\n0 7\\n'", "echo 0 7 C 97"])
def test_a_broken_driver_tells_of_no_work(machine: Path, script: str) -> None:
    nvidia_smi(machine, script)
    assert not gpus(machine).are_busy({7})


def test_the_kernels_drivers_tell_how_long_an_engine_was_busy(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (machine / "dev" / "dri").mkdir()
    folder = machine / "proc" / "7" / "fdinfo"
    folder.mkdir(parents=True)
    busy_ns = iter((10**9, 10**9 + 10**6, 2 * 10**9, 4 * 10**9))

    def go_on(_seconds: float) -> None:
        text = f"drm-client-id:\t1\ndrm-engine-compute:\t{next(busy_ns)} ns\n"
        (folder / "5").write_text(f"{text}drm-engine-capacity-gfx:\t8\n", encoding="utf-8")

    go_on(0)
    monkeypatch.setattr(gpus_module, "sleep", go_on)
    assert not gpus(machine).are_busy({7})
    assert gpus(machine).are_busy({7})
    assert not gpus(machine).are_busy({8})
