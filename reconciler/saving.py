"""Plans that outlive their run: a plan's JSON form, its file, and whether it still holds.

In: a round and what it was made of, or a saved plan and a new look. Out: documents, files, a
`Verdict`. What is compared is `core.basis`'s; nothing is carried out here, and nobody is asked.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from reconciler.app import Workspace, open_file
from reconciler.core import assumed
from reconciler.core.basis import Basis, basis_of, differences, pins_digest
from reconciler.core.guards import Allowed
from reconciler.core.parse import SourceText
from reconciler.core.plan import Action, Guard, Plan
from reconciler.core.plan_file import (
    Options,
    SavedPlan,
    is_plan,
    plan_file_text,
    read_plan_file,
)
from reconciler.core.plan_parts import with_reason
from reconciler.core.present import is_suspended, plan_values
from reconciler.core.resolve import model_of
from reconciler.core.snapshot import Snapshot, age_text
from reconciler.core.words import InstanceName
from reconciler.drivers import effects
from reconciler.drivers.base import Drivers
from reconciler.drivers.clock import SystemClock
from reconciler.drivers.desired_files import in_git, lock_digest, read_sources
from reconciler.drivers.git import commit_of
from reconciler.errors import UsageError
from reconciler.look import Round, Wanted, look, nothing_wanted, replan

_FINGERPRINT = 12
_OF_JSON = b'"resource_changes"'
"""By this a plan's JSON form is known again."""


def plan_document(
    seen: Round, workspace: Workspace, wanted: Wanted, snapshot: Snapshot | None = None
) -> dict[str, object]:
    """A plan's JSON form (DESIGN 5): the plan, and what only the outside knows of it.

    `snapshot`: what it was made against, instead of a look.
    """
    now = SystemClock().now()
    sources = wanted.sources or read_sources(workspace.desired_path, workspace.root)
    return {
        "timestamp": _iso(now),
        "desired": {
            "path": workspace.site.desired,
            "sha256": _sha256_of(sources),
            "git": _git(workspace, sources),
        },
        "lock": {"path": workspace.site.lock, "sha256": _lock_sha256(workspace, snapshot)},
        "observed": {
            "fingerprint": _fingerprint(seen),
            "boot_id": seen.observed.boot_id,
            **_source(seen, snapshot, now),
        },
        "selection": {"destroy": wanted.stops, **wanted.selection.values()},
        **plan_values(seen.plan, seen.guards),
        "diagnostics": [
            {"severity": one.severity, "summary": one.summary, "range": str(one.position or "")}
            for one in (*wanted.warnings, *seen.plan.warnings)
        ],
    }


def _iso(moment: float) -> str:
    return datetime.datetime.fromtimestamp(moment, datetime.UTC).isoformat()


def _source(seen: Round, snapshot: Snapshot | None, now: float) -> dict[str, object]:
    """What was looked at, and when."""
    if snapshot is None:
        is_assumed = seen.observed.boot_id == assumed.BOOT_ID
        return {"source": "none" if is_assumed else "machine", "snapshot": None}
    taken = {
        "host": snapshot.host,
        "root": snapshot.root,
        "taken_at": _iso(snapshot.at),
        "age": age_text(snapshot.at, now),
        "made_by": snapshot.made_by,
    }
    return {"source": "snapshot", "snapshot": taken}


def _git(workspace: Workspace, sources: tuple[SourceText, ...]) -> dict[str, object] | None:
    """The commit that has the desired file; None: git is not asked, or has it in none."""
    try:
        commit, dirty = commit_of(*in_git(workspace.desired_path, sources))
    except OSError:
        return None
    return {"commit": commit, "dirty": dirty} if commit else None


def _sha256_of(sources: tuple[SourceText, ...]) -> str:
    return hashlib.sha256(b"".join(one.content for one in sources)).hexdigest()


def _lock_sha256(workspace: Workspace, snapshot: Snapshot | None) -> str | None:
    """Of the lock file that the plan stands on: of a checkout without one, that of the machine."""
    here = lock_digest(workspace.desired_path)
    return snapshot.lock_sha256 if here is None and snapshot else here


def _fingerprint(seen: Round) -> str:
    """Of all that the plan stands on, beside the files that it names."""
    basis = basis_of(seen.plan, seen.observed)
    return hashlib.sha256(repr(basis).encode()).hexdigest()[:_FINGERPRINT]


def meant(options: Options, wanted: Wanted) -> Wanted:
    """What is wanted by a plan with these options."""
    if options.destroy:
        return replace(wanted, desired=nothing_wanted(wanted.desired), stops=True)
    return replace(wanted, selection=options.selection)


def look_as(
    options: Options, wanted: Wanted, workspace: Workspace, drivers: Drivers, allowed: Allowed
) -> Round:
    """What there is to do by a plan with these options; `wanted` is what they mean."""
    seen = look(wanted, workspace.site, drivers, allowed)
    return replace(seen, plan=with_reason(seen.plan, "down")) if options.destroy else seen


def save_plan(path: Path, saved: SavedPlan) -> None:
    """Write a plan to be shown and applied later; nobody else can read it.

    Raises:
        OSError: it cannot be written.
    """
    effects.write_atomic(path.absolute(), plan_file_text(saved), mode=0o600)


def write_json(path: Path, document: Mapping[str, object]) -> None:
    """Write a plan's JSON form; nobody else can read it.

    Raises:
        OSError: it cannot be written.
    """
    effects.write_atomic(path.absolute(), json.dumps(document, indent=2) + "\n", mode=0o600)


