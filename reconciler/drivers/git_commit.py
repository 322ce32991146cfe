"""Making a commit of a few files, and pushing it, as their user would.

In: files and a message. Out: a commit on the branch that is checked out, or why there is none.
Nothing else is committed, whatever is staged; hooks and signing are as the user has set them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from reconciler.core.os_errors import explain_os
from reconciler.drivers import effects, programs

TIMEOUT_S = 60.0
"""Hooks may run for a while."""
_WHY = ("fatal: ", "! [", "error: ")
"""How git's own reason begins."""


def is_in_work_tree(path: Path) -> bool:
    """Whether git would know of this file."""
    return any((above / ".git").exists() for above in path.resolve().parents)


def commit(paths: Sequence[Path], message: str) -> str:
    """Commit these files, and them alone; returns why that is not possible, or nothing.

    Files that are as the last commit has them are no reason for one.
    """
    folder = str(paths[0].parent)
    try:
        with effects.by_program(f"git commit in {folder}"):
            # One that is gone, and that git never knew, would be an error.
            names = [str(path) for path in paths if path.exists() or _is_tracked(path)]
            why = _git(folder, "add", "--all", "--", *names)
            # Whether there is anything to commit: it then ends with 1.
            if why or not _git(folder, "diff", "--cached", "--quiet", "HEAD", "--", *names):
                return why
            return _git(folder, "commit", "--quiet", "--message", message, "--", *names)
    except TimeoutError:
        return f"it did not end within {TIMEOUT_S:g} s"
    except OSError as error:
        return explain_os(error)[0]


def push(path: Path) -> str:
    """Push the branch that is checked out where it is pushed to; why that failed, or nothing."""
    folder = str(path.parent)
    try:
        with effects.by_program(f"git push in {folder}"):
            return _git(folder, "push", "--quiet")
    except TimeoutError:
        return f"it did not end within {TIMEOUT_S:g} s"
    except OSError as error:
        return explain_os(error)[0]


def _is_tracked(path: Path) -> bool:
    return not _git(str(path.parent), "ls-files", "--error-unmatch", "--", path.name)


def _git(folder: str, *words: str) -> str:
    """Run git; nothing if it went well, else what it said."""
    environment = {**os.environ, "LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0", "GIT_EDITOR": "true"}
    answer = programs.ask(("git", "-C", folder, *words), timeout=TIMEOUT_S, environment=environment)
    if answer.code == 0:
        return ""
    said = [line.strip() for line in (answer.talk or answer.out).strip().splitlines()]
    # Advice may follow for many lines.
    why = [line for line in said if line.startswith(_WHY)] or said[-1:]
    return why[0] if why else f"git {words[0]} ended with {answer.code}"
