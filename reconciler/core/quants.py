"""Which of a hub repository's files a model stands for: its quant, projector and draft.

In: the repository's files with their sizes, what the desired file asks for. Out: names with their
roles, or `QuantError` that says what there is. Nothing here asks the hub.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches

from reconciler.core.desired import Model
from reconciler.core.lockfile import FileRole
from reconciler.core.present import human_bytes

_SHARD = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$", re.IGNORECASE)
_TOTAL = re.compile(r"-of-\d{5}\.gguf$")
_DRAFT = re.compile(r"(?:^|[^a-z0-9])(?:draft|mtp)(?:$|[^a-z0-9])")
_QUANT = re.compile(
    r"[-.]((?:UD-)?(?:I?Q\d|TQ\d|BF16|F16|F32|MXFP4|NVFP4)\w*)\.gguf$", re.IGNORECASE
)
_PROJECTORS = ("f16", "bf16")
"""Of several projectors the one that every engine computes with at full quality."""

Sizes = Mapping[str, int]
_Groups = dict[str, list[str]]
"""A file, or the shards of one -> their names; the key is that of the file they would be."""


class QuantError(ValueError):
    """The repository has no such files, or several that are meant as well."""


def choose(sizes: Sizes, model: Model) -> tuple[tuple[str, FileRole], ...]:
    """All files that a model stands for: its weights first, shards in order.

    Raises:
        QuantError: none or several candidates, or a shard missing; says what the repository has.
    """
    source = model.source
    weights = pick_files(sizes, model.quant or "")
    chosen = [(name, FileRole.WEIGHTS) for name in weights]
    if source.mmproj:
        wanted = "" if source.mmproj is True else source.mmproj
        chosen += [(name, FileRole.MMPROJ) for name in _pick_mmproj(sizes, wanted)]
    if source.draft:
        chosen += [(name, FileRole.DRAFT) for name in _pick_draft(sizes, source.draft)]
    return tuple(chosen)


def quant_sizes(sizes: Sizes) -> dict[str, int]:
    """Every quant of a repository -> its bytes, by name."""
    found: dict[str, int] = {}
    for group, names in sorted(_groups(sizes).items()):
        quant = _quant_of(group)
        found[quant] = found.get(quant, 0) + sum(sizes[name] for name in names)
    return found


def pick_files(sizes: Sizes, quant: str) -> tuple[str, ...]:
    """The files of a repository that `quant` stands for: one file, or all its shards in order.

    By the field's conventions: `*-<quant>.gguf`, `*.<quant>.gguf`, `<quant>/*`, ignoring case.

    Raises:
        QuantError: as `choose`.
    """
    groups = _groups(sizes)
    found = [group for group in groups if _is_quant(group, quant)]
    # `UD-IQ2_XXS` ends in `IQ2_XXS`: the one that is called just so comes first.
    found = [group for group in found if _quant_of(group).lower() == quant.lower()] or found
    if not found:
        said = f"no file for quant {quant}{_near(quant, quant_sizes(sizes))}"
        raise QuantError(f"{said}; the repository has: {_listed(quant_sizes(sizes))}")
    if len(found) > 1:
        raise QuantError(f"quant {quant} fits several files: {_candidates(found, groups, sizes)}")
    shards = groups[found[0]]
    total = _SHARD.search(shards[0])
    if total and len(shards) != int(total[2]):
        raise QuantError(f"quant {quant} has {len(shards)} of its {int(total[2])} shards")
    return tuple(shards)


def _pick_mmproj(sizes: Sizes, wanted: str) -> list[str]:
    """The one that is wanted; an empty text is any."""
    groups = _grouped(name for name in sizes if _is_projector(name))
    if wanted:
        return _pick_named("mmproj", groups, wanted, sizes)
    for quant in _PROJECTORS:
        found = [group for group in groups if _is_quant(group, quant)]
        if len(groups) > 1 and len(found) == 1:
            return groups[found[0]]
    if len(groups) == 1:
        return next(iter(groups.values()))
    if not groups:
        raise QuantError("it has no mmproj file")
    which = _candidates(groups, groups, sizes)
    raise QuantError(f"it has several mmproj files, name one in `source.mmproj`: {which}")


def _pick_draft(sizes: Sizes, wanted: str) -> list[str]:
    every = _grouped(name for name in sizes if _is_gguf(name) and not _is_projector(name))
    whole = [group for group in every if wanted in {group, _base(group), *every[group]}]
    if len(whole) == 1:
        return every[whole[0]]
    drafts = {group: names for group, names in every.items() if _is_draft(group)}
    return _pick_named("draft", drafts, wanted, sizes)


def _pick_named(kind: str, groups: _Groups, wanted: str, sizes: Sizes) -> list[str]:
    """The one of that name, or of that quant."""
    by_name = [group for group in groups if wanted in {group, _base(group)}]
    found = by_name or [group for group in groups if _is_quant(group, wanted)]
    if len(found) == 1:
        return groups[found[0]]
    if found:
        raise QuantError(f"{kind} {wanted} fits several files: {_candidates(found, groups, sizes)}")
    has = _candidates(groups, groups, sizes) or "none"
    near = _near(wanted, [_base(group) for group in groups])
    raise QuantError(f"no {kind} file {wanted}{near}; the repository has: {has}")


def _groups(sizes: Sizes) -> _Groups:
    """The weights; drafts only where there is nothing else."""
    every = _grouped(name for name in sizes if _is_gguf(name) and not _is_projector(name))
    return {group: names for group, names in every.items() if not _is_draft(group)} or every


def _grouped(names: Iterable[str]) -> _Groups:
    """Of one stem there may be shards out of two and out of three: these are not the same."""
    groups: _Groups = {}
    for name in sorted(names):
        groups.setdefault(_SHARD.sub(r"-of-\2.gguf", name), []).append(name)
    return groups


def _is_gguf(name: str) -> bool:
    return name.lower().endswith(".gguf")


def _is_projector(name: str) -> bool:
    return _is_gguf(name) and "mmproj" in name.lower()


def _is_draft(name: str) -> bool:
    return bool(_DRAFT.search(name.lower()))


def _base(name: str) -> str:
    return name.rpartition("/")[2]


def _stem(group: str) -> str:
    return _TOTAL.sub(".gguf", group)


def _is_quant(group: str, quant: str) -> bool:
    lower, wanted = _stem(group).lower(), quant.lower()
    folder, _, name = lower.rpartition("/")
    ends = name.endswith((f"-{wanted}.gguf", f".{wanted}.gguf")) or name == f"{wanted}.gguf"
    return ends or wanted in folder.split("/")


def _quant_of(group: str) -> str:
    folder, _, name = _stem(group).rpartition("/")
    if folder:
        return folder
    match = _QUANT.search(name)
    return match[1] if match else name


def _near(wanted: str, known: Iterable[str]) -> str:
    names = {name.lower(): name for name in known}
    near = get_close_matches(wanted.lower(), names, n=1)
    return f" (nearest: {names[near[0]]})" if near else ""


def _listed(sizes: Mapping[str, int]) -> str:
    each = [f"{name} ({human_bytes(size)})" for name, size in sorted(sizes.items())]
    return ", ".join(each) or "no GGUF file"


def _candidates(found: Iterable[str], groups: _Groups, sizes: Sizes) -> str:
    return ", ".join(
        f"{groups[group][0]} ({human_bytes(sum(sizes[name] for name in groups[group]))})"
        for group in sorted(found, key=lambda one: groups[one][0])
    )
