"""Why a server ended, in one sentence: each file of tests/data/ends is an end, and its reason.

Those `from: llama-server` are the real one's own logs; the others are written after the source that
they name, because the fault needs a card, a kernel or a machine that a test has not.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from reconciler.core.causes import Cause, explain
from reconciler.core.engine_messages import MESSAGES

ENDS = sorted((Path(__file__).parents[1] / "data" / "ends").glob("*.txt"))
FEWEST_REASONS = 25
"""BARS 16."""


@dataclass(frozen=True)
class End:
    """How a server ended, and what is to be said of it."""

    code: int | None
    log: str
    reason: str
    final: bool


def read(path: Path) -> End:
    head, _, log = path.read_text(encoding="utf-8").partition("\n\n")
    said = dict(line.split(": ", 1) for line in head.splitlines())
    code = None if said["exit"] == "unknown" else int(said["exit"])
    return End(code, log, said["reason"], said["final"] == "yes")


@pytest.mark.parametrize("path", ENDS, ids=lambda path: path.stem)
def test_each_end_has_its_reason(path: Path) -> None:
    end = read(path)
    cause = explain(end.code, end.log)
    assert (cause.reason, cause.final) == (end.reason, end.final)


def test_many_ends_are_told_apart() -> None:
    assert len({read(path).reason for path in ENDS}) >= FEWEST_REASONS


def test_every_message_has_an_end_that_shows_it() -> None:
    logs = [read(path).log for path in ENDS]
    first = {
        next((one for one in MESSAGES if one.pattern.search(log)), None) for log in logs if log
    }
    assert [one.pattern.pattern for one in MESSAGES if one not in first] == []
    assert [one.reason for one in MESSAGES if not one.hint] == []


@pytest.mark.parametrize("code", [1, 7, None])
def test_what_it_says_tells_whatever_its_code(code: int | None) -> None:
    cause = explain(code, "before\nerror: invalid argument: --x\x1b\nafter")
    assert (cause.reason, cause.final) == ("the engine rejects the flag --x\\x1b", True)


def test_braces_in_its_words_stay() -> None:
    assert explain(1, "error: {braces} stay").reason == "{braces} stay"


def test_who_has_served_may_serve_again() -> None:
    """What it lacks now it had when it started."""
    said = "alloc: failed to allocate buffer of size 1"
    assert explain(1, said).final
    assert not explain(1, f"srv  llama_server: listening on unix:///m.sock\n{said}").final


@pytest.mark.parametrize(
    ("counted", "cause"),
    [
        (True, "not enough memory: the kernel killed it"),
        (False, "killed by SIGKILL (kill -9)"),
        (None, "killed by SIGKILL, perhaps for lack of memory"),
    ],
)
def test_only_the_kernel_can_prove_a_lack_of_memory(counted: bool | None, cause: str) -> None:
    found = explain(-9, "failed to allocate", out_of_memory=counted)
    assert (found.reason, found.final) == (cause, counted is True)


def test_what_a_request_did_wrong_is_no_cause_of_a_kill() -> None:
    assert explain(-15, "error: whatever").reason.startswith("killed by SIGTERM")
    assert explain(0, "error: whatever") == Cause("it ended by itself (exit 0)", final=False)
