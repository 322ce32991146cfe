"""What is wanted of each instance, beside its live copies: the input of every decision.

In: desired and observed state. Out: one `Case` an instance that is wanted or lives, sorted.
Of several live copies one is kept, the others are extras; nothing here plans a step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from reconciler.core.decide import Decision, Wish, decide
from reconciler.core.desired import DesiredState
from reconciler.core.observed import (
    ObservedFile,
    ObservedFiles,
    ObservedServer,
    ObservedState,
    is_other,
)
from reconciler.core.resolve import Instance, instance_names, model_of, resolve, tcp_port
from reconciler.core.words import (
    InstanceName,
    ModelName,
    ModelState,
    OnChange,
    Phase,
    Rollout,
)

_USEFULNESS = {Phase.READY: 0, Phase.UNHEALTHY: 1, Phase.STARTING: 2, Phase.STOPPING: 3}


@dataclass(frozen=True, slots=True)
class Case:
    """One instance before the planner: what is wanted of it, and the live copies of it."""

    name: InstanceName
    wanted: Instance | None
    keep: ObservedServer | None
    """The copy that serves, or would: of several the most useful one."""
    extras: tuple[ObservedServer, ...]
    """Further live copies: left by a surge or a run that was cut."""
    rest_reason: str
    """Why it should not run, when it should not."""
    restart: str = ""
    """Why there has to be a new process, whatever its spec."""
    is_wedged: bool = False
    """It serves nobody: there is nothing to wait for, and nothing that another copy would save."""
    is_unproven: bool = False
    """The run that started it was killed before it noted that it got ready: whenever it ended, it
    would pass for a version that was tried in vain."""

    @property
    def model_name(self) -> ModelName:
        """The model it belongs to."""
        return model_of(self.name)

    @property
    def decision(self) -> Decision:
        """The table's answer, with what a route adds to it."""
        wish = Wish.RUN if self.wanted else Wish.REST
        phase = self.keep.phase if self.keep else Phase.ABSENT
        same = bool(self.wanted and self.keep and self.keep.spec == self.wanted.spec.hash)
        same = same and not self.restart
        found = decide(wish, phase, same_spec=same)
        if found is Decision.NOTHING and self.keep and not self.keep.routed:
            return Decision.AWAIT
        if found is Decision.NOTHING and self.is_unproven:
            return Decision.AWAIT
        return found

    @property
    def needs_start(self) -> bool:
        """Whether a new process has to be started."""
        return self.decision in {Decision.START, Decision.REPLACE}

    @property
    def surges(self) -> bool:
        """Whether the new copy starts before the old one stops; two cannot share a TCP port."""
        return bool(
            self.wanted
            and self.wanted.model.rollout is Rollout.SURGE
            and tcp_port(self.wanted.address) is None
            and self.keep
            and tcp_port(self.keep.address) is None
            and self.keep.phase is not Phase.STOPPING
            and self.decision is Decision.REPLACE
            and not self.is_wedged
        )


def make_cases(
    desired: DesiredState, observed: ObservedState, restart: frozenset[ModelName] = frozenset()
) -> tuple[Case, ...]:
    """All instances that are wanted or live, sorted by name."""
    wanted = {instance.name: instance for instance in resolve(desired, observed.files)}
    live: dict[InstanceName, list[ObservedServer]] = {}
    for server in observed.servers:
        live.setdefault(server.instance, []).append(server)
    cases = (
        _case(name, wanted.get(name), live.get(name, []), desired, observed)
        for name in sorted(wanted.keys() | live.keys())
    )
    return tuple(
        replace(
            one,
            restart=_restart(one, desired, observed, restart),
            is_wedged=one.keep is not None and one.keep.ref in observed.wedged,
            is_unproven=_is_unproven(one, observed),
        )
        for one in cases
    )


def _restart(
    case: Case, desired: DesiredState, observed: ObservedState, restart: frozenset[ModelName]
) -> str:
    if case.model_name in restart:
        return "a restart was asked for"
    if case.keep and (wedged := observed.wedged.get(case.keep.ref)):
        return wedged
    files = observed.files.get(case.model_name)
    if case.keep and files and _is_spoiled(case.keep, files, observed.hashes):
        return "it runs on wrong bytes"
    if case.keep and desired.engine.on_change is OnChange.REPLACE:
        return observed.outdated.get(case.keep.ref, "")
    return ""


def _is_unproven(case: Case, observed: ObservedState) -> bool:
    known, keep = observed.journal.last_good.get(case.name), case.keep
    if known is None or keep is None:
        return False
    return known.tried == keep.spec != known.launch.spec_hash


def _is_spoiled(server: ObservedServer, files: ObservedFiles, hashes: Mapping[str, str]) -> bool:
    """Whether it loaded files whose bytes were found, then or later, not to be the right ones."""
    loaded = server.files.split(",")
    return len(loaded) == len(files.files) and any(
        _is_wrong(identity, file, hashes)
        for identity, file in zip(loaded, files.files, strict=True)
    )


def _is_wrong(loaded: str, file: ObservedFile, hashes: Mapping[str, str]) -> bool:
    """Whether this identity had wrong bytes, or was changed in place to what has them."""
    if loaded == file.identity:
        return is_other(hashes.get(loaded, ""), file.digest)
    inode, at = _place(loaded)
    # What lay there before it was loaded was mended in place, or left its inode to this file.
    later = (one for one in hashes if one == file.identity or _place(one)[1] >= at)
    return any(_place(one)[0] == inode and is_other(hashes[one], file.digest) for one in later)


def _place(identity: str) -> tuple[list[str], int]:
    """Of a file: device and inode, and when it was changed last, in nanoseconds."""
    words = identity.split(":")
    return words[:2], int(words[-1]) if words[-1].isdecimal() else 0


def _case(
    name: InstanceName,
    wanted: Instance | None,
    live: list[ObservedServer],
    desired: DesiredState,
    observed: ObservedState,
) -> Case:
    reason = _rest_reason(name, desired, observed)
    if model_of(name) in observed.journal.suspended:
        wanted = None
    copies = sorted(live, key=lambda one: _rank(one, wanted))
    return Case(name, wanted, copies[0] if copies else None, tuple(copies[1:]), reason)


def _rank(server: ObservedServer, wanted: Instance | None) -> tuple[object, ...]:
    """The copy with the right spec first, then the one that serves; pid only to be definite.

    Of two that serve, one on a socket: only that one can stay while a surge's new copy loads.
    """
    same = wanted is not None and server.spec == wanted.spec.hash
    stopping = server.phase is Phase.STOPPING
    use = (_USEFULNESS.get(server.phase, 4), not server.routed)
    return (stopping, not same, *use, tcp_port(server.address) is not None, server.ref)


def _rest_reason(name: InstanceName, desired: DesiredState, observed: ObservedState) -> str:
    model = desired.models.get(model_of(name))
    suspension = observed.journal.suspended.get(model_of(name))
    if model is None:
        return str(suspension) if suspension else "no longer in the file"
    if model.state is not ModelState.RUNNING:
        return f"state: {model.state}"
    if name not in instance_names(model_of(name), model):
        return f"replicas: {model.replicas}"
    if suspension is not None:
        return str(suspension)
    return ""
