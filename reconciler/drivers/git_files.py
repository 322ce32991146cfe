"""The repository that a desired file lies in, and that file as its commits have it.

In: the desired file. Out: answers of git, and what a commit has of the desired state. The working
tree, the index, HEAD and the branches of the user are left alone. Git is never let ask for a
password, and ends in time whatever the other side does.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from reconciler.core.generations import LARGEST
from reconciler.core.git_branch import Entry, Fetched, complaint, entries_of
from reconciler.core.parse import SourceText
from reconciler.core.site import Site
from reconciler.drivers import programs
from reconciler.drivers.desired_files import LOCK_NAME, is_lock, lock_path
from reconciler.errors import GitError, UsageError

ASK_S = 10.0
BYTES = "surrogateescape"
"""How bytes that are no text are kept in one."""
_NOT_OURS = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_PREFIX")
"""What a hook that starts us has set for its own repository."""
_QUIET = {
    "LC_ALL": "C",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ASKPASS": "true",
    "SSH_ASKPASS": "true",
    "SSH_ASKPASS_REQUIRE": "never",
}
_SSH_OPTIONS = "-o BatchMode=yes -o ConnectTimeout=20"


class GitFiles:
    """One repository, and where in it the desired state lies."""

    def __init__(
        self, site: Site, desired: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        """Find it.

        Raises:
            UsageError: the file lies in no repository.
            GitError: git cannot be asked.
        """
        self._site, self._desired = site, desired
        own = os.environ if environment is None else environment
        self._environment = {key: own[key] for key in own if key not in _NOT_OURS} | _QUIET
        self._top, self.path = self._find()

    def commit_of(self, name: str) -> str:
        """The commit that a name stands for: a branch, a tag, `HEAD~1`, its digits.

        Raises:
            UsageError: there is none.
            GitError: git gives no answer.
        """
        answer = self.run(
            "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}"
        )
        if answer.code:
            raise UsageError(
                f"{name} is neither a file nor a commit of the repository of {self._site.desired}",
                hint="in CI fetch it first: `git fetch --depth 1 origin main`",
            )
        return answer.out.strip()

    def content(self, commit: str) -> Fetched | str:
        """The desired state's files at a commit, or what is wrong with them.

        Raises:
            GitError: git gives no answer.
        """
        path, name = self.path, self._site.desired
        found = self._list(commit, path)
        if not found:
            return f"it has no {name}"
        whole = found[0]
        if whole.kind == "tree":
            inside = self._list(commit, f"{path}/")
            files = {
                f"{name}/{base}": one
                for one in inside
                if (base := Path(one.name).name).endswith(".yaml") and not is_lock(Path(base))
            }
            lock = next((one for one in inside if Path(one.name).name == LOCK_NAME), None)
        else:
            files = {name: whole}
            beside = self._list(commit, str(lock_path(Path(path))))
            lock = beside[0] if beside else None
        wrong = _wrong(files, lock)
        if wrong or not files:
            return wrong or f"{name} holds no *.yaml there"
        sources = tuple(SourceText(key, self._blob(files[key])) for key in sorted(files))
        text = self._blob(lock).decode(errors=BYTES) if lock else None
        return Fetched(commit, sources, text)

    def _list(self, commit: str, path: str) -> tuple[Entry, ...]:
        words = ("ls-tree", "-l", "-z", "--full-tree", commit, "--", path)
        return entries_of(self.ask(*words))

    def _blob(self, entry: Entry) -> bytes:
        return self._checked(self.run("cat-file", "blob", entry.object_id)).raw

    def _find(self) -> tuple[str, str]:
        # Through a link: git knows the file that it leads to.
        place = self._desired.resolve()
        folder = next(one for one in (place, *place.parents) if one.is_dir())
        answer = self.run("rev-parse", "--show-toplevel", folder=str(folder))
        top = answer.out.strip()
        if answer.code or not top:
            raise UsageError(
                f"{self._site.desired} lies in no git repository: {complaint(answer.talk)}",
                hint="clone the repository, and name the file in it",
            )
        return top, str(place.relative_to(Path(top).resolve()))

    def ask(
        self, *words: str, timeout: float = ASK_S, more: Mapping[str, str] | None = None
    ) -> str:
        """What git says; `more` are further variables of its environment.

        Raises:
            GitError: it gives no answer, or refuses.
        """
        return self._checked(self.run(*words, timeout=timeout, more=more)).out

    @staticmethod
    def _checked(answer: programs.Answer) -> programs.Answer:
        if answer.code:
            raise GitError(
                f"git: {complaint(answer.talk)}", hint="it is tried again; `git fetch` says more"
            )
        return answer

    def run(
        self,
        *words: str,
        timeout: float = ASK_S,
        folder: str = "",
        more: Mapping[str, str] | None = None,
    ) -> programs.Answer:
        """The same, whatever it says; in another `folder` than the repository's top.

        Raises:
            GitError: it gives no answer.
        """
        where = folder or self._top
        environment = {**self._environment, **(more or {})}
        if "fetch" in words or "push" in words:
            environment = environment | {"GIT_SSH_COMMAND": f"{self._ssh()} {_SSH_OPTIONS}"}
        try:
            return programs.ask(
                ("git", "-C", where, *words), timeout=timeout, environment=environment
            )
        except TimeoutError as error:
            raise GitError(
                f"git gave no answer within {timeout:g} s", hint="it is tried again"
            ) from error
        except OSError as error:
            raise GitError(f"git cannot be run: {error.strerror}", hint="install git") from error

    def _ssh(self) -> str:
        """What git would start to reach a remote by ssh."""
        own = self._environment.get("GIT_SSH_COMMAND")
        return own or self.run("config", "core.sshCommand").out.strip() or "ssh"


def _wrong(files: Mapping[str, Entry], lock: Entry | None) -> str:
    """What of this is not to be read."""
    named = {**files, **({LOCK_NAME: lock} if lock else {})}
    for name, entry in named.items():
        if not entry.is_file:
            return f"{name} is no file there, but a link or another repository"
        if entry.size > LARGEST:
            return f"{name} is too large there ({entry.size} bytes)"
    return ""
