"""The user's own files on disk: judged, swapped, told of, put back, also after a kill.

What is run for a file are real programs: shell scripts that keep a list of what they were told.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from render_rig import RELOAD, Root

from reconciler.core.plan import Action, RemoveRender
from reconciler.drivers import effects, renders
from reconciler.errors import StepError


@pytest.fixture
def root(tmp_path: Path) -> Root:
    return Root(tmp_path)


def snapshot(folder: Path) -> dict[str, tuple[int, int, int]]:
    known = ((str(one), one.lstat()) for one in folder.rglob("*"))
    return {name: (one.st_ino, one.st_mtime_ns, one.st_ctime_ns) for name, one in known}


def test_a_second_apply_does_nothing(root: Root) -> None:
    assert root.apply() == 1
    assert (root.dest.read_text(), root.told.read_text()) == ("one\n", "one\n")
    assert stat.S_IMODE(root.dest.stat().st_mode) == 0o644
    before = snapshot(root.folder)
    assert root.apply() == 0
    assert snapshot(root.folder) == before
    assert root.change().reason == "up to date"
    root.dest.chmod(0o640)
    root.template.write_text("two\n")
    assert root.apply() == 1
    assert root.told.read_text() == "one\ntwo\n"
    assert stat.S_IMODE(root.dest.stat().st_mode) == 0o640
    assert root.leftovers() == []


def test_an_edit_is_put_back_and_kept_aside(root: Root) -> None:
    root.apply()
    root.dest.write_text("mine\n")
    assert root.change().reason.startswith("edited by hand")
    root.apply()
    assert root.dest.read_text() == "one\n"
    [copy] = root.copies()
    assert copy.read_text() == "mine\n"
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    for number in range(renders.MOST_COPIES + 3):
        root.dest.write_text(f"mine {number}\n")
        root.apply()
        for age, one in enumerate(root.copies()):
            os.utime(one, (age, age))
    kept = [one.read_text() for one in root.copies()]
    assert (len(kept), kept[0], kept[-1]) == (renders.MOST_COPIES, "mine\n", f"mine {number}\n")


def test_a_bad_file_never_gets_there(root: Root) -> None:
    root.apply()
    root.template.write_text("bad\n")
    with pytest.raises(StepError, match=r"was refused: `\./check \{path\}` \(exit 7\)") as caught:
        root.apply()
    assert "it is bad" in caught.value.message
    assert (root.dest.read_text(), root.told.read_text()) == ("one\n", "one\n")
    assert root.leftovers() == []
    assert "it is tried again when it changes" in root.change(watch=True).blocked
    assert root.change().action is Action.UPDATE
    root.template.write_text("one\n")
    assert root.change(watch=True).reason == "up to date"


def test_what_nobody_can_be_told_of_goes_back(root: Root) -> None:
    root.apply()
    (root.folder / "broken").touch()
    root.template.write_text("two\n")
    with pytest.raises(StepError, match="the last good one is back, and was not told of either"):
        root.apply()
    assert (root.dest.read_text(), root.told.read_text()) == ("one\n", "one\ntwo\none\n")
    assert root.change(watch=True).blocked.startswith("it could not be told of")
    (root.folder / "broken").unlink()
    assert root.apply() == 1
    assert root.told.read_text() == "one\ntwo\none\ntwo\n"
    assert root.apply() == 0


def test_a_reload_that_recovers_leaves_the_old_one_at_work(root: Root) -> None:
    root.apply()
    (root.folder / "reload").write_text(RELOAD.replace("[ ! -e broken ]", "! grep -q two $1"))
    root.template.write_text("two\n")
    with pytest.raises(StepError, match=r"the last good one is back$"):
        root.apply()
    assert root.dest.read_text() == "one\n"
    root.template.write_text("one\n")
    assert root.apply() == 0


def test_a_first_one_that_cannot_be_told_of_stays(root: Root) -> None:
    (root.folder / "broken").touch()
    with pytest.raises(StepError, match="there is nothing to go back to"):
        root.apply()
    assert root.dest.read_text() == "one\n"
    assert root.change().reason == "not told of yet"
    assert root.change(watch=True).blocked


def test_a_file_of_the_users_own_comes_back_where_nothing_was_good_yet(root: Root) -> None:
    root.dest.parent.mkdir()
    root.dest.write_text("theirs\n")
    (root.folder / "reload").write_text(RELOAD.replace("[ ! -e broken ]", "! grep -q one $1"))
    with pytest.raises(StepError, match=r"what was there is back$"):
        root.apply()
    assert root.dest.read_text() == "theirs\n"
    assert root.change().reason.startswith("there is another file, not written by us")
    assert root.change(watch=True).blocked
    root.apply(wanted=False)
    assert root.dest.read_text() == "theirs\n"


def test_commands_that_change_the_file_are_refused_and_not_repeated(root: Root) -> None:
    (root.folder / "check").write_text("#!/bin/sh\necho more >> $1\n")
    with pytest.raises(StepError, match=r"`validate` must not change \{path\}"):
        root.apply()
    assert not root.dest.exists()
    assert root.change(watch=True).blocked
    (root.folder / "check").write_text("#!/bin/sh\n")
    (root.folder / "reload").write_text("#!/bin/sh\necho more >> $1\n")
    with pytest.raises(StepError, match=r"`reload` has changed run/out\.yaml"):
        root.apply()
    assert root.dest.read_text() == "one\nmore\n"
    assert root.change(watch=True).blocked
    (root.folder / "reload").write_text(RELOAD)
    assert (root.apply(), root.apply()) == (1, 0)


def test_nobody_reads_a_private_file_meanwhile(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    root.apply()
    root.dest.chmod(0o600)
    root.template.write_text("two\n")
    (root.folder / "reload").write_text(RELOAD.replace("[ ! -e broken ]", "! grep -q two $1"))
    seen: set[int] = set()

    def look(_: str) -> None:
        seen.update(stat.S_IMODE(one.stat().st_mode) for one in root.dest.parent.iterdir())

    monkeypatch.setattr(effects, "hook", look)
    with pytest.raises(StepError):
        root.apply()
    assert seen == {0o600}


def test_what_is_wanted_no_more_goes_unless_it_was_edited(root: Root) -> None:
    root.apply()
    assert root.apply(wanted=False) == 1
    assert not root.dest.exists()
    assert not root.plan(wanted=False).changes
    root.apply()
    root.dest.write_text("mine\n")
    root.apply(wanted=False)
    assert root.dest.read_text() == "mine\n"
    assert not root.plan(wanted=False).changes


def test_what_was_edited_after_the_plan_is_not_taken_away(root: Root) -> None:
    root.apply()
    [step] = root.plan(wanted=False).steps
    assert isinstance(step.effect, RemoveRender)
    root.dest.write_text("by hand")
    root.driver.apply(step.effect, threading.Event())
    assert root.dest.read_text() == "by hand"
    assert not root.plan(wanted=False).changes


def test_what_is_not_a_file_is_not_touched(root: Root) -> None:
    root.dest.parent.mkdir()
    root.dest.symlink_to("elsewhere")
    assert root.change().blocked == "run/out.yaml is a link: it is not touched"
    root.dest.unlink()
    root.dest.mkdir()
    assert root.change().blocked == "run/out.yaml is no file: it is not touched"
    root.dest.rmdir()
    root.dest.parent.rmdir()
    root.dest.parent.symlink_to("/")
    assert root.change().blocked == "run/out.yaml leads out of the root, to /: it is not touched"
    root.dest.parent.unlink()
    root.dest.parent.mkdir()
    root.dest.write_bytes(b"\xff")
    assert root.change().action is Action.UPDATE
    with root.dest.open("wb") as file:
        file.truncate(renders.LARGEST_BYTES + 1)
    assert "too large" in root.change().blocked
    root.dest.unlink()
    root.dest.parent.rmdir()
    root.dest.parent.write_text("a file")
    assert root.change().blocked


def test_a_link_within_the_root_is_not_followed_either(root: Root) -> None:
    """It may lead to where no render may write, now or when the file is written."""
    (root.folder / "desired").mkdir()
    root.dest.parent.symlink_to("desired")
    said = "run/out.yaml leads through a link, to desired/out.yaml: it is not touched; name that"
    assert root.change().blocked.startswith(said)
    root.dest.parent.unlink()
    steps = root.plan().steps
    root.dest.parent.symlink_to("desired")
    with pytest.raises(StepError, match="leads through a link"):
        root.carry_out(steps)
    root.dest.parent.unlink()
    root.apply()
    steps = root.plan(wanted=False).steps
    root.dest.parent.rename(root.folder / "elsewhere")
    root.dest.parent.symlink_to("elsewhere")
    root.carry_out(steps)
    assert (root.folder / "elsewhere" / "out.yaml").read_text() == "one\n"
    assert not list((root.folder / "desired").iterdir())


def test_templates_are_looked_for_here_and_among_the_shipped(root: Root) -> None:
    root.template.unlink()
    assert root.change().blocked.startswith("there is no template t.j2; shipped in templates/")
    root.template.write_bytes(b"\xff")
    assert root.change().blocked == "the template t.j2 is no text in UTF-8"
    root.template.unlink()
    root.template.mkdir()
    assert root.change().blocked.startswith("the template t.j2 cannot be read: ")
    long = (
        root.desired().renders[0].model_copy(update={"template": f"templates/renders/{'x' * 300}"})
    )
    assert (
        "cannot be read: File name too long" in root.driver.observe([long])["run/out.yaml"].problem
    )


def test_damaged_notes_are_no_notes(root: Root) -> None:
    root.apply()
    Path(root.site.render_notes).write_bytes(b"\xff\xfe")
    assert root.apply() == 0


class Killed(BaseException):
    """The process is no more."""


def moments(root: Root, act: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    heard: list[str] = []
    monkeypatch.setattr(effects, "hook", heard.append)
    act()
    monkeypatch.undo()
    return heard


def die_at(number: int, error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    left = iter(range(number, -1, -1))

    def count(_: str) -> None:
        if next(left, 0) == 0:
            raise error

    monkeypatch.setattr(effects, "hook", count)


@pytest.mark.parametrize("error", [Killed(), OSError(errno.ENOSPC, "No space left")], ids=str)
def test_whenever_it_ends_the_next_run_makes_up_for_it(
    tmp_path: Path, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each moment of a change: no torn file, no edit that was none, and somebody is told."""
    first = Root(tmp_path / "count")
    first.apply()
    first.template.write_text("two\n")
    count = len(moments(first, first.apply, monkeypatch))
    assert count > 10
    for number in range(0, count, 1 if isinstance(error, Killed) else 3):
        root = Root(tmp_path / str(number))
        root.apply()
        root.template.write_text("two\n")
        die_at(number, error, monkeypatch)
        with pytest.raises((type(error), StepError)):
            root.apply()
        monkeypatch.undo()
        assert root.dest.read_text() in {"one\n", "two\n"}
        assert "by hand" not in root.change().reason
        root.apply()
        assert root.dest.read_text() == "two\n"
        assert root.told.read_text().endswith("two\n")
        assert root.leftovers() == []
        assert root.apply() == 0
