"""The memory of graphics cards by process, as far as their drivers tell.

In: nothing but the machine. Out: pid -> bytes. NVIDIA's driver tells it through `nvidia-smi`,
the kernel's own drivers (amdgpu, i915, xe, nouveau) in /proc/PID/fdinfo.
It must never fail: a machine without a card, or with a broken driver, has nothing to tell.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from reconciler.drivers import proc

QUESTION_S = 10.0
"""nvidia-smi takes 50 ms, or some seconds where no driver is kept loaded."""
_QUERY = ("--query-compute-apps=pid,used_gpu_memory", "--format=csv,noheader,nounits")
_FIELD = re.compile(r"^(drm-[\w-]+):\s*(\S+)(?: (KiB|MiB))?", re.MULTILINE)
_UNITS = {"": 1, "KiB": 2**10, "MiB": 2**20}


class GpuMemory:
    """The real `Gpus` of `drivers.base`."""

    def __init__(self, devices: Path = Path("/dev"), processes: Path = Path("/proc")) -> None:
        self._devices = devices
        self._processes = processes

    def memory_by_pid(self) -> Mapping[int, int]:
        """Bytes on all cards of each process of this user that has some."""
        found: dict[int, int] = {}
        if (self._devices / "nvidiactl").exists():
            _add(found, _from_nvidia())
        if (self._devices / "dri").is_dir():
            _add(found, self._from_kernel())
        return found

    def _from_kernel(self) -> Iterator[tuple[int, int]]:
        for pid in proc.own_pids():
            # One client of a card may have several descriptors: each tells the same.
            clients: dict[tuple[str, str], int] = {}
            for text in _descriptors(self._processes / str(pid) / "fdinfo"):
                fields = {name: (value, unit) for name, value, unit in _FIELD.findall(text)}
                value, unit = fields.get("drm-memory-vram", ("0", ""))
                card = fields.get("drm-pdev", ("", ""))[0]
                client = fields.get("drm-client-id", ("", ""))[0]
                with contextlib.suppress(ValueError):
                    clients[card, client] = int(value) * _UNITS[unit]
            yield pid, sum(clients.values())


def _add(found: dict[int, int], more: Iterable[tuple[int, int]]) -> None:
    for pid, count in more:
        if count:
            found[pid] = found.get(pid, 0) + count


def _descriptors(folder: Path) -> Iterator[str]:
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            with contextlib.suppress(OSError):
                yield path.read_text(encoding="utf-8", errors="replace")


def _from_nvidia() -> Iterator[tuple[int, int]]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return
    try:
        done = subprocess.run(
            [program, *_QUERY], capture_output=True, timeout=QUESTION_S, check=True, text=True
        )
    except (OSError, subprocess.SubprocessError):
        return
    for line in done.stdout.splitlines():
        pid, _, mebibytes = line.partition(",")
        with contextlib.suppress(ValueError):
            yield int(pid), int(mebibytes) * 2**20
