"""What git knows of files: the commit that is checked out, and whether they are as it has them.

In: a folder and the content of files in it. Out: a commit, or nothing where git or a repository is
missing, or does not answer. It looks only: no lock is taken, no hook, filter or pager runs, and
nothing is fetched.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from reconciler.drivers import programs

TIMEOUT_S = 2.0
_SHA1_DIGITS = 40


def commit_of(folder: Path, contents: Mapping[str, bytes]) -> tuple[str | None, bool]:
    """The commit that has files of these names, and whether one of them differs from it.

    Raises:
        OSError: git cannot be asked.
    """
    if not any((above / ".git").exists() for above in (folder, *folder.parents)):
        return None, False
    head = _ask(folder, "rev-parse", "--verify", "HEAD^{commit}").strip()
    entries = _ask(folder, "ls-tree", "-z", "HEAD") if head else ""
    blobs = dict(_entry(one) for one in entries.split("\0") if " blob " in one)
    known = {name: blobs[name] for name in contents if name in blobs}
    if not known:
        return None, False
    return head, known != {name: _blob(one, len(head)) for name, one in contents.items()}


def _ask(folder: Path, *words: str) -> str:
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    quiet = {"GIT_OPTIONAL_LOCKS": "0", "GIT_NO_LAZY_FETCH": "1", "LC_ALL": "C"}
    answer = programs.ask(
        ("git", "-C", str(folder), *words), timeout=TIMEOUT_S, environment={**kept, **quiet}
    )
    return answer.out if answer.code == 0 else ""


def _entry(line: str) -> tuple[str, str]:
    """`MODE blob ID<tab>NAME`: the name and the id."""
    head, _, name = line.partition("\t")
    return name, head.split(" ")[2]


def _blob(content: bytes, digits: int) -> str:
    """What git calls this content, in a repository with ids of so many digits."""
    kind = hashlib.sha1 if digits == _SHA1_DIGITS else hashlib.sha256
    return kind(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
