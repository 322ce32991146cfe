"""What the machine has to give: disks, memory, graphics cards.

In: what the drivers saw. Out: a part of the observed state. What is too little is decided in
`core.capacity`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ObservedDisk:
    """A file system that files are downloaded to."""

    device: int
    folder: str
    """Where on it they go."""
    free_bytes: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class ObservedGpu:
    """One graphics card that an engine could compute on."""

    name: str
    memory_bytes: int | None
    """Its own memory in all; None where nobody tells."""


@dataclass(frozen=True, slots=True)
class ObservedMemory:
    """What memory the machine has in all; 0 bytes of RAM: it was not looked at."""

    ram_bytes: int = 0
    available_bytes: int = 0
    """What could be had now without swapping (proc(5): MemAvailable)."""
    swap_bytes: int = 0
    limit_bytes: int | None = None
    """The most that our cgroup may have, if that is limited."""
    gpus: tuple[ObservedGpu, ...] | None = None
    """None: nobody asked for them, so that there may be some."""

    @property
    def usable_bytes(self) -> int:
        """RAM that servers of ours may have in all."""
        return self.ram_bytes if self.limit_bytes is None else min(self.ram_bytes, self.limit_bytes)
