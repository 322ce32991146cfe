"""Remembering: what a run has to leave in the journal, beside the servers, and for the gateway.

In: the desired state, what was seen, how steps ended. Out: changes of the journal, generations, pid
files, what /api/models adds to the live phases. It decides nothing; the next observation does not
need it.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from reconciler.core.desired import DesiredState
from reconciler.core.downtime import LastStart
from reconciler.core.observed import DOWN, Journal, LastExit, ObservedState
from reconciler.core.parse import SourceText
from reconciler.core.plan import Plan, StartServer, StopServer
from reconciler.core.resolve import instance_names, model_of
from reconciler.core.selection import Selection
from reconciler.core.site import Site
from reconciler.core.suspension import Suspension
from reconciler.core.words import InstanceName, ModelName, Phase
from reconciler.drivers.base import Drivers
from reconciler.errors import StateFolderError
from reconciler.execute import Outcome, StepResult

_T = TypeVar("_T")


def remember_file(
    desired: DesiredState, site: Site, drivers: Drivers, *, keeps_parts: bool = False
) -> None:
    """Note which file this root follows, what it says, and what it protects.

    `keeps_parts`: what was applied in part is of a newer one, that still waits.

    Raises:
        StateFolderError: that cannot be written. What it says alone is not worth an error: a full
            disk must not keep what needs no room from being done.
    """
    models = desired.models
    now = drivers.clock.now()

    def noted(journal: Journal) -> Journal:
        return replace(
            journal.at(now),
            desired=site.desired,
            protected=_protected(desired, journal if keeps_parts and journal.parts else None),
            last_exits=_of_models(journal.last_exits, models),
            crashes=_of_models(journal.crashes, models),
            restarts=_of_models(journal.restarts, models),
        )

    def whole(journal: Journal) -> Journal:
        return replace(
            noted(journal),
            wish=wish,
            parts=journal.parts if keeps_parts else {},
            starts=_of_models(journal.starts, models),
            last_good=_of_models(journal.last_good, models),
        )

    wish = wish_of(desired)

    try:
        drivers.state.update(whole)
    except StateFolderError:
        journal = drivers.state.read()
        if noted(journal) != journal.at(now):
            raise


def remember_part(
    desired: DesiredState, selection: Selection, site: Site, drivers: Drivers
) -> None:
    """Note what is true once a file is applied in part: that is no consent to the rest of it.

    So the wish stays, and with it that all is to be down, and what is protected stays protected.

    Raises:
        StateFolderError: that cannot be written. Which part it was alone is not worth an error.
    """
    chosen = selection.models(desired.models) or frozenset[ModelName]()
    parts = dict.fromkeys(sorted({*chosen, *selection.targets}), wish_of(desired))

    def noted(journal: Journal) -> Journal:
        return replace(
            journal.at(drivers.clock.now()),
            desired=site.desired,
            protected=_protected(desired, journal),
            parts={**journal.parts, **parts},
        )

    try:
        drivers.state.update(noted)
    except StateFolderError:
        known = drivers.state.read()
        if (known.desired, known.protected) != (site.desired, _protected(desired, known)):
            raise


def _protected(desired: DesiredState, before: Journal | None) -> frozenset[ModelName]:
    """What it protects, and what was protected before where that still counts."""
    models = desired.models.items()
    declared = frozenset(ModelName(name) for name, model in models if model.protect)
    return declared | (before.protected if before else frozenset())


def wish_of(desired: DesiredState) -> str:
    """A digest of what is wanted, as the journal keeps it."""
    return hashlib.sha256(desired.model_dump_json().encode()).hexdigest()[:12]


def _of_models(
    known: Mapping[InstanceName, _T], models: Mapping[str, object]
) -> dict[InstanceName, _T]:
    return {name: one for name, one in known.items() if model_of(name) in models}


def keep_generation(sources: Sequence[SourceText], file: str, drivers: Drivers) -> None:
    """Keep what is about to be applied, so that there is a way back to it.

    Where that cannot be written nothing is kept: it must not keep anything from being done.
    """
    with contextlib.suppress(OSError):
        newest, lock = drivers.generations.newest(), drivers.lock.text()
        if sources and not (newest and newest.holds(file, sources, lock)):
            _keep(sources, lock, drivers)


def keep_lock(sources: Sequence[SourceText], drivers: Drivers, *, is_moved: bool) -> None:
    """Applying this has led to the lock file that there is now.

    Where pins were moved on purpose (`is_moved`) that is a generation of its own.

    Raises:
        OSError: it cannot be written.
    """
    newest = drivers.generations.newest()
    if not newest or newest.sources != tuple(sources):
        return
    lock = drivers.lock.text()
    if is_moved and newest.lock != lock:
        _keep(sources, lock, drivers)
    else:
        drivers.generations.amend(newest, lock)


def _keep(sources: Sequence[SourceText], lock: str | None, drivers: Drivers) -> None:
    drivers.generations.note(sources, lock, drivers.records.origin(), drivers.clock.now())


def remember_end(drivers: Drivers) -> None:
    """Note that nothing of this root is to run, whatever is under way.

    What ended by itself before is forgotten: whoever brings all back begins anew.

    A full disk must not keep anybody from stopping servers.
    """
    with contextlib.suppress(StateFolderError):
        drivers.state.update(lambda journal: replace(journal, wish=DOWN, parts={}, crashes={}))


def suspended(
    journal: Journal, models: Iterable[ModelName], asked: Suspension, *, by_name: bool = False
) -> Journal:
    """Note that an operator stopped these models; every plan shows it until `resumed`.

    Of one that is stopped already the first reason stands, and the longer time. If it was named
    (`by_name`), that is what is wanted of it now.
    """
    stopped = dict(journal.suspended)
    for name in models:
        known = stopped.get(name, asked)
        if by_name:
            stopped[name] = replace(asked, since=known.since, reason=asked.reason or known.reason)
        elif known.until is not None and (asked.until is None or asked.until > known.until):
            stopped[name] = replace(known, until=asked.until, zone_s=asked.zone_s)
        else:
            stopped[name] = known
    return replace(journal, suspended=stopped)


def resumed(journal: Journal, models: Iterable[ModelName]) -> Journal:
    """End the suspension of these models."""
    ended = set(models)
    kept = {name: one for name, one in journal.suspended.items() if name not in ended}
    return replace(journal, suspended=kept)


def remember_results(
    observed: ObservedState,
    results: tuple[StepResult, ...],
    drivers: Drivers,
) -> bool:
    """Note what became of servers; whether there was room for it.

    A disk that is full makes no run fail that worked.
    """
    now = drivers.clock.now()
    try:
        drivers.state.update(lambda known: _with_results(known.at(now), observed, results, now))
    except StateFolderError:
        return False
    return True


def _with_results(
    journal: Journal, observed: ObservedState, results: tuple[StepResult, ...], now: float
) -> Journal:
    journal = _with_exits(journal, observed, results, now)
    return _with_last_good(_with_starts(journal, observed, results), results)


def _with_exits(
    journal: Journal, observed: ObservedState, results: tuple[StepResult, ...], now: float
) -> Journal:
    """Remember how servers ended by themselves; a stop that was asked for ends that memory."""
    exits = dict(journal.last_exits)
    for result in results:
        match result.step.effect:
            case StartServer(launch=launch) if result.outcome is Outcome.FAILED:
                exits[launch.instance] = LastExit(
                    now,
                    result.reason,
                    launch.spec_hash,
                    began=result.began,
                    final=result.final,
                    hint=result.hint,
                )
            case StartServer(launch=launch) if result.outcome is Outcome.DONE:
                # The new copy took over the slot, where the death of the old one was to be seen.
                if ended := observed.last_exit(launch.instance):
                    exits[launch.instance] = ended
            case StopServer(instance=instance) if result.outcome is Outcome.DONE:
                exits.pop(instance, None)
            case _:
                pass
    return replace(journal, last_exits=exits)


def _with_last_good(journal: Journal, results: tuple[StepResult, ...]) -> Journal:
    """What was stopped for good is nothing to go back to."""
    started = {one.step.address for one in results if isinstance(one.step.effect, StartServer)}
    for result in results:
        effect, done = result.step.effect, result.outcome is Outcome.DONE
        if isinstance(effect, StopServer) and done and result.step.address not in started:
            journal = journal.keeping(effect.instance, None)
    return journal


def _with_starts(
    journal: Journal, observed: ObservedState, results: tuple[StepResult, ...]
) -> Journal:
    """Remember how long servers took to start: the next plan says by it what a restart costs."""
    starts = dict(journal.starts)
    for result in results:
        effect = result.step.effect
        if isinstance(effect, StartServer) and result.outcome is Outcome.DONE:
            files = observed.files.get(model_of(effect.launch.instance))
            # What is gone back to had files of its own.
            size = files.size if files and files.paths == effect.launch.weights else 0
            starts[effect.launch.instance] = LastStart(round(result.seconds, 3), size)
    return replace(journal, starts=starts)


def tidy(desired: DesiredState, plan: Plan, drivers: Drivers) -> None:
    """Pid files say where each server is reached; a port may have changed without a restart."""
    concerned = {change.name for change in plan.changes}
    drivers.runtime.tidy(
        {
            instance: model.port
            for key, model in desired.models.items()
            for instance in instance_names(ModelName(key), model)
            if instance in concerned
        }
    )


def publish(desired: DesiredState, observed: ObservedState, drivers: Drivers) -> None:
    """Tell the gateway's /api/models what it cannot ask the servers: also why one is not there."""
    journal = drivers.state.read().at(drivers.clock.now())
    # Without a watch nobody counts.
    counts = None if observed.now is None else 0
    sizes = {name: files.size for name, files in observed.files.items()}
    notes: dict[str, Mapping[str, object]] = {
        instance: {"reason": one.reason} for instance, one in journal.last_exits.items()
    }
    for key, model in desired.models.items():
        if suspension := journal.suspended.get(ModelName(key)):
            note: Mapping[str, object] = {
                "phase": Phase.SUSPENDED,
                "reason": str(suspension),
                "until": suspension.until,
            }
            notes |= dict.fromkeys(instance_names(ModelName(key), model), note)
    for server in drivers.runtime.list():
        # Where a wrapper was started, its process says nothing of the engine's memory.
        process = None if server.helpers else server.ref
        notes[server.instance] = {
            "pid": process and process.pid,
            "start_ticks": process and process.start_ticks,
            "since": round(server.since),
            "size_bytes": sizes.get(model_of(server.instance)),
            "restarts": journal.restarts.get(server.instance, counts),
            "reason": None,
        }
    for key, model in desired.models.items():
        for instance in instance_names(ModelName(key), model):
            if last := journal.starts.get(instance):
                # So clients are told when to come again, should it be started again.
                notes[instance] = {**notes.get(instance, {}), "start_s": round(last.seconds, 1)}
    drivers.gateway.publish(notes)
