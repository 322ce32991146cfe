"""The verbs that write desired files for their user: fmt, set.

In: files, or values for a model. Out: the files in our layout, or with these values; comments and
order stay. A file is replaced as a whole, or left as it is. They touch no server: `apply` does.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from reconciler.app import Workspace, open_root
from reconciler.cli.names import complete_model, known_model
from reconciler.cli.output import YELLOW, Output
from reconciler.cli.verbs import NoColorOption, OfflineOption, RootOption, make_output, verb
from reconciler.core.edit import Change, edited, parse_change
from reconciler.core.guards import Allowed
from reconciler.core.layout import UnusualLayoutError, formatted
from reconciler.core.parse import ParsedDesired, SourceText, parse_desired
from reconciler.core.present import plan_text
from reconciler.core.words import ModelName
from reconciler.core.yaml12 import MapNode, read_yaml
from reconciler.drivers import effects
from reconciler.drivers.desired_files import read_sources
from reconciler.drivers.git_commit import commit, is_in_work_tree, push
from reconciler.errors import ExitCode, InvalidDesiredError, UsageError
from reconciler.look import Wanted, look


def register(app: typer.Typer) -> None:
    """Add these verbs to the app."""
    app.command()(fmt)
    app.command("set")(set_values)


@verb
def fmt(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE", help="Desired files, or directories of them.")
    ],
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit 1 if a file would change.")
    ] = False,
    no_color: NoColorOption = False,
) -> ExitCode:
    """Put desired files into one layout; comments, order and meaning stay.

    Prints the names of those that change.
    """
    output = make_output(no_color=no_color)
    changed = failed = False
    for file in files:
        # Each by itself: a mistake in one keeps the others from nothing.
        for source in read_sources(file, Path.cwd()):
            path = Path.cwd() / source.name
            try:
                text = formatted(source.name, source.content)
            except InvalidDesiredError as error:
                output.error(error)
                failed = True
                continue
            except UnusualLayoutError:
                hint = "it is left as it is"
                output.error(UsageError(f"{source.name}: its layout is unusual", hint=hint))
                failed = True
                continue
            if text != source.content:
                output.data(source.name)
                changed = True
                if not check:
                    replace_file(path, text)
    return ExitCode.ERROR if failed or (check and changed) else ExitCode.OK


@verb
def set_values(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="The model.", autocompletion=complete_model),
    ],
    values: Annotated[
        list[str],
        typer.Argument(metavar="KEY=VALUE", help="A field of it and its value; KEY- removes it."),
    ],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show the plan; write nothing.")
    ] = False,
    commits: Annotated[
        bool, typer.Option("--commit", help="Let git commit this file, and no other.")
    ] = False,
    pushes: Annotated[
        bool, typer.Option("--push", help="Push it too, where the branch is pushed to.")
    ] = False,
    root: RootOption = None,
    no_color: NoColorOption = False,
    offline: OfflineOption = False,
) -> ExitCode:
    """Change values of a model in the desired file; comments and order stay.

    Like `set qwen quant=UD-Q2_K_XL params.temp=0.5`; `params.temp-` removes one. Shows the plan;
    `apply`, or a watch, carries it out.
    """
    output = make_output(no_color=no_color)
    changes = [parse_change(one) for one in values]
    workspace = open_root(root, os.environ)
    parsed = workspace.parse()
    model = known_model(name, parsed.desired)
    source = _source_of(parsed, model)
    path = workspace.root / source.name
    if (commits or pushes) and not is_in_work_tree(path):
        raise UsageError(
            f"{source.name} lies in no git repository", hint="leave --commit and --push out"
        )
    made = replace(source, content=edited(source, model, changes))
    if made.content == source.content:
        output.prose(f"No changes: {source.name} says so already.")
        return ExitCode.OK
    sources = [made if one is source else one for one in parsed.sources]
    _show_plan(workspace, parse_desired(sources), output, offline=offline)
    if dry_run:
        return ExitCode.OK
    if path.read_bytes() != source.content:
        raise UsageError(f"{source.name} was changed meanwhile", hint="do it again")
    replace_file(path, made.content)
    output.talk(f"Wrote {source.name}.")
    if commits or pushes:
        return _publish(path, model, changes, output, pushes=pushes)
    return ExitCode.OK


def _source_of(parsed: ParsedDesired, model: ModelName) -> SourceText:
    """The file in which a model stands."""
    for source in parsed.sources:
        tree = read_yaml(source.name, source.content).root
        models = tree.items.get("models") if isinstance(tree, MapNode) else None
        if models and isinstance(models.value, MapNode) and model in models.value.items:
            return source
    raise UsageError(f"no file says {model}")


def _show_plan(
    workspace: Workspace, parsed: ParsedDesired, output: Output, *, offline: bool
) -> None:
    for warning in parsed.warnings:
        output.talk(f"warning: {warning}", YELLOW)
    wanted = Wanted(parsed.desired, parsed.marks, parsed.warnings, sources=parsed.sources)
    drivers = workspace.drivers(parsed.desired, offline=offline)
    seen = look(wanted, workspace.site, drivers, Allowed())
    output.plan(plan_text(seen.plan, seen.guards))


def _publish(
    path: Path, model: ModelName, changes: Sequence[Change], output: Output, *, pushes: bool
) -> ExitCode:
    """Commit the file, and push; what it says is written in any case."""
    message = f"Set {model} {' '.join(one.shown for one in changes)}"
    why = commit([path.resolve()], message)
    if why:
        output.say(f"warning: git made no commit: {why}", YELLOW)
        return ExitCode.NOT_CONVERGED
    output.talk(f"Committed: {message}")
    if pushes and (why := push(path.resolve())):
        output.say(f"warning: git pushed nothing: {why}", YELLOW)
        return ExitCode.NOT_CONVERGED
    if pushes:
        output.talk("Pushed.")
    return ExitCode.OK


def replace_file(path: Path, content: bytes) -> None:
    """Let a file hold this, with the mode that it has; a link leads to where it lies."""
    target = path.resolve()
    effects.write_atomic(target, content, mode=target.stat().st_mode & 0o777)
