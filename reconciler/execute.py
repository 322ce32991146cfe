"""Execute: walk a plan's graph and make its effects happen. It takes no decisions.

In: a plan, the drivers, a cancel signal. Out: one result a step, and events on the way.
A failed step skips those that need it; everything else goes on. Steps run at once, each in its
own daemon thread, as soon as all they need is done. A cancelled run starts no further step.
Once only files and renders are still on their way, that is said: the run lock is needed no more.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial

from reconciler.core.launch import LastGood, Launch
from reconciler.core.observed import ProcessRef
from reconciler.core.os_errors import explain_os
from reconciler.core.plan import (
    ApplyGateway,
    AwaitReady,
    FetchFiles,
    LocklessEffect,
    Plan,
    RemoveFiles,
    RemoveRender,
    StartServer,
    Step,
    StopGateway,
    StopServer,
    VerifyFiles,
    WritePins,
    WriteRender,
)
from reconciler.core.present import human_bytes
from reconciler.core.transfers import FileProgress, total_of
from reconciler.core.words import InstanceName
from reconciler.drivers.base import Cancel, Drivers, Health
from reconciler.errors import InterruptedRunError, ReconcileError, StepError
from reconciler.going_back import StartFailedError, attempt, death, keep, note
from reconciler.patience import Effort, Pace, Reading

DRAIN_POLL_FIRST_S, DRAIN_POLL_LONGEST_S = 0.03, 1.2
"""llama.cpp looks for clients that have left only after a second without an answer to anybody: a
drain that asks more often would wait for a request that nobody waits for (measured, b11434)."""
IDLE_LOOKS = 2
UNKNOWN_LOOKS = 4
"""A look waits 2 s for an answer; where nobody listens it fails at once."""
KILL_WAIT_S = 5.0
PROGRESS_EVERY_S = 1.0
LOG_LINES = 10


class Outcome(StrEnum):
    """How a step ended."""

    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class StepResult:
    """One step's end."""

    step: Step
    outcome: Outcome
    reason: str = ""
    hint: str = ""
    log_tail: str = ""
    seconds: float = 0.0
    began: bool = False
    """A start failed, and there was a process of it."""
    final: bool = False
    """A start failed, and the same one would fail again."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Something to tell about a running step: it began, or what it is at."""

    step: Step
    text: str
    seconds: float
    files: tuple[FileProgress, ...] = ()
    """Of a download, or of files that are being verified."""


Report = Callable[[Progress | StepResult], None]
Settle = Callable[[tuple[StepResult, ...]], None]


class Turns:
    """When a run needs the run lock: all the time, as a single run has nobody to share it with.

    A watch, which has many at once, lets it go while servers load (`watch.turn`).
    """

    def __init__(self, pace: Pace | None = None) -> None:
        """`pace`: of all runs that share the lock, as their servers share the machine."""
        self.pace = pace or Pace()

    def begins(self) -> None:
        """A step that needs it is about to run."""

    def ends(self) -> None:
        """One has run."""

    def away(
        self, _name: InstanceName, _server: ProcessRef, _at: str
    ) -> AbstractContextManager[None]:
        """While this server, at that address, loads, a step does nothing that needs it.

        Its end raises `InterruptedRunError` where others had their way with it meanwhile.
        """
        return nullcontext()


def execute(
    plan: Plan,
    drivers: Drivers,
    report: Report,
    cancel: Cancel,
    settle: Settle | None = None,
    turns: Turns | None = None,
) -> tuple[StepResult, ...]:
    """Run all steps; returns their results in the plan's order.

    `settle` is told, once, the results so far: when nothing that needs the run lock is left.
    """
    turns = turns or Turns()
    waiting = {step.number: step for step in plan.steps}
    results: dict[int, StepResult] = {}
    done: queue.Queue[StepResult] = queue.Queue()
    running = 0
    busy = {step.number for step in plan.steps if not isinstance(step.effect, LocklessEffect)}
    while waiting or running:
        if settle and busy <= results.keys():
            settle(tuple(results.values()))
            settle = None
        left = {step.number for step in plan.steps} - results.keys()
        for step in [one for one in waiting.values() if _is_decided(one, left, cancel)]:
            del waiting[step.number]
            skipped = _skipped(step, results, cancel)
            if skipped:
                results[step.number] = skipped
                report(skipped)
                continue
            running += 1
            if not isinstance(step.effect, LocklessEffect):
                turns.begins()
            worker = _Worker(step, drivers, report, cancel, turns)
            threading.Thread(target=worker.run, args=(done,), daemon=True).start()
        if not running:
            continue
        try:
            # A short time-out lets the main thread notice signals.
            result = done.get(timeout=0.1)
        except queue.Empty:
            continue
        running -= 1
        results[result.step.number] = result
        report(result)
        if not isinstance(result.step.effect, LocklessEffect):
            turns.ends()
    if settle:
        settle(tuple(results.values()))
    return tuple(results[step.number] for step in plan.steps)


