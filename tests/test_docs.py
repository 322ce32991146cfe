"""The documents stay true: links lead somewhere, YAML is valid, named files are there.

In: the Markdown files of the project, the command's own help. Out: a failure that names the place.
Their commands are for test_doc_commands.py, e2e/test_doc_pages.py and e2e/test_examples.py.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from doc_pages import PAGES, ROOT, shown
from typer.testing import CliRunner

from reconciler.cli.main import command_line
from reconciler.core.parse import SourceText, parse_desired
from reconciler.errors import ExitCode

_LINK = re.compile(r"\]\(([^)\s]+)\)|\b(?:src|href)=\"([^\"]+)\"")
_YAML = re.compile(r"^```yaml(?: title=\"desired/[^\n]*)?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_FLAG = re.compile(r"(?<![\w-])-{1,2}[a-z][\w-]*")
_NAMED_FILE = re.compile(
    r"`((?:core|drivers|cli|reconciler|tests|docs|examples|schema|templates)/[\w./-]+)`"
)
OF_A_ROOT = {"templates/page/", "templates/renders/", "templates/nginx.conf.j2"}
"""What these name in the documents may be the user's own."""


def yaml_blocks(path: Path) -> list[str]:
    return _YAML.findall(path.read_text(encoding="utf-8"))


def anchors(path: Path) -> set[str]:
    """Of its headings, as GitHub and mkdocs make them."""
    text = _FENCED.sub("", path.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    plain = [re.sub(r"\]\([^)]*\)", "", one).lower() for one in headings]
    return {re.sub(r"[^\w\s-]", "", one).strip().replace(" ", "-") for one in plain}


@pytest.mark.parametrize("path", PAGES, ids=shown)
def test_links_lead_to_files_and_headings(path: Path) -> None:
    text = _FENCED.sub("", path.read_text(encoding="utf-8"))
    found = [one or other for one, other in _LINK.findall(text)]
    local = [link for link in found if not link.startswith(("http://", "https://", "mailto:"))]
    for link in local:
        name, _, anchor = link.partition("#")
        target = path.parent / name if name else path
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_the_site_has_each_page_once_and_no_link_that_leads_nowhere(tmp_path: Path) -> None:
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    named = re.findall(r"[\w/-]+\.md", str(nav))
    there = [str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md")]
    assert sorted(named) == sorted(there)
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "s")]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    start = (tmp_path / "s" / "index.html").read_text(encoding="utf-8")
    assert re.findall(r"""(?:src|href)=["']?(?:https?:)?//""", start) == [], "loads from elsewhere"


def maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make", ROOT / "docs" / "reference" / "make.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def test_the_pages_that_the_code_writes_are_current() -> None:
    for name, text in maker().pages().items():
        page = ROOT / "docs" / "reference" / name
        assert page.read_text(encoding="utf-8") == text, f"{name}: make reference"
        assert text.count("\n| `") > 5


@pytest.mark.parametrize("path", PAGES, ids=shown)
def test_yaml_is_valid(path: Path) -> None:
    for number, block in enumerate(yaml_blocks(path), 1):
        parsed = parse_desired([SourceText(f"{shown(path)}#{number}", block.encode())])
        assert parsed.warnings == ()


def test_readme_shows_the_production_file_as_it_is() -> None:
    file = ROOT / "desired" / "prod.yaml"
    assert file.read_text(encoding="utf-8") in yaml_blocks(ROOT / "README.md")


@pytest.mark.parametrize("path", [*PAGES], ids=shown)
def test_files_that_it_names_are_there(path: Path) -> None:
    if path.name == "CHANGELOG.md":
        return
    named = set(_NAMED_FILE.findall(path.read_text(encoding="utf-8"))) - OF_A_ROOT
    for name in named:
        places = [ROOT / name, ROOT / "reconciler" / name, path.parent / name]
        assert any(list(place.parent.glob(place.name)) for place in places), name
    if path.name in {"CONTRIBUTING.md", "guarantees.md"}:
        assert len(named) > 20


def test_documents_that_the_code_names_are_there() -> None:
    text = "\n".join(path.read_text() for path in (ROOT / "reconciler").rglob("*.py"))
    named = set(re.findall(r"(?<![\w/])docs/[\w/-]+\.md", text))
    elsewhere = {"docs/gguf.md"}  # the format's own
    assert named - elsewhere
    assert [name for name in sorted(named - elsewhere) if not (ROOT / name).exists()] == []


def test_readme_has_all_exit_codes() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    said = text[text.index("Exit codes:") :].partition("\n\n")[0]
    codes = {int(number) for number in re.findall(r"(?:^|[\s/])(\d+)\b", said)}
    assert set(ExitCode) == codes


def help_of(*verb: str) -> str:
    """What the command prints for --help, on a wide terminal."""
    done = CliRunner().invoke(command_line(), [*verb, "--help"], env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    return done.output


def verbs() -> list[str]:
    listed = help_of().partition("Commands:")[2].partition("\n\n")[0]
    return re.findall(r"^  ([a-z][\w-]*)", listed, re.MULTILINE)


def flags_of(*verb: str) -> set[str]:
    listed, _, group = help_of(*verb).partition("Options:")[2].partition("Commands:")
    if verb and group:
        ways = re.findall(r"^  ([a-z][\w-]*)", group, re.MULTILINE)
        return set().union(*(flags_of(*verb, way) for way in ways))
    names = re.findall(r"^  ((?:-\w, )?--[\w-]+)", listed, re.MULTILINE)
    return {flag for name in names for flag in name.split(", ")}


def sections() -> dict[str, str]:
    """docs/reference/cli.md by the first word of its headings."""
    parts = re.split(
        r"^## ", (ROOT / "docs/reference/cli.md").read_text(encoding="utf-8"), flags=re.M
    )
    return {part.split()[0]: part for part in parts[1:]}


def test_cli_document_has_every_verb_and_no_other() -> None:
    assert verbs()
    assert sorted(verbs()) == sorted(sections().keys() - {"Flags"})
    table = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [verb for verb in verbs() if f"`{verb}" not in table] == [], "the README lacks a verb"


def test_cli_document_has_every_flag_and_no_other() -> None:
    said = {name: set(_FLAG.findall(text)) for name, text in sections().items()}
    flags = {verb: flags_of(verb) for verb in verbs()}
    for verb, names in flags.items():
        missing = sorted(names - said[verb] - said["Flags"])
        assert missing == [], f"docs/reference/cli.md lacks flags of {verb}"
        stale = sorted(flag for flag in said[verb] if flag not in names)
        assert stale == [], f"docs/reference/cli.md names flags that {verb} has not"
    assert said["Flags"] <= flags_of().union(*flags.values())
