"""Kept generations: the real files, and the fake of them."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest
from fake_generations import FakeGenerations

from reconciler.core.generations import LARGEST, MOST_KEPT
from reconciler.core.history import Origin
from reconciler.core.parse import SourceText
from reconciler.core.site import Site
from reconciler.drivers import effects
from reconciler.drivers.base_generations import Generations
from reconciler.drivers.generations import KeptGenerations

FILE = "desired/x.yaml"
ANN = Origin("ann", "4f0c1a9be2d7", dirty=True)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(str(tmp_path / "root"), str(tmp_path / "state"), FILE)


@pytest.fixture
def real(site: Site) -> KeptGenerations:
    return KeptGenerations(site)


@pytest.fixture(params=["real", "fake"])
def kept(request: pytest.FixtureRequest, real: KeptGenerations) -> Generations:
    return real if request.param == "real" else FakeGenerations(FILE)


def sources(text: str) -> tuple[SourceText, ...]:
    return (SourceText(FILE, text.encode()),)


def names(site: Site) -> list[str]:
    return sorted(one.name for one in Path(site.state, "generations").iterdir())


# ---- what both do


def test_what_was_applied_is_there_again(kept: Generations) -> None:
    assert kept.newest() is None
    assert kept.all() == ()
    first = kept.note(sources("a"), None, ANN, 1.5)
    many = (SourceText("desired/y.yaml", b"\xff\0"), SourceText("desired/z.yaml", b""))
    second = kept.note(many, "lock: ü\n", Origin("ben"), 2.5)
    assert first
    assert second
    assert (first.number, first.at, first.file, first.origin) == (1, 1.5, FILE, ANN)
    assert (second.number, second.sources, second.lock) == (2, many, "lock: ü\n")
    assert kept.newest() == second
    assert kept.all() == (first, second)


def test_the_same_again_is_no_other_one(kept: Generations) -> None:
    first = kept.note(sources("a"), "lock", ANN, 1.5)
    assert kept.note(sources("a"), "lock", Origin("ben"), 2.5) == first
    assert kept.note(sources("a"), None, ANN, 3.5) != first
    # Back to what there was before the newest: that was applied anew.
    again = kept.note(sources("a"), "lock", ANN, 4.5)
    assert again
    assert [one.number for one in kept.all()] == [1, 2, 3]


def test_the_lock_file_that_it_led_to(kept: Generations) -> None:
    first, second = (kept.note(sources(one), None, ANN, 1.5) for one in "ab")
    assert first
    assert second
    kept.amend(second, "lock")
    kept.amend(second, "lock")
    assert kept.all() == (first, replace(second, lock="lock"))
    assert kept.note(sources("b"), "lock", ANN, 2.5) == kept.newest()


def test_the_newest_are_kept(kept: Generations) -> None:
    for number in range(MOST_KEPT + 2):
        kept.note(sources(f"{number}"), None, ANN, 1.5)
    found = kept.all()
    assert [one.number for one in found] == list(range(3, MOST_KEPT + 3))
    assert found[-1] == kept.newest()


def test_what_is_too_large_is_not_kept(kept: Generations) -> None:
    first = kept.note(sources("a"), None, ANN, 1.5)
    assert kept.note(sources("b" * (LARGEST + 1)), None, ANN, 2.5) is None
    assert kept.all() == (first,)


# ---- files


def test_it_is_for_our_user_alone(site: Site, real: KeptGenerations) -> None:
    real.note(sources("a"), None, ANN, 1.5)
    folder = Path(site.state, "generations")
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "1.json").stat().st_mode & 0o777 == 0o600


def test_an_equal_one_writes_nothing(
    real: KeptGenerations, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = real.note(sources("a"), "lock", ANN, 1.5)
    told: list[str] = []
    monkeypatch.setattr(effects, "hook", told.append)
    assert real.note(sources("a"), "lock", ANN, 2.5) == made
    assert made
    real.amend(made, "lock")
    assert told == []


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[]"])
def test_a_broken_one_is_passed_over_and_its_number_not_given_again(
    site: Site, real: KeptGenerations, content: bytes
) -> None:
    first = real.note(sources("a"), None, ANN, 1.5)
    real.note(sources("b"), None, ANN, 2.5)
    folder = Path(site.state, "generations")
    (folder / "2.json").write_bytes(content)
    (folder / "odd.json").touch()
    (folder / "3.json").mkdir()
    assert real.newest() == first
    assert real.all() == (first,)
    made = real.note(sources("a2"), None, ANN, 3.5)
    assert made
    assert made.number == 4


def test_a_full_disk_leaves_what_there_was(
    site: Site, real: KeptGenerations, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = real.note(sources("a"), None, ANN, 1.5)

    def full(what: str) -> None:
        if what.startswith("before write"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(effects, "hook", full)
    with pytest.raises(OSError, match="No space left"):
        real.note(sources("b"), None, ANN, 2.5)
    assert first
    with pytest.raises(OSError, match="No space left"):
        real.amend(first, "lock")
    assert real.all() == (first,)
    assert names(site) == ["1.json"]
