"""Why a server ended: one sentence from its exit code and the end of its log.

In: a code as subprocess gives it, the last lines of its log, whether the kernel counted an end for
lack of memory meanwhile. Out: a reason for people, what they can do, and whether starting it again
without a change could help. What happens next is decided elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from signal import Signals

from reconciler.core.engine_messages import MESSAGES
from reconciler.core.text import printable


@dataclass(frozen=True, slots=True)
class Cause:
    """A reason, and whether it is final: the same start would end the same way."""

    reason: str
    final: bool
    hint: str = ""
    """What to do about it."""


REBOOTED = Cause("the machine was restarted", final=False)
_SERVED = ("model loaded", "listening on", "all slots are idle")
"""It was through with loading: what it says of memory then is of one request, or of that hour."""
_ASKED = "cleaning up before exit"
_BUG = "the kernel's log may say more (`dmesg`); another build of the engine may help"

_SIGNALS: dict[int, Cause] = {
    Signals.SIGILL: Cause(
        "killed by SIGILL: it uses instructions that this CPU lacks",
        final=True,
        hint="install an engine that was built for this CPU",
    ),
    Signals.SIGSEGV: Cause("killed by SIGSEGV: an error in the engine", final=False, hint=_BUG),
    Signals.SIGFPE: Cause("killed by SIGFPE: an error in the engine", final=False, hint=_BUG),
    Signals.SIGABRT: Cause("killed by SIGABRT: it gave up", final=False, hint=_BUG),
    Signals.SIGBUS: Cause(
        "killed by SIGBUS: a file that it had mapped was cut, or a disk failed",
        final=False,
        hint="see that the model's files are whole (`llm-reconcile verify NAME`), and `dmesg`",
    ),
    Signals.SIGXCPU: Cause(
        "killed by SIGXCPU: it used up its limit of CPU time",
        final=False,
        hint="raise the limit: `ulimit -t`",
    ),
    Signals.SIGXFSZ: Cause(
        "killed by SIGXFSZ: a file, perhaps its log, reached the limit of file sizes",
        final=True,
        hint="raise the limit: `ulimit -f`",
    ),
    Signals.SIGSYS: Cause(
        "killed by SIGSYS: a filter of system calls (seccomp) forbids what it does",
        final=True,
        hint="loosen that filter: it is the container's, or the service's that started it",
    ),
    Signals.SIGTERM: Cause("killed by SIGTERM, sent by somebody else", final=False),
    Signals.SIGHUP: Cause("killed by SIGHUP, sent by somebody else", final=False),
    Signals.SIGINT: Cause("killed by SIGINT, sent by somebody else", final=False),
    Signals.SIGQUIT: Cause("killed by SIGQUIT, sent by somebody else", final=False),
}
_OUT_OF_MEMORY = Cause(
    "not enough memory: the kernel killed it",
    final=True,
    hint="choose a smaller quant or `ctx_size`, end something else, or raise its cgroup's limit",
)
_NOT_EXECUTED = {
    126: Cause(
        "the engine may not be executed (exit code 126)",
        final=True,
        hint="give it the mark of a program, or set `engine.command`",
    ),
    127: Cause(
        "the engine, or a library of it, is gone (exit code 127)",
        final=True,
        hint="install it again, or set `engine.command`",
    ),
}
"""As shells and the dynamic loader say it (POSIX, ld.so(8))."""


def explain(code: int | None, log_tail: str, *, out_of_memory: bool | None = None) -> Cause:
    """The cause of an exit. `code` None: nobody knows it.

    `out_of_memory`: the kernel counted such an end in its cgroup since it started; None: not known.
    """
    if code is not None and code < 0:
        return _killed(-code, log_tail, out_of_memory=out_of_memory)
    if code == 0:
        if _ASKED in log_tail:
            return Cause("somebody else told it to end (exit 0)", final=False)
        return Cause("it ended by itself (exit 0)", final=False)
    if known := _said(log_tail):
        return known
    if code is None:
        return Cause("it ended, and its log does not say why", final=False)
    return _NOT_EXECUTED.get(code, Cause(f"exit code {code}", final=False))


def _killed(number: int, log_tail: str, *, out_of_memory: bool | None) -> Cause:
    if number == Signals.SIGKILL:
        if out_of_memory:
            return _OUT_OF_MEMORY
        perhaps = ", perhaps for lack of memory" if out_of_memory is None else " (kill -9)"
        return Cause(f"killed by SIGKILL{perhaps}", final=False)
    # Who gives up says why; who is killed from outside only said what it was at.
    if number == Signals.SIGABRT and (known := _said(log_tail)):
        return known
    unknown = Cause(f"killed by {_signal_name(number)}", final=False)
    return _SIGNALS.get(number, unknown)


def _said(log_tail: str) -> Cause | None:
    for one in MESSAGES:
        if match := one.pattern.search(log_tail):
            words = {name: word or "" for name, word in match.groupdict().items()}
            reason = printable(one.reason.format(**words))
            final = one.final and not any(word in log_tail for word in _SERVED)
            return Cause(reason, final, one.hint)
    return None


def _signal_name(number: int) -> str:
    try:
        return Signals(number).name
    except ValueError:
        return f"signal {number}"
