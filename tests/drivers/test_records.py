"""What runs leave to be read: the real files, and the fake of them."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import resource
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from fake_records import FakeRecords

from reconciler.core.git_branch import Fetched
from reconciler.core.history import LARGEST_FILE, Ending, Origin, Record, begun
from reconciler.core.observed import ProcessRef
from reconciler.core.parse import SourceText
from reconciler.core.pending import Coming, Noted, Status, Watching
from reconciler.core.plan import ResourceType
from reconciler.core.site import Site
from reconciler.core.words import ModelName
from reconciler.drivers import proc
from reconciler.drivers.base_records import Records
from reconciler.drivers.records import RunRecords

PENDING = (Noted(ResourceType.INSTANCE, "a", "create", "it died"),)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(str(tmp_path / "root"), str(tmp_path / "state"), "desired/x.yaml")


@pytest.fixture
def real(site: Site) -> RunRecords:
    return RunRecords(site, Path(site.root) / site.desired)


@pytest.fixture(params=["real", "fake"])
def any_records(request: pytest.FixtureRequest, real: RunRecords) -> Records:
    return real if request.param == "real" else FakeRecords()


def file_of(site: Site) -> Path:
    return Path(site.state) / "history.jsonl"


def run_of(found: Records) -> Record:
    return begun(1.5, "apply", "desired/x.yaml", found.origin(), PENDING)


# ---- what is pending


def test_what_is_published_is_read_again(any_records: Records) -> None:
    assert any_records.status() == Status()
    for status in (Status(1.5, "x.yaml", PENDING), Status(2.5, "x.yaml")):
        any_records.publish(status)
        assert any_records.status() == status


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe"])
def test_a_broken_file_is_as_none(site: Site, real: RunRecords, content: bytes) -> None:
    path = Path(site.gateway) / "status.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    assert real.status() == Status()


# ---- files on their way

COMING = (Coming(ModelName("a"), "a.gguf", 3, 9),)


def shown(site: Site) -> list[Path]:
    return sorted(Path(site.gateway).glob("*downloads*"))


def test_files_on_their_way_are_shown_until_they_are_here(site: Site, real: RunRecords) -> None:
    real.show(COMING, 1.5)
    assert shown(site) == []
    Path(site.gateway).mkdir(parents=True)
    for _ in range(2):
        real.show(COMING, 1.5)
    [path] = shown(site)
    assert path.name == f"downloads.{os.getpid()}.json"
    assert path.stat().st_mode & 0o777 == 0o600
    me = proc.ref_of(os.getpid())
    assert me
    assert json.loads(path.read_text()) == {
        "process": [me.pid, me.start_ticks],
        "downloads": [{"model": "a", "file": "a.gguf", "bytes": 3, "of": 9, "at": 1.5}],
    }
    for _ in range(2):
        real.show((), 2.5)
        assert shown(site) == []


def test_what_a_killed_run_was_fetching_is_cleared_by_the_next(
    site: Site, real: RunRecords
) -> None:
    Path(site.gateway).mkdir(parents=True)
    real.show(COMING, 1.5)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    left = Path(site.gateway) / f"downloads.{gone.pid}.json"
    left.write_text("{}")
    odd = Path(site.gateway) / "downloads.odd.json"
    odd.touch()
    real.publish(Status(1.5, "x.yaml"))
    own = Path(site.gateway) / f"downloads.{os.getpid()}.json"
    assert shown(site) == [own, odd]


# ---- history


def test_records_are_numbered_and_end(any_records: Records) -> None:
    assert any_records.history() == ()
    first = any_records.note(run_of(any_records))
    second = any_records.note(run_of(any_records))
    assert (first.number, second.number) == (1, 2)
    ended = first.ended(Ending.APPLIED, 2, "")
    assert any_records.note(ended) == ended
    assert any_records.history() == (ended, second)


def test_a_run_that_lives_no_more_was_killed(site: Site, real: RunRecords) -> None:
    assert real.note(run_of(real)).outcome is Ending.RUNNING
    gone = subprocess.Popen([sys.executable, "-c", ""])
    ref = proc.ref_of(gone.pid)
    gone.wait()
    process = (gone.pid, ref.start_ticks if ref else 0)
    real.note(replace(run_of(real), origin=Origin("ann", process=process)))
    assert [one.outcome for one in real.history()] == [Ending.RUNNING, Ending.KILLED]
    assert file_of(site).stat().st_mode & 0o777 == 0o600


def test_a_run_that_ends_while_we_look_for_it_was_not_killed(
    real: RunRecords, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = real.note(run_of(real))

    def late(_process: ProcessRef) -> bool:
        real.note(begun.ended(Ending.APPLIED, 2, ""))
        return False

    monkeypatch.setattr(proc, "lives", late)
    assert [one.outcome for one in real.history()] == [Ending.APPLIED]


def test_a_torn_line_costs_no_other_record(site: Site, real: RunRecords) -> None:
    first, torn = real.note(run_of(real)), real.note(run_of(real))
    content = file_of(site).read_bytes()
    file_of(site).write_bytes(content[:-30])
    third = real.note(run_of(real))
    assert real.history() == (first, replace(third, number=torn.number + 1))


def test_room_for_half_a_record_is_none(site: Site, real: RunRecords) -> None:
    first = real.note(run_of(real))
    content = file_of(site).read_bytes()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(content) + 9, before[1]))
    try:
        with pytest.raises(OSError, match="No space left"):
            real.note(run_of(real))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert file_of(site).read_bytes() == content
    assert real.note(run_of(real)).number == first.number + 1


def test_the_file_is_bounded(site: Site, real: RunRecords) -> None:
    first = real.note(run_of(real))
    line = file_of(site).read_text()
    count = LARGEST_FILE // len(line) + 1
    last = replace(first, number=count)
    numbered = (line.replace('"number": 1,', f'"number": {at},') for at in range(1, count + 1))
    file_of(site).write_text("".join(numbered))
    assert real.note(run_of(real)).number == count + 1
    assert real.history()[-2:] == (last, replace(last, number=count + 1))
    assert file_of(site).stat().st_size <= LARGEST_FILE // 2 + 2 * len(line)


def test_many_writers_lose_nothing(site: Site, real: RunRecords) -> None:
    def write() -> None:
        for _ in range(5):
            mine = RunRecords(site, Path(site.root))
            mine.note(mine.note(run_of(mine)).ended(Ending.APPLIED, 1, ""))

    threads = [threading.Thread(target=write) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    found = real.history()
    assert [one.number for one in found] == list(range(1, 21))
    assert {one.outcome for one in found} == {Ending.APPLIED}


# ---- who, and of which commit


def git(folder: Path, *words: str) -> str:
    who = {
        f"GIT_{role}_{what}": "x" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
    }
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), **who}
    done = subprocess.run(
        ["git", "-C", str(folder), *words],
        check=True,
        capture_output=True,
        text=True,
        env=environment,
    )
    return done.stdout.strip()


def desired(site: Site, name: str = "x.yaml", text: str = "version: 1\n") -> Path:
    path = Path(site.root) / "desired" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def commit(site: Site, *flags: str) -> str:
    root = Path(site.root)
    git(root, "init", "-q", *flags)
    git(root, "add", ".")
    git(root, "commit", "-q", "-m", "x")
    return git(root, "rev-parse", "HEAD")


@pytest.fixture(autouse=True)
def own_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No configuration of whoever runs the tests."""
    monkeypatch.setenv("HOME", str(tmp_path))


