"""The spec hashes of a fixed set of launches are data: a change restarts everybody (BARS 8).

In: tests/data/launches/*.yaml, read as a user's file is. Out: the hashes in the .txt beside each.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from builders import all_files

from reconciler.core.parse import SourceText, parse_desired
from reconciler.core.resolve import resolve

LAUNCHES = sorted((Path(__file__).parents[1] / "data" / "launches").glob("*.yaml"))


def test_there_are_launches() -> None:
    assert len(LAUNCHES) >= 5


@pytest.mark.parametrize("path", LAUNCHES, ids=lambda path: path.stem)
def test_hashes_are_those_of_every_released_version(path: Path) -> None:
    desired = parse_desired([SourceText(path.name, path.read_bytes())]).desired
    found = [f"{one.name} {one.spec.hash}\n" for one in resolve(desired, all_files(desired))]
    assert "".join(found) == path.with_suffix(".txt").read_text(encoding="utf-8")
