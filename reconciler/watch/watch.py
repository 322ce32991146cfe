"""The loop of a watch: whatever happens wakes it; it looks, plans, guards, and sends errands.

In: a workspace, its drivers, who is told. Out: a machine that stays as the file says, and when to
look again. What is in force is `force.py`'s matter, what goes on at once `lanes.py`'s. Nothing that
is in hand is touched twice, and nothing that an operator has done is undone.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, replace

from reconciler.core.accounting import counted, newly_ended, newly_wedged
from reconciler.core.backoff import LONGEST_S, forgotten
from reconciler.core.events import EventKind
from reconciler.core.guards import ANOTHER_FILE, Allowed, flags_of
from reconciler.core.history import Ending
from reconciler.core.lockfile import Lock
from reconciler.core.observed import DOWN, ObservedServer, ObservedState, ProcessRef
from reconciler.core.os_errors import in_one_line
from reconciler.core.plan import Action, AwaitReady, Plan, StartServer
from reconciler.core.plan_parts import leave_out, leave_stops_out, parts_of, without
from reconciler.core.resolve import model_of, tcp_port
from reconciler.core.site import Site
from reconciler.core.text import with_hint
from reconciler.core.words import GATEWAY_ADDRESS, RENDER_ADDRESS, InstanceName, Phase
from reconciler.drivers.base import Cancel, Drivers, Health
from reconciler.errors import InvalidDesiredError, LockHeldError, ReconcileError
from reconciler.execute import Outcome, StepResult
from reconciler.look import Keeping, Round, look, replan
from reconciler.observe import observe_servers, settle
from reconciler.recording import About, Recording
from reconciler.remember import keep_generation, keep_lock, publish, remember_file, tidy
from reconciler.watch.accepted import Accepted
from reconciler.watch.following import Candidate
from reconciler.watch.force import Force
from reconciler.watch.lanes import Errand, Lanes
from reconciler.watch.telling import Telling, Voice
from reconciler.watch.turn import Turn

LOOK_EVERY_S = 60.0
"""Whatever happens or not."""
BLOCKED_EVERY_S = 15.0
"""What something outside blocks is looked at so often."""
LOCK_EVERY_S = 0.5
FAILED_EVERY_S = 5.0
SHORTEST_S = 0.05
RETRY_FIRST_S = 10.0
OTHERS = "it is in hand"
_REPLACES = {Action.REPLACE, Action.SURGE}


@dataclass(frozen=True, slots=True)
class Retry:
    """A resource that could not be made as wanted, by no fault of a server."""

    count: int
    at: float
    """By the monotonic clock."""
    reason: str


class Watch:
    """One watch."""

    def __init__(
        self,
        site: Site,
        drivers: Drivers,
        cancel: Cancel,
        wake: Callable[[str], None],
        telling: Telling,
        current: Candidate | None = None,
    ) -> None:
        self._site, self._cancel = site, cancel
        self._voice = Voice(telling, drivers.clock)
        self.drivers = drivers
        self.force = Force(current)
        self._turn = Turn(drivers.state, cancel)
        self.lanes = Lanes(self._turn, cancel, wake, lambda: self._wishes)
        self._wishes = frozenset({drivers.state.read().wish})
        """What this root is to be, as far as the watch has had its say."""
        self._pins: Lock | None = None
        self._ready: dict[ProcessRef, float] = {}
        self._late: dict[ProcessRef, str] = {}
        """Servers that did not get ready in time."""
        self._retries: dict[str, Retry] = {}
        self._tidy_at = -math.inf
        self._published: object = None
        """Of what the gateway was told last."""
        self._accepted = Accepted(self._voice, site.desired)
        self.observed: ObservedState | None = None
        """What was seen last."""
        self.rounds = 0
        self._is_new = True
        """No round has come to its decisions yet."""

    def round(
        self, candidate: Candidate | None, trouble: str, wedged: dict[ProcessRef, str]
    ) -> float:
        """One round; returns in how many seconds the next one is due at the latest."""
        self._voice.trouble("file", trouble, "the file can be followed again")
        failed = ""
        try:
            with self._turn.taken(0.0):
                self.rounds += 1
                return self._round(candidate, wedged)
        except LockHeldError:
            return LOCK_EVERY_S
        except (ReconcileError, OSError) as error:
            # It lives for months: a full disk, or no descriptor left, is over some day.
            failed = f"nothing could be done: {in_one_line(error)}"
            return FAILED_EVERY_S
        except Exception as error:
            # A defect that one file or model brings about does not leave the others alone.
            if os.environ.get("LLM_RECONCILE_DEBUG"):
                raise
            said = f"unexpected {type(error).__name__}: {error}; this is a defect"
            failed = f"nothing could be done: {said}; LLM_RECONCILE_DEBUG=1 shows the traceback"
            return FAILED_EVERY_S
        finally:
            self._voice.trouble("watch", failed, "it goes on")

    def _round(self, candidate: Candidate | None, wedged: dict[ProcessRef, str]) -> float:
        drivers, now = self.drivers, self.drivers.clock.now()
        ended = self._collect()
        settle(drivers, self._cancel)
        journal = drivers.state.read()
        if self._is_down(journal.wish):
            return LOOK_EVERY_S
        self._forget_late()

        def look_at(one: Candidate) -> Round:
            return self._look(one, Keeping({**wedged, **self._late}, self._pins))

        before = self.force.current
        try:
            seen = self.force.offer(candidate, journal, look_at)
        except InvalidDesiredError as error:
            # What is new waits until its lock file can be read.
            self._voice.trouble("lock", error.diagnostics[0].line, "")
            seen = self.force.offer(None, journal, look_at)
        self._tell_held(seen)
        if seen is None or self.force.current is None:
            return LOOK_EVERY_S
        current = self.force.current
        is_ours = not any(one.name == ANOTHER_FILE for one in seen.guards)
        is_first, self._is_new = self._is_new, False
        if is_ours and (is_first or before is None or before.wish != current.wish):
            self._accept(current, seen)
        elif is_ours and journal.wish != current.wish:
            # There was no room to note it, or somebody has applied what the file says no more.
            self._remember(current)
        seen = self._accounted(current, seen, now)
        self.observed = seen.observed
        if ended or is_first:
            with suppress(OSError):
                keep_lock(current.wanted.sources, current.drivers(drivers), is_moved=False)
        monotonic = drivers.clock.monotonic()
        is_due = ended or monotonic >= self._tidy_at
        if is_due:
            self._tidy(current, seen, monotonic)
        plan = self._due(seen, monotonic)
        self._send(plan, current, seen, now)
        self._publish(current, seen, is_due=is_due)
        self._note_pending(plan, seen)
        return self._next(seen, now, monotonic)

    def _publish(self, current: Candidate, seen: Round, *, is_due: bool) -> None:
        """Let clients know; a start does not wait for that."""
        known = (frozenset(one.ref for one in seen.observed.servers), seen.observed.journal)
        if is_due or known != self._published:
            # An operator's run, for which nobody counts restarts, may have said something else.
            self._published = known
            publish(current.wanted.desired, seen.observed, self.drivers)

    def close(self) -> None:
        """Wait for what is in hand: it ends as soon as it can."""
        self.lanes.join()
        self._accepted.leave(Ending.INTERRUPTED)

    def _tidy(self, current: Candidate, seen: Round, monotonic: float) -> None:
        """What the dead have left goes, and logs that are full are set aside."""
        self._tidy_at = monotonic + LOOK_EVERY_S
        with suppress(OSError):
            tidy(current.wanted.desired, seen.plan, self.drivers)
            self.drivers.gateway.turn_logs()

    def _is_down(self, wish: str) -> bool:
        """Whether an operator has taken all of this root down since the watch began."""
        rests = wish == DOWN and DOWN not in self._wishes
        said = "all is down: `llm-reconcile apply` goes on"
        self._voice.trouble("down", said if rests else "", "it goes on")
        if rests:
            self._accepted.leave(Ending.SUPERSEDED)
        return rests

    def _look(self, one: Candidate, keeping: Keeping) -> Round:
        trouble, drivers = "", one.drivers(self.drivers)
        try:
            self._pins = drivers.lock.read()
        except InvalidDesiredError as error:
            # What is kept needs no lock file; what is new waits until it can be read.
            if self._pins is None or one is not self.force.current:
                raise
            trouble = error.diagnostics[0].line
        self._voice.trouble("lock", trouble, "the lock file can be read again")
        keeping = replace(keeping, pins=self._pins)
        return look(one.wanted, self._site, drivers, Allowed(), keeping=keeping)

    def _accept(self, current: Candidate, seen: Round) -> None:
        keep_generation(current.wanted.sources, self._site.desired, current.drivers(self.drivers))
        self._remember(current)
        self._retries.clear()
        self.lanes.recall(current.wanted.desired)
        self._accepted.begin(seen.plan, current.drivers(self.drivers))

    def _remember(self, current: Candidate) -> None:
        self._wishes |= {current.wish}
        try:
            waits = self.force.held is not None
            desired = current.wanted.desired
            remember_file(desired, self._site, self.drivers, keeps_parts=waits)
        finally:
            # Where there is no room for it the journal keeps the wish before.
            self._wishes = frozenset({self.drivers.state.read().wish})

    def _tell_held(self, seen: Round | None) -> None:
        """Say what waits for somebody: a desired state, or a part of the one in force."""
        guards = self.force.held.seen.guards if self.force.held else seen.guards if seen else ()
        flags = flags_of(guards)
        hint = f"; `llm-reconcile apply {self._site.desired} {flags}` lets it through"
        reason = "; ".join(one.message for one in guards)
        said = f"held back: {reason}{hint if flags else ''}" if guards else ""
        self._voice.trouble(self._site.desired, said, "nothing is held back any more")

    def _collect(self) -> bool:
        """See what became of errands; whether there were any."""
        ended = self.lanes.collect()
        for one in ended:
            failed = [result for result in one.results if result.outcome is Outcome.FAILED]
            addresses = {result.step.address for result in failed}
            for result in one.results:
                if result.outcome is Outcome.DONE and result.step.address not in addresses:
                    self._retries.pop(result.step.address, None)
            for result in failed:
                self._note_failure(result, is_noted=one.is_noted)
        return bool(ended)

    def _note_failure(self, result: StepResult, *, is_noted: bool) -> None:
        """`is_noted`: the journal knows of it too, if there was room for it."""
        effect = result.step.effect
        if isinstance(effect, StartServer | AwaitReady):
            servers = self.drivers.runtime.list()
            live = [one for one in servers if one.instance == effect.instance]
            self._late |= {one.ref: result.reason for one in live if self._is_late(one)}
            if is_noted and (result.began or not live):
                # It is not tried again while another copy serves, or its end counts.
                return
        address = result.step.address
        known = self._retries.get(address)
        count = known.count + 1 if known else 1
        wait = min(RETRY_FIRST_S * 2.0 ** min(count - 1, 10), LONGEST_S)
        at = self.drivers.clock.monotonic() + wait
        self._retries[address] = Retry(count, at, with_hint(result.reason, result.hint))

    def _is_late(self, server: ObservedServer) -> bool:
        """Of a server whose start failed and that lives: it is not the one that serves meanwhile.

        One on a port of its own has no route that would say so.
        """
        if server.routed and tcp_port(server.address) is None:
            return False
        return self.drivers.prober.health(server.address) is not Health.READY

    def _forget_late(self) -> None:
        """One that got ready after all serves, unless its replacement is in hand by now."""
        if not self._late:
            return
        servers, in_hand = observe_servers(self.drivers), self.lanes.models
        ready = (one for one in servers if one.phase is Phase.READY)
        for ref in [one.ref for one in ready if model_of(one.instance) not in in_hand]:
            self._late.pop(ref, None)

    def _accounted(self, current: Candidate, seen: Round, now: float) -> Round:
        """The same round, once it is known what ended by itself since the last one."""
        observed, desired = seen.observed, current.wanted.desired
        ended = newly_ended(desired, observed, self.lanes.models)
        ready_s = self._ready_seconds(observed.servers)
        journal = forgotten(counted(observed.journal, observed, ended, now), ready_s)
        if journal == observed.journal:
            return seen
        for one in ended:
            self._retries.pop(f"instance.{one.wanted.name}", None)
        self._voice.ends(EventKind.EXITED, ended, journal)
        journal = self.drivers.state.update(
            lambda known: replace(known, crashes=journal.crashes, restarts=journal.restarts)
        )
        again = replace(observed, journal=journal)
        return self.force.judged(replan(current.wanted, self._site, again, Allowed()))

    def _ready_seconds(self, servers: Collection[ObservedServer]) -> dict[InstanceName, float]:
        now = self.drivers.clock.monotonic()
        ready = {one.ref: one.instance for one in servers if one.phase is Phase.READY}
        self._ready = {ref: self._ready.get(ref, now) for ref in ready}
        live = {one.ref for one in servers}
        self._late = {ref: why for ref, why in self._late.items() if ref in live}
        return {name: now - self._ready[ref] for ref, name in ready.items()}

    def _due(self, seen: Round, monotonic: float) -> Plan:
        """What of the plan can be done now."""
        later = {address for address, one in self._retries.items() if one.at > monotonic}
        names = (one for one in later if "." in one and not one.startswith(RENDER_ADDRESS))
        models = {model_of(InstanceName(one.partition(".")[2])) for one in names}
        gateway = self.lanes.gateway or GATEWAY_ADDRESS in later
        hands_off = frozenset(self.lanes.models | models)
        renders = self.lanes.renders | later
        plan = leave_out(seen.plan, hands_off, OTHERS, gateway=gateway, renders=renders)
        # Whether one that does not answer is wedged is found out by its pulse, not by waiting.
        silent = {one.ref for one in seen.observed.servers if one.phase is Phase.UNHEALTHY}
        idle = {
            step.address
            for step in plan.steps
            if isinstance(step.effect, AwaitReady) and step.effect.server in silent
        }
        plan = without(plan, idle, "it does not answer")
        if not seen.guards:
            return plan
        why = "; ".join(one.message for one in seen.guards)
        if any(not one.answer or one.name == ANOTHER_FILE for one in seen.guards):
            return replace(plan, steps=())
        return leave_stops_out(plan, f"held back: {why}")

    def _send(self, plan: Plan, current: Candidate, seen: Round, now: float) -> None:
        observed = seen.observed
        replaced = {InstanceName(one.name) for one in plan.changes if one.action in _REPLACES}
        stuck = newly_wedged(current.wanted.desired, observed, replaced)
        if stuck:
            journal = self.drivers.state.update(lambda known: counted(known, observed, stuck, now))
            self._voice.ends(EventKind.WEDGED, stuck, journal)
        if self._is_news(seen.plan, observed):
            self._accepted.note(seen.plan)
        for part in parts_of(plan):
            is_kept = not self._accepted.is_open and self._is_news(part.plan, observed)
            about = About("watch", self._site.desired, part.models, is_kept)
            drivers = current.drivers(self.drivers)
            recording = Recording(about, drivers)
            recording.begin(part.plan)
            report = self._voice.report()
            self.lanes.start(
                Errand(part, current.wanted.desired, observed, drivers, report, recording)
            )

    @staticmethod
    def _is_news(plan: Plan, observed: ObservedState) -> bool:
        """Whether any of it belongs into the history: what ended and is started again does not."""
        ended = {name for name, one in observed.journal.crashes.items() if one.count}
        wedged = {one.instance for one in observed.servers if one.ref in observed.wedged}
        return any(
            one.action is not Action.NO_OP and one.name not in ended | wedged
            for one in plan.changes
        )

    def _tell_outcome(self, plan: Plan, seen: Round) -> None:
        """What became of the desired state that was accepted, once nothing is on its way."""
        failed = {address: one.reason for address, one in self._retries.items()}
        failed |= {one.address: one.blocked for one in seen.plan.blocked if one.waits_until}
        # What a guard holds back is blocked in what is due alone.
        blocked = {one.address: one.blocked for one in plan.blocked}
        said = [f"{address}: {why}" for address, why in (failed or blocked).items()]
        ending = Ending.FAILED if failed else Ending.BLOCKED if blocked else Ending.APPLIED
        self._accepted.end(ending, "; ".join(said))

    def _note_pending(self, plan: Plan, seen: Round) -> None:
        """Let people see what waits, once nothing is on its way."""
        if not self.lanes.are_idle:
            return
        self._tell_outcome(plan, seen)
        recording = Recording(About("watch", self._site.desired, is_kept=False), self.drivers)
        if held := self.force.held:
            recording.refuse(held.seen.plan, f"held back: {held.reason}")
        else:
            recording.begin(plan)

    def _next(self, seen: Round, now: float, monotonic: float) -> float:
        """In how many seconds something is due."""
        times = [one.waits_until - now for one in seen.plan.changes if one.waits_until]
        # One that was due is on its way by now: it wakes the loop when it ends.
        times += [one.at - monotonic for one in self._retries.values() if one.at > monotonic]
        suspended = seen.observed.journal.suspended.values()
        times += [one.until - now for one in suspended if one.until is not None]
        if self._late or any(one.blocked and not one.waits_until for one in seen.plan.changes):
            times.append(BLOCKED_EVERY_S)
        return max(min([LOOK_EVERY_S, *times]), SHORTEST_S)
