"""The files that `state: absent` takes away: what of a model's files nobody else needs.

In: the desired state, what lies in the store, the stops of the model's servers. Out: a change a
model, and a step that comes after those stops. Only our store is touched, and of it only what the
model's own quants and pins name; `prune` is for the rest.
"""

from __future__ import annotations

from dataclasses import replace

from reconciler.core.desired import DesiredState
from reconciler.core.draft import Draft
from reconciler.core.observed import ObservedServer, ObservedState
from reconciler.core.plan import Action, Change, DiskUse, Impact, RemoveFiles, ResourceType
from reconciler.core.prune import all_of, files_of, leavings, loaded_by, needed_by
from reconciler.core.resolve import model_of
from reconciler.core.stored import Inode, Needed, StoredRepo
from reconciler.core.words import ModelName


def plan_removals(draft: Draft, desired: DesiredState, observed: ObservedState) -> None:
    """Plan what goes of the models that are to be absent. All stops are planned already."""
    for name, stored in sorted(observed.store.repos.items()):
        pin = (observed.lock or {}).get(name)
        own = files_of(desired.models[name], pin, stored)
        draft.changes.append(_plan_removal(draft, name, own, stored, desired, observed))


def _plan_removal(
    draft: Draft,
    name: ModelName,
    own: StoredRepo,
    stored: StoredRepo,
    desired: DesiredState,
    observed: ObservedState,
) -> Change:
    address = f"model_file.{name}"
    change = Change(address, ResourceType.MODEL_FILE, name, Action.NO_OP, "state: absent")
    if doubt := observed.store.doubt:
        return replace(change, obstacles=(f"what else needs its files cannot be told: {doubt}",))
    servers = tuple(one for one in observed.servers if model_of(one.instance) == name)
    users = _users(servers, observed)
    wanted = needed_by(desired, observed.lock or {}, observed.files)
    if not leavings(own, stored, wanted):
        return replace(change, reason="state: absent; another model needs the same files")
    needed = all_of([wanted, *observed.store.elsewhere.values(), Needed(open=frozenset(users))])
    removals = leavings(own, stored, needed)
    if not removals:
        return replace(change, drift=_why_all_stays(own, stored, users, observed))
    effect = RemoveFiles(name, removals)
    needs = {draft.stops[one.ref] for one in servers}
    draft.step(address, effect, "state: absent", needs)
    freed = sum(one.count for one in removals)
    disk = observed.disks.get(name)
    use = DiskUse(disk, -freed) if disk else None
    return replace(change, action=Action.DELETE, impact=Impact(freed_bytes=freed), disk=use)


def _users(
    servers: tuple[ObservedServer, ...], observed: ObservedState
) -> dict[Inode, frozenset[int]]:
    """The files that others than the model's own servers use, and by which pids."""
    own = {pid for one in servers for pid in one.pids}
    users = {inode: pids - own for inode, pids in observed.store.open.items()}
    for other in observed.servers:
        if other not in servers:
            loaded = loaded_by((other,))
            users |= {one: users.get(one, frozenset()) | {other.ref.pid} for one in loaded}
    return {inode: pids for inode, pids in users.items() if pids}


def _why_all_stays(
    own: StoredRepo,
    stored: StoredRepo,
    users: dict[Inode, frozenset[int]],
    observed: ObservedState,
) -> str:
    """Who it is, outside this file, that needs the files."""
    for name, needed in observed.store.elsewhere.items():
        if not leavings(own, stored, needed):
            return f"its files stay: {name} needs them"
    inodes = {one.inode for one in own.links} | {one.inode for one in own.blobs}
    pids = sorted({pid for one in inodes if one for pid in users.get(one, ())})
    return f"its files stay: {', '.join(f'process {pid}' for pid in pids)} uses them"
