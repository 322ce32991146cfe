"""Short questions to programs: answers, refusals, silence."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from e2e import machine
from waiting import eventually

from reconciler.drivers.programs import Answer, ask


def test_an_answer() -> None:
    words = ["sh", "-c", "echo out; echo talk >&2; exit 3"]
    assert ask(words, timeout=10) == Answer(3, "out\n", "talk\n", b"out\n")


def test_a_signal_and_bytes_that_are_no_text() -> None:
    answer = ask(["sh", "-c", "printf '\\377'; kill -9 $$"], timeout=10)
    assert answer == Answer(-signal.SIGKILL, "\ufffd", "", b"\xff")


def test_it_reads_nothing_from_us() -> None:
    assert ask(["cat"], timeout=10) == Answer(0, "", "")
    assert ask(["cat"], timeout=10, given="a word") == Answer(0, "a word", "", b"a word")


def test_the_environment_is_ours_or_the_one_that_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LR_TEST", "ours")
    words = ["/bin/sh", "-c", "echo $LR_TEST"]
    assert ask(words, timeout=10).out == "ours\n"
    assert ask(words, timeout=10, environment={"LR_TEST": "given"}).out == "given\n"


def test_no_such_program(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        ask([str(tmp_path / "absent")], timeout=10)


def test_silence_ends_all_that_was_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noted, wait = tmp_path / "pid", subprocess.Popen.communicate

    def has_begun() -> bool:
        return noted.exists() and noted.read_text().endswith("\n")

    def wait_from_then_on(*words: Any) -> Any:
        eventually(has_begun, "the grandchild is there")
        return wait(*words)

    monkeypatch.setattr(subprocess.Popen, "communicate", wait_from_then_on)
    script = f"sh -c 'echo $$ > {noted}; sleep 600' & wait"
    with pytest.raises(TimeoutError, match=r"sh gave no answer within 0\.5 s"):
        ask(["sh", "-c", script], timeout=0.5)
    pid = int(noted.read_text())
    # Somebody else's child now: perhaps it is not reaped yet.
    eventually(lambda: not machine.lives(pid), "the grandchild is gone")
