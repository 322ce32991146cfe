"""Every command of the documents is one that there is: verbs, options and their values.

In: the blocks of commands, and `llm-reconcile ...` in the text, of all pages; the command line.
Out: a failure that names the page. Nothing is run here: `RUN_BY` says where, and `ONLY_PARSED` what
is run nowhere. What of the world outside is stood for, and why, is in `STAND_INS`.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer
from doc_pages import PAGES, ROOT, calls, commands, inline_calls, inline_commands, shown

from reconciler.cli.main import command_line

PROGRAM: Any = typer.main.get_command(command_line())
USAGE_ERROR: Any = typer.BadParameter.__base__
"""What a wrong option is, too; typer has no name for it."""
RUN_BY = {
    "README.md": "test_doc_install.py",
    "docs/how-to/production.md": "test_doc_production.py",
    "docs/reference/": "test_doc_reference.py",
    "docs/": "test_doc_pages.py",
    "examples/08-review-in-ci/": "test_review_in_ci.py",
    "examples/": "test_examples.py",
}
"""Where the blocks of a page are run; what its text has in backticks: test_doc_production.py."""
ONLY_PARSED = {
    "make demo      # two models behind one address, and a question to one of them": (
        "its lines are those of examples/01-quickstart, which are run; it wants port 8888"
    ),
    "make test      # the whole test suite, with real servers and a real nginx": (
        "it is what runs this"
    ),
    ".venv/bin/python -m benchmarks --quick           # all, one round of a tenth, to stdout": (
        "minutes on a quiet machine; test_benchmarks.py runs its parts"
    ),
    ".venv/bin/python -m benchmarks noop startup      # two of them, in full": "the same",
}
"""What is in a block and is not run, and why."""
STAND_INS = {
    "pipx ": "it is the reader's, and asks an index: e2e/installing.py has pip do what it does",
    "/path/to/llm-reconcile": "a checkout of the reader's",
    "https://HOST/PATH/llm-reconcile": "the repository: git is told another place",
    "https://alerts.example.org": "who is told of alerts: a server of the test",
    "ollama": "what it has pulled lies in the reader's home",
}
"""What of the world outside a command speaks to, and what is there in its place."""


def complaint(words: list[str], *, is_whole: bool = True) -> str:
    """What the command line has to say against these words; nothing, if it takes them."""
    command, given, context = PROGRAM, words, PROGRAM.make_context("llm-reconcile", ["version"])
    while hasattr(command, "commands") and given and not given[0].startswith("-"):
        name, *given = given
        if name not in command.commands:
            return f"there is no {name}"
        command = command.commands[name]
    if not is_whole:
        known = {flag for one in command.params for flag in (*one.opts, *one.secondary_opts)}
        flags = [word.partition("=")[0] for word in given if word.startswith("-")]
        return " ".join(flag for flag in flags if flag not in {*known, "-h", "--help", "-"})
    try:
        with command.make_context(command.name, list(given), parent=context):
            return ""
    except typer.Exit:
        return ""
    except USAGE_ERROR as error:
        return str(error.format_message())


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_blocks(page: Path) -> None:
    typed = [one.text for one in commands(page)]
    wrong = {line: said for line in typed for one in calls(line) if (said := complaint(one))}
    assert wrong == {}


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_what_the_text_says_in_passing(page: Path) -> None:
    found = {" ".join(one): complaint(one, is_whole=False) for one in inline_calls(page)}
    assert {words: said for words, said in found.items() if said} == {}


def test_every_line_is_one_that_a_shell_reads() -> None:
    script = "\n".join(one.text for page in PAGES for one in commands(page))
    done = subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("llm-reconcile plann x.yaml", "there is no plann"),
        ("cd x && llm-reconcile plan x.yaml --fast > plan.txt", "No such option: --fast"),
        ("llm-reconcile plan x.yaml --format fancy | less", "'fancy' is not one of"),
        ("llm-reconcile plan", "Missing argument 'FILE'."),
        ("A=1 llm-reconcile watch x.yaml --interval often 2>&1 &", "expected a duration"),
        ("llm-reconcile service instal x.yaml", "there is no instal"),
        ("llm-reconcile apply -y x.yaml > log 2>&1; llm-reconcile status", ""),
    ],
)
def test_mistakes_are_found(line: str, said: str) -> None:
    found = [complaint(words) for words in calls(line)]
    assert any(said in one for one in found)
    assert bool(said) == any(found)


def run_by(page: Path) -> str:
    return next((test for place, test in RUN_BY.items() if shown(page).startswith(place)), "")


def test_every_block_is_run_or_said_to_be_only_parsed() -> None:
    typed = {(one.text, run_by(page)) for page in PAGES for one in commands(page)}
    assert ONLY_PARSED.keys() <= {text for text, _ in typed}
    assert [text for text, test in typed if not test and text not in ONLY_PARSED] == []
    for page in filter(commands, PAGES):
        if test := run_by(page):
            text = (ROOT / "tests" / "e2e" / test).read_text(encoding="utf-8")
            name = (
                page.parent.name if page.name == "README.md" and page.parent != ROOT else page.stem
            )
            assert f'{name}"' in text or f'{page.name}"' in text, f"{test} does not run {page}"


def test_nothing_is_stood_for_that_no_command_speaks_to() -> None:
    typed = "\n".join(
        one.text for page in PAGES for one in (*commands(page), *inline_commands(page))
    )
    assert [one for one in STAND_INS if one not in typed] == []
    assert all([*STAND_INS.values(), *ONLY_PARSED.values()])


def test_every_verb_is_typed_somewhere() -> None:
    typed = [one for page in PAGES for one in (*commands(page), *inline_commands(page))]
    verbs = {words[0] for one in typed for words in calls(one.text) if words}
    assert PROGRAM.commands.keys() - verbs == set()
