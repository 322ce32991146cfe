"""The server processes of one root: found by their labels, held by their slot locks.

In: launches and process identities. Out: what lives, and how what died ended.
A process is only ever signalled after its identity (pid and start ticks) was checked on an open
pidfd. What carries no label of this root is not ours and is never touched.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from reconciler.core.engine import (
    LABEL_FILES,
    LABEL_INSTANCE,
    LABEL_PREFIX,
    LABEL_ROOT,
    LABEL_SLOT,
    LABEL_SPEC,
    PASSED_ENVIRONMENT,
    SET_ENVIRONMENT,
    SHELL_ENVIRONMENT,
)
from reconciler.core.observed import LastExit, ObservedServer, ProcessRef
from reconciler.core.os_errors import explain_os
from reconciler.core.plan import Launch
from reconciler.core.site import SLOTS, Site
from reconciler.core.words import InstanceName, Phase, SpecHash
from reconciler.drivers import effects, locks, proc, server_logs
from reconciler.drivers.base import Cancel, Clock, Exit
from reconciler.errors import EngineError, StateFolderError

SLOT_WAIT_S = 5.0
"""A slot can be held for a moment by a child that has not executed its engine yet."""
LEFT_BEHIND_S = 5.0
LOST_AFTER_S = 60.0
"""By then every engine has bound its socket: llama-server does in 40 ms, before it loads."""


class ServerProcesses:
    """The real `Runtime` of `drivers.base`."""

    def __init__(self, site: Site, environment: Mapping[str, str], clock: Clock) -> None:
        self._site = site
        self._environment = environment
        self._clock = clock
        self._children: dict[ProcessRef, subprocess.Popen[bytes]] = {}
        self._log_starts: dict[ProcessRef, int] = {}

    def list(self) -> tuple[ObservedServer, ...]:
        """All live processes that carry this root's labels, sorted."""
        return self.look()[0]

    def look(self) -> tuple[tuple[ObservedServer, ...], tuple[str, ...]]:
        """The same, and other roots whose folder is gone, though servers of theirs run; sorted."""
        seen = dict(proc.environments(LABEL_ROOT))
        return self._servers(self._labelled(seen)), self._lost_roots(seen.values())

    def _servers(self, labelled: Mapping[int, Mapping[str, str]]) -> tuple[ObservedServer, ...]:
        seen = (self._observed(pid, env) for pid, env in labelled.items())
        alone = [one for one in seen if one and not _is_child_of(one.ref.pid, labelled)]
        engines = {(one.instance, one.slot) for one in alone if one.argv}
        # Without arguments of an engine it is a helper, and told of only if its engine is gone.
        kept = [one for one in alone if one.argv or (one.instance, one.slot) not in engines]
        found = [_with_helpers(one, labelled) for one in kept]
        self._refuse_another_state_folder(found)
        return tuple(sorted(found, key=lambda server: (server.instance, server.ref)))

    def _labelled(self, seen: Mapping[int, Mapping[str, str]]) -> dict[int, Mapping[str, str]]:
        """The environments of all processes of this root, helpers of engines included."""
        ours = (one for one in seen.items() if one[1][LABEL_ROOT] == self._site.root)
        return {pid: env for pid, env in ours if LABEL_INSTANCE in env}

    def _lost_roots(self, seen: Iterable[Mapping[str, str]]) -> tuple[str, ...]:
        # Of our own state home: with another one nobody could stop them from here.
        home = f"{Path(self._site.state).parent}/"
        near = [env for env in seen if env.get("XDG_CONFIG_HOME", "").startswith(home)]
        others = {env[LABEL_ROOT] for env in near} - {"", self._site.root}
        return tuple(sorted(root for root in others if not Path(root).is_dir()))

    def _refuse_another_state_folder(self, servers: Iterable[ObservedServer]) -> None:
        """Their sockets, locks and nginx lie there: from here they could only be doubled."""
        for server in servers:
            folder = str(Path(server.address.removeprefix("unix:")).parent)
            if not _is_port(server.address) and folder != self._site.sockets:
                other = str(Path(folder).parents[2])
                raise StateFolderError(
                    f"{server.instance} (pid {server.ref.pid}) was started with the state folder "
                    f"{Path(folder).parent}, not {self._site.state}",
                    hint=f"set XDG_STATE_HOME={other} again; to move, `down` with it first",
                )

    def _observed(self, pid: int, env: Mapping[str, str]) -> ObservedServer | None:
        ref = proc.ref_of(pid)
        if ref is None:
            return None
        instance, slot = InstanceName(env[LABEL_INSTANCE]), env.get(LABEL_SLOT, "a")
        command = proc.command_line(pid)
        split = command.index("--model") if "--model" in command else len(command)
        argv = command[split:]
        address = _address_of(argv) if argv else f"unix:{self._site.socket(instance, slot)}"
        base = {*PASSED_ENVIRONMENT, *SET_ENVIRONMENT, *SHELL_ENVIRONMENT}
        stopping = self._slot_note(instance, slot) == _stopping_note(ref)
        # A helper that outlived its engine serves nobody, and may hold the engine's slot.
        stopping = stopping or not argv
        # A socket that was removed cannot be had back: nobody will ever reach this server again.
        old = proc.age_s(ref) > LOST_AFTER_S
        lost = not _is_port(address) and old and not Path(address.removeprefix("unix:")).exists()
        return ObservedServer(
            ref=ref,
            instance=instance,
            spec=SpecHash(env.get(LABEL_SPEC, "")),
            phase=Phase.STOPPING if stopping or lost else Phase.STARTING,
            slot=slot,
            address=address,
            routed=_is_port(address) or self._routed_to(instance) == address,
            command=command[:split],
            argv=argv,
            env=tuple(
                sorted(
                    (name, value)
                    for name, value in env.items()
                    if not name.startswith(LABEL_PREFIX) and name not in base
                )
            ),
            files=env.get(LABEL_FILES, ""),
            since=proc.started_at(ref, self._clock.now()),
            memory_bytes=proc.resident_bytes(pid),
        )

    def unsettled(self) -> bool:
        """Whether a slot is held by a process without labels: a child just before its exec."""
        folder = f"{self._site.state}/slots/"
        if not Path(folder).is_dir():
            return False
        here = os.getpid()
        for pid in proc.own_pids():
            if pid == here or self._site.root == proc.environment(pid).get(LABEL_ROOT):
                continue
            if any(path.startswith(folder) for path in proc.open_files(pid)):
                return True
        return False

    def start(self, launch: Launch) -> ProcessRef:
        """Start a process that holds its slot's lock for as long as it lives."""
        site, instance = self._site, launch.instance
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
            note = server_logs.begin_note(start)
            effects.overwrite(site.slot_lock(instance, launch.slot), note)
            child = effects.spawn(
                [*launch.command, *launch.argv],
                env=self._environment_for(launch),
                cwd=site.root,
                log=str(log),
                keep=(lock,),
            )
        except OSError as error:
            message, hint = explain_os(error)
            raise EngineError(f"{instance} could not be started: {message}", hint=hint) from error
        finally:
            os.close(lock)
        stat = proc.read_stat(child.pid)
        ref = ProcessRef(child.pid, stat.start_ticks if stat else 0)
        self._children[ref], self._log_starts[ref] = child, start
        self._note_pid(instance, child.pid, launch.public_port)
        return ref

    def _note_pid(self, instance: InstanceName, pid: int, port: int | None) -> None:
        """Write the pid file. It is for people: where it cannot be written, nothing else fails."""
        path, text = Path(self._site.pid_file(instance)), f"{pid}\n{'' if port is None else port}\n"
        with contextlib.suppress(OSError):
            if _read(path) != text:
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
            LABEL_ROOT: self._site.root,
            LABEL_INSTANCE: launch.instance,
            LABEL_SPEC: launch.spec_hash,
            LABEL_SLOT: launch.slot,
            LABEL_FILES: launch.files,
        }

    def exited(self, server: ProcessRef, instance: InstanceName) -> Exit | None:
        """How it ended; the exit code is known of our own children only."""
        child = self._children.get(server)
        code = child.poll() if child else None
        if code is None and proc.lives(server):
            return None
        return Exit(code, self.log_tail(instance, 20, self._log_starts.get(server, 0)))

    def signal_stop(self, server: ProcessRef, instance: InstanceName, slot: str) -> None:
        """TERM, once: a second one crashes llama-server, so the first is noted on the slot."""
        path, before = self._site.slot_lock(instance, slot), self._slot_note(instance, slot)
        if before == _stopping_note(server):
            return
        if proc.lives(server):
            with contextlib.suppress(OSError):  # a full disk must not keep a server alive
                effects.overwrite(path, _stopping_note(server))
            try:
                effects.send(server, signal.SIGTERM, proc.lives)
            except OSError:
                with contextlib.suppress(OSError):
                    effects.overwrite(path, before)
                raise

    def kill(self, server: ProcessRef) -> None:
        """KILL to its group."""
        effects.kill_group(server, proc.lives)

    def wait_gone(self, server: ProcessRef, timeout: float, cancel: Cancel) -> bool:
        """Wait for its end, and reap it if it is our child."""
        gone = proc.wait_gone(server, timeout, cancel)
        child = self._children.get(server)
        if gone and child:
            child.wait()
        return gone

    def route(self, instance: InstanceName, address: str) -> None:
        """Swap the stable name; nginx follows it at its next connect, without a reload."""
        if not _is_port(address) and self._routed_to(instance) != address:
            effects.swap_link(self._site.route(instance), Path(address).name)

    def unroute(self, instance: InstanceName, address: str) -> bool:
        """Take the stable name away, if it is still this server's."""
        if _is_port(address) or self._routed_to(instance) != address:
            return False
        effects.unlink(self._site.route(instance))
        return True

    def forget(self, server: ProcessRef, instance: InstanceName, address: str) -> None:
        """Remove its socket, its pid file if it is still its own, and processes that it left."""
        self._end_left_behind(server, instance, address)
        self._note_end(server, instance, address)
        # What cannot be removed now stands in nobody's way; the next run tries again.
        with contextlib.suppress(OSError):
            if not _is_port(address):
                effects.unlink(address.removeprefix("unix:"))
            pid_file = Path(self._site.pid_file(instance))
            if _read(pid_file).split("\n", 1)[0] == str(server.pid):
                effects.unlink(pid_file)

    def _note_end(self, server: ProcessRef, instance: InstanceName, address: str) -> None:
        """Note on its slot that its end is known: later looks must not take it for a death."""
        for slot in SLOTS:
            is_its = _is_port(address) or address == f"unix:{self._site.socket(instance, slot)}"
            path = Path(self._site.slot_lock(instance, slot))
            if is_its and path.exists() and server_logs.log_start(_read(path)) is not None:
                with contextlib.suppress(OSError):
                    effects.overwrite(path, f"ended {server.pid} {server.start_ticks}\n")

    def _end_left_behind(self, server: ProcessRef, instance: InstanceName, address: str) -> None:
        """End what else is labelled with its slot: its engine, if it was a wrapper; its helpers."""
        slots = [slot for slot in SLOTS if address == f"unix:{self._site.socket(instance, slot)}"]
        left = [
            ref
            for pid, env in self._labelled(dict(proc.environments(LABEL_ROOT))).items()
            if env[LABEL_INSTANCE] == instance and env.get(LABEL_SLOT, "a") in (slots or SLOTS)
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
        for folder in (self._site.state, f"{self._site.root}/run"):
            effects.sweep(folder)

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
        """The last lines of its log, from byte `start` on."""
        return server_logs.tail(Path(self._site.log_file(instance)), lines, start)

    def cpu_seconds(self, server: ProcessRef) -> float:
        """CPU time that it has used so far."""
        return proc.cpu_seconds(server)

    def deaths(self, live: Iterable[ObservedServer]) -> Mapping[InstanceName, LastExit]:
        """How the last copy of each instance ended that neither lives nor was stopped by us."""
        taken = {(server.instance, server.slot) for server in live}
        return server_logs.deaths(self._site, taken, self._clock.now() - proc.uptime())

    def _routed_to(self, instance: InstanceName) -> str:
        try:
            target = Path(self._site.route(instance)).readlink()
        except OSError:
            return ""
        return f"unix:{self._site.sockets}/{target.name}"

    def _slot_note(self, instance: InstanceName, slot: str) -> str:
        return _read(Path(self._site.slot_lock(instance, slot)))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""


def _stopping_note(server: ProcessRef) -> str:
    return f"stopping {server.pid} {server.start_ticks}\n"


def _is_port(address: str) -> bool:
    return not address.startswith("unix:")


def _address_of(argv: tuple[str, ...]) -> str:
    values = dict(itertools.pairwise(argv))
    host = values.get("--host", "127.0.0.1")
    return f"unix:{host}" if host.endswith(".sock") else f"{host}:{values.get('--port', '8080')}"


def _with_helpers(
    server: ObservedServer, labelled: Mapping[int, Mapping[str, str]]
) -> ObservedServer:
    slot = (server.instance, server.slot)
    helpers = tuple(
        pid
        for pid, env in labelled.items()
        if (env[LABEL_INSTANCE], env.get(LABEL_SLOT, "a")) == slot and pid != server.ref.pid
    )
    more = sum(proc.resident_bytes(pid) for pid in helpers)
    return replace(server, helpers=helpers, memory_bytes=server.memory_bytes + more)


def _is_child_of(pid: int, labelled: Mapping[int, Mapping[str, str]]) -> bool:
    """A helper process of an engine inherits its labels; only the engine itself counts."""
    stat = proc.read_stat(pid)
    return stat is not None and stat.parent in labelled
