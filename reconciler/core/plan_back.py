"""Going back: what serves again where the version that was to follow it does not get ready.

In: a case, what was noted of an earlier try. Out: the launch to go back to, and the steps that do
it where a run that should have was killed, in the middle of a drain too. A version that failed is
not tried a second time: that is for `core.obstacles` to say.
"""

from __future__ import annotations

from dataclasses import replace

from reconciler.core.cases import Case
from reconciler.core.draft import Draft
from reconciler.core.launch import LastGood, Launch
from reconciler.core.observed import ObservedServer, ObservedState
from reconciler.core.obstacles import held, noted_failure
from reconciler.core.plan import Action, AwaitReady, Change, StartServer
from reconciler.core.resolve import Instance, tcp_port
from reconciler.core.words import InstanceName, Phase, SpecHash


def last_good(case: Case, launch: Launch, observed: ObservedState) -> Launch | None:
    """What is to serve again if `launch` fails: what serves now, or did before a run was killed."""
    keep = case.keep
    if case.surges:
        return None
    known = noted(case.name, launch.spec_hash, launch.address, observed)
    # One that gives no answer may have its hands full; it is what serves, unless that was noted.
    silent = keep is not None and keep.phase is Phase.UNHEALTHY and not known
    serves = keep is not None and keep.phase is Phase.READY
    if keep is None or not (serves or silent) or keep.spec == launch.spec_hash:
        return replace(known.launch, public_port=launch.public_port) if known else None
    if tcp_port(keep.address) != tcp_port(launch.address):
        return None
    return replace(
        launch,
        # All that it had: some of it may come from a wrapper that is not run again.
        env=(*keep.base_env, *keep.env),
        spec_hash=keep.spec,
        command=keep.command,
        argv=keep.argv,
        slot=keep.slot,
        address=keep.address,
        files=keep.files,
        weights=(),
    )


def noted(
    instance: InstanceName, spec: SpecHash, address: str, observed: ObservedState
) -> LastGood | None:
    """What an earlier run stopped for a version that was never ready, where `spec` is another."""
    known = observed.journal.last_good.get(instance)
    if known is None or known.launch.spec_hash == spec:
        return None
    same_place = tcp_port(known.launch.address) == tcp_port(address)
    return replace(known, tried=spec, failed="", began=False) if same_place else None


def plan_back(
    draft: Draft,
    case: Case,
    wanted: Instance,
    observed: ObservedState,
    change: Change,
    startup_s: float,
) -> Change:
    """The wanted version cannot be started (again), and nothing serves: what served before does."""
    keep = case.keep
    known = noted(case.name, wanted.spec.hash, wanted.address, observed)
    if keep is None:
        if known is None:
            return change
        last = observed.last_exit(case.name)
        if last and last.spec != wanted.spec.hash and held(wanted, observed):
            # It ended as well: it waits for its turn, or was given up, like any other.
            return change
        port = tcp_port(wanted.address)
        needs = draft.port_stops.get(port, set()) if port is not None else set[int]()
        launch = replace(known.launch, public_port=wanted.model.port)
        # A death is told by the slot that is taken now: nobody could see it any more.
        failed = noted_failure(case, wanted.spec.hash, observed)
        was = observed.journal.last_good[case.name]
        given_up = replace(was, failed=failed or was.failed, began=False)
        effect = StartServer(launch, startup_s, given_up=given_up)
        draft.step(change.address, effect, "it served before", needs)
        return replace(change, action=Action.CREATE, reason="what served before is started again")
    is_back = known is not None and keep.spec == known.launch.spec_hash
    if is_cut_off(case) or (is_back and keep.phase is Phase.STARTING):
        serve_again(draft, case, keep, startup_s)
        return replace(change, action=Action.ADOPT, reason="what served before is to serve again")
    return change


def is_cut_off(case: Case) -> bool:
    """Whether it serves and nobody reaches it: the run that was to end it was killed."""
    keep = case.keep
    return bool(keep and keep.phase is Phase.READY and not keep.routed and not case.is_wedged)


def serve_again(draft: Draft, case: Case, keep: ObservedServer, startup_s: float) -> int:
    """Let it serve while something else is waited for; a stop of it, or of a copy, comes later.

    Returns the step's number.
    """
    wait = AwaitReady(case.name, keep.ref, keep.address, startup_s, is_back=True)
    number = draft.step(f"instance.{case.name}", wait, "it served before", set())
    for server in (keep, *case.extras):
        if server.ref in draft.stops:
            draft.also_needs(draft.stops[server.ref], {number})
    return number
