"""Finding the desired file and its root, however a user names it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from reconciler.drivers.desired_files import (
    find_root,
    only_desired,
    read_sources,
    refuse_another_user,
    root_from_here,
    shown,
)
from reconciler.errors import InvalidDesiredError, StateFolderError, UsageError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with two files, a lock file and folders to stand in."""
    root = tmp_path / "root"
    for folder in ("desired", "run", "models/deep"):
        (root / folder).mkdir(parents=True)
    for name in ("b.yaml", "a.yaml", "a.lock.yaml", "lock.yaml.txt", "notes.md"):
        (root / "desired" / name).write_text(f"# {name}\n", encoding="utf-8")
    return root


# ---- reading


def test_a_file_is_read_under_its_name_in_the_root(root: Path) -> None:
    [source] = read_sources(root / "desired" / "a.yaml", root)
    assert (source.name, source.content) == ("desired/a.yaml", b"# a.yaml\n")


def test_a_folder_is_its_yaml_files_sorted_without_locks(root: Path) -> None:
    names = [source.name for source in read_sources(root / "desired", root)]
    assert names == ["desired/a.yaml", "desired/b.yaml"]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("desired/none.yaml", "desired/none.yaml: there is no such file"),
        ("models", "models: the directory holds no *.yaml file"),
        ("desired/a.yaml/b.yaml", "it cannot be read: Not a directory"),
    ],
)
def test_what_cannot_be_read_is_never_an_empty_state(root: Path, name: str, why: str) -> None:
    with pytest.raises(InvalidDesiredError) as hit:
        read_sources(root / name, root)
    assert why in str(hit.value)


def test_a_folder_with_an_unreadable_file_is_not_read_in_part(root: Path) -> None:
    (root / "desired" / "c.yaml").symlink_to("nowhere")
    with pytest.raises(InvalidDesiredError, match=r"it is a link to nowhere, which is not there"):
        read_sources(root / "desired", root)


# ---- names


@pytest.mark.parametrize(
    ("here", "typed"),
    [
        (".", "desired/a.yaml"),
        (".", "./desired/a.yaml"),
        ("desired", "a.yaml"),
        ("run", "../desired/a.yaml"),
        ("models/deep", "../../desired/a.yaml"),
        ("/", "{root}/desired/a.yaml"),
        ("/", "{root}/run/../desired/a.yaml"),
        ("/", "{link}/desired/a.yaml"),
    ],
)
def test_a_file_has_one_name_however_it_is_typed(
    root: Path, monkeypatch: pytest.MonkeyPatch, here: str, typed: str
) -> None:
    link = root.parent / "link"
    link.symlink_to(root)
    monkeypatch.chdir(root / here)
    path = Path(typed.format(root=root, link=link))
    assert find_root(path) == root
    assert shown(path, root) == "desired/a.yaml"


@pytest.mark.parametrize(
    ("here", "typed"),
    [(".", "desired"), (".", "desired/"), ("desired", "."), ("run", "../desired")],
)
def test_a_folder_has_one_name_however_it_is_typed(
    root: Path, monkeypatch: pytest.MonkeyPatch, here: str, typed: str
) -> None:
    monkeypatch.chdir(root / here)
    assert find_root(Path(typed)) == root
    assert shown(Path(typed), root) == "desired"


def test_a_link_in_place_of_the_file_keeps_its_name(root: Path) -> None:
    (root / "desired" / "now.yaml").symlink_to("a.yaml")
    assert shown(root / "desired" / "now.yaml", root) == "desired/now.yaml"


def test_what_lies_elsewhere_is_named_in_full(root: Path) -> None:
    outside = root.parent / "x.yaml"
    assert shown(outside, root) == str(outside)


# ---- roots


def test_the_nearest_folder_with_desired_is_the_root(root: Path) -> None:
    inner = root / "models"
    (inner / "desired").mkdir()
    assert find_root(inner / "deep" / "x.yaml") == inner
    assert find_root(root / "run" / "x.yaml") == root


def test_without_one_it_is_the_files_own_folder(tmp_path: Path) -> None:
    assert find_root(tmp_path / "x.yaml") == tmp_path
    (tmp_path / "conf").mkdir()
    assert find_root(tmp_path / "conf") == tmp_path


def nowhere(_folder: Path) -> bool:
    return False


def test_a_root_without_the_folder_is_known_by_what_was_applied_to_it(tmp_path: Path) -> None:
    deep = tmp_path / "one" / "deep"
    deep.mkdir(parents=True)
    assert root_from_here(deep, lambda folder: folder == tmp_path / "one") == tmp_path / "one"


def test_a_verb_without_a_file_looks_upwards(root: Path) -> None:
    assert root_from_here(root / "models" / "deep", nowhere) == root
    assert root_from_here(root, nowhere) == root


def test_a_link_to_a_root_is_that_root(root: Path) -> None:
    link = root.parent / "link"
    link.symlink_to(root)
    assert root_from_here(link / "run", nowhere) == root


def test_outside_of_a_root_it_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no root here") as hit:
        root_from_here(tmp_path, nowhere)
    assert "--root" in hit.value.hint


# ---- the file of a root


def test_the_file_last_applied_is_the_one(root: Path) -> None:
    assert only_desired(root, "desired/b.yaml") == root / "desired" / "b.yaml"
    assert only_desired(root, "/else/x.yaml") == Path("/else/x.yaml")


def test_the_only_file_is_the_one(root: Path) -> None:
    (root / "desired" / "b.yaml").unlink()
    assert only_desired(root, None) == root / "desired" / "a.yaml"


@pytest.mark.parametrize("names", [(), ("a.yaml", "b.yaml")])
def test_none_or_several_files_are_not_guessed(root: Path, names: tuple[str, ...]) -> None:
    for path in (root / "desired").iterdir():
        if path.name not in names:
            path.unlink()
    holds = ", ".join(names) or r"no \*\.yaml"
    with pytest.raises(UsageError, match=f"its desired/ holds {holds}$") as hit:
        only_desired(root, None)
    assert "apply" in hit.value.hint


def test_servers_of_another_user_are_not_doubled(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_another_user(root)
    pid_file = root / "run" / "a.pid"
    pid_file.parent.mkdir(exist_ok=True)
    pid_file.write_text("1\n")
    refuse_another_user(root)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(StateFolderError, match="belong to another user"):
        refuse_another_user(root)
