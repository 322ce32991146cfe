"""What a plan stands on, in digests: all that must still be so when a saved plan is applied.

In: a plan and what was observed. Out: a `Basis`, comparable and without secrets, and what differs
between two of them, in words. A server that loaded and is ready by now, bytes of a download that
have come, and free disk are not in it: they change nothing that the plan does.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass

from pydantic import BaseModel

from reconciler.core.launch import Launch
from reconciler.core.lockfile import Lock
from reconciler.core.observed import ObservedFile, ObservedState
from reconciler.core.plan import (
    Action,
    AwaitReady,
    Change,
    Plan,
    RenderedGateway,
    ResourceType,
    StartServer,
    WritePins,
)

_LENGTH = 16
_UNTOLD: Mapping[type, frozenset[str]] = {
    # The spec hash covers the environment, the generation all files.
    Launch: frozenset({"env"}),
    RenderedGateway: frozenset({"files", "outline"}),
    ObservedFile: frozenset({"came"}),
}
"""What of a value is left out of its digest: secrets, and what changes no step."""


@dataclass(frozen=True, slots=True)
class Basis:
    """What one plan stands on."""

    boot_id: str
    """Of the machine since it was started; so it also tells machines apart."""
    engine: str
    """The engine that new servers start with; empty where none is to start."""
    pins: str
    """What the lock file pins once the plan is carried out."""
    resources: Mapping[str, str]
    """Address -> a digest over what is done about it, and over what there is of it."""


def basis_of(plan: Plan, observed: ObservedState) -> Basis:
    """What this plan of this machine stands on."""
    starts = any(isinstance(step.effect, StartServer) for step in plan.steps)
    return Basis(
        boot_id=observed.boot_id,
        engine=_digest(observed.engine) if starts else "",
        pins=pins_digest(_pins_after(plan, observed.lock or {})),
        resources={one.address: _resource(one, plan, observed) for one in plan.changes},
    )


def pins_digest(lock: Lock) -> str:
    """A digest over what models stand for; what is read from their files later is not in it."""
    named = {
        str(name): (pin.repo, pin.revision, pin.quant, pin.commit, pin.files)
        for name, pin in lock.items()
    }
    return _digest(named)


def _pins_after(plan: Plan, lock: Lock) -> Lock:
    written = {
        name: pin
        for step in plan.steps
        if isinstance(step.effect, WritePins)
        for name, pin in step.effect.pins
    }
    return {name: pin for name, pin in {**lock, **written}.items() if pin is not None}


def _resource(change: Change, plan: Plan, observed: ObservedState) -> str:
    effects = [
        (type(step.effect).__name__, step.effect)
        for step in plan.steps
        if step.address == change.address and not isinstance(step.effect, AwaitReady)
    ]
    stays = change.action in {Action.NO_OP, Action.ADOPT}
    action = Action.NO_OP if stays else change.action
    return _digest((action, bool(change.blocked), change.drift, effects, _there(change, observed)))


def _there(change: Change, observed: ObservedState) -> object:
    """What runs of a resource."""
    if change.type is ResourceType.GATEWAY:
        gateway = observed.gateway
        return (gateway.master, gateway.orphans, gateway.generation)
    if change.type is not ResourceType.INSTANCE:
        return ()
    return sorted(
        (one.ref, one.spec, one.slot, one.address, one.routed, one.files)
        for one in observed.servers
        if one.instance == change.name
    )


def _digest(value: object) -> str:
    text = json.dumps(_plain(value), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:_LENGTH]


def _plain(value: object) -> object:
    """A value of the core as JSON has it, always the same for the same value."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if is_dataclass(value):
        untold = _UNTOLD.get(type(value), frozenset[str]())
        names = [one.name for one in fields(value) if one.name not in untold]
        return {name: _plain(getattr(value, name)) for name in names}
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value


_DONE = {
    Action.NO_OP: "stay as it is",
    Action.CREATE: "be created",
    Action.UPDATE: "be changed",
    Action.REPLACE: "be replaced",
    Action.SURGE: "be replaced",
    Action.DELETE: "be stopped or removed",
    Action.ADOPT: "stay as it is",
}


def differences(saved: Basis, said: Mapping[str, Action], now: Basis, plan: Plan) -> Iterator[str]:
    """What has changed since, one sentence each; nothing where the plan still stands.

    `said`: what the saved plan does about each address; `plan`: what one of now would.
    """
    if saved.boot_id != now.boot_id:
        yield "the machine was started anew, or it is another one"
    if saved.engine and now.engine and saved.engine != now.engine:
        yield "the engine is another one"
    changes = {one.address: one for one in plan.changes}
    for address in sorted(saved.resources.keys() | now.resources.keys()):
        if saved.resources.get(address) == now.resources.get(address):
            continue
        was, change = said.get(address), changes.get(address)
        yield f"{address}: {_difference(was, change)}"


def _difference(was: Action | None, change: Change | None) -> str:
    if change is None:
        return f"it was to {_DONE[was or Action.NO_OP]}; by now there is nothing of it"
    reason = change.blocked or change.reason
    if was is None:
        return f"the plan says nothing of it; now it would {_DONE[change.action]} ({reason})"
    if _DONE[was] == _DONE[change.action]:
        return "what the plan found of it is not what is there now"
    return f"it was to {_DONE[was]}; now it would {_DONE[change.action]} ({reason})"
