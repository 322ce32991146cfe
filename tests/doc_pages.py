"""The pages of the project as data: their fenced blocks, the files and the commands in them.

In: a Markdown file. Out: steps in order, and what of `llm-reconcile` a command line calls.
A block with `title="PATH"` is that file. In a `console` block a line after `$ ` is a command, and
what follows is what it prints; in an `sh` block every line is a command.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*/*.md")])
PROGRAM = "llm-reconcile"
_BLOCK = re.compile(r"^```(\S*)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_TITLE = re.compile(r'title="([^"]+)"')
_HEREDOC = re.compile(r"<<-?\s*'?(\w+)'?")
_INLINE = re.compile(rf"(?<!`)`({PROGRAM} [^`\n]+)`(?!`)")
_BETWEEN = frozenset({";", "&", "&&", "|", "||", "(", ")", "|&"})


@dataclass(frozen=True)
class File:
    """A file that the reader writes."""

    path: str
    text: str


@dataclass(frozen=True)
class Command:
    """What the reader types, and what is shown of its output."""

    text: str
    shown: tuple[str, ...] = ()


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


def steps(page: Path) -> Iterator[File | Command]:
    """All that a page tells to write and to type, in its order."""
    for kind, more, text in _BLOCK.findall(page.read_text(encoding="utf-8")):
        if title := _TITLE.search(more):
            yield File(title[1], text)
        elif kind == "sh":
            yield from (Command(one) for one in _lines(text))
        elif kind == "console":
            yield from _typed(text)


def commands(page: Path) -> list[Command]:
    return [one for one in steps(page) if isinstance(one, Command)]


def inline_commands(page: Path) -> list[Command]:
    """Where the text itself has `llm-reconcile ...` in backticks."""
    text = _BLOCK.sub("", page.read_text(encoding="utf-8"))
    return [Command(found) for found in _INLINE.findall(text)]


def inline_calls(page: Path) -> list[list[str]]:
    """The words after `llm-reconcile` in those."""
    return [words for one in inline_commands(page) for words in calls(one.text)]


def _lines(text: str) -> Iterator[str]:
    """Lines of a shell, each with what goes on in the next ones; comments are none."""
    rest = iter(text.splitlines())
    for line in rest:
        whole = line
        while whole.endswith("\\"):
            whole += f"\n{next(rest)}"
        if heredoc := _HEREDOC.search(whole):
            while not whole.endswith(f"\n{heredoc[1]}"):
                whole += f"\n{next(rest)}"
        if whole.strip() and not whole.startswith("#"):
            yield whole


def _typed(text: str) -> Iterator[Command]:
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        lines = iter(part.splitlines())
        whole = next(lines)
        while whole.endswith("\\"):
            whole += f"\n{next(lines)}"
        yield Command(whole, tuple(lines))


def calls(line: str) -> list[list[str]]:
    """Of each call of `llm-reconcile` in a command line the words behind it."""
    lexer = shlex.shlex(line.replace("\\\n", " "), posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    found: list[list[str]] = []
    words: list[str] = []
    for word in [*_without_redirections(list(lexer)), ";"]:
        if word not in _BETWEEN:
            words.append(word)
            continue
        if PROGRAM in words:
            found.append(words[words.index(PROGRAM) + 1 :])
        words = []
    return found


def _without_redirections(words: list[str]) -> Iterator[str]:
    left = list(reversed(words))
    while left:
        word = left.pop()
        if word.isdigit() and left and left[-1][0] in "<>":
            continue
        if word[0] in "<>":
            left.pop()
        else:
            yield word
