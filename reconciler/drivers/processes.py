"""The server processes of one root: started, held by their slot locks, routed to, ended.

In: launches and process identities. Out: what lives (`labelled` finds it), how what died ended.
A process is only ever signalled after its identity (pid and start ticks) was checked on an open
pidfd. What carries no label of this root is not ours and is never touched.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import cache, partial
from pathlib import Path

from reconciler.core.engine import (
    LABEL_FILES,
    LABEL_INSTANCE,
    LABEL_ROOT,
    LABEL_SLOT,
    LABEL_SPEC,
    PASSED_ENVIRONMENT,
)
from reconciler.core.hiding import hide
from reconciler.core.launch import Launch
from reconciler.core.observed import LastExit, ObservedServer, ProcessRef
from reconciler.core.os_errors import explain_os
from reconciler.core.site import SLOTS, Site
from reconciler.core.words import InstanceName
from reconciler.drivers import (
    effects,
    locks,
    log_trimming,
    oom,
    parents,
    proc,
    server_logs,
    slots,
)
from reconciler.drivers.base import Cancel, Clock
from reconciler.drivers.base_runtime import Exit
from reconciler.drivers.labelled import LabelledProcesses
from reconciler.errors import EngineError

SLOT_WAIT_S = 5.0
"""A slot can be held for a moment by a child that has not executed its engine yet."""
LEFT_BEHIND_S = 5.0


class ServerProcesses:
    """The real `Runtime` of `drivers.base`."""

    def __init__(
        self,
        site: Site,
        environment: Mapping[str, str],
        clock: Clock,
        secrets: Callable[[Iterable[tuple[str, str]]], Collection[str]] = lambda _: (),
    ) -> None:
        """`secrets`: what the last words of a server must not repeat, given its variables."""
        self._site = site
        self._secrets = secrets
        self._environment = environment
        self._clock = clock
        self._labelled = LabelledProcesses(site, clock)
        self._started: dict[ProcessRef, parents.Started] = {}
        self._log_starts: dict[ProcessRef, int] = {}
        self._given: set[tuple[str, str]] = set()

    def list(self) -> tuple[ObservedServer, ...]:
        """All live processes that carry this root's labels, sorted."""
        return self.look()[0]

    def look(self) -> tuple[tuple[ObservedServer, ...], tuple[str, ...]]:
        """The same, and other roots whose folder is gone, though servers of theirs run; sorted."""
        self._reap()
        return self._labelled.look()

    def unsettled(self) -> bool:
        """Whether a slot is held by a process without labels: a child just before its exec."""
        return self._labelled.unsettled()

    def start(self, launch: Launch) -> ProcessRef:
        """Start a process that holds its slot's lock for as long as it lives."""
        site, instance = self._site, launch.instance
        # The file may say something else by the time that it ends.
        self._given.update(launch.env)
        lock = self._take_slot(instance, launch.slot)
        try:
            for folder in (site.sockets, f"{site.state}/empty", f"{site.root}/logs"):
                effects.make_folder(folder)
            if launch.address.startswith("unix:"):
                # Left behind by a predecessor that died: clients would meet this one while it
                # loads, and the socket would make its start fail. We hold the slot.
                self.unroute(instance, launch.address)
                effects.unlink(launch.address.removeprefix("unix:"))
            log = Path(site.log_file(instance))
            server_logs.rotate(log)
            start = log.stat().st_size if log.exists() else 0
            slot = site.slot_lock(instance, launch.slot)
            self._close_other(instance, launch.slot)
            effects.overwrite(slot, slots.begin_note(start, oom.counter()))
            started = parents.start(
                (*launch.command, *launch.argv),
                self._labels_of(launch),
                self._environment_for(launch),
                (site.root, str(log)),
                (lock, slot),
            )
        except OSError as error:
            message, hint = explain_os(error)
            raise EngineError(f"{instance} could not be started: {message}", hint=hint) from error
        finally:
            os.close(lock)
        ref = started.ref
        self._started[ref], self._log_starts[ref] = started, start
        self._note_pid(instance, ref.pid, launch.public_port)
        return ref

    def _close_other(self, instance: InstanceName, slot: str) -> None:
        """A death in the slot that is not taken now was seen: it is not how this server ends."""
        [path] = [self._site.slot_lock(instance, one) for one in SLOTS if one != slot]
        if not Path(path).exists():
            return
        note = parents.ended_note(Path(path))
        if note.log_start is None or (lock := locks.take(path)) is None:
            return
        try:
            effects.overwrite(path, slots.ended_note(note.server or ProcessRef(0, 0)))
        finally:
            os.close(lock)

    def _note_pid(self, instance: InstanceName, pid: int, port: int | None) -> None:
        """Write the pid file. It is for people: where it cannot be written, nothing else fails."""
        path, text = Path(self._site.pid_file(instance)), f"{pid}\n{'' if port is None else port}\n"
        with contextlib.suppress(OSError):
            if slots.read(path) != text:
                effects.make_folder(path.parent)
                effects.write_atomic(path, text, mode=0o644)

    def _take_slot(self, instance: InstanceName, slot: str) -> int:
        path = self._site.slot_lock(instance, slot)
        deadline = self._clock.monotonic() + SLOT_WAIT_S
        while (lock := locks.take(path)) is None:
            if self._clock.monotonic() > deadline:
                holders = ", ".join(str(ref.pid) for ref in proc.holders_of(path))
                raise EngineError(
                    f"a copy of {instance} already runs (pid {holders or 'unknown'})",
                    hint="apply again: it will be adopted or replaced",
                )
            time.sleep(0.02)
        return lock

    def _environment_for(self, launch: Launch) -> dict[str, str]:
        passed = {
            name: self._environment[name]
            for name in PASSED_ENVIRONMENT
            if name in self._environment
        }
        return {
            **passed,
            # llama-server reads $XDG_CONFIG_HOME/llama.cpp/config.ini: let it find nothing.
            "XDG_CONFIG_HOME": f"{self._site.state}/empty",
            **dict(launch.env),
        }

    def _labels_of(self, launch: Launch) -> dict[str, str]:
        return {
            LABEL_ROOT: self._site.root,
            LABEL_INSTANCE: launch.instance,
            LABEL_SPEC: launch.spec_hash,
            LABEL_SLOT: launch.slot,
            LABEL_FILES: launch.files,
        }

    def _reap(self) -> None:
        """Let no child that has ended stay a zombie, whoever else waits for it."""
        for started in tuple(self._started.values()):
            started.child.poll()

    def exited(self, server: ProcessRef, instance: InstanceName) -> Exit | None:
        """How it ended. Of one without a shell above its starter alone knows the exit code."""
        if proc.lives(server):
            return None
        started, note = self._started.get(server), self._ended_note(server, instance)
        code = started.code() if started else None
        start = self._log_starts.get(server, note.log_start or 0)
        tail = self.log_tail(instance, server_logs.CAUSE_LINES, start)
        return Exit(note.code if code is None else code, tail, oom.rose(note))

    def _ended_note(self, server: ProcessRef, instance: InstanceName) -> slots.Note:
        """What stands on its slot; nothing where another one took that, or it had no shell."""
        paths = [Path(self._site.slot_lock(instance, slot)) for slot in SLOTS]
        notes = (parents.ended_note(path) for path in paths if path.exists())
        return next((note for note in notes if note.server == server), slots.Note(None))

    def signal_stop(self, server: ProcessRef, instance: InstanceName, slot: str) -> None:
        """TERM, once: a second one crashes llama-server, so the first is noted on the slot."""
        path, before = self._site.slot_lock(instance, slot), slots.note(self._site, instance, slot)
        if slots.parse(before).stopping == server:
            return
        if proc.lives(server):
            with contextlib.suppress(OSError):  # a full disk must not keep a server alive
                effects.overwrite(path, slots.stopping_note(server))
            try:
                effects.send(server, signal.SIGTERM, proc.lives)
            except OSError:
                with contextlib.suppress(OSError):
                    effects.overwrite(path, before)
                raise

    def kill(self, server: ProcessRef) -> None:
        """KILL to it and its group."""
        parents.kill(server, self._site.slots)

    def wait_gone(self, server: ProcessRef, timeout: float, cancel: Cancel) -> bool:
        """Wait for its end, and reap it if it is our child."""
        gone = proc.wait_gone(server, timeout, cancel)
        if gone and server in self._started:
            self._started[server].code()
        return gone

    def route(self, instance: InstanceName, address: str) -> None:
        """Swap the stable name; nginx follows it at its next connect, without a reload."""
        if not slots.is_port(address) and slots.routed_to(self._site, instance) != address:
            effects.swap_link(self._site.route(instance), Path(address).name)

    def unroute(self, instance: InstanceName, address: str) -> bool:
        """Take the stable name away, if it is still this server's."""
        if slots.is_port(address) or slots.routed_to(self._site, instance) != address:
            return False
        effects.unlink(self._site.route(instance))
        return True

    def forget(self, server: ProcessRef, instance: InstanceName, address: str) -> None:
        """Remove its socket, its pid file if it is still its own, and processes that it left."""
        self._end_left_behind(server, instance, address)
        self._note_end(server, instance, address)
        # What cannot be removed now stands in nobody's way; the next run tries again.
        with contextlib.suppress(OSError):
            if not slots.is_port(address):
                effects.unlink(address.removeprefix("unix:"))
            pid_file = Path(self._site.pid_file(instance))
            if slots.read(pid_file).split("\n", 1)[0] == str(server.pid):
                effects.unlink(pid_file)

    def _note_end(self, server: ProcessRef, instance: InstanceName, address: str) -> None:
        """Note on its slot that its end is known: later looks must not take it for a death."""
        for slot in SLOTS:
            is_its = (
                slots.is_port(address) or address == f"unix:{self._site.socket(instance, slot)}"
            )
            path = Path(self._site.slot_lock(instance, slot))
            if is_its and path.exists() and slots.parse(slots.read(path)).log_start is not None:
                with contextlib.suppress(OSError):
                    effects.overwrite(path, slots.ended_note(server))

    def _end_left_behind(self, server: ProcessRef, instance: InstanceName, address: str) -> None:
        """End what else is labelled with its slot: its engine, if it was a wrapper; its helpers."""
        own = [slot for slot in SLOTS if address == f"unix:{self._site.socket(instance, slot)}"]
        left = [
            ref
            for pid, env in self._labelled.environments().items()
            if env[LABEL_INSTANCE] == instance and env.get(LABEL_SLOT, "a") in (own or SLOTS)
            if (ref := proc.ref_of(pid)) and ref != server
        ]
        for ref in left:
            effects.send(ref, signal.SIGKILL, proc.lives)
        for ref in left:
            proc.wait_gone(ref, LEFT_BEHIND_S, threading.Event())

    def tidy(self, ports: Mapping[InstanceName, int | None]) -> None:
        """Correct the pid files of what lives, remove what the dead left."""
        live: dict[InstanceName, ObservedServer] = {}
        servers = self.list()
        for server in servers:
            if server.routed or server.instance not in live:
                live[server.instance] = server
        for instance, port in ports.items():
            if instance in live:
                self._note_pid(instance, live[instance].ref.pid, port)
        taken = {(server.instance, server.slot) for server in servers}
        for lock in Path(self._site.state, "slots").glob("*.*"):
            name, _, slot = lock.name.rpartition(".")
            # A lock can be lost by a wrapper that passes no descriptors on; its server is not.
            if (name, slot) not in taken:
                self._clear_slot(InstanceName(name), slot, is_dead=name not in live)
        for folder in (self._site.state, f"{self._site.root}/run", f"{self._site.root}/logs"):
            effects.sweep(folder)
        self._trim_logs(servers)

    def trim_logs(self) -> None:
        """Set aside what is too much of the logs of servers that run."""
        self._trim_logs(self.list())

    def _trim_logs(self, servers: Iterable[ObservedServer]) -> None:
        for server in servers:
            # What cannot be set aside now stands in nobody's way; the next run tries again.
            with contextlib.suppress(OSError):
                log = Path(self._site.log_file(server.instance))
                log_trimming.trim(log, partial(self._forget_log_start, server))

    def _forget_log_start(self, server: ObservedServer) -> None:
        """Its words begin where its log does: a full log has more of them than anybody reads."""
        self._log_starts.pop(server.ref, None)
        for slot in SLOTS:
            first, _, rest = slots.note(self._site, server.instance, slot).partition("\n")
            if slots.parse(first).log_start:
                path = self._site.slot_lock(server.instance, slot)
                effects.overwrite(path, slots.begin_note(0) + rest)

    def _clear_slot(self, instance: InstanceName, slot: str, *, is_dead: bool) -> None:
        lock = locks.take(self._site.slot_lock(instance, slot))
        if lock is None:
            return
        try:
            effects.unlink(self._site.socket(instance, slot))
            if is_dead:
                effects.unlink(self._site.route(instance))
                effects.unlink(self._site.pid_file(instance))
        finally:
            os.close(lock)

    def log_tail(self, instance: InstanceName, lines: int, start: int = 0) -> str:
        """The last lines of its log, from byte `start` on, without secrets."""
        said = server_logs.tail(Path(self._site.log_file(instance)), lines, start)
        return self._hiding()(said)

    def _hiding(self) -> Callable[[str], str]:
        """What takes secrets out of texts: they are read once, when there is a first text."""
        known = cache(partial(self._secrets, tuple(self._given)))
        return lambda text: hide(text, known()) if text else ""

    def cpu_seconds(self, server: ProcessRef) -> float:
        """CPU time that all of its group has used so far: below a wrapper the engine works."""
        if not proc.lives(server):
            return 0.0
        group = (proc.ref_of(pid) for pid in proc.group_of(server.pid))
        return sum(proc.cpu_seconds(one) for one in group if one)

    def bytes_read(self, server: ProcessRef) -> int:
        """What all of its group has read or mapped in: below a wrapper the engine is what loads."""
        if not proc.lives(server):
            return 0
        return sum(proc.loaded_bytes(pid) for pid in proc.group_of(server.pid))

    def deaths(self, live: Iterable[ObservedServer]) -> Mapping[InstanceName, LastExit]:
        """How the last copy of each instance ended that neither lives nor was stopped by us."""
        taken = {(server.instance, server.slot) for server in live}
        booted = self._clock.now() - proc.uptime()
        return server_logs.deaths(self._site, taken, booted, self._hiding())
