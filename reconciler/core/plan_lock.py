"""The lock file's part of a plan: which pins are written, changed and dropped.

In: the desired state, the pins that the lock file holds and those that it should. Out: its change
and steps. A pin is written before its model's files are fetched; one whose header is still to be
read from the hub has a step of its own, so that a repository that refuses us holds up no other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from reconciler.core.desired import DesiredState
from reconciler.core.draft import Draft
from reconciler.core.lockfile import Lock, LockedFile, Pin
from reconciler.core.observed import FileStatus, ObservedState
from reconciler.core.plan import Action, Change, Detail, Plan, ResourceType, Step, WritePins
from reconciler.core.present import human_bytes
from reconciler.core.site import Site
from reconciler.core.words import LOCK_ADDRESS, ModelName, ModelState
from reconciler.errors import Diagnostic, InvalidDesiredError, Position, Severity

_SHORT = 12
"""Digits of a commit or hash that people are shown."""


def plan_lock(draft: Draft, desired: DesiredState, site: Site, observed: ObservedState) -> None:
    """Plan what makes the lock file say what this plan does."""
    lock = observed.lock
    if lock is None:
        return
    pins = dict(sorted(_changed(desired, observed)))
    if not pins:
        if lock:
            _say(draft, Action.NO_OP, "holds what is wanted", ())
        return
    reason = f"{site.lock}: {_counts(lock, pins)}"
    unread = {
        name
        for name, pin in pins.items()
        if pin and pin.facts is None and observed.files[name].status is FileStatus.MISSING
    }
    known = tuple((name, pin) for name, pin in pins.items() if name not in unread)
    if known:
        number = draft.step(LOCK_ADDRESS, WritePins(known), reason, set())
        draft.pins |= {name: number for name, _ in known}
    for name in sorted(unread):
        effect = WritePins(((name, pins[name]),), learn=True)
        draft.pins[name] = draft.step(LOCK_ADDRESS, effect, f"{name} is to be pinned", set())
    details = (one for name, pin in pins.items() for one in _details(name, lock.get(name), pin))
    _say(draft, Action.UPDATE if lock else Action.CREATE, reason, tuple(details))


def _changed(
    desired: DesiredState, observed: ObservedState
) -> Iterator[tuple[ModelName, Pin | None]]:
    lock = observed.lock or {}
    for name, files in observed.files.items():
        is_wanted = desired.models[name].state is not ModelState.ABSENT
        if is_wanted and files.pin is not None and files.pin != lock.get(name):
            yield name, files.pin
    for name in _stale(desired, lock):
        yield name, None


def refuse_changes(
    desired: DesiredState,
    lock: Lock,
    marks: Mapping[tuple[str | int, ...], Position],
    lock_name: str,
    only: frozenset[ModelName] | None = None,
) -> None:
    """See that the lock file holds all that is wanted (of these models, or of all).

    Raises:
        InvalidDesiredError: it does not, or holds what is no longer wanted; each at its place.
    """
    found: list[Diagnostic] = []
    hint = "run `llm-reconcile apply` where the lock file may change, and commit it"
    for key, model in desired.models.items():
        name, pin = ModelName(key), lock.get(ModelName(key))
        is_meant = model.source.repo is not None and model.state is not ModelState.ABSENT
        if not is_meant or (only is not None and name not in only):
            continue
        if pin is None or not pin.covers(model):
            has = (
                f"has another one ({pin.quant} of {pin.repo}@{pin.revision})" if pin else "lacks it"
            )
            wants = f"{model.quant} of {model.source.repo}@{model.source.revision}"
            summary = f"`{name}` wants {wants}; {lock_name} {has}, and --locked keeps it as it is"
            where = marks.get(("models", name, "quant"))
            found.append(Diagnostic(Severity.ERROR, summary, where, hint))
    gone = [name for name in _stale(desired, lock) if only is None]
    found += [
        Diagnostic(
            Severity.ERROR,
            f"{lock_name} pins `{name}`, which is no longer wanted, and --locked keeps it as it is",
            hint=hint,
        )
        for name in gone
    ]
    if found:
        raise InvalidDesiredError(tuple(found))


def _stale(desired: DesiredState, lock: Lock) -> Iterator[ModelName]:
    """The models that have a pin and no use for it."""
    for name in sorted(lock):
        model = desired.models.get(name)
        if model is None or model.source.repo is None:
            yield name


def _counts(lock: Mapping[ModelName, Pin], pins: Mapping[ModelName, Pin | None]) -> str:
    """How many pins are new, other ones, and gone, in words."""
    counts = {
        "pinned": sum(name not in lock for name in pins),
        "changed": sum(name in lock and pin is not None for name, pin in pins.items()),
        "dropped": sum(pin is None for pin in pins.values()),
    }
    return ", ".join(f"{count} {word}" for word, count in counts.items() if count)


def _details(name: ModelName, before: Pin | None, after: Pin | None) -> Iterator[Detail]:
    """What changes of a pin; each path begins with the model's name, and a space if it goes on."""
    if before and after:
        for field in ("repo", "revision"):
            old, new = getattr(before, field), getattr(after, field)
            if old != new:
                yield Detail(f"{name} {field}", old, new)
    yield Detail(name, _said(before), _said(after))
    if before and after and before.commit != after.commit:
        yield from _moved(name, before, after)


def _moved(name: ModelName, before: Pin, after: Pin) -> Iterator[Detail]:
    """The files that are other ones at another commit."""
    old = {file.name: file for file in before.files}
    new = {file.name: file for file in after.files}
    for one in sorted(old.keys() | new.keys()):
        was, will = old.get(one), new.get(one)
        if was is None or will is None or was.digest != will.digest:
            yield Detail(f"{name} {one}", _content(was), _content(will))


def _content(file: LockedFile | None) -> str | None:
    return f"{file.digest[:_SHORT]}, {human_bytes(file.size)}" if file else None


def _said(pin: Pin | None) -> str | None:
    if pin is None:
        return None
    count = len(pin.files)
    files = f"{count} file{'s' if count > 1 else ''}, {human_bytes(pin.size)}"
    return f"{pin.quant} at {pin.commit[:_SHORT]}, {files}"


def _say(draft: Draft, action: Action, reason: str, details: tuple[Detail, ...]) -> None:
    change = Change(LOCK_ADDRESS, ResourceType.LOCK, LOCK_ADDRESS, action, reason, details)
    draft.changes.append(change)


def lock_part(plan: Plan, models: frozenset[ModelName]) -> Plan:
    """The same plan, with the lock file's changes of these models alone."""
    changes = (_change_part(change, models) for change in plan.changes)
    steps = (_step_part(step, models) for step in plan.steps)
    return replace(
        plan,
        changes=tuple(change for change in changes if change),
        steps=tuple(step for step in steps if step),
    )


def _change_part(change: Change, models: frozenset[ModelName]) -> Change | None:
    if change.type is not ResourceType.LOCK:
        return change
    details = tuple(one for one in change.details if one.path.partition(" ")[0] in models)
    # Its counts are of all models.
    reason = change.reason.rpartition(": ")[0]
    return replace(change, details=details, reason=reason) if details else None


def _step_part(step: Step, models: frozenset[ModelName]) -> Step | None:
    if not isinstance(step.effect, WritePins):
        return step
    pins = tuple((name, pin) for name, pin in step.effect.pins if name in models)
    return replace(step, effect=replace(step.effect, pins=pins)) if pins else None
