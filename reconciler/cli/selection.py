"""The flags that say what of a desired file a plan is about: --target, --exclude, --replace.

In: names as typed. Out: a `Selection` of models and renders that there are, in the file or left.
A name that is nearly right is suggested.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Annotated

import typer

from reconciler.cli.names import complete_model, known_model
from reconciler.core.desired import DesiredState
from reconciler.core.resolve import model_of
from reconciler.core.selection import Selection
from reconciler.core.words import GATEWAY_ADDRESS, RENDER_ADDRESS, InstanceName, ModelName
from reconciler.drivers.base import Drivers
from reconciler.errors import UsageError

There = Callable[[], tuple[Collection[str], Collection[str]]]
"""What tells, where that is asked for, which models run, and the `dest`s of all renders."""


def there_by(drivers: Drivers, desired: DesiredState) -> There:
    """What tells it by a look at the machine."""

    def look() -> tuple[Collection[str], Collection[str]]:
        running = {model_of(one.instance) for one in drivers.runtime.list()}
        return running, drivers.renders.observe(desired.renders).keys()

    return look


def _names(flag: str, said: str) -> object:
    """A flag that takes names of models, and may be repeated."""
    said = f"{said}; may be repeated."
    return typer.Option(flag, metavar="NAME", help=said, autocompletion=complete_model)


TargetOption = Annotated[
    list[str] | None, _names("--target", "Only this model, `gateway` or `render.DEST`")
]
ExcludeOption = Annotated[
    list[str] | None, _names("--exclude", "All but this model, `gateway` or `render.DEST`")
]
ReplaceOption = Annotated[
    list[str] | None,
    _names("--replace", "Replace this model's servers though nothing changed"),
]


def selection_of(
    targets: Sequence[str] | None,
    excludes: Sequence[str] | None,
    replacing: Sequence[str] | None,
    desired: DesiredState,
    there: There,
) -> Selection:
    """What is meant, by names that there are.

    Raises:
        UsageError: nothing is called so, or they contradict each other.
    """
    chosen = Selection(
        frozenset(_named("--target", name, desired, there) for name in targets or ()),
        frozenset(_named("--exclude", name, desired, there) for name in excludes or ()),
        frozenset(_whole("--replace", name, desired) for name in replacing or ()),
    )
    both = sorted(chosen.targets & chosen.excludes)
    if both:
        raise UsageError(f"{both[0]} is both a --target and an --exclude", hint="leave one out")
    outside = chosen.replacing - chosen.targets if chosen.targets else frozenset[str]()
    if left := sorted(outside | (chosen.replacing & chosen.excludes)):
        raise UsageError(
            f"--replace {left[0]}: the plan leaves it out", hint="name it with --target too"
        )
    return chosen


def _named(flag: str, name: str, desired: DesiredState, there: There) -> str:
    """A model of the file, or one that is no longer in it and runs, the gateway, or a render."""
    try:
        return _whole(flag, name, desired)
    except UsageError:
        running, dests = there()
        renders = {f"{RENDER_ADDRESS}{dest}" for dest in dests}
        if name == GATEWAY_ADDRESS or name in {*running, *renders}:
            return name
        if name.startswith(RENDER_ADDRESS) or f"{RENDER_ADDRESS}{name}" in renders:
            known = f"there are: {', '.join(sorted(renders))}" if renders else "the file has none"
            raise UsageError(f"{flag} {name}: that is no address of a render", hint=known) from None
        raise


def _whole(flag: str, name: str, desired: DesiredState) -> ModelName:
    model = known_model(name, desired)
    if name != model and name not in desired.models[model].aliases:
        raise UsageError(
            f"{flag} {name}: that is one instance, and a plan is about whole models",
            hint=f"say {flag} {model}, or `llm-reconcile restart {InstanceName(name)}`",
        )
    return model
