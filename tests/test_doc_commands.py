"""Every command of the documents is one that there is: verbs, options and their values.

In: the blocks of commands, and `llm-reconcile ...` in the text, of all pages; the command line.
Out: a failure that names the page. Nothing is run here: the pages of `e2e/test_doc_pages.py` are.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer
from doc_pages import PAGES, calls, commands, inline_calls, shown

from reconciler.cli.main import command_line

PROGRAM: Any = typer.main.get_command(command_line())
USAGE_ERROR: Any = typer.BadParameter.__base__
"""What a wrong option is, too; typer has no name for it."""


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
