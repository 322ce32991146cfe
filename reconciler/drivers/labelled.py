"""Finding the server processes of one root by their labels.

In: /proc, and what lies beside the servers. Out: `ObservedServer`s, other roots that are lost.
It looks only. What carries no label of this root is not ours and is not told of.
"""

from __future__ import annotations

import itertools
import os
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
from reconciler.core.observed import ObservedServer
from reconciler.core.site import Site
from reconciler.core.words import InstanceName, Phase, SpecHash
from reconciler.drivers import proc, slots
from reconciler.drivers.base import Clock
from reconciler.errors import StateFolderError

OLD_S = 60.0
"""A start takes milliseconds from fork to exec: who is older and has no label is a stranger."""
LOST_AFTER_S = 60.0
"""By then every engine has bound its socket: llama-server does in 40 ms, before it loads."""


class LabelledProcesses:
    """The processes of one root."""

    def __init__(self, site: Site, clock: Clock) -> None:
        self._site = site
        self._clock = clock

    def look(self) -> tuple[tuple[ObservedServer, ...], tuple[str, ...]]:
        """The same, and other roots whose folder is gone, though servers of theirs run; sorted."""
        seen = dict(proc.environments(LABEL_ROOT))
        return self._servers(self._ours(seen)), self._lost_roots(seen.values())

    def environments(self) -> dict[int, Mapping[str, str]]:
        """Those of all processes of this root, helpers of engines included."""
        return self._ours(dict(proc.environments(LABEL_ROOT)))

    def _servers(self, labelled: Mapping[int, Mapping[str, str]]) -> tuple[ObservedServer, ...]:
        seen = (self._observed(pid, env) for pid, env in labelled.items())
        alone = [one for one in seen if one and not _is_child_of(one.ref.pid, labelled)]
        engines = {(one.instance, one.slot) for one in alone if one.argv}
        # Without arguments of an engine it is a helper, and told of only if its engine is gone.
        kept = [one for one in alone if one.argv or (one.instance, one.slot) not in engines]
        found = [_with_helpers(one, labelled) for one in kept]
        self._refuse_another_state_folder(found)
        return tuple(sorted(found, key=lambda server: (server.instance, server.ref)))

    def _ours(self, seen: Mapping[int, Mapping[str, str]]) -> dict[int, Mapping[str, str]]:
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
            if not slots.is_port(server.address) and folder != self._site.sockets:
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
        base = {*PASSED_ENVIRONMENT, *SET_ENVIRONMENT}
        given = {name: env[name] for name in sorted(env) if not name.startswith(LABEL_PREFIX)}
        stopping = slots.parse(slots.note(self._site, instance, slot)).stopping == ref
        # A helper that outlived its engine serves nobody, and may hold the engine's slot.
        stopping = stopping or not argv
        # A socket that was removed cannot be had back: nobody will ever reach this server again.
        old = proc.age_s(ref) > LOST_AFTER_S
        lost = (
            not slots.is_port(address) and old and not Path(address.removeprefix("unix:")).exists()
        )
        return ObservedServer(
            ref=ref,
            instance=instance,
            spec=SpecHash(env.get(LABEL_SPEC, "")),
            phase=Phase.STOPPING if stopping or lost else Phase.STARTING,
            slot=slot,
            address=address,
            routed=slots.is_port(address) or slots.routed_to(self._site, instance) == address,
            command=command[:split],
            argv=argv,
            env=tuple(one for one in given.items() if one[0] not in {*base, *SHELL_ENVIRONMENT}),
            base_env=tuple(one for one in given.items() if one[0] in base),
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
            env = proc.environment(pid)
            if pid == here or (LABEL_INSTANCE in env and self._site.root == env.get(LABEL_ROOT)):
                continue
            ref = proc.ref_of(pid)
            # To look through all that all others have open would be most of a look's work.
            if ref is None or proc.age_s(ref) > OLD_S:
                continue
            if any(path.startswith(folder) for path in proc.open_files(pid)):
                return True
        return False


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
