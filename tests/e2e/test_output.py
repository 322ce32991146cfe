"""Output fits the terminal it goes to; in a pipe nothing is cut, wrapped or coloured."""

from __future__ import annotations

from typing import Any

import pytest

from e2e.lab import Lab
from e2e.terminal import Terminal

LONG = "a-model-with-a-name-that-goes-on-and-on-and-on-until-it-is-long"
BLOCKED = "some/folder/with/a/rather/long/name/missing.gguf"


@pytest.fixture
def busy(fakes: Lab) -> Lab:
    """A long name, a long reason, one that runs."""
    fakes.write({LONG: {"aliases": ["an-alias-that-is-long-too"]}, "b": {}})
    fakes.apply()
    whole: dict[str, dict[str, Any]] = {
        "c": {"source": {"path": BLOCKED}},
        LONG: {"params": {"temp": 0.5}},
        "b": {},
    }
    fakes.write(whole)
    return fakes


VERBS = (
    ("plan", "desired/x.yaml"),
    ("status",),
    ("health",),
    ("metrics",),
    ("list",),
    ("restart", "nobody"),
)


@pytest.mark.parametrize("columns", [80, 50])
def test_no_line_is_longer_than_the_terminal(busy: Lab, columns: int) -> None:
    # What cannot be broken stands on a line of its own.
    unbreakable = {LONG, f"instance.{LONG}", str(busy.root / BLOCKED)}
    for words in VERBS:
        with Terminal(busy, *words, columns=columns) as terminal:
            terminal.end()
        assert terminal.lines
        for line in terminal.lines:
            assert len(line) <= columns or any(one in line for one in unbreakable), line
        assert "\x1b[" in terminal.text, f"no colour at a terminal: {words}"


def test_a_pipe_gets_whole_lines_without_colour(busy: Lab) -> None:
    for words in VERBS:
        done = busy.end(busy.popen(*words))
        assert "\x1b" not in done.all
        assert "…" not in done.all
        for reason in [line for line in done.out.splitlines() if "cannot be read" in line]:
            assert str(busy.root / BLOCKED) in reason
            assert "No such file" in reason


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_a_terminal_without_colour_gets_none(busy: Lab, name: str, value: str) -> None:
    for words in VERBS:
        with Terminal(busy, *words, columns=80, **{name: value}) as terminal:
            terminal.end()
        assert "\x1b" not in terminal.text, words


def test_a_dumb_terminal_is_told_line_by_line(fakes: Lab) -> None:
    fakes.write({"a": {"args": {"fake-load-seconds": 1.5}}})
    with Terminal(fakes, "apply", "-y", "desired/x.yaml", TERM="dumb") as terminal:
        assert terminal.end() == 0
    assert "\x1b" not in terminal.text
    assert "instance.a: ready" in terminal.text
