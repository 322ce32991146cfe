"""A saved plan: the text of its file, and what such a file says.

In: a plan's JSON form and text, what it stands on, what was allowed. Out: the file's text, or from
its content a `SavedPlan`; `core.sealed` tells what is none, or is not as it was written.
It holds no secret and no step: who applies it plans anew, and compares.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from reconciler import __version__
from reconciler.core.basis import Basis
from reconciler.core.guards import Allowed
from reconciler.core.plan import Action
from reconciler.core.present import JSON_ACTIONS
from reconciler.core.sealed import Kind, is_sealed, seal, unseal
from reconciler.core.selection import Selection
from reconciler.core.words import ModelName

PLAN = Kind(
    mark="llm_reconcile_plan",
    version=1,
    word="plan",
    name="saved plan",
    wanted="`llm-reconcile plan DESIRED --out FILE` makes one; `plan` takes a desired file",
    again="make it anew: `llm-reconcile plan DESIRED --out FILE`",
)


@dataclass(frozen=True, slots=True)
class Options:
    """With which options a plan was made: it is made anew with the same ones."""

    allow_destroy: int = 0
    allow_protected: Sequence[str] = ()
    switch_file: bool = False
    targets: Sequence[str] = ()
    excludes: Sequence[str] = ()
    replacing: Sequence[str] = ()
    destroy: bool = False
    """All of the root is to stop."""

    @property
    def selection(self) -> Selection:
        """What of the desired file it is about."""
        replacing = frozenset(map(ModelName, self.replacing))
        return Selection(frozenset(self.targets), frozenset(self.excludes), replacing)

    def allowed(self, more: Allowed) -> Allowed:
        """What guards let through, together with what is allowed on top."""
        return Allowed(
            max(self.allow_destroy, more.destroy),
            more.protected | frozenset(self.allow_protected),
            self.switch_file or more.switch_file,
        )


@dataclass(frozen=True, slots=True)
class SavedPlan:
    """A plan as it was reviewed, and all that has to be as it was then."""

    root: str
    options: Options
    basis: Basis
    document: Mapping[str, Any]
    """As `plan --json` shows it."""
    text: str
    """As `plan` shows it."""
    made_by: str = __version__

    @property
    def desired(self) -> str:
        """The desired file, as messages call it."""
        return str(self.document["desired"]["path"])

    @property
    def actions(self) -> Mapping[str, Action]:
        """What is done about each address."""
        words = {tuple(said): action for action, said in reversed(JSON_ACTIONS.items())}
        changes = self.document["resource_changes"]
        return {one["address"]: words[tuple(one["change"]["actions"])] for one in changes}


def is_plan(content: bytes) -> bool:
    """Whether a file begins as a saved plan does, be it whole or not."""
    return is_sealed(content, PLAN)


def plan_file_text(saved: SavedPlan) -> str:
    """What the file of this plan says."""
    values = {
        "root": saved.root,
        "options": asdict(saved.options),
        "basis": asdict(saved.basis),
        "plan": saved.document,
        "text": saved.text,
    }
    return seal(values, PLAN, saved.made_by)


def read_plan_file(name: str, content: bytes) -> SavedPlan:
    """What a saved plan says; `name` is what messages call it.

    Raises:
        UsageError: it is none, is not as it was written, or a newer version made it.
    """
    values = unseal(name, content, PLAN)
    known = {one.name for one in fields(Options)}
    return SavedPlan(
        root=values["root"],
        options=Options(**{key: one for key, one in values["options"].items() if key in known}),
        basis=Basis(**values["basis"]),
        document=values["plan"],
        text=values["text"],
        made_by=values["made_by"],
    )
