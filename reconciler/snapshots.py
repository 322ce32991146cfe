"""Snapshots of a machine: taken there (`status --snapshot`), planned against elsewhere.

In: a workspace and what is wanted; a snapshot. Out: a `Snapshot`, or a `Round` on the machine as it
was then. Taking one looks a little further than a plan does: at what a changed file may need. Who
plans against one looks at the files of the checkout alone, and asks nobody.
"""

from __future__ import annotations

import platform
from dataclasses import replace

from reconciler.against import lock_at
from reconciler.app import Workspace
from reconciler.core.guards import Allowed
from reconciler.core.lockfile import Lock
from reconciler.core.plan_lock import refuse_changes
from reconciler.core.plan_parts import with_reason
from reconciler.core.recalled import Checkout, Recalled, recall
from reconciler.core.site import Site
from reconciler.core.snapshot import Snapshot, asked_of
from reconciler.core.stored import ObservedStore
from reconciler.drivers.base import Drivers
from reconciler.drivers.clock import SystemClock
from reconciler.drivers.desired_files import lock_digest, lock_path
from reconciler.drivers.renders import RenderedFiles
from reconciler.drivers.templates import load_templates
from reconciler.errors import Diagnostic, Severity
from reconciler.look import Round, Wanted, look, nothing_wanted, replan
from reconciler.observe import observe_store


def take_snapshot(workspace: Workspace, wanted: Wanted, drivers: Drivers) -> Snapshot:
    """Look at all that a plan observes; and at cards, disk and store, whatever the file says."""
    site, desired = workspace.site, wanted.desired
    seen = look(wanted, site, drivers, Allowed()).observed
    fetched = (one for one in desired.models.values() if one.source.is_fetched)
    disk = next((drivers.files.disk(one) for one in fetched), None)
    memory = replace(seen.memory, gpus=drivers.gpus.cards())
    store = observe_store(nothing_wanted(desired), drivers, seen.lock or {})
    return Snapshot(
        host=platform.node(),
        root=site.root,
        state=site.state,
        at=drivers.clock.now(),
        asked=asked_of(desired),
        observed=replace(seen, memory=memory, store=store),
        lock_sha256=lock_digest(workspace.desired_path),
        disk=disk,
    )


def site_of(snapshot: Snapshot, workspace: Workspace) -> Site:
    """Where everything lies on that machine; the desired file is called as here."""
    return replace(workspace.site, root=snapshot.root, state=snapshot.state)


def look_at_snapshot(
    snapshot: Snapshot, wanted: Wanted, workspace: Workspace, allowed: Allowed
) -> tuple[Round, tuple[str, ...]]:
    """What there is to do on the machine as it was; and what was not looked at there, in words.

    Raises:
        InvalidDesiredError: the lock file has mistakes, or would have to change and must not.
    """
    recalled = _recalled(snapshot, wanted, workspace)
    observed, unknown = recalled.observed, recalled.unknown
    if wanted.stops:
        # As on the machine: only what runs plays a part, and of that all is known.
        nothing = ObservedStore()
        observed = replace(observed, files={}, lock=None, store=nothing, renders=None)
        unknown = ()
    seen = replan(wanted, site_of(snapshot, workspace), observed, allowed)
    plan = with_reason(seen.plan, "down") if wanted.stops else seen.plan
    if unknown:
        said = f"the snapshot knows nothing of {', '.join(unknown)}: that is as the file says it"
        warning = Diagnostic(Severity.WARNING, said)
        plan = replace(plan, warnings=(*plan.warnings, warning))
    return replace(seen, plan=plan), unknown


def _recalled(snapshot: Snapshot, wanted: Wanted, workspace: Workspace) -> Recalled:
    lock = None if wanted.stops else _lock(snapshot, workspace)
    if wanted.locked:
        refuse_changes(wanted.desired, lock or {}, wanted.marks, workspace.site.lock)
    # Of its files only templates are looked at, and no command is run: nothing is to be hidden.
    renders = RenderedFiles(workspace.site, frozenset).observe(wanted.desired.renders)
    checkout = Checkout(lock, load_templates(workspace.root), renders)
    anew = bool(wanted.selection.replacing)
    return recall(snapshot, wanted.desired, checkout, SystemClock().now(), anew=anew)


def _lock(snapshot: Snapshot, workspace: Workspace) -> Lock:
    """The checkout's; who commits none has it on the machine alone."""
    path = workspace.desired_path
    if lock_path(path).exists() or snapshot.observed.lock is None:
        return lock_at(path, workspace.root)
    return snapshot.observed.lock
