"""The model files' part of a plan: what is fetched, what is verified, what cannot be had.

In: a scene, and the models that are about to start. Out: a change a model, and steps that stops
and starts then wait for. A file whose bytes nobody hashed yet is verified before a server starts
on it, and only then: what runs already is left alone. Wrong bytes are drift, and fetched anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from reconciler.core.draft import Draft
from reconciler.core.observed import FileStatus, ObservedFile, ObservedFiles
from reconciler.core.obstacles import Scene, file_obstacles
from reconciler.core.plan import (
    Action,
    Change,
    Detail,
    DiskUse,
    FetchFiles,
    Impact,
    Plan,
    ResourceType,
    VerifyFiles,
)
from reconciler.core.resolve import instance_names
from reconciler.core.words import ModelName, ModelState


def plan_files(draft: Draft, scene: Scene, starting: frozenset[ModelName]) -> None:
    """Plan what the files of all models need."""
    for key in sorted(scene.desired.models):
        name, model = ModelName(key), scene.desired.models[key]
        files = scene.observed.files.get(name)
        if files is None or model.state is ModelState.ABSENT:
            continue
        address = f"model_file.{name}"
        change = Change(address, ResourceType.MODEL_FILE, name, Action.NO_OP, "on disk")
        if files.status is FileStatus.MISSING and model.source.is_fetched:
            change = _plan_fetch(draft, name, scene, files, change)
        elif files.status is not FileStatus.PRESENT:
            # A model with instances says it there; twice would only be noise.
            blocked = () if instance_names(name, model) else tuple(file_obstacles(name, scene))
            change = replace(change, reason=files.reason, obstacles=blocked)
        if name in starting:
            change = _plan_verify(draft, name, scene, files, change)
        draft.changes.append(change)


def plan_verification(desired: str, files: Mapping[ModelName, ObservedFiles]) -> Plan:
    """A plan that reads all these files, whatever is known of them already."""
    draft = Draft()
    for name, seen in sorted(files.items()):
        known = tuple(file for file in seen.files if file.identity and file.digest)
        change = Change(f"model_file.{name}", ResourceType.MODEL_FILE, name, Action.UPDATE, "")
        draft.changes.append(_plan_reading(draft, name, seen, known, change))
    return Plan(desired, tuple(draft.changes), tuple(draft.steps))


def _plan_fetch(
    draft: Draft, name: ModelName, scene: Scene, files: ObservedFiles, change: Change
) -> Change:
    """Two models may share files: each is fetched once."""
    source, missing = scene.desired.models[name].source, files.missing
    own = {path: file for path, file in missing.items() if path not in draft.fetches}
    wrong = [file.name for file in missing.values() if file.wrong]
    drift = f"{', '.join(wrong)}: wrong bytes" if wrong else ""
    # Of what nobody could be asked about no size is known.
    lacking = any(file.missing_bytes or not file.size for file in missing.values())
    reason = drift or ("not on disk" if lacking else "on disk, but not under this commit")
    if own:
        effect = FetchFiles(name, source, files.commit, tuple(own.values()))
        needs = {draft.pins[name]} if name in draft.pins else set()
        number = draft.step(change.address, effect, reason, needs)
        draft.fetches |= dict.fromkeys(own, number)
    draft.files.setdefault(name, set()).update(draft.fetches[path] for path in missing)
    url, commit = Detail("url", None, source.place), Detail("commit", None, files.commit)
    origin = url if source.url else commit
    fetched = sum(file.missing_bytes for file in own.values())
    return replace(
        change,
        action=Action.CREATE,
        reason=reason,
        details=(origin, Detail("path", None, files.path)),
        drift=drift,
        impact=Impact(download_bytes=fetched),
        disk=_disk_use(name, scene, own) if fetched else None,
    )


def _disk_use(name: ModelName, scene: Scene, own: Mapping[str, ObservedFile]) -> DiskUse | None:
    """The room that a download takes, where it is known what there is."""
    disk = scene.observed.disks.get(name)
    if disk is None:
        return None
    fetched = sum(file.missing_bytes for file in own.values())
    # What has wrong bytes goes first, where it is ours to remove.
    wrong = (one.size for path, one in own.items() if one.wrong and _is_below(path, scene.store))
    held = min(scene.observed.files[name].held_bytes, fetched)
    return DiskUse(disk, fetched - held - sum(wrong))


def _is_below(path: str, folder: str) -> bool:
    return path.startswith(f"{folder.rstrip('/')}/")


def _plan_verify(
    draft: Draft, name: ModelName, scene: Scene, files: ObservedFiles, change: Change
) -> Change:
    hashes = scene.observed.hashes
    unknown = tuple(file for file in files.files if _is_unknown(file, hashes.get(file.identity)))
    if not unknown:
        return change
    if change.action is Action.NO_OP:
        change = replace(change, action=Action.UPDATE, reason="not verified yet")
    return _plan_reading(draft, name, files, unknown, change)


def _plan_reading(
    draft: Draft,
    name: ModelName,
    files: ObservedFiles,
    meant: tuple[ObservedFile, ...],
    change: Change,
) -> Change:
    """Two models may share files: each is read once."""
    reading = draft.verifications
    own = tuple(file for file in meant if file.identity not in reading)
    if own:
        effect = VerifyFiles(name, files.folder, own)
        number = draft.step(change.address, effect, "to be verified", set())
        reading |= dict.fromkeys((file.identity for file in own), number)
    draft.files.setdefault(name, set()).update(reading[file.identity] for file in meant)
    count = sum(file.size for file in own)
    return replace(change, impact=replace(change.impact, verify_bytes=count))


def _is_unknown(file: ObservedFile, found: str | None) -> bool:
    return file.is_here and bool(file.digest) and found != file.digest
