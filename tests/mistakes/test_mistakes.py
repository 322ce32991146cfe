"""The list of mistakes keeps in step with the sources; `make mistakes` makes them."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from mistakes import MISTAKES
from mistakes.mistake import Mistake

ROOT = Path(__file__).parents[2]


def test_no_two_are_the_same() -> None:
    assert len({(one.file, one.old, one.new) for one in MISTAKES}) == len(MISTAKES)
    assert len({one.why for one in MISTAKES}) == len(MISTAKES)


@pytest.mark.parametrize("one", MISTAKES, ids=lambda one: one.why)
def test_it_can_be_made(one: Mistake) -> None:
    source = (ROOT / one.file).read_text(encoding="utf-8")
    assert source.count(one.old) == 1, f"{one.file} has changed: change this entry too"
    before, after = ast.parse(source), ast.parse(source.replace(one.old, one.new))
    assert ast.dump(before) != ast.dump(after)
    assert all((ROOT / each).exists() for each in one.tests)