def is_any_plan(content: bytes) -> bool:
    """Whether a file is a saved plan, or the JSON of one."""
    return is_plan(content) or _OF_JSON in content


def refuse_other_file(
    flag: str, path: Path, is_ours: Callable[[bytes], bool] = is_any_plan, word: str = "plan"
) -> None:
    """See that a plan (or another `word`, which `is_ours` knows) may be written to this place.

    Raises:
        UsageError: what lies there is something else, or there is no such folder.
    """
    if str(path) == "-":
        raise UsageError(f"{flag} -: that is written to a file, not to stdout", hint="name one")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"{flag} {path}: there is no folder {path.parent}", hint="make it first")
    try:
        is_file = stat.S_ISREG(path.stat().st_mode)
    except FileNotFoundError:
        return
    content = path.read_bytes() if is_file else b""
    # An empty one holds nothing that could be lost: `mktemp` makes such.
    if not (is_file and not content) and not is_ours(content):
        raise UsageError(
            f"{flag} {path}: there is something else, which is no {word}",
            hint="remove it, or name another file",
        )


def saved_at(path: Path) -> SavedPlan | None:
    """The saved plan in a file; None where it is a desired file, a directory, or not there.

    Raises:
        UsageError: it is a plan, and not as it was written.
    """
    if not path.is_file():
        return None
    content = path.read_bytes()
    return read_plan_file(str(path), content) if is_plan(content) else None


def read_saved(path: Path) -> SavedPlan:
    """The saved plan in a file.

    Raises:
        UsageError: there is none, or it is not as it was written.
    """
    if not path.exists():
        raise UsageError(f"{path}: there is no such file")
    return read_plan_file(str(path), b"" if path.is_dir() else path.read_bytes())


def open_saved(saved: SavedPlan, root: Path | None, environment: Mapping[str, str]) -> Workspace:
    """The workspace that a saved plan was made for.

    Raises:
        UsageError: that is not here, or `root` is another one.
    """
    own = Path(saved.root)
    if root is not None and root.resolve() != own:
        raise UsageError(f"this plan is for {own}, not for {root}", hint="leave --root out")
    if not own.is_dir():
        raise UsageError(
            f"this plan is for {own}, and there is no such folder on this machine",
            hint="a plan is applied on the machine, and in the place, that it was made for",
        )
    return open_file(own / saved.desired, own, environment)


class Standing(StrEnum):
    """Whether a saved plan can still be applied."""

    HOLDS = "holds"
    """All that it stands on is as it was."""
    DONE = "done"
    """All that it wants is so already: it was applied."""
    STALE = "stale"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a new look says of a saved plan."""

    standing: Standing
    reasons: tuple[str, ...] = ()
    """Why it is stale."""
    seen: Round | None = None
    """What there is to do now, where it is not stale."""

    @property
    def guards(self) -> tuple[Guard, ...]:
        """What refuses it now."""
        return self.seen.guards if self.seen else ()


def changed_files(saved: SavedPlan, wanted: Wanted, workspace: Workspace) -> tuple[str, ...]:
    """Which of the two files that a plan stands on say something else by now.

    Whoever stops all needs no lock file.
    """
    document, site = saved.document, workspace.site
    reasons = []
    if _sha256_of(wanted.sources) != document["desired"]["sha256"]:
        reasons.append(f"{site.desired} says something else")
    if not wanted.stops and lock_digest(workspace.desired_path) != document["lock"]["sha256"]:
        reasons.append(f"the lock file {site.lock} says something else")
    return tuple(reasons)


def judge(
    saved: SavedPlan, wanted: Wanted, workspace: Workspace, seen: Round, allowed: Allowed
) -> Verdict:
    """Whether a plan still holds, by a look that was taken with its own options."""
    files = changed_files(saved, wanted, workspace)
    now = basis_of(seen.plan, seen.observed)
    # Of a plan for another file everything differs: that one reason is enough.
    machine = () if files else differences(saved.basis, saved.actions, now, seen.plan)
    reasons = (*files, *machine)
    if not reasons:
        return Verdict(Standing.HOLDS, seen=seen)
    is_same_file = _sha256_of(wanted.sources) == saved.document["desired"]["sha256"]
    is_pinned = pins_digest(seen.observed.lock or {}) == saved.basis.pins
    settled = replace(wanted, selection=replace(wanted.selection, replacing=frozenset()))
    again = replan(settled, workspace.site, seen.observed, allowed)
    is_replaced = not _still_to_replace(saved, now)
    is_all = again.plan.is_noop and not _left_undone(saved, again.plan)
    if is_same_file and is_pinned and is_replaced and is_all:
        return Verdict(Standing.DONE, seen=again)
    return Verdict(Standing.STALE, reasons)


def _left_undone(saved: SavedPlan, now: Plan) -> bool:
    """Whether something that it was to make is not there: it has failed, is blocked or stopped."""
    made = {
        address
        for address, action in saved.actions.items()
        if action not in {Action.NO_OP, Action.DELETE}
    }
    return any(one.address in made and (one.blocked or is_suspended(one)) for one in now.changes)


def _still_to_replace(saved: SavedPlan, now: Basis) -> set[str]:
    """The instances to be replaced anew of which the same servers run as when it was made."""
    return {
        address
        for address, before in saved.basis.resources.items()
        if address.startswith("instance.")
        and model_of(InstanceName(address.partition(".")[2])) in saved.options.replacing
        and now.resources.get(address) == before
    }
