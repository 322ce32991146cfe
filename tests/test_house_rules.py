"""The rules of CONTRIBUTING.md that no linter counts: lengths, maps, suppressions.

In: the tracked sources. Out: a failure that names the file. A budget is raised only with a reason.
"""

import ast
import re
import statistics
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def python(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


PROGRAM = python("reconciler")
SOURCES = [*PROGRAM, *python("benchmarks")]
TESTS = python("tests")
OTHERS = [*python("examples"), *python("docs")]
ALL = [*SOURCES, *TESTS, *OTHERS]
TEMPLATES = sorted(path for path in (ROOT / "templates").rglob("*") if path.is_file())
SCRIPTS = [ROOT / "Makefile", *sorted((ROOT / ".ci").iterdir())]

LONGEST_FILE, MEDIAN_FILE = 400, 150
MOST_STATEMENTS, MEDIAN_FUNCTION = 40, 10
SUPPRESSIONS_IN_SOURCES = 16
SUPPRESSIONS_IN_TESTS = 8
SUPPRESSIONS_IN_OTHERS = 5
BROAD_HANDLERS = 4

SUPPRESSION = r"#\s*(noqa|type: ignore|pragma: no cover)"


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


def lines_of(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def count(pattern: str, paths: list[Path]) -> list[str]:
    return [
        f"{shown(path)}:{number}"
        for path in paths
        if path != Path(__file__)
        for number, line in enumerate(lines_of(path), 1)
        if re.search(pattern, line)
    ]


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def statements(function: ast.AST) -> int:
    return sum(isinstance(node, ast.stmt) for node in ast.walk(function)) - 1


@pytest.mark.parametrize("path", [*ALL, *TEMPLATES, *SCRIPTS], ids=shown)
def test_no_file_is_longer_than_400_lines(path: Path) -> None:
    assert len(lines_of(path)) <= LONGEST_FILE


@pytest.mark.parametrize("path", ALL, ids=shown)
def test_no_function_has_more_than_40_statements(path: Path) -> None:
    assert [one.name for one in functions(path) if statements(one) > MOST_STATEMENTS] == []


def test_most_files_and_functions_are_short() -> None:
    assert statistics.median(len(lines_of(path)) for path in PROGRAM) <= MEDIAN_FILE
    found = chain.from_iterable(map(functions, PROGRAM))
    lengths = [(one.end_lineno or one.lineno) - one.lineno + 1 for one in found]
    assert len(lengths) > 100
    assert statistics.median(lengths) <= MEDIAN_FUNCTION


@pytest.mark.parametrize("path", ALL, ids=shown)
def test_each_module_opens_with_its_map(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert docstring is not None
    least = 3 if path in SOURCES else 1
    assert least <= len(docstring.splitlines()) <= 8


def test_suppressions_stay_few_and_have_their_reason() -> None:
    found = count(SUPPRESSION, SOURCES)
    assert len(found) <= SUPPRESSIONS_IN_SOURCES, found
    assert len(count(SUPPRESSION, TESTS)) <= SUPPRESSIONS_IN_TESTS
    assert len(count(SUPPRESSION, OTHERS)) <= SUPPRESSIONS_IN_OTHERS
    assert not count(r"#\s*noqa(?!: [A-Z]+\d+(, [A-Z]+\d+)* - )", [*SOURCES, *TESTS])
    assert not count(r"#\s*(ruff: noqa|mypy:|isort:)", ALL)


def test_nothing_is_skipped_or_left_to_do() -> None:
    """`needs` is no skip: what it leaves out is named at the end (tests/test_proof_tools.py)."""
    pattern = r"pytest\.(mark\.)?(skip|xfail)|importorskip|\bTODO\b|\bFIXME\b|NotImplementedError"
    assert count(pattern, ALL) == []


def test_only_four_handlers_catch_everything() -> None:
    found = count(r"(except|suppress\() ?(Base)?Exception\b|except:", SOURCES)
    assert len(found) <= BROAD_HANDLERS, found
