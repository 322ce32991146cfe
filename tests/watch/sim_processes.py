"""The processes of a simulated machine: pids that come round, strangers, reboots, a clock to set.

In: launches, and what befalls the machine. Out: what the real `Runtime` and `Ports` would see.
Whoever is not ours is known here by the number and the start that the kernel gave it: a signal
that reaches one is remembered in `Pids.wronged`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from fake_drivers import FakePorts
from fake_runtime import FakeClock, FakeRuntime, FakeServer

from reconciler.core.causes import REBOOTED
from reconciler.core.launch import Launch
from reconciler.core.observed import LastExit, ObservedServer, PortHolder, ProcessRef
from reconciler.core.resolve import tcp_port
from reconciler.core.words import InstanceName
from reconciler.errors import EngineError

MOST_PIDS = 24
"""So few that they come round within an example (Linux: 4 million)."""
FIRST_PID = 100


class Pids:
    """The process numbers of one machine."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self._booted = clock.now()
        self._last, self._ticks = FIRST_PID, 0
        self.taken: Callable[[], set[int]] = set
        """Those of what lives and is ours."""
        self.strangers: dict[ProcessRef, str] = {}
        self.wronged: list[str] = []
        """The strangers that a signal of ours has reached."""

    def fork(self, pid: int | None = None) -> ProcessRef:
        """A new process; the kernel gives the next number that is free, or (a test) this one."""
        free = [one for one in range(FIRST_PID, FIRST_PID + MOST_PIDS) if one not in self._used()]
        later = [one for one in free if one > self._last]
        self._last = pid if pid in free else (later or free)[0]
        # Numbers come round after hours, and each tick is another one.
        self._ticks = max(self._ticks + 1, int(self._clock.now() - self._booted) * 100)
        return ProcessRef(self._last, self._ticks)

    def _used(self) -> set[int]:
        return self.taken() | {one.pid for one in self.strangers}

    def reboot(self) -> None:
        """All numbers are free, and ticks begin anew."""
        self._booted, self._last, self._ticks = self._clock.now(), FIRST_PID, 0
        self.strangers.clear()

    def come(self, command: str, pid: int | None = None) -> ProcessRef:
        """Somebody else's process begins."""
        if len(self._used()) > MOST_PIDS - 8:
            self.strangers.clear()
        found = self.fork(pid)
        self.strangers[found] = command
        return found

    def pretend(self, ref: ProcessRef) -> None:
        """After a boot a stranger has the very number and start of one of ours that is gone."""
        if ref.pid not in self._used():
            self.strangers[ref] = "sshd"

    def signal(self, ref: ProcessRef) -> None:
        """A signal is sent to exactly this process."""
        if ref in self.strangers:
            self.wronged.append(f"{ref}: {self.strangers[ref]}")


class WallClock(FakeClock):
    """What people set; processes live by the steady one."""

    def __init__(self, steady: FakeClock) -> None:
        super().__init__()
        self._steady = steady
        self.jumps: list[tuple[float, float]] = [(0.0, 1e9)]
        """From which moment of the steady clock on, by how much it differs."""

    def now(self) -> float:
        return self.at(self._steady.now())

    def monotonic(self) -> float:
        return self._steady.monotonic()

    def jump(self, seconds: float) -> None:
        self.jumps.append((self._steady.now(), self.jumps[-1][1] + seconds))

    def at(self, moment: float) -> float:
        """What it said at a moment of the steady clock."""
        return moment + next(by for since, by in reversed(self.jumps) if since <= moment)


class SimRuntime(FakeRuntime):
    """Its deaths have their moments by the wall clock, as the kernel writes them to files."""

    def __init__(self, clock: FakeClock, wall: WallClock, pids: Pids) -> None:
        super().__init__(clock)
        self.wall, self.pids = wall, pids
        self.rebooted: set[int] = set()
        """Those that ended with the machine."""
        self.is_full = False
        """The disk is: nothing can be noted, and no log begun."""

    def _new_ref(self) -> ProcessRef:
        return self.pids.fork()

    def _observed(self, server: FakeServer) -> ObservedServer:
        found = super()._observed(server)
        # Told by its age, as the kernel knows it.
        age = self._clock.now() - server.began
        return replace(found, since=self.wall.now() - age)

    def lives(self) -> list[FakeServer]:
        """What really lives, whatever faults there are in looking."""
        return [one for one in self.servers if self._lives(one)]

    def start(self, launch: Launch) -> ProcessRef:
        if self.is_full:
            raise EngineError(f"{launch.instance} could not be started: no space left on device")
        return super().start(launch)

    def signal_stop(self, server: ProcessRef, instance: InstanceName, slot: str) -> None:
        self.pids.signal(server)
        before = self.notes.get((instance, slot))
        super().signal_stop(server, instance, slot)
        if self.is_full:
            self._note(instance, slot, before)

    def forget(self, server: ProcessRef, instance: InstanceName, address: str) -> None:
        before = dict(self.notes)
        super().forget(server, instance, address)
        if self.is_full:
            self.notes = before

    def _note(self, instance: InstanceName, slot: str, ref: ProcessRef | None) -> None:
        self.notes.pop((instance, slot), None)
        if ref:
            self.notes[instance, slot] = ref

    def kill(self, server: ProcessRef) -> None:
        self.pids.signal(server)
        super().kill(server)

    def reboot(self) -> None:
        """All end at once, and with them whoever could say how."""
        now = self._clock.now()
        for one in self.lives():
            one.killed, one.killed_at = True, now
            self.rebooted.add(id(one))
        self.routes.clear()

    def deaths(self, live: Iterable[ObservedServer]) -> Mapping[InstanceName, LastExit]:
        found = super().deaths(live)
        last = {one.launch.instance: one for one in self.servers}
        return {
            name: replace(one, at=self.wall.at(one.at))
            if id(last[name]) not in self.rebooted
            else replace(one, at=self.wall.at(one.at), reason=REBOOTED.reason, final=False)
            for name, one in found.items()
        }


class SimPorts(FakePorts):
    """Servers that listen on a port of their own hold it, and so does nginx."""

    def __init__(self, runtime: SimRuntime) -> None:
        super().__init__()
        self._runtime = runtime
        self.of_nginx: Callable[[], tuple[ProcessRef, set[int]] | None] = lambda: None

    def holders(
        self, wanted: Mapping[int, str], ours: Mapping[int, str]
    ) -> Mapping[int, PortHolder]:
        every = dict(self.held)
        for one in self._runtime.lives():
            port = tcp_port(one.launch.address)
            if port is not None:
                every[port] = PortHolder(port, one.ref.pid, "llama-server")
        nginx = self.of_nginx()
        for port in nginx[1] if nginx else ():
            every.setdefault(port, PortHolder(port, nginx and nginx[0].pid, "nginx"))
        return {
            port: replace(holder, owner=ours.get(holder.pid or 0))
            for port, holder in every.items()
            if port in wanted
        }
