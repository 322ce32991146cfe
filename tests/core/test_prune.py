"""What can go from a store: nothing that anybody needs, and in a safe order."""

from __future__ import annotations

from dataclasses import replace

from builders import desired, files_of, pin_of, server

from reconciler.core.observed import FileStatus, ObservedFiles
from reconciler.core.prune import WEEK_S, all_of, loaded_by, needed_by, prune
from reconciler.core.stored import (
    URLS,
    Blob,
    Inode,
    Link,
    Needed,
    Partial,
    Reference,
    Removal,
    StoredRepo,
    folder_name,
)
from reconciler.core.words import ModelName

REPO = "models--org--far"
NOW = 10 * WEEK_S
OLD, NEW = "a" * 40, "b" * 40


def link(commit: str, name: str, number: int, blob: str = "") -> Link:
    return Link(f"/s/{commit}/{name}", commit, name, blob or f"sha{number}", 0, (1, number))


def blob(number: int, count: int = 100) -> Blob:
    return Blob(f"/b/sha{number}", f"sha{number}", count, (1, number))


STORED = StoredRepo(
    REPO,
    (Reference("/x/refs/main", NEW), Reference("/x/refs/v1", OLD)),
    (link(OLD, "q4", 1), link(OLD, "shared", 2), link(NEW, "q4", 3), link(NEW, "shared", 2)),
    (blob(1), blob(2), blob(3), blob(4)),
    (Partial("/b/sha9.incomplete", 5, NOW - WEEK_S - 1), Partial("/b/sha8", 6, NOW - WEEK_S)),
)


def gone(*repos: StoredRepo, **needed: frozenset[object]) -> list[str]:
    return [one.path for one in prune(repos or (STORED,), Needed(**needed), NOW)]  # type: ignore[arg-type]


def test_all_goes_that_nobody_needs_the_bytes_last() -> None:
    everything = gone()
    assert everything[:2] == ["/x/refs/main", "/x/refs/v1"]
    assert set(everything[2:6]) == {one.path for one in STORED.links}
    assert set(everything[6:10]) == {one.path for one in STORED.blobs}
    assert everything[10:] == ["/b/sha9.incomplete"]


def test_what_a_pin_names_stays_with_its_bytes() -> None:
    files: frozenset[object] = frozenset({(REPO, NEW, "shared")})
    assert gone(files=files) == [
        "/x/refs/v1",
        f"/s/{OLD}/q4",
        f"/s/{OLD}/shared",
        f"/s/{NEW}/q4",
        "/b/sha1",
        "/b/sha3",
        "/b/sha4",
        "/b/sha9.incomplete",
    ]
    reasons = {one.path: one.reason for one in prune([STORED], Needed(frozenset(files)), NOW)}  # type: ignore[arg-type]
    assert reasons[f"/s/{OLD}/q4"] == "an old revision"
    assert reasons[f"/s/{NEW}/q4"] == "no desired file wants it"
    assert reasons["/b/sha4"] == "nothing refers to it"


def test_bytes_that_a_pin_waits_for_stay_without_a_link() -> None:
    assert "/b/sha4" not in gone(digests=frozenset({(REPO, "sha4")}))
    assert "/b/sha3" in gone(digests=frozenset({(REPO, "sha4")}))


def test_what_is_open_stays_where_it_is_found() -> None:
    left = gone(open=frozenset({(1, 1), (1, 4)}))
    assert f"/s/{OLD}/q4" not in left
    assert not {"/b/sha1", "/b/sha4", "/x/refs/v1"} & {*left}
    assert "/x/refs/main" in left


def test_a_repository_of_which_nothing_is_known_stays_whole() -> None:
    other = replace(STORED, repo="models--org--other")
    assert [one.repo for one in prune((other, STORED), Needed(repos=frozenset({REPO})), NOW)] == [
        "models--org--other"
    ] * 11
    assert Removal("models--org--a--b", "", "", 0, "").label == "org/a--b"


def test_what_urls_brought_goes_by_its_hash() -> None:
    stored = StoredRepo(URLS, blobs=(blob(1), blob(2), blob(3)))
    needed = Needed(digests=frozenset({(URLS, "sha1")}), open=frozenset({(1, 2)}))
    (gone,) = prune((stored,), needed, NOW)
    assert (gone.label, gone.path, gone.name) == ("urls", "/b/sha3", "sha3")


def test_what_a_desired_file_needs() -> None:
    state = desired(
        {
            "own": {},
            "far": {"source": {"repo": "org/far"}, "quant": "Q4"},
            "off": {"source": {"repo": "org/off"}, "quant": "Q4", "state": "absent"},
            "dark": {"source": {"repo": "org/dark"}, "quant": "Q4"},
            "url": {"source": {"url": "https://example.org/x.gguf", "sha256": "6" * 64}},
            "old": {
                "source": {"url": "https://example.org/y.gguf", "sha256": "7" * 64},
                "state": "absent",
            },
        }
    )
    far = state.models["far"]
    files = {
        ModelName("own"): files_of(state.models["own"]),
        ModelName("far"): files_of(far),
        ModelName("dark"): ObservedFiles(FileStatus.UNKNOWN),
    }
    pin = replace(pin_of(far), commit=OLD)
    off = pin_of(state.models["off"])
    needed = needed_by(state, {ModelName("gone"): pin, ModelName("off"): off}, files)
    assert needed == Needed(
        frozenset({(REPO, "c" * 40, "Q4.gguf"), (REPO, OLD, "Q4.gguf")}),
        frozenset({(REPO, "5" * 64), (URLS, "6" * 64)}),
        frozenset({folder_name("org/dark")}),
    )
    other = Needed(frozenset({("r", "c", "n")}), open=frozenset({(7, 7)}))
    both = all_of([needed, other])
    assert both.files == needed.files | other.files
    assert (both.digests, both.repos, both.open) == (needed.digests, needed.repos, other.open)


def test_what_servers_loaded() -> None:
    state = desired({"a": {}})
    loaded: frozenset[Inode] = loaded_by(
        [server(state, "a", files="fe01:12:100:7,2:13:1:1"), server(state, "a", files="")]
    )
    assert loaded == {(0xFE01, 12), (2, 13)}
