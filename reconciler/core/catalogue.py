"""The catalogue of quants in the desired file, beside what the hub says.

In: desired and observed state, positions. Out: a warning for each size that is off. The catalogue
is for people, and for plans where the hub cannot be asked: a wrong one misleads both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from reconciler.core.desired import DesiredState
from reconciler.core.lockfile import FileRole
from reconciler.core.observed import ObservedFiles, ObservedState
from reconciler.core.words import ModelName
from reconciler.errors import Diagnostic, Position, Severity

TOLERANCE = 0.05
"""Of the true size: what rounding to whole GB, or GB for GiB, may cost is less."""


def catalogue_warnings(
    desired: DesiredState,
    observed: ObservedState,
    marks: Mapping[tuple[str | int, ...], Position],
) -> Iterator[Diagnostic]:
    """What `quants` says of sizes that are known better."""
    for key, model in sorted(desired.models.items()):
        files = observed.files.get(ModelName(key))
        known = _known(files, model.quant or "") if files else {}
        for quant, said in sorted(model.quants.items()):
            true = known.get(quant.lower())
            if true and abs(said - true) > TOLERANCE * true:
                summary = (
                    f"`{key}`: {quant} is said to have {_gb(said)} in `quants`; it has {_gb(true)}"
                )
                where = marks.get(("models", key, "quants", quant))
                yield Diagnostic(Severity.WARNING, summary, where)


def _known(files: ObservedFiles, quant: str) -> dict[str, int]:
    known = {name.lower(): size for name, size in files.quants.items()}
    if files.pin:
        weights = (file.size for file in files.pin.files if file.role is FileRole.WEIGHTS)
        known[quant.lower()] = sum(weights)
    return known


def _gb(size: int) -> str:
    """As the catalogue writes it."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6)):
        if size >= 10 * factor:
            return f"{size / factor:.0f}{unit}"
    return f"{size / 1e3:.0f}KB"
