"""The names of models and instances as a user types them: checked, suggested, completed.

In: a word of the command line. Out: a `ModelName`, or the nearest one there is.
Completion must be quick and silent: where the file cannot be read there is nothing to offer.
"""

from __future__ import annotations

import os
from difflib import get_close_matches
from typing import Annotated

import typer

from reconciler.app import open_root
from reconciler.core.desired import DesiredState, Model
from reconciler.core.resolve import instance_names, model_of
from reconciler.core.words import InstanceName, ModelName
from reconciler.errors import ReconcileError, UsageError


def known_model(name: str, desired: DesiredState) -> ModelName:
    """The model of that name, of that alias, or of that instance.

    Raises:
        UsageError: there is none; names the nearest.
    """
    for key, one in desired.models.items():
        if name in one.aliases:
            return ModelName(key)
    model = model_of(InstanceName(name))
    if model in desired.models:
        return model
    known = [*desired.models, *(alias for one in desired.models.values() for alias in one.aliases)]
    # Plans call them by their addresses.
    bare = model.removeprefix("instance.").removeprefix("model_file.")
    near = [bare] if bare in known else get_close_matches(model, known, n=1)
    if near:
        hint = f"did you mean {near[0]}?"
    elif desired.models:
        hint = f"there are: {', '.join(sorted(desired.models))}"
    else:
        hint = "the file names no models"
    raise UsageError(f"no model is called {name}", hint=hint)


def known_instances(name: str, desired: DesiredState) -> tuple[InstanceName, ...]:
    """The instances that a name stands for: all of a model, or the one.

    Raises:
        UsageError: no model or no instance is called so.
    """
    model = known_model(name, desired)
    known = instance_names(model, desired.models[model])
    if name == model or name in desired.models[model].aliases:
        return known
    if InstanceName(name) not in known:
        there_are = f"there are: {', '.join(known)}" if known else f"none of {model} is wanted"
        raise UsageError(f"no instance is called {name}", hint=there_are)
    return (InstanceName(name),)


def chosen(name: str, desired: DesiredState) -> tuple[ModelName, frozenset[InstanceName] | None]:
    """The model that a name is about; and the one instance, if it names one.

    Raises:
        UsageError: no model or no instance is called so.
    """
    model = known_model(name, desired)
    if name == model or name in desired.models[model].aliases:
        return model, None
    return model, frozenset(known_instances(name, desired))


def complete_model(incomplete: str) -> list[str]:
    """The names of models that begin so, for the shell."""
    return [name for name in _models() if name.startswith(incomplete)]


def complete_instance(incomplete: str) -> list[str]:
    """The same with the instances of models that have several."""
    instances = [
        one
        for name, model in _models().items()
        for one in instance_names(ModelName(name), model)
        if model.replicas > 1
    ]
    return [name for name in sorted({*_models(), *instances}) if name.startswith(incomplete)]


def _models() -> dict[str, Model]:
    try:
        return dict(open_root(None, os.environ).parse().desired.models)
    except (ReconcileError, OSError):
        return {}


NamesArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="NAME", help="The models.", show_default=False, autocompletion=complete_model
    ),
]
OptionalModel = Annotated[
    str | None,
    typer.Argument(
        metavar="NAME", help="The model.", show_default=False, autocompletion=complete_model
    ),
]
OptionalInstance = Annotated[
    str | None,
    typer.Argument(
        metavar="NAME",
        help="Only this model, or this instance NAME[1].",
        show_default=False,
        autocompletion=complete_instance,
    ),
]
