"""Following a branch, with real repositories: one that somebody pushes to, and ours."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from waiting import eventually

from reconciler.core.git_branch import Fetched, Rejected
from reconciler.core.parse import SourceText
from reconciler.core.site import Site
from reconciler.drivers import git_branch, git_files
from reconciler.drivers.git_branch import GitBranch, followed_branch, forget_branch
from reconciler.errors import GitError, UsageError

FILE = "desired/x.yaml"
OLD, NEW = "version: 1\nmodels: {}\n", "version: 1\nmodels: {}\n# newer\n"


def git(folder: Path, *words: str) -> str:
    argv = ["git", "-C", str(folder), *words]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()


class Team:
    """Whoever pushes, the place that is pushed to, and our clone of it."""

    def __init__(self, folder: Path) -> None:
        self.pusher, self.remote, self.root = (folder / one for one in ("pusher", "hub.git", "r"))
        git(folder, "init", "-q", "--bare", "-b", "main", str(self.remote))
        git(folder, "init", "-q", "-b", "main", str(self.pusher))
        git(self.pusher, "remote", "add", "origin", str(self.remote))
        self.first = self.push(OLD)
        git(folder, "clone", "-q", str(self.remote), str(self.root))
        self.site = Site(str(self.root), str(folder / "state"), FILE)

    def push(self, text: str, *flags: str, name: str = FILE) -> str:
        """Commit a file and push it."""
        path = self.pusher / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        git(self.pusher, "add", "--all")
        git(self.pusher, "commit", "-q", "--allow-empty", "-m", "x", *flags)
        git(self.pusher, "push", "-q", "--force", "origin", "HEAD:main")
        return git(self.pusher, "rev-parse", "HEAD")

    def follow(self, *, needs_signature: bool = False, desired: str = FILE) -> GitBranch:
        site = Site(self.site.root, self.site.state, desired)
        path = self.root / desired
        return GitBranch(site, path, "origin/main", needs_signature=needs_signature)


@pytest.fixture
def team(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Team:
    for role in ("AUTHOR", "COMMITTER"):
        for what in ("NAME", "EMAIL"):
            monkeypatch.setenv(f"GIT_{role}_{what}", "x@x")
    # No configuration of whoever runs the tests.
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    return Team(tmp_path)


def everything(root: Path) -> dict[str, tuple[int, int]]:
    """All that is the user's own: files, index, HEAD, branches."""
    ours = ("objects", "llm-reconcile", "remotes")
    return {
        str(path): (path.stat().st_mtime_ns, path.stat().st_size)
        for path in root.rglob("*")
        if path.is_file() and not set(ours) & set(path.parts)
    }


def test_what_was_pushed_is_read_without_touching_anything(team: Team) -> None:
    branch = team.follow()
    assert branch.fetch() == Fetched(team.first, (SourceText(FILE, OLD.encode()),), None)
    (team.root / FILE).write_text("what somebody types here")
    before = everything(team.root)
    team.push("lock: ü\r\n", name="desired/x.lock.yaml")
    tip = team.push(NEW)
    found = branch.fetch()
    lock = "lock: ü\r\n".encode()
    assert isinstance(found, Fetched)
    assert found == Fetched(tip, (SourceText(FILE, NEW.encode()),), found.lock)
    assert found.lock
    assert found.lock.encode(errors="surrogateescape") in {lock, lock.replace(b"\r", b"")}
    assert everything(team.root) == before
    assert git(team.root, "rev-parse", "HEAD", "origin/main").split() == [team.first] * 2


def test_a_directory(team: Team) -> None:
    for name in ("desired/y.yaml", "desired/lock.yaml", "desired/a.lock.yaml", "desired/notes"):
        team.push(name, name=name)
    found = team.follow(desired="desired").fetch()
    assert isinstance(found, Fetched)
    assert [one.name for one in found.sources] == [FILE, "desired/y.yaml"]
    assert found.lock == "desired/lock.yaml"
    git(team.pusher, "rm", "-q", FILE, "desired/y.yaml")
    team.push("", name="desired/notes")
    assert "holds no *.yaml" in reason(team.follow(desired="desired").fetch())


def reason(found: Fetched | Rejected) -> str:
    assert isinstance(found, Rejected), found
    return found.reason


