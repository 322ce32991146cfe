"""`status NAME`: everything about one instance, as lines and as values."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from builders import SITE, desired, files_of, observed, plan, server, stray

from reconciler.core.conditions import Condition, ConditionType, Truth
from reconciler.core.desired import DesiredState
from reconciler.core.detail import (
    InstanceDetail,
    command_of,
    detail,
    detail_lines,
    detail_values,
    serving,
)
from reconciler.core.downtime import LastStart
from reconciler.core.observed import (
    FileStatus,
    Journal,
    LastExit,
    ObservedFiles,
    ObservedState,
    ProcessRef,
)
from reconciler.core.status import instance_rows
from reconciler.core.words import InstanceName, ModelName, Phase, SpecHash

A = InstanceName("a")
ONE = desired(
    {
        "a": {
            "aliases": ("x", "y"),
            "port": 8001,
            "params": {"ctx_size": "512"},
            "env": {"CUDA_VISIBLE_DEVICES": "0", "MY_TOKEN": "secret"},
        }
    }
)
NOW = 100_000.0


def show(state: DesiredState, seen: ObservedState, **special: Any) -> InstanceDetail:
    planned = plan(state, seen)
    (row,) = instance_rows(state, seen, planned)
    extra: dict[str, Any] = {"gpu_memory_bytes": None, "log_tail": "", **special}
    return detail(row, seen, planned, SITE, **extra)


def live(**special: Any) -> ObservedState:
    ref = ProcessRef(7, 9)
    whole = {"ref": ref, "command": ("/bin/engine",), "since": NOW - 75, "memory_bytes": 2**20}
    return observed(ONE, server(ONE, "a", **{**whole, **special}))


@pytest.mark.parametrize(
    ("layers", "phase", "said"),
    [
        ("99", Phase.READY, "1.0 MiB of the host, none on GPUs as far as their drivers tell"),
        ("99", Phase.STARTING, "1.0 MiB of the host"),
        ("auto", Phase.READY, "1.0 MiB of the host"),
        ("0", Phase.READY, "1.0 MiB of the host"),
    ],
)
def test_one_that_found_no_card(layers: str, phase: Phase, said: str) -> None:
    """llama-server only warns of it, then serves from the CPU."""
    state = desired({"a": {"args": {"n-gpu-layers": layers}}})
    ref = ProcessRef(7, 9)
    seen = observed(state, server(state, "a", ref=ref, memory_bytes=2**20, phase=phase))
    (line,) = (one for one in detail_lines(show(state, seen), NOW) if "Memory:" in one)
    assert line.strip() == f"Memory: {said}"


def test_a_running_one() -> None:
    seen = live()
    lines = detail_lines(show(ONE, seen, gpu_memory_bytes=2**30, log_tail="one\ntwo\x1b[2J"), NOW)
    assert lines == [
        "a: ready, up for 1m15s",
        "      Model: a, also called x, y, port 8001",
        f"     Server: pid 7, copy a, spec {seen.servers[0].spec}",
        "     Memory: 1.0 MiB of the host, 1.0 GiB on GPUs",
        f"    Address: unix:{SITE.socket(A, 'a')}",
        "      Files: a.gguf (140 B)",
        "    Command: /bin/engine",
        "               --model /r/a.gguf",
        "               --alias a",
        "               --ctx-size 512",
        "Environment: CUDA_VISIBLE_DEVICES=0",
        "Environment: MY_TOKEN=(not shown)",
        "",
        "The end of /r/logs/a.log:",
        "  one",
        "  two\\x1b[2J",
    ]


def test_one_that_runs_no_more() -> None:
    ended = LastExit(NOW - 5, "not enough memory", SpecHash("0" * 12))
    seen = observed(ONE, journal=Journal(last_exits={A: ended}))
    lines = detail_lines(show(ONE, seen), NOW)
    assert lines[:5] == [
        "a: exited",
        "     Reason: exited: not enough memory",
        "       Next: apply starts it.",
        "      Model: a, also called x, y, port 8001",
        f"    Address: unix:{SITE.socket(A, 'a')}",
    ]
    assert "  Would run: /bin/engine" in lines
    assert lines[-1] == "  Last exit: 1970-01-02 03:46:35 UTC, 5 s ago: not enough memory"
    ended = replace(ended, hint="end something else")
    seen = observed(ONE, journal=Journal(last_exits={A: ended}))
    assert detail_lines(show(ONE, seen), NOW)[-1] == "      To do: end something else"
    assert "The end of" not in "\n".join(lines)


def test_a_death_that_nobody_saw() -> None:
    ended = LastExit(NOW - 5, "it ended", SpecHash(""), seen=False)
    lines = detail_lines(show(ONE, observed(ONE, deaths={A: ended})), NOW)
    assert lines[-1].startswith("  Last exit: not seen; its log ends 1970-01-02 03:46:35 UTC, 5 s")


def test_one_that_still_starts() -> None:
    first = detail_lines(show(ONE, live(phase=Phase.STARTING)), NOW)[0]
    assert first == "a: starting, started 1m15s ago"


def test_how_long_it_took_to_start() -> None:
    seen = replace(live(), journal=Journal(starts={A: LastStart(61.34, 140)}))
    assert detail_lines(show(ONE, seen), NOW)[-1] == " Last start: ready after 61.3 s"


def test_files_that_are_not_here() -> None:
    state = desired({"a": {"source": {"repo": "org/far"}, "quant": "Q4"}})
    wanted = {ModelName("a"): files_of(state.models["a"], FileStatus.MISSING, 2**20)}
    text = "\n".join(detail_lines(show(state, observed(state, files=wanted)), NOW))
    assert "Files: Q4.gguf (1.0 MiB, not here yet)" in text
    assert "Model: a, quant Q4" in text
    unknown = ObservedFiles(FileStatus.UNKNOWN, reason="the hub does not answer")
    seen = observed(state, files={ModelName("a"): unknown})
    text = "\n".join(detail_lines(show(state, seen), NOW))
    assert "Files: the hub does not answer" in text
    assert "Would run" not in text


def test_a_server_of_no_model() -> None:
    state = desired({})
    text = "\n".join(detail_lines(show(state, observed(state, stray("a"))), NOW))
    assert "Files" not in text
    assert "Next: apply stops it." in text


def test_values_hold_no_secret() -> None:
    ended = LastExit(1.0, "it died", SpecHash("0" * 12))
    journal = Journal(starts={A: LastStart(2.5, 140)})
    seen = replace(live(), deaths={A: ended}, journal=journal)
    values = detail_values(show(ONE, seen, gpu_memory_bytes=5, log_tail="one"))
    assert values == {
        "command": ["/bin/engine", *seen.servers[0].argv],
        "env": {"CUDA_VISIBLE_DEVICES": "0", "MY_TOKEN": "(not shown)"},
        "address": f"unix:{SITE.socket(A, 'a')}",
        "files": [{"name": "a.gguf", "size_bytes": 140, "on_disk": True}],
        "gpu_memory_bytes": 5,
        "start_s": 2.5,
        "last_exit": {
            "at": 1.0,
            "reason": "it died",
            "seen": True,
            "final": False,
            "hint": "",
        },
        "log": "/r/logs/a.log",
        "log_tail": ["one"],
    }


def test_values_of_nothing() -> None:
    seen = observed(desired({}), stray("a", address="unix:/x"))
    values = detail_values(show(desired({}), seen))
    assert (values["files"], values["start_s"], values["last_exit"]) == ([], None, None)


def test_a_suspended_one_would_not_be_started() -> None:
    blocked = observed(ONE, nginx=(), engine=replace(observed(ONE).engine, kind=None))
    assert command_of(A, blocked, plan(ONE, blocked)) == ()
    assert show(ONE, blocked).address == ""


def test_of_two_copies_the_routed_one_counts() -> None:
    state = desired({"a": {"rollout": "surge"}})
    old = stray("a", ref=ProcessRef(1, 1))
    new = server(state, "a", slot="b", routed=False, ref=ProcessRef(2, 2))
    assert serving(A, observed(state, new, old)) == old
    assert serving(A, observed(state)) is None


def test_the_last_exit_is_the_newest_known() -> None:
    seen, found = LastExit(5.0, "seen", SpecHash("")), LastExit(4.0, "found", SpecHash(""))
    assert ObservedState().last_exit(A) is None
    assert ObservedState(deaths={A: found}).last_exit(A) == found
    both = ObservedState(deaths={A: found}, journal=Journal(last_exits={A: seen}))
    assert both.last_exit(A) == seen
    later = replace(found, at=6.0)
    assert replace(both, deaths={A: later}).last_exit(A) == later


def test_conditions_are_told_with_their_time() -> None:
    found = (
        Condition(ConditionType.READY, Truth.TRUE, "ready", since=NOW - 75),
        Condition(ConditionType.STALLED, Truth.FALSE, "not-stalled"),
    )
    lines = detail_lines(replace(show(ONE, live()), conditions=found), NOW)
    first, second = (line for line in lines if "Ready:" in line or "Stalled:" in line)
    assert first.startswith(" Conditions: Ready: true (ready, since ")
    assert "1m15s ago" in first
    assert second == "             Stalled: false (not-stalled)"