def _is_decided(step: Step, left: set[int], cancel: Cancel) -> bool:
    return cancel.is_set() or left.isdisjoint((*step.needs, *step.after))


def _skipped(step: Step, results: dict[int, StepResult], cancel: Cancel) -> StepResult | None:
    if cancel.is_set():
        return StepResult(step, Outcome.CANCELLED, "interrupted before it began")
    failed = [need for need in step.needs if results[need].outcome is not Outcome.DONE]
    if failed:
        first = results[failed[0]].step
        return StepResult(step, Outcome.SKIPPED, f"needs {first.address}, which was not done")
    return None


class _Worker:
    """One step in its thread."""

    def __init__(
        self, step: Step, drivers: Drivers, report: Report, cancel: Cancel, turns: Turns
    ) -> None:
        self._step = step
        self._turns = turns
        self._drivers = drivers
        self._report = report
        self._cancel = cancel
        self._began = drivers.clock.monotonic()

    def run(self, done: queue.Queue[StepResult]) -> None:
        """Do it, and put the result on the queue, whatever happens."""
        outcome, reason, hint, tail, began, final = Outcome.DONE, "", "", "", False, False
        try:
            self._perform()
        except InterruptedRunError as error:
            outcome, reason = Outcome.CANCELLED, error.message
        except ReconcileError as error:
            outcome, reason, hint = Outcome.FAILED, error.message, error.hint
            if isinstance(error, StartFailedError):
                began, tail, final = True, error.log_tail, not error.retryable
        except OSError as error:
            outcome = Outcome.FAILED
            reason, hint = explain_os(error)
        except Exception as error:  # noqa: BLE001 - the worker boundary: one step, not the run
            outcome, reason = Outcome.FAILED, f"{type(error).__name__}: {error}"
        seconds = self._elapsed()
        done.put(StepResult(self._step, outcome, reason, hint, tail, seconds, began, final))

    def _elapsed(self) -> float:
        return self._drivers.clock.monotonic() - self._began

    def _tell(self, text: str) -> None:
        self._report(Progress(self._step, text, self._elapsed()))

    def _perform(self) -> None:
        effect, drivers = self._step.effect, self._drivers
        match effect:
            case WritePins():
                self._pin(effect)
            case FetchFiles():
                self._tell(f"downloading from {effect.source.place}")
                drivers.files.fetch(effect, self._fetched, self._cancel)
            case VerifyFiles():
                self._tell("verifying")
                drivers.files.verify(effect, self._verified, self._cancel)
            case RemoveFiles():
                drivers.store.remove(effect.removals)
            case StopServer():
                self._stop(effect)
            case StartServer():
                self._start(effect)
            case AwaitReady():
                self._await(effect)
            case ApplyGateway() | StopGateway():
                self._change_gateway(effect)
            case WriteRender() | RemoveRender():
                self._tell("writing")
                drivers.renders.apply(effect, self._cancel)

    def _change_gateway(self, effect: ApplyGateway | StopGateway) -> None:
        if isinstance(effect, ApplyGateway):
            self._drivers.gateway.apply(effect, self._cancel)
        else:
            self._tell("stopping nginx")
            self._drivers.gateway.stop(effect, self._cancel)

    def _pin(self, effect: WritePins) -> None:
        pins = dict(effect.pins)
        if effect.learn:
            self._tell("reading the header")
            files = self._drivers.files
            pins = {name: pin and files.learn(pin, self._cancel) for name, pin in pins.items()}
        self._drivers.lock.write(pins)

    def _start(self, effect: StartServer) -> None:
        tried, state = effect.launch, self._drivers.state
        if effect.given_up:
            note(state, tried.instance, effect.given_up)
        last_good = LastGood(effect.fallback, tried.spec_hash) if effect.fallback else None
        back = partial(self._go_back, effect.startup_s)
        attempt(state, effect, last_good, lambda: self._launch(tried, effect), back)
        # Only now, when it is noted that it works, may anybody meet it.
        self._drivers.runtime.route(tried.instance, tried.address)

    def _await(self, effect: AwaitReady) -> None:
        back = partial(self._go_back, effect.startup_s)
        bring_up = partial(self._bring_up, effect.server, effect.instance, effect.address, effect)
        attempt(self._drivers.state, effect, effect.fallback, bring_up, back)
        self._drivers.runtime.route(effect.instance, effect.address)

    def _go_back(self, budget_s: float, launch: Launch) -> None:
        self._launch(launch, StartServer(launch, budget_s))
        self._drivers.runtime.route(launch.instance, launch.address)

    def _launch(self, launch: Launch, effect: StartServer) -> None:
        self._tell("starting")
        if not launch.files:
            launch = replace(launch, files=self._drivers.files.identity(launch.weights))
        server = self._drivers.runtime.start(launch)
        self._bring_up(server, launch.instance, launch.address, effect)

    def _bring_up(
        self,
        server: ProcessRef,
        instance: InstanceName,
        address: str,
        effect: StartServer | AwaitReady,
    ) -> None:
        """Wait until it is ready; or end it, where another copy serves."""
        runtime = self._drivers.runtime
        try:
            with self._turns.away(instance, server, address), self._turns.pace.loading():
                self._until_ready(server, instance, address, effect.startup_s)
        except StartFailedError as error:
            if runtime.exited(server, instance) is not None:
                runtime.forget(server, instance, address)
            elif effect.end_if_late:
                runtime.kill(server)
                runtime.wait_gone(server, KILL_WAIT_S, threading.Event())
                runtime.forget(server, instance, address)
            else:
                error.message += "; it still runs"
            if effect.end_if_late and not effect.fallback:
                error.message += "; the old one stays"
            raise

    def _fetched(self, files: tuple[FileProgress, ...]) -> None:
        self._advanced("downloaded", files)

    def _verified(self, files: tuple[FileProgress, ...]) -> None:
        self._advanced("verified", files)

    def _advanced(self, word: str, files: tuple[FileProgress, ...]) -> None:
        total = total_of(files)
        text = f"{word} {human_bytes(total.done)} of {human_bytes(total.size)}"
        self._report(Progress(self._step, text, self._elapsed(), files))

    def _until_ready(
        self, server: ProcessRef, instance: InstanceName, address: str, budget_s: float
    ) -> None:
        runtime, rested = self._drivers.runtime, 0.0
        began = told = self._elapsed()
        reading = Reading(runtime, server, budget_s)
        while True:
            health = self._drivers.prober.health(address)
            ended = runtime.exited(server, instance)
            if ended:
                raise death(ended)
            # Only now: where it could not listen, somebody else may have answered.
            if health is Health.READY:
                return
            if reading.has_stopped(self._elapsed() - began):
                tail = runtime.log_tail(instance, LOG_LINES)
                raise StartFailedError(reading.told(), tail, retryable=True)
            if self._elapsed() - told >= PROGRESS_EVERY_S:
                told = self._elapsed()
                self._tell("loading" if health is Health.LOADING else f"waiting ({health})")
            rested = self._turns.pace.rest(rested, self._elapsed() - began, self._cancel)

    def _stop(self, effect: StopServer) -> None:
        """Out of nginx, drain, TERM, grace, KILL of the group; then tidy up."""
        runtime, server = self._drivers.runtime, effect.server
        unrouted = effect.unroute and runtime.unroute(effect.instance, effect.address)
        is_ending = False
        try:
            self._drain(effect)
            if effect.last_good:
                keep(self._drivers.state, effect.instance, effect.last_good)
            self._tell("stopping")
            runtime.signal_stop(server, effect.instance, effect.slot)
            is_ending = True
        finally:
            # Not a surge's old copy: there the route leads to the new one already.
            if unrouted and not is_ending:
                runtime.route(effect.instance, effect.address)
        # From here on it must end: a cancelled wait would leave a server that serves nobody.
        never = threading.Event()
        if not runtime.wait_gone(server, effect.grace_s, never):
            self._tell(f"still there after {effect.grace_s:.0f} s: killing")
            runtime.kill(server)
            if not runtime.wait_gone(server, KILL_WAIT_S, never):
                raise StepError(f"pid {server.pid} did not end, not even by KILL")
        runtime.forget(server, effect.instance, effect.address)

    def _drain(self, effect: StopServer) -> None:
        """Wait until two looks in a row find no request; a request may be on its way in.

        A server that does not say may only be slow to: it is given some more looks, and as many
        as it likes while it gives no answer at all, and works.
        """
        idle, unknown = 0, 0
        told, pause = -PROGRESS_EVERY_S, DRAIN_POLL_FIRST_S
        began, prober = self._elapsed(), self._drivers.prober
        effort = Effort(self._drivers.runtime, effect.server, began)
        while self._elapsed() - began < effect.drain_s:
            count = prober.in_flight(effect.address)
            idle = idle + 1 if count == 0 else 0
            works = count is None and effort.goes_on(self._elapsed())
            is_full = works and prober.health(effect.address) is Health.SILENT
            unknown = unknown + 1 if count is None and not is_full else 0
            if idle >= IDLE_LOOKS or unknown >= UNKNOWN_LOOKS:
                return
            if count and self._elapsed() - told >= PROGRESS_EVERY_S:
                told = self._elapsed()
                self._tell(f"draining, {count} running")
            if self._cancel.wait(pause):
                raise InterruptedRunError("interrupted while draining; it serves on")
            pause = DRAIN_POLL_FIRST_S if idle else min(pause * 1.5, DRAIN_POLL_LONGEST_S)
