"""What of a desired file a plan is about: some models alone, all but some, some replaced anew.

In: a whole plan and a `Selection`. Out: the part that was asked for, which says that it is one.
Models need nothing of each other but ports and files that they share; what would need a change of
others first is left as it is, and blocked. A render speaks of all models: it is in a part that
names it, or leaves out nothing but other renders.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from reconciler.core.plan import Action, Change, Plan, ResourceType, WritePins
from reconciler.core.plan_parts import restrict
from reconciler.core.resolve import model_of
from reconciler.core.words import GATEWAY_ADDRESS, RENDER_ADDRESS, InstanceName, ModelName
from reconciler.errors import Diagnostic, Severity

_MOST_NAMED = 5
_OF_MODEL = "models."
"""How the details of a gateway's change begin that are about one model."""


@dataclass(frozen=True, slots=True)
class Selection:
    """What was asked for; nothing: all of the file.

    Models, `gateway`, and renders by their address (`render.DEST`).
    """

    targets: frozenset[str] = frozenset()
    excludes: frozenset[str] = frozenset()
    replacing: frozenset[ModelName] = frozenset()
    """Models whose servers are replaced though nothing about them changed."""

    @property
    def is_partial(self) -> bool:
        """Whether it leaves something of the file out."""
        return bool(self.targets or self.excludes)

    @property
    def words(self) -> str:
        """What it is about, for people; empty: all of the file."""
        parts = [", ".join(sorted(self.targets))] if self.targets else []
        parts += [f"all but {', '.join(sorted(self.excludes))}"] if self.excludes else []
        return ", ".join(parts)

    def models(self, known: Iterable[str]) -> frozenset[ModelName] | None:
        """The models that it is about, of those that there are; None: all of the file."""
        if not self.is_partial:
            return None
        chosen = (set(known) & self.targets if self.targets else set(known)) - self.excludes
        return frozenset(map(ModelName, chosen))

    def takes_render(self, address: str) -> bool:
        """Whether a render belongs to it."""
        if self.targets:
            return address in self.targets
        are_renders = all(one.startswith(RENDER_ADDRESS) for one in self.excludes)
        return are_renders and address not in self.excludes

    def values(self) -> Mapping[str, list[str]]:
        """As JSON has it."""
        return {
            "targets": sorted(self.targets),
            "excludes": sorted(self.excludes),
            "replacing": sorted(self.replacing),
        }


def select(plan: Plan, selection: Selection) -> Plan:
    """The part of a plan that was asked for; without a selection, the plan itself."""
    chosen = selection.models(_models_of(plan))
    if chosen is None:
        return plan
    gateways = [one for one in plan.changes if one.type is ResourceType.GATEWAY]
    takes = any(_takes(one, selection, chosen) for one in gateways)
    renders = frozenset(
        one.address
        for one in plan.changes
        if one.type is ResourceType.RENDER and selection.takes_render(one.address)
    )
    part = restrict(plan, chosen, gateway=takes, reload=takes, renders=renders)
    notices = _notices(plan, part, selection)
    return replace(part, only=selection.words, warnings=(*part.warnings, *notices))


def _models_of(plan: Plan) -> set[str]:
    """All models that a plan does something about, or leaves as they are."""
    of_model = {ResourceType.INSTANCE, ResourceType.MODEL_FILE}
    named = {str(model_of(InstanceName(one.name))) for one in plan.changes if one.type in of_model}
    pinned = (step.effect.pins for step in plan.steps if isinstance(step.effect, WritePins))
    return named | {str(name) for pins in pinned for name, _ in pins}


def _takes(change: Change, selection: Selection, chosen: frozenset[ModelName]) -> bool:
    """Whether the gateway's change belongs to a part: nobody outside it may notice."""
    if GATEWAY_ADDRESS in selection.targets | selection.excludes:
        return GATEWAY_ADDRESS in selection.targets
    if change.action is not Action.UPDATE:
        return change.action is Action.CREATE
    paths = [detail.path for detail in change.details]
    routes = {path.removeprefix(_OF_MODEL) for path in paths if path.startswith(_OF_MODEL)}
    if not selection.targets:
        return not routes & selection.excludes
    return 0 < len(routes) == len(paths) and routes <= chosen


def _notices(plan: Plan, part: Plan, selection: Selection) -> Iterator[Diagnostic]:
    """That it is a part, and what is left out; of renders also why, where nobody asked for that."""
    done = {step.address for step in part.steps}
    left = [one for one in plan.changes if one.action is not Action.NO_OP]
    left = [one for one in left if one.address not in done]
    following = [
        one
        for one in left
        if one.type is ResourceType.RENDER and one.address not in selection.excludes
    ]
    others = [one for one in left if one not in following]
    out = f"left out: {_named(others)}" if others else "nothing else was left out"
    out = out if left else "of the rest nothing would be done"
    yield Diagnostic(Severity.WARNING, f"this plan is only a part of {plan.desired}; {out}")
    if following:
        said = "renders speak of all models, and stay as they are"
        hint = f"`--target {following[0].address}` is about one of them"
        yield Diagnostic(Severity.WARNING, f"{said}: {_named(following)}; {hint}")


def _named(changes: Sequence[Change]) -> str:
    said = ", ".join(f"{one.address} ({one.action})" for one in changes[:_MOST_NAMED])
    more = len(changes) - _MOST_NAMED
    return f"{said} and {more} more" if more > 0 else said