def test_without_a_repository_there_is_no_commit(site: Site, real: RunRecords) -> None:
    path = desired(site)
    found = real.origin()
    assert (found.commit, found.dirty) == (None, False)
    assert found.spec == hashlib.sha256(path.read_bytes()).hexdigest()
    assert found.who
    assert found.process[0] == os.getpid()


def test_a_process_that_cannot_look_at_itself_still_runs(
    site: Site, real: RunRecords, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_pid: int) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(proc, "ref_of", refuse)
    desired(site)
    assert real.origin().process == (0, 0)


def test_a_file_that_cannot_be_read_has_no_digest(real: RunRecords) -> None:
    found = real.origin()
    assert (found.spec, found.commit, bool(found.who)) == (None, None, True)


@pytest.mark.parametrize("flags", [(), ("--object-format=sha256",)])
def test_the_commit_of_a_file(site: Site, real: RunRecords, flags: tuple[str, ...]) -> None:
    path = desired(site)
    head = commit(site, *flags)
    assert (real.origin().commit, real.origin().dirty) == (head, False)
    # As it is staged, or noted in no index at all: what counts is the content.
    path.write_text("version: 1\nmodels: {}\n")
    assert (real.origin().commit, real.origin().dirty) == (head, True)


def test_what_a_repository_names_as_programs_is_not_run(site: Site, real: RunRecords) -> None:
    desired(site)
    head = commit(site)
    root = Path(site.root)
    trap = root / "trap"
    trap.write_text(f"#!/bin/sh\ntouch {root}/sprung\n")
    trap.chmod(0o755)
    named = ("core.fsmonitor", "core.pager", "diff.external", "alias.rev-parse", "filter.x.clean")
    for name in (*named, "core.sshCommand", "credential.helper"):
        git(root, "config", name, f"!{trap}" if name.startswith("alias") else str(trap))
    git(root, "config", "core.hooksPath", str(root))
    (root / ".gitattributes").write_text("* filter=x diff=x\n")
    desired(site, text="version: 1\nmodels: {}\n")
    assert (real.origin().commit, real.origin().dirty) == (head, True)
    assert not (root / "sprung").exists()


