"""Following a branch of the repository that the desired file lies in.

In: `REMOTE/BRANCH`. Out: what its newest commit has of the desired state, or why that commit is
rejected. The working tree, the index, HEAD and the branches of the user are left alone: what is
fetched has a ref of its own, and files are read from the commit. It asks for no password, and ends
in time whatever the other side does. How far it was followed is kept in the state folder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from reconciler.core.git_branch import (
    Branch,
    Fetched,
    Followed,
    Rejected,
    branch_in,
    branch_of,
    complaint,
    followed_text,
    masked,
    read_followed,
    rewritten,
)
from reconciler.core.parse import SourceText
from reconciler.core.site import Site
from reconciler.drivers import effects
from reconciler.drivers.desired_files import LOCK_NAME, lock_path
from reconciler.drivers.git_files import BYTES, GitFiles

FETCH_S = 60.0
"""So long a remote may take."""
_OWN_REFS = "refs/llm-reconcile"


class GitBranch:
    """A branch that a root follows."""

    def __init__(
        self,
        site: Site,
        desired: Path,
        follows: str,
        environment: Mapping[str, str] | None = None,
        *,
        needs_signature: bool = False,
    ) -> None:
        """See that there is such a remote; nothing is fetched yet.

        Raises:
            UsageError: the file lies in no repository, or `follows` is no branch of a remote.
            GitError: git cannot be asked.
        """
        self._site, self._needs_signature = site, needs_signature
        self._git = GitFiles(site, desired, environment)
        self.branch: Branch = branch_of(follows, self._git.ask("remote").split())
        self._state = _state(site)

    @property
    def followed(self) -> Followed:
        """How far it was followed."""
        return read_followed(_text(self._state), str(self.branch))

    def accept(self, commit: str) -> None:
        """Note that this commit is what is wanted now.

        Raises:
            OSError: that cannot be written.
        """
        self._note(self.followed.accepting(commit))

    def reject(self, commit: str, reason: str) -> Rejected:
        """Note that this commit is not tried again.

        Raises:
            OSError: that cannot be written.
        """
        self._note(self.followed.rejecting(commit, masked(reason)))
        return Rejected(commit, masked(reason))

    def _note(self, followed: Followed) -> None:
        if followed != self.followed:
            effects.make_folder(self._state.parent)
            effects.write_atomic(self._state, followed_text(followed))

    def fetch(self) -> Fetched | Rejected:
        """What the branch has now. It is the same as before where nothing was pushed.

        Raises:
            GitError: the remote or git gives no answer; it may another time.
            OSError: what is rejected cannot be noted.
        """
        return self.read(self._tip())

    def _tip(self) -> str:
        """The newest commit that the remote has."""
        remote, name = self.branch.remote, self.branch.name
        own = f"{_OWN_REFS}/{self.branch}"
        with effects.by_program(f"git fetch {self.branch}"):
            self._git.ask(
                *("-c", "gc.autoDetach=false", "-c", "maintenance.autoDetach=false"),
                *("fetch", "--quiet", "--no-tags", "--no-recurse-submodules"),
                *("--no-write-fetch-head", "--refmap=", remote, f"+refs/heads/{name}:{own}"),
                timeout=FETCH_S,
            )
        return self._git.ask("rev-parse", "--verify", f"{own}^{{commit}}").strip()

    def read(self, tip: str) -> Fetched | Rejected:
        """What this commit has, if it may follow the one that was accepted last."""
        followed = self.followed
        if tip == followed.rejected:
            return Rejected(tip, followed.reason)
        why = self._refusal(tip, followed)
        if why:
            return self.reject(tip, why)
        found = self._git.content(tip)
        return self.reject(tip, found) if isinstance(found, str) else found

    def _refusal(self, tip: str, followed: Followed) -> str:
        base = followed.accepted
        if tip == base:
            return ""
        if base and self._git.run("merge-base", "--is-ancestor", base, tip).code:
            return rewritten(followed, tip, str(self._state))
        if self._needs_signature:
            answer = self._git.run("verify-commit", tip)
            if answer.code:
                said = complaint(answer.talk) if answer.talk.strip() else "it has none"
                return f"its signature is not one to be trusted: {said}"
        return ""

    def push(self, sources: Sequence[SourceText], lock: str | None, message: str) -> str:
        """Make the branch have these files, by a commit on top of it; returns that commit.

        It is signed where the commit before it is, or where git is set up to sign. Nobody's
        commits are undone: where somebody else has pushed meanwhile it fails.

        Raises:
            GitError: the remote cannot be reached, or refuses; nothing has changed there.
        """
        tip = self._tip()
        with effects.by_program(f"git push {self.branch}"), effects.scratch_folder() as scratch:
            tree = self._tree(tip, self._paths(sources, lock), scratch)
            if tree == self._git.ask("rev-parse", f"{tip}^{{tree}}").strip():
                return tip
            commit = self._git.ask(
                *("commit-tree", tree, "-p", tip, "-m", message),
                *(("-S",) if self._is_signing(tip) else ()),
            ).strip()
            to = f"{commit}:refs/heads/{self.branch.name}"
            self._git.ask("push", "--quiet", "--no-verify", self.branch.remote, to, timeout=FETCH_S)
        return commit

    def _paths(self, sources: Sequence[SourceText], lock: str | None) -> dict[str, bytes]:
        """Where in the repository what is to lie."""
        path = self._git.path
        if len(sources) == 1 and sources[0].name == self._site.desired:
            found = {path: sources[0].content}
            beside = str(lock_path(Path(path)))
        else:
            found = {f"{path}/{Path(one.name).name}": one.content for one in sources}
            beside = f"{path}/{LOCK_NAME}"
        return found if lock is None else {**found, beside: lock.encode(errors=BYTES)}

    def _tree(self, tip: str, wanted: Mapping[str, bytes], scratch: Path) -> str:
        """The tree of a commit with these desired files in place of its own."""
        index, file = {"GIT_INDEX_FILE": str(scratch / "index")}, scratch / "content"
        self._git.ask("read-tree", tip, more=index)
        found = self._git.content(tip)
        if not isinstance(found, str):
            for path in self._paths(found.sources, found.lock).keys() - wanted.keys():
                self._git.ask("update-index", "--force-remove", "--", path, more=index)
        for path, content in wanted.items():
            effects.write_atomic(file, content)
            blob = self._git.ask("hash-object", "-w", "--no-filters", "--", str(file)).strip()
            entry = f"100644,{blob},{path}"
            self._git.ask("update-index", "--add", "--cacheinfo", entry, more=index)
        return self._git.ask("write-tree", more=index).strip()

    def _is_signing(self, tip: str) -> bool:
        wanted = self._git.run("config", "--type=bool", "commit.gpgSign").out.strip() == "true"
        return wanted or "\ngpgsig" in self._git.ask("cat-file", "commit", tip).partition("\n\n")[0]


def followed_branch(site: Site) -> str | None:
    """The branch that this root follows; None: it follows its file."""
    return branch_in(_text(_state(site)))


def forget_branch(site: Site) -> None:
    """From now on this root follows its file.

    Raises:
        OSError: that cannot be noted.
    """
    effects.unlink(_state(site))


def _state(site: Site) -> Path:
    return Path(site.state) / "git.json"


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
