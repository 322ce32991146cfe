"""The verbs that show what would happen, and change nothing: plan, show.

In: a desired file, or a saved plan. Out: a plan on stdout, and in a file where one is asked for.
`apply` carries out what they show.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cache, partial
from pathlib import Path
from typing import Annotated

import typer

from reconciler import __version__
from reconciler.against import look_against
from reconciler.app import Workspace, open_file
from reconciler.cli.drift import show_drift
from reconciler.cli.output import Output
from reconciler.cli.reading import NOTHING_RUNS, read
from reconciler.cli.selection import (
    ExcludeOption,
    ReplaceOption,
    TargetOption,
    There,
    selection_of,
    there_by,
)
from reconciler.cli.snapshot import ObservedOption, snapshot_at
from reconciler.cli.verbs import (
    AllowDestroyOption,
    AllowProtectedOption,
    FileArgument,
    JsonOption,
    LockedOption,
    NoColorOption,
    OfflineOption,
    RootOption,
    SwitchFileOption,
    make_output,
    verb,
)
from reconciler.core.basis import basis_of
from reconciler.core.desired import DesiredState
from reconciler.core.guards import Allowed, flags_of
from reconciler.core.observed import ObservedState
from reconciler.core.plan import Guard
from reconciler.core.plan_file import Options, SavedPlan
from reconciler.core.plan_markdown import plan_markdown
from reconciler.core.present import plan_text
from reconciler.core.resolve import model_of
from reconciler.core.snapshot import Snapshot, age_text
from reconciler.core.text import printable
from reconciler.drivers.base import Drivers
from reconciler.drivers.clock import SystemClock
from reconciler.errors import ExitCode, ReconcileError, UsageError
from reconciler.look import Round, Wanted
from reconciler.saving import (
    Standing,
    Verdict,
    judge,
    look_as,
    meant,
    open_saved,
    plan_document,
    read_saved,
    refuse_other_file,
    save_plan,
    write_json,
)
from reconciler.snapshots import look_at_snapshot, site_of


class Format(StrEnum):
    """How a plan is written."""

    TEXT = "text"
    MARKDOWN = "markdown"
    JSON = "json"


FormatOption = Annotated[
    Format | None,
    typer.Option(
        "--format",
        show_default=False,
        help="How it is written (default: text).",
    ),
]
JsonIntoOption = Annotated[
    Path | None,
    typer.Option("--json-into", metavar="FILE", help="Write it there as JSON, too."),
]
DestroyOption = Annotated[
    bool, typer.Option("--destroy", help="What `down` would do: stop all of this root.")
]
OutOption = Annotated[
    Path | None,
    typer.Option("--out", metavar="FILE", help="Save the plan there, for `show` and `apply`."),
]
AgainstOption = Annotated[
    str | None,
    typer.Option(
        "--against",
        metavar="OLD",
        help="Look at no machine: plan from that desired file, or commit of FILE, to FILE.",
    ),
]
RefreshOnlyOption = Annotated[
    bool,
    typer.Option(
        "--refresh-only",
        help="Only what is not as it was applied last, and no change: what `drift` shows.",
    ),
]
PlanArgument = Annotated[
    Path, typer.Argument(metavar="PLAN", help="A plan that `plan --out` saved.")
]


def register(app: typer.Typer) -> None:
    """Add these verbs to the app."""
    for function in (plan, show):
        app.command()(function)


@verb
def plan(
    file: FileArgument,
    root: RootOption = None,
    form: FormatOption = None,
    json: JsonOption = False,
    no_color: NoColorOption = False,
    out: OutOption = None,
    against: AgainstOption = None,
    observed: ObservedOption = None,
    refresh_only: RefreshOnlyOption = False,
    json_into: JsonIntoOption = None,
    target: TargetOption = None,
    exclude: ExcludeOption = None,
    replaced: ReplaceOption = None,
    destroy: DestroyOption = False,
    detailed_exitcode: Annotated[
        bool, typer.Option("--detailed-exitcode", help="Exit 2 when there are changes.")
    ] = False,
    allow_destroy: AllowDestroyOption = 0,
    allow_protected: AllowProtectedOption = None,
    switch_file: SwitchFileOption = False,
    locked: LockedOption = False,
    offline: OfflineOption = False,
) -> ExitCode:
    """Show what apply would do, and why. Changes nothing."""
    form = _form(form, json=json)
    output = make_output(no_color=no_color, json=form is Format.JSON)
    for flag, place in (("--out", out), ("--json-into", json_into)):
        if place:
            refuse_other_file(flag, place)
    if out and json_into and out.absolute() == json_into.absolute():
        raise UsageError(f"--out and --json-into are both {out}", hint="name two files")
    _refuse_contradictions(
        {
            "--refresh-only": refresh_only,
            "--observed": observed is not None,
            "--against": against is not None,
            "--destroy": destroy,
            "--out": out is not None,
            "--json-into": json_into is not None,
            "--format markdown": form is Format.MARKDOWN,
            "a part of the file": bool(target or exclude or replaced),
            "--locked": locked,
            "what guards let through": bool(allow_destroy or allow_protected or switch_file),
        }
    )
    # Without a look at the machine no state folder plays a part: there may be no place for one.
    is_away = observed is not None or against is not None
    environment = {**os.environ, "XDG_STATE_HOME": "/"} if is_away else os.environ
    workspace = open_file(file, root, environment)
    if refresh_only:
        drifted = show_drift(workspace, output, offline=offline)
        return ExitCode.CHANGES if detailed_exitcode and drifted else ExitCode.OK
    wanted = replace(read(workspace, output), locked=locked)
    where = _Place(
        workspace,
        None if is_away else workspace.drivers(wanted.desired, offline=offline),
        snapshot_at(observed) if observed else None,
        against or "",
    )
    chosen = selection_of(target, exclude, replaced, wanted.desired, where.there_by(wanted.desired))
    options = Options(
        allow_destroy=sys.maxsize if destroy else allow_destroy,
        allow_protected=sorted(allow_protected or ()),
        switch_file=switch_file or destroy,
        destroy=destroy,
        **chosen.values(),
    )
    wanted = meant(options, wanted)
    seen = where.look(options, wanted, output, saves=out is not None)
    workspace = where.there
    # Of a thousand models it takes longer to write than to plan.
    document = cache(partial(plan_document, seen, workspace, wanted, where.snapshot))
    nothing = NOTHING_RUNS if destroy else where.no_change if not seen.plan.only else ""
    text = plan_text(seen.plan, seen.guards, nothing=nothing)
    _print(document, text, form, output)
    if json_into:
        write_json(json_into, document())
    if out:
        basis = basis_of(seen.plan, seen.observed)
        save_plan(out, SavedPlan(workspace.site.root, options, basis, document(), text))
        _tell_saved(out, seen, where, output)
    if seen.guards:
        return ExitCode.REFUSED
    changes = not seen.plan.is_noop or bool(seen.plan.blocked)
    return ExitCode.CHANGES if detailed_exitcode and changes else ExitCode.OK


@dataclass(frozen=True, slots=True)
class _Place:
    """What a plan is made on: this machine, another one as it was, or a desired state."""

    workspace: Workspace
    drivers: Drivers | None
    """None: nothing of this machine is looked at."""
    snapshot: Snapshot | None
    against: str

    @property
    def there(self) -> Workspace:
        """The workspace as the machine has it that the plan is for."""
        if self.snapshot is None:
            return self.workspace
        return replace(self.workspace, site=site_of(self.snapshot, self.workspace))

    @property
    def no_change(self) -> str:
        """What is said of no changes, where it is not that a machine matches the file."""
        said = f"From {self.against} to {self.workspace.site.desired} there is nothing to do."
        return said if self.against else ""

    def there_by(self, desired: DesiredState) -> There:
        """What tells which models run there, and which renders there are."""
        if self.drivers:
            return there_by(self.drivers, desired)
        seen = self.snapshot.observed if self.snapshot else ObservedState()
        running = {model_of(one.instance) for one in seen.servers}
        dests = {*(seen.renders or ()), *(one.dest for one in desired.renders)}
        return lambda: (running, dests)

    def look(self, options: Options, wanted: Wanted, output: Output, *, saves: bool) -> Round:
        """What there is to do there; what it stands on is told, where that is no look."""
        allowed = options.allowed(Allowed())
        if self.drivers:
            return look_as(options, wanted, self.workspace, self.drivers, allowed)
        if self.snapshot:
            return self._recall(self.snapshot, wanted, allowed, output, saves=saves)
        seen = look_against(self.against, wanted, self.workspace, allowed)
        said = f"this is what changes where {self.against} is in force"
        output.talk(f"Nothing was looked at: {said}.")
        return seen

    def _recall(
        self, snapshot: Snapshot, wanted: Wanted, allowed: Allowed, output: Output, *, saves: bool
    ) -> Round:
        seen, unknown = look_at_snapshot(snapshot, wanted, self.workspace, allowed)
        if saves and unknown:
            raise UsageError(
                f"--out: the snapshot knows nothing of {', '.join(unknown)}, so that on the "
                "machine this plan would be refused as stale",
                hint="plan on the machine, or take a snapshot there with the new file",
            )
        age = age_text(snapshot.at, SystemClock().now())
        where = f"{printable(snapshot.root)} on {printable(snapshot.host)}"
        output.talk(f"Nothing was looked at: this is {where} by a snapshot that is {age}.")
        if snapshot.made_by != __version__:
            by = printable(snapshot.made_by)
            output.talk(f"It was taken by llm-reconcile {by}; here is {__version__}.")
        return seen


def _refuse_contradictions(given: Mapping[str, bool]) -> None:
    """See that what was given goes together."""
    if given["--against"] and given["--out"]:
        raise UsageError(
            "--out: a plan against another state stands on no machine", hint="leave one of them out"
        )
    if given["--destroy"] and (given["a part of the file"] or given["--against"]):
        raise UsageError("--destroy is about all that runs", hint="`stop NAME` stops one model")
    if given["--observed"] and given["--against"]:
        raise UsageError(
            "--observed and --against contradict each other", hint="leave one of them out"
        )
    others = [flag for flag, is_given in given.items() if is_given and flag != "--refresh-only"]
    if given["--refresh-only"] and others:
        raise UsageError(
            f"--refresh-only shows what has changed outside, and nothing else: {others[0]} plays "
            "no part in it",
            hint="leave one of them out",
        )


def _form(form: Format | None, *, json: bool) -> Format:
    if json and form not in {None, Format.JSON}:
        raise UsageError(f"--json and --format {form} contradict each other", hint="leave one out")
    return Format.JSON if json else form or Format.TEXT


def _print(
    document: Callable[[], Mapping[str, object]], text: str, form: Format, output: Output
) -> None:
    match form:
        case Format.TEXT:
            output.plan(text)
        case Format.MARKDOWN:
            output.data(plan_markdown(document()))
        case Format.JSON:
            output.document(document())


@verb
def show(
    file: PlanArgument,
    form: FormatOption = None,
    json: JsonOption = False,
    no_color: NoColorOption = False,
) -> ExitCode:
    """Show a saved plan, and whether it still holds.

    It is stale where anything that it stands on has changed; `apply` refuses it then.
    """
    form = _form(form, json=json)
    output = make_output(no_color=no_color, json=form is Format.JSON)
    saved = read_saved(file)
    verdict, why = _verdict(saved, output)
    standing = {"standing": verdict and verdict.standing, "reasons": why}
    _print(lambda: {**saved.document, **standing}, saved.text, form, output)
    if form is Format.JSON:
        return ExitCode.OK
    output.prose(f"Made {saved.document['timestamp']} for {saved.desired} in {saved.root}.")
    if verdict is None:
        output.prose(f"Whether it still holds cannot be told here: {'; '.join(why)}.")
    elif verdict.standing is Standing.HOLDS:
        line, flags = _applying(file, verdict.guards), flags_of(verdict.guards)
        wanted_so = f": if that is what you want, `{line}` carries it out" if flags else ""
        refused = f", and is refused as it is{wanted_so}."
        output.prose(f"It holds{refused if verdict.guards else f': `{line}` carries it out.'}")
    elif verdict.standing is Standing.DONE:
        output.prose("It was applied: all that it wants is so.")
    else:
        reasons = (f"  - {reason}" for reason in why)
        output.data("\n".join(["Stale: `apply` refuses it. Since it was made:", "", *reasons]))
    return ExitCode.OK


def _tell_saved(out: Path, seen: Round, where: _Place, output: Output) -> None:
    host = f" on {printable(where.snapshot.host)}" if where.snapshot else ""
    line = f"{host}: {_applying(out, seen.guards)}"
    if not seen.guards:
        output.talk(f"Saved in {out}. This carries it out{line}")
        return
    wanted_so = f"; if that is what you want{line}" if flags_of(seen.guards) else ""
    output.talk(f"Saved in {out}. It is refused as it is{wanted_so}")


def _applying(plan: Path, guards: Sequence[Guard]) -> str:
    """How a saved plan is applied, as it can be typed in a shell."""
    name = f"./{plan}" if str(plan).startswith("-") else str(plan)
    return f"llm-reconcile apply {shlex.quote(name)} {flags_of(guards)}".rstrip()


def _verdict(saved: SavedPlan, output: Output) -> tuple[Verdict | None, tuple[str, ...]]:
    """Whether it still holds; None where that cannot be told, with the reason."""
    try:
        workspace = open_saved(saved, None, os.environ)
    except ReconcileError as error:
        return None, (error.message,)
    try:
        verdict = _look_again(saved, workspace, output)
    except ReconcileError as error:
        verdict = Verdict(Standing.STALE, (error.message,))
    return verdict, verdict.reasons


def _look_again(saved: SavedPlan, workspace: Workspace, output: Output) -> Verdict:
    wanted = meant(saved.options, read(workspace, output))
    allowed, drivers = saved.options.allowed(Allowed()), workspace.drivers(wanted.desired)
    seen = look_as(saved.options, wanted, workspace, drivers, allowed)
    return judge(saved, wanted, workspace, seen, allowed)
