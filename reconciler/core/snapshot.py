"""A snapshot: all that a plan observes of one machine, as a file for where that machine is not.

In: what was seen, and of which desired state it was asked for. Out: the file's text, or from its
content a `Snapshot`. Its form is generated from the classes of the observed state. No secret is in
it: of a variable that may be one four digits of a digest stay, by which it is told to have changed;
what others wrote into a render is left out, and what a checkout has itself (templates).
"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache

from pydantic import TypeAdapter, ValidationError

from reconciler import __version__
from reconciler.core.desired import DesiredState, Model
from reconciler.core.engine import masked
from reconciler.core.launch import LastGood
from reconciler.core.observed import Journal, ObservedServer, ObservedState, ProcessRef
from reconciler.core.plan_renders import holds_secret
from reconciler.core.present import human_seconds
from reconciler.core.renders import ObservedRender
from reconciler.core.resolve import LOOPBACK, ports_of
from reconciler.core.resources import ObservedDisk
from reconciler.core.sealed import Kind, is_sealed, seal, unseal
from reconciler.core.stored import Inode
from reconciler.core.words import ModelName, SpecHash
from reconciler.errors import UsageError

SNAPSHOT = Kind(
    mark="llm_reconcile_snapshot",
    version=1,
    word="snapshot",
    name="snapshot",
    wanted="`llm-reconcile status --snapshot FILE` makes one, on the machine",
    again="take it anew on the machine: `llm-reconcile status --snapshot FILE`",
)
_COVERED_DIGITS = 4
"""Enough to tell nearly every change, and no more than `spec`, in which the value is too."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked of the machine: of anything else a snapshot knows nothing."""

    models: Mapping[ModelName, str]
    """Name -> what its files were looked for by (`files_asked`)."""
    engine: str
    gateway: Mapping[str, str]
    """What of `gateway` is looked at on the machine: `host`, `nginx`, `keys_file`, `tls`."""
    ports: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What was seen of one machine, and when."""

    host: str
    """The machine's own name."""
    root: str
    state: str
    """The state folder of that root."""
    at: float
    """When, in seconds since the epoch, by the machine's clock."""
    asked: Asked
    observed: ObservedState
    disk: ObservedDisk | None = None
    """Where files of further models would go; None where none was asked for."""
    outdated: tuple[tuple[ProcessRef, str], ...] = ()
    """Of `observed`, apart: JSON has texts alone for keys."""
    open_files: tuple[tuple[Inode, frozenset[int]], ...] = ()
    """The same."""
    lock_sha256: str | None = None
    """Of the lock file; None without one."""
    made_by: str = __version__
    """The version of llm-reconcile that took it."""


def files_asked(model: Model, store: str) -> str:
    """What the files of a model are looked for by."""
    # What a URL's file holds is said by its hash; what follows its `?` may be a secret.
    source = model.source.model_dump_json(exclude={"url"})
    return "\n".join((source, str(model.quant), store if model.source.is_fetched else ""))


def asked_of(desired: DesiredState) -> Asked:
    """What this desired state asks of a machine."""
    gateway = desired.gateway
    looked = {"host": LOOPBACK, "nginx": "auto", "keys_file": "", "tls": ""}
    if gateway:
        tls = gateway.tls.model_dump_json() if gateway.tls else ""
        looked |= {"host": gateway.host, "nginx": gateway.nginx}
        looked |= {"keys_file": gateway.keys_file or "", "tls": tls}
    return Asked(
        models={
            ModelName(name): files_asked(model, desired.store)
            for name, model in desired.models.items()
        },
        engine=f"{desired.engine.kind} {desired.engine.command}",
        gateway=looked,
        ports=tuple(sorted(ports_of(desired))),
    )


