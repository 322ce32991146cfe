"""Graphics cards, their memory and their work by process, as far as their drivers tell.

In: nothing but the machine. Out: cards; pid -> bytes; whether a process computes. It is told by
`nvidia-smi`, and by the kernel's own drivers (amdgpu, i915, xe, nouveau) in /sys and fdinfo.
It must never fail: a machine without a card, or with a broken driver, has nothing to tell.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from time import monotonic, sleep

from reconciler.core.resources import ObservedGpu
from reconciler.drivers import proc
from reconciler.drivers.programs import ask

QUESTION_S = 10.0
"""nvidia-smi takes 50 ms, or some seconds where no driver is kept loaded."""
SAMPLE_S = 0.5
LEAST_SHARE = 0.05
"""Of the time between two looks, on any engine of a card: so much proves work."""
_BY_PROCESS = "--query-compute-apps=pid,used_gpu_memory"
_BY_CARD = "--query-gpu=name,memory.total"
_PLAIN = "--format=csv,noheader,nounits"
_BY_WORK = ("pmon", "--count", "1", "--select", "u")
_NVIDIA, _AMD, _INTEL = "0x10de", "0x1002", "0x8086"
"""PCI vendors of cards that llama.cpp computes on; a server's or a virtual screen is none."""
_FIELD = re.compile(r"^(drm-[\w-]+):\s*(\S+)(?: (KiB|MiB))?", re.MULTILINE)
_UNITS = {"": 1, "KiB": 2**10, "MiB": 2**20}
_KINDS = ("resident", "memory", "total")
"""What a card's own memory is told as, best first (the kernel's drm-usage-stats: `memory` is the
old name of `resident`; some drivers tell only what was allocated)."""
_ENGINE = re.compile(r"^drm-engine-[\w-]+:\s*(\d+) ns", re.MULTILINE)
"""How long a client has kept one engine of a card busy (drm-usage-stats)."""
_REGION = re.compile(r"drm-(\w+)-(?:vram|local)\d*")
"""A card's own memory: `vram` (amdgpu), `vram0` (xe), `local0` (i915)."""


