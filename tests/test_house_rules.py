"""The rules of CONTRIBUTING.md that no linter counts: lengths, maps, suppressions.

In: the tracked sources. Out: a failure that names the file. A budget is raised only with a reason.
"""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "reconciler").rglob("*.py"))
BENCHMARKS = sorted((ROOT / "benchmarks").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
TEMPLATES = sorted((ROOT / "templates").iterdir())

SUPPRESSIONS_IN_SOURCES = 16
SUPPRESSIONS_IN_TESTS = 12
BROAD_HANDLERS = 2


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


def count(pattern: str, paths: list[Path]) -> list[str]:
    return [
        f"{shown(path)}:{number}"
        for path in paths
        if path != Path(__file__)
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if re.search(pattern, line)
    ]


@pytest.mark.parametrize("path", [*SOURCES, *BENCHMARKS, *TESTS, *TEMPLATES], ids=shown)
def test_no_file_is_longer_than_400_lines(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


@pytest.mark.parametrize("path", [*SOURCES, *BENCHMARKS], ids=shown)
def test_each_module_opens_with_its_map(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert docstring is not None
    assert 3 <= len(docstring.splitlines()) <= 8


def test_suppressions_stay_few_and_have_their_reason() -> None:
    pattern = r"#\s*(noqa|type: ignore|pragma: no cover)"
    found = count(pattern, [*SOURCES, *BENCHMARKS])
    assert len(found) <= SUPPRESSIONS_IN_SOURCES, found
    assert len(count(pattern, TESTS)) <= SUPPRESSIONS_IN_TESTS
    assert not count(r"#\s*noqa(?!: [A-Z]+\d+(, [A-Z]+\d+)* - )", [*SOURCES, *BENCHMARKS])


def test_nothing_is_skipped_or_left_to_do() -> None:
    pattern = r"pytest\.(mark\.)?(skip|xfail)|importorskip|\bTODO\b|\bFIXME\b|NotImplementedError"
    assert count(pattern, [*SOURCES, *BENCHMARKS, *TESTS]) == []


def test_only_two_handlers_catch_everything() -> None:
    found = count(r"except (Base)?Exception\b|except:", [*SOURCES, *BENCHMARKS])
    assert len(found) <= BROAD_HANDLERS, found