def age_text(at: float, now: float) -> str:
    """How old a snapshot is: `3h12m old, of 2026-11-26 10:02 UTC`."""
    moment = f"{datetime.datetime.fromtimestamp(at, datetime.UTC):%Y-%m-%d %H:%M} UTC"
    if at > now:
        return f"of {moment}, which is {human_seconds(at - now)} ahead of the clock here"
    return f"{human_seconds(now - at)} old, of {moment}"


def covered(spec: SpecHash, name: str, value: str) -> str:
    """A variable's value as a snapshot has it: one that may be a secret only as a few digits."""
    if masked(name, value) == value:
        return value
    text = "\0".join((spec, name, value))
    return f"covered:{hashlib.sha256(text.encode()).hexdigest()[:_COVERED_DIGITS]}"


def _without_secrets(observed: ObservedState) -> ObservedState:
    renders = observed.renders
    keys = frozenset(one.digest for one in observed.secrets.keys or ())
    return replace(
        observed,
        servers=tuple(map(_covered_server, observed.servers)),
        journal=_covered_journal(observed.journal),
        renders=renders and {dest: _covered_render(one, keys) for dest, one in renders.items()},
        templates={},
    )


def _covered_server(server: ObservedServer) -> ObservedServer:
    env, base_env = (
        tuple((name, covered(server.spec, name, value)) for name, value in part)
        for part in (server.env, server.base_env)
    )
    return replace(server, env=env, base_env=base_env)


def _covered_journal(journal: Journal) -> Journal:
    found = {name: _covered_launch(one) for name, one in journal.last_good.items()}
    return replace(journal, last_good=found)


def _covered_launch(one: LastGood) -> LastGood:
    spec, env = one.launch.spec_hash, one.launch.env
    shown = tuple((name, covered(spec, name, value)) for name, value in env)
    return replace(one, launch=replace(one.launch, env=shown))


def _covered_render(one: ObservedRender, keys: frozenset[str]) -> ObservedRender:
    """Its text only where all of it may be shown: what is left of a line compares with nothing."""
    is_ours = one.note is not None and one.note.is_ours(one.digest)
    is_shown = is_ours and one.text is not None and not holds_secret(one.text, keys)
    return replace(one, template=None, problem="", text=one.text if is_shown else None)


def snapshot_text(snapshot: Snapshot) -> str:
    """What the file of this snapshot says."""
    seen = _without_secrets(snapshot.observed)
    # Of all that processes have open only what lies in the store can matter.
    stored = {blob.inode for repo in seen.store.repos.values() for blob in repo.blobs}
    stored |= {
        link.inode for repo in seen.store.repos.values() for link in repo.links if link.inode
    }
    whole = replace(
        snapshot,
        observed=replace(seen, outdated={}, wedged={}, store=replace(seen.store, open={})),
        outdated=tuple(sorted(seen.outdated.items())),
        open_files=tuple(
            sorted((one, who) for one, who in seen.store.open.items() if one in stored)
        ),
    )
    values = _form().dump_python(whole, mode="json", exclude={"made_by"})
    return seal({"snapshot": values}, SNAPSHOT, whole.made_by)


def is_snapshot(content: bytes) -> bool:
    """Whether a file begins as a snapshot does, be it whole or not."""
    return is_sealed(content, SNAPSHOT)


def read_snapshot(name: str, content: bytes) -> Snapshot:
    """What a snapshot says; `name` is what messages call it.

    Raises:
        UsageError: it is none, is not as it was written, or a newer version made it.
    """
    values = unseal(name, content, SNAPSHOT)
    try:
        found = _form().validate_python(values["snapshot"])
    except (ValidationError, KeyError) as error:
        raise UsageError(
            f"{name}: this snapshot says something that no machine has", hint=SNAPSHOT.again
        ) from error
    seen = found.observed
    store = replace(seen.store, open=dict(found.open_files))
    whole = replace(seen, outdated=dict(found.outdated), store=store)
    return replace(found, observed=whole, made_by=str(values["made_by"]))


@cache
def _form() -> TypeAdapter[Snapshot]:
    return TypeAdapter(Snapshot)
