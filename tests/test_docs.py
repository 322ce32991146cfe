"""The documents stay true: links lead somewhere, YAML is valid, named files are there.

In: the Markdown files of the project, the command's own help. Out: a failure that names the place.
What an example's README tells to run is run in e2e/test_examples.py.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from reconciler.cli.main import app
from reconciler.core.parse import SourceText, parse_desired
from reconciler.errors import ExitCode

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/*/*.md")])
_LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)|\b(?:src|href)=\"([^\"#]+)\"")
_YAML = re.compile(r"^```yaml\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FLAG = re.compile(r"(?<![\w-])-{1,2}[a-z][\w-]*")
_NAMED_FILE = re.compile(r"`((?:core|drivers|cli|tests|docs|examples|templates)/[\w./-]+)`")


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


def yaml_blocks(path: Path) -> list[str]:
    return _YAML.findall(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", DOCUMENTS, ids=shown)
def test_links_lead_to_files(path: Path) -> None:
    found = [one or other for one, other in _LINK.findall(path.read_text(encoding="utf-8"))]
    local = [link for link in found if not link.startswith(("http://", "https://", "mailto:"))]
    assert [link for link in local if not (path.parent / link).exists()] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=shown)
def test_yaml_is_valid(path: Path) -> None:
    for number, block in enumerate(yaml_blocks(path), 1):
        parsed = parse_desired([SourceText(f"{shown(path)}#{number}", block.encode())])
        assert parsed.warnings == ()


def test_readme_shows_the_production_file_as_it_is() -> None:
    file = ROOT / "desired" / "prod.yaml"
    assert file.read_text(encoding="utf-8") in yaml_blocks(ROOT / "README.md")


def test_contributing_names_files_that_are_there() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = _NAMED_FILE.findall(text)
    assert len(named) > 20
    for name in named:
        places = [ROOT / name, ROOT / "reconciler" / name]
        assert any(list(place.parent.glob(place.name)) for place in places), name


def test_documents_that_the_code_names_are_there() -> None:
    text = "\n".join(path.read_text() for path in (ROOT / "reconciler").rglob("*.py"))
    named = set(re.findall(r"(?<![\w/])docs/[\w-]+\.md", text))
    elsewhere = {"docs/gguf.md"}  # the format's own
    assert named - elsewhere
    assert [name for name in sorted(named - elsewhere) if not (ROOT / name).exists()] == []


def test_readme_has_all_exit_codes() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    said = text[text.index("Exit codes:") :].partition("\n\n")[0]
    codes = {int(number) for number in re.findall(r"(?:^|[\s/])(\d+)\b", said)}
    assert set(ExitCode) == codes


def test_the_metrics_that_there_are_are_explained() -> None:
    scripts = "".join(path.read_text() for path in (ROOT / "templates").glob("*.js"))
    served = re.findall(r"\bown\(\s*'(\w+)'", scripts)
    explained = re.findall(
        r"^\| `llm_reconcile_(\w+)`", (ROOT / "docs/metrics.md").read_text(), re.M
    )
    assert len(served) > 10
    assert sorted(served) == sorted(explained)


def help_of(*verb: str) -> str:
    """What the command prints for --help, on a wide terminal."""
    done = CliRunner().invoke(app, [*verb, "--help"], env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    return done.output


def verbs() -> list[str]:
    listed = help_of().partition("Commands:")[2].partition("\n\n")[0]
    return re.findall(r"^  ([a-z][\w-]*)", listed, re.MULTILINE)


def flags_of(*verb: str) -> set[str]:
    listed = help_of(*verb).partition("Options:")[2].partition("Commands:")[0]
    names = re.findall(r"^  ((?:-\w, )?--[\w-]+)", listed, re.MULTILINE)
    return {flag for name in names for flag in name.split(", ")}


def sections() -> dict[str, str]:
    """docs/cli.md by the first word of its headings."""
    parts = re.split(r"^## ", (ROOT / "docs" / "cli.md").read_text(encoding="utf-8"), flags=re.M)
    return {part.split()[0]: part for part in parts[1:]}


def test_cli_document_has_every_verb_and_no_other() -> None:
    assert verbs()
    assert sorted(verbs()) == sorted(sections().keys() - {"Exit", "Flags"})
    table = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [verb for verb in verbs() if f"`{verb}" not in table] == [], "the README lacks a verb"


def test_cli_document_has_every_flag_and_no_other() -> None:
    said = {name: set(_FLAG.findall(text)) for name, text in sections().items()}
    flags = {verb: flags_of(verb) for verb in verbs()}
    for verb, names in flags.items():
        missing = sorted(names - said[verb] - said["Flags"])
        assert missing == [], f"docs/cli.md lacks flags of {verb}"
        stale = sorted(flag for flag in said[verb] if flag not in names)
        assert stale == [], f"docs/cli.md names flags that {verb} has not"
    assert said["Flags"] <= flags_of().union(*flags.values())