def test_what_is_accepted_and_rejected_is_known_after_a_restart(team: Team) -> None:
    team.follow().accept(team.first)
    bad = team.push("version: 99\n")
    branch = team.follow()
    assert isinstance(branch.fetch(), Fetched)
    assert branch.reject(bad, "it does not parse") == Rejected(bad, "it does not parse")
    again = team.follow()
    assert again.fetch() == Rejected(bad, "it does not parse")
    assert again.followed.accepted == team.first
    assert Path(team.site.state, "git.json").stat().st_mode & 0o777 == 0o600
    tip = team.push(NEW)
    found = again.fetch()
    assert isinstance(found, Fetched)
    again.accept(tip)
    assert (again.followed.accepted, again.followed.rejected) == (tip, None)


def test_a_rewritten_branch_is_rejected_until_it_goes_on(team: Team) -> None:
    branch = team.follow()
    branch.accept(team.first)
    git(team.pusher, "checkout", "-q", "--orphan", "other")
    tip = team.push(NEW)
    assert "origin/main was rewritten" in reason(branch.fetch())
    assert branch.followed.rejected == tip
    assert "origin/main was rewritten" in reason(team.follow().fetch())
    git(team.pusher, "reset", "-q", "--hard", team.first)
    tip = team.push(NEW)
    assert isinstance(branch.fetch(), Fetched)
    # What was accepted is no longer there at all.
    branch.accept("f" * 40)
    assert "origin/main was rewritten" in reason(branch.fetch())


def test_a_link_or_another_repository_is_not_followed(team: Team) -> None:
    path = team.pusher / FILE
    path.unlink()
    path.symlink_to("/etc/passwd")
    git(team.pusher, "add", ".")
    team.push("x", name="other")
    assert "is no file there" in reason(team.follow().fetch())
    path.unlink()
    team.push("x", name="other")
    assert "it has no desired/x.yaml" in reason(team.follow().fetch())


