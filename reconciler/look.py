"""One look: observe -> plan -> guard.

In: a workspace's drivers, the desired state, what the operator allows. Out: a `Round`: what was
seen and what would happen. It changes nothing, and nothing that changes the machine can be reached
from here: `loop` carries out what a look leads to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from reconciler.core.desired import DesiredState
from reconciler.core.guards import Allowed, guard
from reconciler.core.lockfile import Lock
from reconciler.core.observed import Journal, ObservedState, ProcessRef
from reconciler.core.obstacles import Marks
from reconciler.core.parse import SourceText
from reconciler.core.plan import Guard, Plan
from reconciler.core.plan_files import plan_verification
from reconciler.core.plan_lock import refuse_changes
from reconciler.core.plan_parts import only_files, restrict
from reconciler.core.planner import make_plan
from reconciler.core.selection import Selection, select
from reconciler.core.site import Site
from reconciler.core.words import ModelName, ModelState
from reconciler.drivers.base import Drivers
from reconciler.errors import Diagnostic, InvalidDesiredError
from reconciler.observe import observe, observe_absent, observe_downloads


@dataclass(frozen=True, slots=True)
class Wanted:
    """The desired state with the positions of its parts."""

    desired: DesiredState
    marks: Marks
    warnings: tuple[Diagnostic, ...] = ()
    stops: bool = False
    """All that is wanted is that servers stop: the lock file stays as it is, even a broken one."""
    locked: bool = False
    """The lock file must hold all of it."""
    moving: frozenset[ModelName] = frozenset()
    """Models whose pins move to what their revisions are now."""
    selection: Selection = field(default_factory=Selection)
    """What of it alone is wanted."""
    sources: tuple[SourceText, ...] = ()
    """What it was read from, to be kept as a generation; nothing: it is not kept."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What a verb with names is about."""

    models: frozenset[ModelName]
    journal: Journal | None = None
    """The journal as it will be, instead of as it is."""
    restart: bool = False
    """Replace their servers though nothing about them changed."""
    gateway: bool = True
    """Start nginx too, where it does not run."""


@dataclass(frozen=True, slots=True)
class Keeping:
    """What a watch knows beside what it sees."""

    wedged: Mapping[ProcessRef, str] = field(default_factory=dict)
    """Servers that live and do no work -> how that was found out."""
    pins: Lock | None = None
    """What the lock file said, where it cannot be read any more."""


@dataclass(frozen=True, slots=True)
class Round:
    """One look at the machine and what it leads to."""

    observed: ObservedState
    plan: Plan
    guards: tuple[Guard, ...]


def look(
    wanted: Wanted,
    site: Site,
    drivers: Drivers,
    allowed: Allowed,
    scope: Scope | None = None,
    keeping: Keeping | None = None,
) -> Round:
    """Observe, plan and guard. Changes nothing."""
    only, anew = (scope.models, scope.restart) if scope else (None, False)
    anew = anew or bool(wanted.selection.replacing)
    known = keeping.pins if keeping else None
    lock = _lock(wanted, site, drivers, only) if known is None else known
    if wanted.stops:
        # What is not looked at is neither fetched nor verified.
        only = frozenset()
    observed = observe(wanted.desired, drivers, only, lock, anew=anew, moving=wanted.moving)
    if wanted.stops:
        observed = replace(observed, lock=None)
    elif only is None:
        # Files may go: only where all models were looked at, it is known what the others need.
        observed = observe_absent(wanted.desired, drivers, lock, observed)
        renders = drivers.renders.observe(wanted.desired.renders)
        observed = replace(observed, renders=renders)
    if keeping:
        # By the clock after the look: what ended while it lasted must not seem to be still to come.
        observed = replace(observed, now=drivers.clock.now(), wedged=keeping.wedged)
    if scope is None:
        return replan(wanted, site, observed, allowed)
    observed = replace(observed, journal=scope.journal or observed.journal)
    again = scope.models if scope.restart else frozenset()
    plan = make_plan(wanted.desired, site, observed, wanted.marks, again)
    plan = restrict(plan, scope.models, gateway=scope.gateway)
    return Round(observed, plan, guard(plan, wanted.desired, observed, allowed))


def replan(wanted: Wanted, site: Site, observed: ObservedState, allowed: Allowed) -> Round:
    """Plan and guard all of it, of what was seen."""
    selection = wanted.selection
    plan = make_plan(wanted.desired, site, observed, wanted.marks, selection.replacing)
    plan = select(plan, selection)
    return Round(observed, plan, guard(plan, wanted.desired, observed, allowed))


def _lock(wanted: Wanted, site: Site, drivers: Drivers, only: frozenset[ModelName] | None) -> Lock:
    try:
        lock = drivers.lock.read()
    except InvalidDesiredError:
        if wanted.stops:
            return {}
        raise
    if wanted.locked:
        refuse_changes(wanted.desired, lock, wanted.marks, site.lock, only)
    return lock


def look_at_files(
    wanted: Wanted, site: Site, drivers: Drivers, models: frozenset[ModelName]
) -> Round:
    """What a download of these models' files would be. Of the rest nothing is looked at."""
    lock = _lock(wanted, site, drivers, models)
    observed = observe_downloads(wanted.desired, drivers, models, lock)
    plan = only_files(make_plan(wanted.desired, site, observed, wanted.marks), models)
    return Round(observed, plan, guard(plan, wanted.desired, observed, Allowed()))


def look_to_verify(
    wanted: Wanted, site: Site, drivers: Drivers, models: frozenset[ModelName]
) -> Round:
    """What reading all files of these models again would be."""
    lock = _lock(wanted, site, drivers, models)
    observed = observe_downloads(wanted.desired, drivers, models, lock)
    return Round(observed, plan_verification(site.desired, observed.files), ())


def nothing_wanted(desired: DesiredState) -> DesiredState:
    """The desired state of `down`: no server, no nginx; drain and grace of each still count."""
    models = {
        name: model.model_copy(update={"state": ModelState.ABSENT})
        for name, model in desired.models.items()
    }
    return desired.model_copy(update={"models": models, "gateway": None})
