"""Why a server ended: one sentence from its exit code and the end of its log.

In: a code as subprocess gives it, the last log lines. Out: a reason for people, and whether
starting it again without a change could help. The codes and messages are llama-server's own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from signal import Signals

from reconciler.core.text import printable

_SIGKILL = -9


@dataclass(frozen=True, slots=True)
class Cause:
    """A reason, and whether it is final: the same start would end the same way."""

    reason: str
    final: bool


# The first pattern that fits wins: the specific ones stand before the general ones.
_KNOWN: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), reason)
    for pattern, reason in (
        (r"error: invalid argument: (?P<what>\S+)", "the engine rejects the flag {what}"),
        (r"error while handling argument \"?(?P<what>[^\"\n]+?)\"?: (?P<why>.+)", "{what}: {why}"),
        (r"couldn't bind (?:to )?(?:HTTP )?server socket", "its address is taken"),
        (r"invalid magic characters", "the model file is not a GGUF file"),
        (r"tensor '(?P<what>[^']+)' data is not within the file bounds", "the model file is cut"),
        (r"unknown model architecture: '(?P<what>[^']+)'", "the engine is too old for {what}"),
        (r"(?i)out of memory|failed to allocate", "not enough memory"),
        (r"failed to open GGUF file '?(?P<what>[^'\n]+)", "the model file cannot be opened"),
        (r"error loading model: (?P<what>.+)", "the model cannot be loaded: {what}"),
        (r"exiting due to model loading error", "the model cannot be loaded"),
        (r"error: (?P<what>.+)", "{what}"),
    )
)


def explain(code: int | None, log_tail: str) -> Cause:
    """The cause of an exit."""
    if code is not None and code < 0 and code != _SIGKILL:
        return Cause(f"killed by {_signal_name(-code)}", final=False)
    for pattern, reason in _KNOWN:
        match = pattern.search(log_tail)
        if match:
            return Cause(printable(reason.format(**match.groupdict())), final=True)
    if code == _SIGKILL:
        return Cause("killed by SIGKILL, perhaps for lack of memory", final=False)
    if code == 0:
        return Cause("it ended by itself (exit 0)", final=False)
    return Cause(
        "it ended, and its log does not say why" if code is None else f"exit code {code}",
        final=False,
    )


def _signal_name(number: int) -> str:
    try:
        return Signals(number).name
    except ValueError:
        return f"signal {number}"