class GpuMemory:
    """The real `Gpus` of `drivers.base`."""

    def __init__(
        self,
        devices: Path = Path("/dev"),
        processes: Path = Path("/proc"),
        classes: Path = Path("/sys/class"),
    ) -> None:
        self._devices = devices
        self._processes = processes
        self._classes = classes
        self._cards: tuple[ObservedGpu, ...] | None = None

    def cards(self) -> tuple[ObservedGpu, ...]:
        """The cards that an engine could compute on; asked once, they stay what they are."""
        if self._cards is None:
            self._cards = (*self._nvidia_cards(), *self._other_cards())
        return self._cards

    def barred(self) -> tuple[str, ...]:
        """The devices of cards that this user may not use."""
        named = (self._devices / name for name in ("nvidiactl", "kfd"))
        paths = [*named, *sorted(self._devices.glob("dri/renderD*"))]
        rights = os.R_OK | os.W_OK
        return tuple(str(one) for one in paths if one.exists() and not os.access(one, rights))

    def _nvidia_cards(self) -> Iterator[ObservedGpu]:
        # /dev/dxg: Windows' driver, seen from a Linux inside it.
        if not any((self._devices / name).exists() for name in ("nvidiactl", "dxg")):
            return
        lines = [line.rpartition(",") for line in _ask_nvidia(_BY_CARD, _PLAIN) if "," in line]
        for name, _, mebibytes in lines:
            count = mebibytes.strip()
            yield ObservedGpu(name.strip(), int(count) * 2**20 if count.isdigit() else None)
        if not lines:
            yield ObservedGpu("a GPU that nvidia-smi does not tell of", None)

    def _other_cards(self) -> Iterator[ObservedGpu]:
        for card in sorted(self._classes.glob("drm/card[0-9]*/device")):
            vendor, place = _line(card / "vendor"), card.resolve().name
            memory = _line(card / "mem_info_vram_total")
            if vendor == _AMD:
                yield ObservedGpu("AMD GPU", int(memory) if memory.isdigit() else None)
            elif vendor == _INTEL and not place.startswith("0000:00:"):
                # On the first bus it is the processor's own, whose memory is the machine's.
                yield ObservedGpu("Intel GPU", None)
            elif vendor == _NVIDIA and not (self._devices / "nvidiactl").exists():
                yield ObservedGpu("NVIDIA GPU without NVIDIA's driver", None)

    def memory_by_pid(self) -> Mapping[int, int]:
        """Bytes on all cards of each process of this user that has some."""
        found: dict[int, int] = {}
        if (self._devices / "nvidiactl").exists():
            _add(found, _from_nvidia())
        if (self._devices / "dri").is_dir():
            _add(found, self._from_kernel())
        return found

    def are_busy(self, pids: Collection[int]) -> bool:
        """Whether one of these processes keeps a card busy, or did two seconds ago.

        An H100's driver was seen to tell of work for so long after its end. It takes up to a
        second to find out.
        """
        if (self._devices / "nvidiactl").exists() and not _busy_on_nvidia().isdisjoint(pids):
            return True
        if not (self._devices / "dri").is_dir():
            return False
        began, before = monotonic(), self._engine_ns(pids)
        sleep(SAMPLE_S)
        lasted_ns = max(monotonic() - began, SAMPLE_S) * 1e9
        return self._engine_ns(pids) - before >= LEAST_SHARE * lasted_ns

    def _engine_ns(self, pids: Iterable[int]) -> int:
        """A client with several descriptors counts as often: whether it grows is what matters."""
        texts = (text for pid in pids for text in self._told(pid))
        return sum(int(count) for text in texts for count in _ENGINE.findall(text))

    def _told(self, pid: int) -> Iterator[str]:
        return _descriptors(self._processes / str(pid) / "fdinfo")

    def _from_kernel(self) -> Iterator[tuple[int, int]]:
        for pid in proc.own_pids():
            # One client of a card may have several descriptors: each tells the same.
            clients: dict[tuple[str, str], int] = {}
            for text in self._told(pid):
                fields = {name: (value, unit) for name, value, unit in _FIELD.findall(text)}
                card = fields.get("drm-pdev", ("", ""))[0]
                client = fields.get("drm-client-id", ("", ""))[0]
                clients[card, client] = _own_memory(fields)
            yield pid, sum(clients.values())


def _own_memory(fields: Mapping[str, tuple[str, str]]) -> int:
    """Bytes of the card's own memory that one client has, over all its regions."""
    told: dict[str, int] = {}
    for name, (value, unit) in fields.items():
        region = _REGION.fullmatch(name)
        if region and value.isdigit():
            told[region[1]] = told.get(region[1], 0) + int(value) * _UNITS[unit]
    return next((told[kind] for kind in _KINDS if kind in told), 0)


def _add(found: dict[int, int], more: Iterable[tuple[int, int]]) -> None:
    for pid, count in more:
        if count:
            found[pid] = found.get(pid, 0) + count


def _descriptors(folder: Path) -> Iterator[str]:
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            with contextlib.suppress(OSError):
                yield path.read_text(encoding="utf-8", errors="replace")


def _line(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""


def _ask_nvidia(*question: str) -> list[str]:
    """The lines of an answer of nvidia-smi; none when it cannot be asked."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    with contextlib.suppress(OSError):
        answer = ask([program, *question], timeout=QUESTION_S)
        return answer.out.splitlines() if answer.code == 0 else []
    return []


def _from_nvidia() -> Iterator[tuple[int, int]]:
    for line in _ask_nvidia(_BY_PROCESS, _PLAIN):
        pid, _, mebibytes = line.partition(",")
        with contextlib.suppress(ValueError):
            yield int(pid), int(mebibytes) * 2**20


def _busy_on_nvidia() -> frozenset[int]:
    """The processes whose part of a card's time is not 0: `# gpu  pid  type  sm  mem ...`."""
    columns: list[str] = []
    found = set()
    for words in map(str.split, _ask_nvidia(*_BY_WORK)):
        if words[:2] == ["#", "gpu"]:
            columns = words[1:]
        values = dict(zip(columns, words, strict=False))
        with contextlib.suppress(KeyError, ValueError):
            if int(values["sm"]) > 0:
                found.add(int(values["pid"]))
    return frozenset(found)