def test_a_huge_file_is_not_read(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(git_files, "LARGEST", 10)
    assert f"too large there ({len(OLD)} bytes)" in reason(team.follow().fetch())


def test_a_remote_that_is_away_is_tried_again(team: Team) -> None:
    branch = team.follow()
    away = team.remote.with_name("away.git")
    team.remote.rename(away)
    with pytest.raises(GitError, match="git: fatal:"):
        branch.fetch()
    away.rename(team.remote)
    assert isinstance(branch.fetch(), Fetched)
    git(team.root, "remote", "set-url", "origin", "https://me:s3cr3t@127.0.0.1:9/x.git")
    with pytest.raises(GitError) as caught:
        branch.fetch()
    assert "s3cr3t" not in caught.value.message


def test_no_branch_of_that_name(team: Team) -> None:
    branch = GitBranch(team.site, team.root / FILE, "origin/none")
    with pytest.raises(GitError, match="couldn't find remote ref"):
        branch.fetch()
    with pytest.raises(UsageError, match="is no branch of a remote"):
        GitBranch(team.site, team.root / FILE, "upstream/main")


def test_outside_of_a_repository(tmp_path: Path, team: Team) -> None:
    site = Site(str(tmp_path), team.site.state, FILE)
    with pytest.raises(UsageError, match="lies in no git repository"):
        GitBranch(site, tmp_path / FILE, "origin/main")


def test_which_branch_is_followed_at_all(team: Team) -> None:
    assert followed_branch(team.site) is None
    forget_branch(team.site)
    team.follow().accept(team.first)
    assert followed_branch(team.site) == "origin/main"
    forget_branch(team.site)
    assert followed_branch(team.site) is None


# ---- a commit of ours


def test_what_is_pushed_back_is_a_commit_on_top(team: Team) -> None:
    team.push(NEW)
    team.push("not ours", name="notes")
    tip = team.push("lock: 2\n", name="desired/x.lock.yaml")
    branch = team.follow()
    before = everything(team.root)
    commit = branch.push((SourceText(FILE, OLD.encode()),), "lock: 1\n", "Roll back\n\nwhy")
    assert branch.fetch() == Fetched(commit, (SourceText(FILE, OLD.encode()),), "lock: 1\n")
    assert git(team.remote, "log", "-1", "--format=%P %s|%b", "main") == f"{tip} Roll back|why"
    assert git(team.remote, "show", "main:notes") == "not ours"
    assert branch.push((SourceText(FILE, OLD.encode()),), "lock: 1\n", "again") == commit
    last = branch.push((SourceText(FILE, OLD.encode()),), None, "without a lock")
    assert git(team.remote, "ls-tree", "-r", "--name-only", "main").split() == [FILE, "notes"]
    assert branch.read(last) == branch.fetch()
    assert everything(team.root) == before


def test_a_directory_is_pushed_back(team: Team) -> None:
    team.push("y", name="desired/y.yaml")
    team.push("lock", name="desired/lock.yaml")
    branch = team.follow(desired="desired")
    whole = (SourceText("desired/x.yaml", b"x"), SourceText("desired/z.yaml", b"z"))
    commit = branch.push(whole, "lock", "back")
    assert branch.fetch() == Fetched(commit, whole, "lock")


def test_a_remote_that_refuses_is_said(team: Team) -> None:
    hook = team.remote / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho not today >&2\nexit 1\n")
    hook.chmod(0o755)
    branch = team.follow()
    with pytest.raises(GitError, match="git: "):
        branch.push((SourceText(FILE, NEW.encode()),), None, "x")
    assert git(team.remote, "rev-parse", "main") == team.first


Stand = Callable[[str], None]


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stand:
    """Put a program of one's own where ssh is looked for."""
    folder = tmp_path / "bin"
    folder.mkdir()

    def put(script: str) -> None:
        (folder / "ssh").write_text(f"#!/bin/sh\n{script}\n")
        (folder / "ssh").chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    return put


def test_it_never_waits_for_ever_nor_asks_for_a_password(
    team: Team, stand_in: Stand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(team.root, "remote", "set-url", "origin", "ssh://git@host/x.git")
    stand_in(f'echo "$@" >> {tmp_path}/said; exec sleep 60')
    monkeypatch.setattr(git_branch, "FETCH_S", 0.5)
    said = tmp_path / "said"

    def was_asked(words: str) -> bool:
        """A busy machine may not get as far as ssh in so short a time."""
        with pytest.raises(GitError, match="no answer within"):
            team.follow().fetch()
        return said.exists() and words in said.read_text()

    eventually(lambda: was_asked("-o BatchMode=yes"), "ssh is not let ask")
    # As the user has it set up.
    git(team.root, "config", "core.sshCommand", "ssh -i key")
    eventually(lambda: was_asked("-i key -o BatchMode=yes"), "the user's own ssh is taken")


def test_without_git(team: Team, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(GitError, match="git cannot be run"):
        team.follow()


def test_it_looks_at_its_own_repository_from_a_hook_too(
    team: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_DIR", str(team.pusher / ".git"))
    assert isinstance(team.follow().fetch(), Fetched)


@pytest.mark.needs("ssh-keygen")
def test_only_signed_commits_where_that_is_asked_for(team: Team, tmp_path: Path) -> None:
    keys = [tmp_path / name for name in ("ours", "theirs")]
    for key in keys:
        argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)]
        subprocess.run(argv, check=True)
    known = tmp_path / "known"
    known.write_text(f"x@x {keys[0].with_suffix('.pub').read_text()}")
    git(team.pusher, "config", "gpg.format", "ssh")
    git(team.root, "config", "gpg.ssh.allowedSignersFile", str(known))
    branch = team.follow(needs_signature=True)
    assert "not one to be trusted: it has none" in reason(branch.fetch())
    git(team.pusher, "config", "user.signingKey", str(keys[1]))
    team.push(NEW, "-S")
    assert "not one to be trusted" in reason(branch.fetch())
    git(team.pusher, "config", "user.signingKey", str(keys[0]))
    tip = team.push(NEW, "-S")
    found = branch.fetch()
    assert isinstance(found, Fetched)
    assert found.commit == tip
    # What we push is signed as well, and trusted.
    git(team.root, "config", "gpg.format", "ssh")
    git(team.root, "config", "user.signingKey", str(keys[0]))
    commit = branch.push((SourceText(FILE, OLD.encode()),), None, "back")
    found = branch.fetch()
    assert isinstance(found, Fetched)
    assert found.commit == commit != tip
