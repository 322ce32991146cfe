"""Generations: as text, read again, and which are kept."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from reconciler.core.generations import (
    MOST_KEPT,
    Generation,
    Restoration,
    generation_text,
    generation_values,
    going_back_to,
    read_generation,
    restoration,
    superseded,
)
from reconciler.core.history import Origin
from reconciler.core.parse import SourceText, parse_desired
from reconciler.errors import UsageError

FILE = "desired/x.yaml"
TEXT = b"version: 1\nmodels:\n  a: {source: {path: a.gguf}, port: 8001}\n"
SOURCES = (SourceText(FILE, TEXT),)
ONE = Generation(3, 12.5, FILE, SOURCES, "version: 1\n", Origin("ann", "4f0c", dirty=True))


@pytest.mark.parametrize(
    "one",
    [
        ONE,
        replace(ONE, lock=None, origin=Origin("ann")),
        replace(
            ONE, sources=(SourceText("a", b"\xef\xbb\xbf\xff\xfe\0\r\n"), SourceText("b", b""))
        ),
        replace(ONE, lock="\udcff ü"),
    ],
)
def test_it_is_read_as_it_was_written(one: Generation) -> None:
    assert read_generation(generation_text(one)) == one


def test_what_only_a_run_needs_is_not_kept() -> None:
    run = replace(ONE, origin=replace(ONE.origin, spec="5" * 64, process=(7, 123)))
    assert read_generation(generation_text(run)) == ONE


def test_it_is_parsed_without_its_files() -> None:
    kept = read_generation(generation_text(ONE))
    assert kept
    parsed = parse_desired(kept.sources)
    assert list(parsed.desired.models) == ["a"]
    assert parsed.sources == SOURCES


@pytest.mark.parametrize(
    "text",
    [
        "",
        "7",
        "[]",
        generation_text(ONE)[:-20],
        generation_text(ONE).replace("8001", "8002"),
        generation_text(ONE).replace('"lock": "version: 1\\n"', '"lock": null'),
        generation_text(ONE).replace('"number": 3', '"number": "x"'),
        generation_text(ONE).replace('"who"', '"how"'),
    ],
)
def test_what_is_broken_is_none(text: str) -> None:
    assert read_generation(text) is None


def test_what_makes_it_another_one() -> None:
    assert ONE.holds(FILE, list(SOURCES), "version: 1\n")
    assert not ONE.holds("desired/y.yaml", SOURCES, "version: 1\n")
    assert not ONE.holds(FILE, (), "version: 1\n")
    assert not ONE.holds(FILE, SOURCES, None)
    shas = {one.sha256 for one in (ONE, replace(ONE, lock=None), replace(ONE, sources=()))}
    assert len(shas) == 3
    assert ONE.sha256 == replace(ONE, number=4, at=1).sha256
    assert json.loads(generation_text(ONE))["sha256"] == ONE.sha256


def test_how_large_it_is() -> None:
    assert ONE.size == len(TEXT) + len("version: 1\n")
    assert replace(ONE, lock=None).size == len(TEXT)
    assert ONE.spec == replace(ONE, lock=None).spec


def another(
    number: int, text: bytes = TEXT, file: str = FILE, lock: str | None = None
) -> Generation:
    return Generation(number, 1.5, file, (SourceText(file, text),), lock)


def test_back_is_to_the_last_that_was_another_one() -> None:
    first, second = another(1), another(2, b"b")
    other = another(4, b"c", "desired/y.yaml")
    kept = [first, second, replace(second, number=3), other]
    assert going_back_to(kept, FILE, None) == first
    assert going_back_to(kept, FILE, 2) == second
    assert going_back_to([first, another(2, lock="x")], FILE, None) == first


@pytest.mark.parametrize(
    ("kept", "number", "says", "hint"),
    [
        ((), None, "nothing is kept of desired/x.yaml", "--list"),
        ((another(1), another(2)), None, "no other desired/x.yaml was applied", "--list"),
        ((another(1), another(3)), 2, "generation 2 is not kept", "there are: 1, 3"),
        ((), 2, "generation 2 is not kept", "there are: none"),
        (
            (another(1), another(2, file="desired/y.yaml")),
            2,
            "generation 2 is of desired/y.yaml, and this root follows desired/x.yaml",
            "apply desired/y.yaml --switch-file",
        ),
    ],
)
def test_there_is_no_way_back(
    kept: tuple[Generation, ...], number: int | None, says: str, hint: str
) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        going_back_to(kept, FILE, number)
    assert hint in caught.value.hint


LOCK = "desired/x.lock.yaml"


def test_what_goes_back_of_files() -> None:
    target, last = another(1, b"old", lock="l1"), another(2, b"new", lock="l2")
    kept = (target, last)
    here = {FILE: b"new", LOCK: b"l2"}
    assert restoration(target, LOCK, here, kept) == Restoration({FILE: b"old", LOCK: b"l1"}, (), ())
    # Typed, and never applied.
    here = {FILE: b"mine", LOCK: b"l1", "desired/z.yaml": b"mine too"}
    found = restoration(target, LOCK, here, kept)
    assert found == Restoration({FILE: b"old"}, ("desired/z.yaml",), (FILE, "desired/z.yaml"))
    assert found.names == (FILE, "desired/z.yaml")
    assert restoration(target, LOCK, {FILE: b"old", LOCK: b"l1"}, kept).names == ()


def test_what_was_not_there_goes_and_what_is_gone_comes() -> None:
    target = another(1, b"old")
    assert restoration(target, LOCK, {LOCK: b"l2"}, (target,)) == Restoration(
        {FILE: b"old"}, (LOCK,), (LOCK,)
    )


def test_what_people_see_of_it_is_no_secret() -> None:
    values = generation_values(ONE)
    assert values == {
        "number": 3,
        "at": 12.5,
        "who": "ann",
        "commit": "4f0c",
        "dirty": True,
        "file": FILE,
        "sha256": ONE.sha256,
    }


def test_the_newest_are_kept() -> None:
    assert superseded(()) == ()
    assert superseded(range(1, MOST_KEPT + 1)) == ()
    assert superseded([*range(MOST_KEPT + 2, 0, -1)]) == (1, 2)
