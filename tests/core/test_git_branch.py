"""What may come next of a branch, and what git said."""

from __future__ import annotations

import pytest

from reconciler.core.git_branch import (
    Branch,
    Entry,
    Followed,
    branch_in,
    branch_of,
    complaint,
    entries_of,
    followed_text,
    masked,
    read_followed,
    rewritten,
)
from reconciler.errors import UsageError

ONE = Followed("origin/main", "a" * 40, "b" * 40, "it does not parse")


def test_how_far_it_was_followed_is_read_again() -> None:
    assert read_followed(followed_text(ONE), "origin/main") == ONE
    assert read_followed(followed_text(ONE), "origin/next") == Followed("origin/next")
    assert branch_in(followed_text(ONE)) == "origin/main"
    assert branch_in("{") is None
    for broken in ("", "7", "[]", "{}", '{"branch": 1, "odd": 2}'):
        assert read_followed(broken, "x/y") == Followed("x/y")


def test_what_is_accepted_ends_a_rejection() -> None:
    assert ONE.accepting("c") == Followed("origin/main", "c")
    assert Followed("x/y", "a").rejecting("b", "why") == Followed("x/y", "a", "b", "why")


def test_a_branch_of_a_remote() -> None:
    assert branch_of("origin/main", ["origin"]) == Branch("origin", "main")
    assert branch_of("origin/a/b", ["origin"]) == Branch("origin", "a/b")
    assert branch_of("team/x/main", ["team", "team/x"]) == Branch("team/x", "main")
    assert str(Branch("team/x", "main")) == "team/x/main"


@pytest.mark.parametrize("text", ["main", "origin/", "upstream/main", "https://u:p@host/x/main"])
def test_what_is_no_branch(text: str) -> None:
    with pytest.raises(UsageError, match="is no branch of a remote here") as caught:
        branch_of(text, ["origin", "fork"])
    assert "fork, origin" in caught.value.hint
    assert "u:p" not in caught.value.message
    with pytest.raises(UsageError) as caught:
        branch_of(text, [])
    assert "none" in caught.value.hint


def test_why_a_rewritten_branch_is_rejected() -> None:
    said = rewritten(ONE, "c" * 40, "/state/git.json")
    assert "origin/main was rewritten: cccccccccccc does not build on aaaaaaaaaaaa" in said
    assert "remove /state/git.json" in said
    assert "on , which" in rewritten(Followed("x/y"), "c" * 40, "")


@pytest.mark.parametrize(
    ("talk", "why"),
    [
        ("", "it did not say why"),
        ("warning: a\nlast\n\n", "last"),
        ("warning: a\nfatal: no such remote\nand more", "fatal: no such remote"),
        ("fatal: cannot read https://me:s3cr3t@h/x", "fatal: cannot read https://***@h/x"),
    ],
)
def test_what_git_complains_of(talk: str, why: str) -> None:
    assert complaint(talk) == why


def test_secrets_of_urls_are_masked() -> None:
    assert masked("a https://token@h/x and ssh://git@h:22/y@z") == (
        "a https://***@h/x and ssh://***@h:22/y@z"
    )
    assert masked("git@host:x.git") == "git@host:x.git"


def test_a_listing_is_read() -> None:
    listing = (
        "100644 blob abc    12\ta b.yaml\000040000 tree def       -\tsub\000120000 blob fff 3\tl\0"
    )
    file, folder, link = entries_of(listing)
    assert file == Entry("100644", "blob", "abc", 12, "a b.yaml")
    assert folder == Entry("040000", "tree", "def", 0, "sub")
    assert [one.is_file for one in (file, folder, link)] == [True, False, False]
    assert entries_of("") == ()
