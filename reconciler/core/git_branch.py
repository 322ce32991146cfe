"""Following a branch of git: what was accepted of it, what was not, and what may come next.

In: what git said, the state file. Out: `Followed`, a judgement, texts. A branch only goes forward:
what does not build on the commit that was accepted last is rejected, whoever pushed it. It runs no
program.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import asdict, dataclass, replace

from reconciler.core.parse import SourceText
from reconciler.core.text import PASSWORD
from reconciler.errors import UsageError

_SHORT = 12
_OUTCOME = ("fatal:", "error:", "ERROR:", "remote: fatal:")


@dataclass(frozen=True, slots=True)
class Branch:
    """A branch of a remote, as this repository knows it."""

    remote: str
    name: str

    def __str__(self) -> str:
        return f"{self.remote}/{self.name}"


@dataclass(frozen=True, slots=True)
class Fetched:
    """What a commit has of the desired state."""

    commit: str
    sources: tuple[SourceText, ...]
    lock: str | None
    """The lock file's text; None: it has none."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """A commit that is not applied."""

    commit: str
    reason: str


@dataclass(frozen=True, slots=True)
class Followed:
    """How far a branch was followed."""

    branch: str
    accepted: str | None = None
    rejected: str | None = None
    reason: str = ""

    def accepting(self, commit: str) -> Followed:
        """Once this commit was accepted."""
        return replace(self, accepted=commit, rejected=None, reason="")

    def rejecting(self, commit: str, reason: str) -> Followed:
        """Once this commit was not."""
        return replace(self, rejected=commit, reason=reason)


def followed_text(followed: Followed) -> str:
    """As it is kept."""
    return json.dumps(asdict(followed), indent=1) + "\n"


def read_followed(text: str, branch: str) -> Followed:
    """What was kept of this branch; of another one, or of a broken file, nothing counts."""
    return Followed(**json.loads(text)) if branch_in(text) == branch else Followed(branch)


def branch_in(text: str) -> str | None:
    """Which branch that is about; None where it is broken."""
    try:
        return Followed(**json.loads(text)).branch
    except (ValueError, TypeError):
        return None


def branch_of(text: str, remotes: Collection[str]) -> Branch:
    """`REMOTE/BRANCH`, where both may have a `/` of their own.

    Raises:
        UsageError: it names no remote of this repository, or no branch.
    """
    known = [one for one in remotes if text.startswith(f"{one}/") and text != f"{one}/"]
    if not known:
        there = ", ".join(sorted(remotes)) or "none"
        raise UsageError(
            f"{masked(text)} is no branch of a remote here",
            hint=f"write REMOTE/BRANCH, like origin/main; remotes of this repository: {there}",
        )
    remote = max(known, key=len)
    return Branch(remote, text.removeprefix(f"{remote}/"))


def rewritten(followed: Followed, tip: str, state: str) -> str:
    """Why a commit that does not build on the accepted one is rejected."""
    before = (followed.accepted or "")[:_SHORT]
    return (
        f"{followed.branch} was rewritten: {tip[:_SHORT]} does not build on {before}, which was"
        f" accepted last; push what does, or, to accept it, remove {state} and start watch again"
    )


def masked(text: str) -> str:
    """Without the names and passwords of URLs."""
    return PASSWORD.sub("***@", text)


def complaint(talk: str) -> str:
    """The line of what git said that tells why, without secrets."""
    lines = [line.strip() for line in talk.splitlines() if line.strip()]
    telling = [line for line in lines if line.startswith(_OUTCOME)]
    return masked((telling or lines[-1:] or ["it did not say why"])[0])


@dataclass(frozen=True, slots=True)
class Entry:
    """What a commit has under a name."""

    mode: str
    kind: str
    object_id: str
    size: int
    name: str

    @property
    def is_file(self) -> bool:
        """A file with content of its own, and not a link."""
        return self.kind == "blob" and self.mode != "120000"


def entries_of(listing: str) -> tuple[Entry, ...]:
    """Read `git ls-tree -l -z`: `MODE KIND ID SIZE<tab>NAME`, each ended by a NUL."""
    found = []
    for line in filter(None, listing.split("\0")):
        head, _, name = line.partition("\t")
        mode, kind, object_id, size = head.split()
        found.append(Entry(mode, kind, object_id, int(size) if size.isdecimal() else 0, name))
    return tuple(found)
