"""What the file names and what of it is on disk: the rows of `list`.

In: the desired state, the observed files. Out: one `ModelRow` a model, sorted by name.
It says nothing of processes; that is `core.status`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from reconciler.core.desired import DesiredState, Model
from reconciler.core.observed import FileStatus, ObservedFiles
from reconciler.core.present import human_bytes
from reconciler.core.transfers import percent
from reconciler.core.words import ModelName, ModelState


@dataclass(frozen=True, slots=True)
class ModelRow:
    """One model of the desired file; the fields of `list --json`."""

    name: str
    state: ModelState
    source: str
    quant: str | None
    quants: dict[str, int]
    """The catalogue as declared: quant -> bytes."""
    aliases: list[str]
    port: int | None
    replicas: int
    on_disk: FileStatus
    size_bytes: int | None
    """All its files; what is declared for its quant where nothing better is known."""
    missing_bytes: int | None
    here_bytes: int | None
    """What of them is on disk: whole files, and what downloads that did not end have brought."""
    path: str | None
    reason: str


WANTED = {
    ModelState.RUNNING: "running",
    ModelState.PRESENT: "files only",
    ModelState.ABSENT: "nothing",
}
"""What the file wants of a model, in words for people."""


def on_disk_text(row: ModelRow) -> str:
    """What of a model is on disk, in words for people."""
    if row.state is ModelState.ABSENT:
        return "-"
    if row.on_disk is FileStatus.PRESENT:
        return "all"
    if row.on_disk is FileStatus.UNKNOWN:
        return "not known"
    if row.on_disk is FileStatus.BAD:
        return "unusable" if row.here_bytes else "nothing"
    here, size = row.here_bytes or 0, row.size_bytes or 0
    return f"{human_bytes(here)} ({percent(here, size)} %)" if here else "nothing"


def model_rows(
    desired: DesiredState, files: Mapping[ModelName, ObservedFiles]
) -> tuple[ModelRow, ...]:
    """All models of the file."""
    unseen = ObservedFiles(FileStatus.UNKNOWN)
    return tuple(
        _row(name, model, files.get(ModelName(name), unseen))
        for name, model in sorted(desired.models.items())
    )


def _row(name: str, model: Model, files: ObservedFiles) -> ModelRow:
    is_known = bool(files.files)
    return ModelRow(
        name=name,
        state=model.state,
        source=model.source.place,
        quant=model.quant,
        quants=dict(sorted(model.quants.items())),
        aliases=list(model.aliases),
        port=model.port,
        replicas=model.replicas,
        on_disk=files.status,
        size_bytes=files.size if is_known else model.quants.get(model.quant or ""),
        missing_bytes=files.missing_bytes if is_known else None,
        here_bytes=files.size - files.missing_bytes if is_known else None,
        path=files.path or None,
        reason=files.reason,
    )
