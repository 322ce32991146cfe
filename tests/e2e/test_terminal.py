"""At a terminal it asks: yes does it, anything else does nothing, Ctrl-C leaves."""

from __future__ import annotations

import json

import pytest

from e2e.lab import Lab
from e2e.terminal import CTRL_C, Terminal

QUESTION = "(yes/no)"


@pytest.mark.parametrize("answer", ["no\n", "\n", "yess\n", "\x04"])
def test_no_does_nothing(lab: Lab, answer: str) -> None:
    lab.write({"a": {}})
    with Terminal(lab, "apply", str(lab.file)) as terminal:
        terminal.until(QUESTION)
        assert "+ instance.a" in terminal.text
        terminal.type(answer)
        assert terminal.end() == 4
        assert "nothing was done" in terminal.text
    assert lab.servers() == {}
    assert lab.nginx().master is None


def test_yes_does_it(lab: Lab) -> None:
    lab.write({"a": {}, "b": {}})
    with Terminal(lab, "apply", str(lab.file)) as terminal:
        terminal.until(QUESTION)
        # The lock is free while the question stands.
        assert lab.plan().out
        terminal.type("yes\n")
        assert terminal.end() == 0
        assert "Ready." in terminal.text
        assert "\x1b[32m" in terminal.text
    assert set(lab.pids()) == {"a", "b"}
    with Terminal(lab, "apply", str(lab.file), NO_COLOR="1") as terminal:
        assert terminal.end() == 0
        assert "\x1b[" not in terminal.text
    with Terminal(lab, "down") as terminal:
        terminal.until(QUESTION)
        terminal.type("yes\n")
        assert terminal.end() == 0
    assert lab.servers() == {}


def test_guard_wants_its_number(lab: Lab) -> None:
    lab.write({name: {} for name in "abc"})
    lab.apply()
    pids = lab.pids()
    lab.write({"a": {}})
    for answer in ("yes\n", "3\n", "\n"):
        with Terminal(lab, "apply", str(lab.file)) as terminal:
            terminal.until("Type 2 to go on:")
            assert "2 of 3 running instances would be stopped" in terminal.text
            terminal.type(answer)
            assert terminal.end() == 4
        assert lab.pids() == pids
    with Terminal(lab, "apply", str(lab.file)) as terminal:
        terminal.until("Type 2 to go on:")
        terminal.type("2\n")
        assert terminal.end() == 0
    assert lab.pids() == {"a": pids["a"]}


def test_protected_wants_its_name(lab: Lab) -> None:
    lab.write({"gold": {"protect": True}, "b": {}, "c": {}, "d": {}})
    lab.apply()
    lab.write({"b": {}, "c": {}, "d": {}})
    with Terminal(lab, "apply", str(lab.file)) as terminal:
        terminal.until("Type gold to go on:")
        terminal.type("gold\n")
        assert terminal.end() == 0
    assert set(lab.pids()) == {"b", "c", "d"}


def test_another_file_wants_its_name(lab: Lab) -> None:
    lab.write({"a": {}})
    lab.apply()
    other = lab.root / "desired" / "other.yaml"
    other.write_text(lab.file.read_text().replace('"a"', '"b"'))
    lab.write({"a": {}})
    pids = lab.pids()
    with Terminal(lab, "apply", str(other)) as terminal:
        terminal.until("Type desired/other.yaml to go on:")
        terminal.type("no\n")
        assert terminal.end() == 4
    assert lab.pids() == pids
    with Terminal(lab, "apply", str(other)) as terminal:
        terminal.until("Type desired/other.yaml to go on:")
        terminal.type("desired/other.yaml\n")
        terminal.end()
    assert set(lab.pids()) == {"b"}
    assert json.loads((lab.state / "journal.json").read_text())["desired"] == "desired/other.yaml"


def test_ctrl_c_at_the_question(lab: Lab) -> None:
    lab.write({"a": {}})
    with Terminal(lab, "apply", str(lab.file)) as terminal:
        terminal.until(QUESTION)
        terminal.type(CTRL_C)
        assert terminal.end() == 130
        assert "Traceback" not in terminal.text
    assert lab.servers() == {}
    lab.apply()
    with Terminal(lab, "down") as terminal:
        terminal.until(QUESTION)
        terminal.type(CTRL_C)
        assert terminal.end() == 130
    assert set(lab.pids()) == {"a"}


def test_ctrl_c_while_it_loads(fakes: Lab) -> None:
    fakes.write({"slow": {"args": {"fake-load-seconds": 6}}})
    with Terminal(fakes, "apply", str(fakes.file), "-y") as terminal:
        terminal.until("instance.slow: loading")
        terminal.type(CTRL_C)
        assert terminal.end() == 130
        assert "The next apply completes what is left." in terminal.text
    pids = fakes.pids()
    fakes.apply()
    assert fakes.pids() == pids


def test_change_while_the_question_stands(lab: Lab) -> None:
    """What was shown is what is done, or nothing."""
    lab.write({"a": {}, "b": {}})
    with Terminal(lab, "apply", str(lab.file)) as terminal:
        terminal.until(QUESTION)
        lab.apply()
        pids = lab.pids()
        terminal.type("yes\n")
        assert terminal.end() == 4
        assert "changed while the question stood" in terminal.text
    assert lab.pids() == pids


def test_ctrl_c_ends_following_a_log(lab: Lab) -> None:
    lab.write({"a": {}})
    lab.apply()
    with Terminal(lab, "logs", "a", "-f") as terminal:
        terminal.until("\n")
        with (lab.root / "logs" / "a.log").open("a") as log:
            log.write("something new\n")
        terminal.until("something new")
        terminal.type(CTRL_C)
        assert terminal.end() in {0, 130}
        assert "Traceback" not in terminal.text
