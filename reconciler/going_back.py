"""Going back: a version is tried, and what served before it is started again where it fails.

In: how both are brought up, what can be gone back to. Out: the note of it in the journal, which
goes once the version is ready. It decides nothing: the plan says what there is to go back to.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace

from reconciler.core.causes import explain
from reconciler.core.launch import LastGood, Launch
from reconciler.core.plan import AwaitReady, StartServer
from reconciler.core.words import InstanceName
from reconciler.drivers.base import State
from reconciler.drivers.base_runtime import Exit
from reconciler.errors import EngineError, InterruptedRunError, StateFolderError


class StartFailedError(EngineError):
    """A server died while it was starting, or took too long; carries the end of its log."""

    def __init__(self, message: str, log_tail: str, hint: str = "", *, retryable: bool) -> None:
        super().__init__(message, hint=hint, retryable=retryable)
        self.log_tail = log_tail


def death(ended: Exit) -> StartFailedError:
    """What is said of a server that ended while it was loading."""
    cause = explain(ended.code, ended.log_tail, out_of_memory=ended.out_of_memory)
    message, retryable = f"it died while loading: {cause.reason}", not cause.final
    return StartFailedError(message, ended.log_tail, cause.hint, retryable=retryable)


def attempt(
    state: State,
    effect: StartServer | AwaitReady,
    last_good: LastGood | None,
    version: Callable[[], None],
    back: Callable[[Launch], None],
) -> None:
    """Let a version get ready; where it fails, what served before it is started again."""
    if last_good and isinstance(effect, StartServer):
        # Now that what served has ended: a death of that is no failure of this version.
        note(state, effect.instance, replace(last_good, began=True))
    try:
        version()
    except EngineError as error:
        if last_good:
            instance, was_tried = last_good.launch.instance, isinstance(error, StartFailedError)
            # A run that is killed from here on must not lead to another try, if there was one.
            note(state, instance, replace(last_good, failed=error.message if was_tried else ""))
            serves, said = _go_back(back, last_good.launch)
            if serves and not was_tried:
                # There was no process of it: the next try is the first one.
                note(state, instance, None)
            error.message += f"; {said}"
        raise
    if not effect.is_back:
        # Whatever stood there: an older one, left by a run that was cut, is nothing to go back to.
        note(state, effect.instance, None)


def _go_back(back: Callable[[Launch], None], launch: Launch) -> tuple[bool, str]:
    """Start what served before; whether it serves, and how that went in words."""
    try:
        back(launch)
    except InterruptedRunError:
        return False, "the old one was started again, and loads"
    except EngineError as error:
        return False, f"the old one could not be started again: {error.message}"
    return True, "the old one serves again"


def note(state: State, instance: InstanceName, last_good: LastGood | None) -> None:
    """The same as `keep`, where nothing hangs on it."""
    with contextlib.suppress(StateFolderError):
        keep(state, instance, last_good)


def keep(state: State, instance: InstanceName, last_good: LastGood | None) -> None:
    """Let the journal say what an instance can go back to; None: nothing.

    Raises:
        StateFolderError: it cannot be written.
    """
    state.update(lambda journal: journal.keeping(instance, last_good))
