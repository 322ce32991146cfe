"""The JSON Schema of a plan's JSON form; `schema/plan.schema.json` is its output.

In: the classes below, which describe that form, and those of `core.plan` that it takes over. Out:
plain values. `core.present` and `saving` make the form itself; a test holds real plans against
this. A later version may add keys: who reads a plan must not stumble over them.
"""

from __future__ import annotations

import inspect
import sys
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import TypeAdapter

from reconciler.core import plan
from reconciler.core.plan import DiskAfter, Guard, Impact, ResourceType, Summary
from reconciler.core.schema import Schema, field_docs, without_noise
from reconciler.errors import Severity

_ONLY_SHOWN = ("standing", "reasons")
"""What only `show --json` adds."""


@dataclass(frozen=True)
class LockFile:
    """The lock file that the plan was made of."""

    path: str
    """As messages call it; relative to the root if it lies there."""
    sha256: str | None
    """Of its content; null: there is no such file."""


@dataclass(frozen=True)
class Commit:
    """What git knows of the desired file."""

    commit: str
    """The commit that is checked out, and has the file."""
    dirty: bool
    """The file is not as that commit has it."""


@dataclass(frozen=True)
class DesiredFile:
    """The desired file, or the directory of them."""

    path: str
    """As messages call it; relative to the root if it lies there."""
    sha256: str
    """Of its content; of several files, of all one after the other."""
    git: Commit | None
    """null: no commit has it, or git cannot be asked."""


@dataclass(frozen=True)
class Taken:
    """A snapshot that the plan was made against."""

    host: str
    """The machine's own name."""
    root: str
    """The root there."""
    taken_at: str
    """When, ISO 8601 in UTC, by the machine's clock."""
    age: str
    """How old it was when the plan was made, for people."""
    made_by: str
    """The version of llm-reconcile that took it."""


@dataclass(frozen=True)
class Observed:
    """What was looked at."""

    fingerprint: str
    """A digest over all that the plan stands on; another one: something has changed."""
    boot_id: str
    """Of the machine since it was started."""
    source: Literal["machine", "snapshot", "none"]
    """`none`: nothing was looked at, the plan is against another desired state."""
    snapshot: Taken | None
    """Of `snapshot`: which one."""


@dataclass(frozen=True)
class Chosen:
    """What of the desired file the plan is about."""

    destroy: bool
    """All that runs of this root is to stop."""
    targets: list[str]
    """These models alone, or `gateway`; empty: all."""
    excludes: list[str]
    """All but these."""
    replacing: list[str]
    """Models whose servers are replaced though nothing about them changed."""


@dataclass(frozen=True)
class Difference:
    """What becomes of one resource."""

    actions: list[Literal["no-op", "create", "update", "delete"]]
    """Terraform's; both `delete` and `create` is a replacement, in this order."""
    before: dict[str, str] | None
    """Fields as they are, secrets masked; null: none are told."""
    after: dict[str, str] | None
    """Fields as they will be, secrets masked; null: none are told."""
    replace_paths: list[str]
    """The fields that force a restart."""


@dataclass(frozen=True)
class ResourceChange:
    """One resource."""

    address: str
    """`model_file.NAME`, `instance.NAME`, `instance.NAME[1]`, `gateway` or `lock`."""
    type: ResourceType
    name: str
    change: Difference
    action_reason: str
    """Why, for people."""
    blocked: str | None
    """Why it cannot be made as wanted now; null: it can."""
    depends_on: list[str]
    """The addresses whose changes come first."""
    impact: Impact


@dataclass(frozen=True)
class ResourceDrift:
    """A resource that is not as it was set up, and is left alone."""

    address: str
    type: ResourceType
    reason: str


@dataclass(frozen=True)
class Finding:
    """Something to say about the file, or about what is planned."""

    severity: Severity
    summary: str
    range: str
    """file:line:column; empty: it is about no place."""


@dataclass(frozen=True)
class PlanDocument:
    """What `plan --json` and `show --json` print, and `plan --json-into` writes."""

    format_version: Literal["1.0"]
    timestamp: str
    """When it was made, ISO 8601 in UTC."""
    desired: DesiredFile
    lock: LockFile
    observed: Observed
    selection: Chosen
    resource_changes: list[ResourceChange]
    """All resources, also those that stay as they are, sorted by type and address."""
    resource_drift: list[ResourceDrift]
    guards: list[Guard]
    """Why the whole plan would be refused (exit 4); empty: it may be applied."""
    disks: list[DiskAfter]
    """The room that there is and will be; empty: nothing is fetched or removed, or nothing is known
    of the file systems (`--against`)."""
    diagnostics: list[Finding]
    summary: Summary
    """Instances only."""
    standing: Literal["holds", "done", "stale"] | None
    """Only of `show`: whether the saved plan can be applied; null: that cannot be told there."""
    reasons: list[str]
    """Only of `show`: why it is stale, or why that cannot be told."""


def plan_document_schema() -> Schema:
    """The whole schema, draft 2020-12."""
    raw: dict[str, Any] = TypeAdapter(PlanDocument).json_schema(mode="serialization")
    raw["required"] = [name for name in raw["required"] if name not in _ONLY_SHOWN]
    docs = {**field_docs(plan), **field_docs(sys.modules[__name__])}
    for name, place in {**raw["$defs"], PlanDocument.__name__: raw}.items():
        for field, text in docs.get(name, {}).items():
            place["properties"][field]["description"] = text
    title = "llm-reconcile: a plan, format 1.0"
    about = inspect.getdoc(PlanDocument)
    body = {name: without_noise(one) for name, one in raw.items() if name != "description"}
    draft = "https://json-schema.org/draft/2020-12/schema"
    return {"$schema": draft, "title": title, "description": about, **body}