def test_a_file_that_git_does_not_know_has_no_commit(site: Site) -> None:
    desired(site)
    commit(site)
    other = RunRecords(site, desired(site, "new.yaml"))
    assert (other.origin().commit, other.origin().dirty) == (None, False)


def test_a_repository_without_a_commit(site: Site, real: RunRecords) -> None:
    desired(site)
    git(Path(site.root), "init", "-q")
    assert real.origin().commit is None


def test_the_commit_of_a_folder_and_of_a_link(site: Site) -> None:
    path, _ = desired(site), desired(site, "x.lock.yaml", "lock: 1\n")
    head = commit(site)
    whole = RunRecords(site, path.parent)
    assert (whole.origin().commit, whole.origin().dirty) == (head, False)
    link = Path(site.root) / "link.yaml"
    link.symlink_to(path)
    linked = RunRecords(site, link)
    assert (linked.origin().commit, linked.origin().dirty) == (head, False)
    desired(site, "y.yaml")
    assert (whole.origin().commit, whole.origin().dirty) == (head, True)


def test_what_is_followed_is_another_commit_than_is_checked_out(
    site: Site, real: RunRecords
) -> None:
    desired(site)
    commit(site)
    real.fetched = Fetched("f" * 40, (SourceText("desired/x.yaml", b"x"),), None)
    found = real.origin()
    assert (found.commit, found.dirty) == ("f" * 40, False)
    assert found.spec == hashlib.sha256(b"x").hexdigest()


def test_asking_git_writes_nothing_and_runs_nothing(site: Site, real: RunRecords) -> None:
    path = desired(site)
    commit(site)
    root = Path(site.root)
    trap = root / "trap"
    trap.write_text(f"#!/bin/sh\ntouch {root}/sprung\ncat\n")
    trap.chmod(0o755)
    for name in ("core.fsmonitor", "core.pager", "filter.f.clean", "diff.external"):
        git(root, "config", name, str(trap))
    (root / ".git" / "info" / "attributes").write_text("* filter=f\n")
    path.write_text("version: 1\n# changed\n")
    before = {one: one.stat().st_ctime_ns for one in root.rglob("*")}
    assert real.origin().dirty
    assert {one: one.stat().st_ctime_ns for one in root.rglob("*")} == before


@pytest.mark.parametrize("script", [None, "#!/bin/sh\nexec sleep 60\n", "#!/bin/sh\nexit 3\n"])
def test_no_git_that_answers(
    site: Site,
    real: RunRecords,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    script: str | None,
) -> None:
    desired(site)
    commit(site)
    programs = tmp_path / "bin"
    programs.mkdir()
    if script:
        (programs / "git").write_text(script)
        (programs / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}")
    monkeypatch.setattr("reconciler.drivers.git.TIMEOUT_S", 0.2)
    found = real.origin()
    assert (found.commit, bool(found.spec)) == (None, True)


def test_a_user_without_a_name(real: RunRecords, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(_uid: int) -> None:
        raise KeyError

    monkeypatch.setattr("pwd.getpwuid", unknown)
    assert real.origin().who == str(os.getuid())


# ---- a watch


def test_a_watch_is_shown_once_there_is_a_gateway_and_goes(real: RunRecords, site: Site) -> None:
    path = Path(site.gateway) / "watch.json"
    assert not real.show_watch(Watching(1.5))
    path.parent.mkdir(parents=True)
    assert real.show_watch(Watching(1.5, held="too much"))
    said = json.loads(path.read_text())
    assert (said["process"][0], said["held"]) == (os.getpid(), "too much")
    assert real.show_watch(None)
    assert not path.exists()
