"""/api/logs/NAME: the end of what a server wrote, whole characters, and nothing but logs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from gateway_rig import Answer, Rig, rig

MOST = 64 * 1024
MODELS = {"alpha": {"aliases": ("uno",)}, "twin": {"replicas": 2}, "idle": {"state": "present"}}
ALICE, BOB = "alice-key-1", "bob-key-22"


@pytest.fixture(scope="module")
def whole_world() -> Iterator[Rig]:
    with rig() as made:
        Path(made.site.root, "logs").mkdir(parents=True)
        made.apply(made.render(MODELS))
        yield made


@pytest.fixture
def world(whole_world: Rig) -> Rig:
    for path in Path(whole_world.site.root, "logs").iterdir():
        path.unlink()
    return whole_world


def log(world: Rig, name: str = "alpha.log") -> Path:
    return Path(world.site.root, "logs", name)


def tail(world: Rig, query: str = "", name: str = "alpha", key: str = "") -> Answer:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return world.ask("GET", f"/api/logs/{name}{query}", headers=headers)


def place(answer: Answer) -> tuple[int, int]:
    """Where in the file it starts and ends."""
    return int(answer.headers["x-log-start"]), int(answer.headers["x-log-end"])


def test_it_is_text_and_nothing_else(world: Rig) -> None:
    log(world).write_text("<script>alert(1)</script> \u00fc\n")
    answer = tail(world)
    assert (answer.status, answer.body) == (200, log(world).read_bytes())
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"


def test_the_last_lines_and_then_only_what_is_new(world: Rig) -> None:
    text = b"".join(b"line %d\n" % number for number in range(300))
    log(world).write_bytes(text)
    assert tail(world).body == b"".join(text.splitlines(keepends=True)[-100:])
    three = tail(world, "?lines=3")
    assert three.body == b"line 297\nline 298\nline 299\n"
    assert place(three) == (len(text) - len(three.body), len(text))
    assert tail(world, f"?after={len(text)}").body == b""
    with log(world).open("ab") as file:
        file.write(b"half a")
    half = tail(world, f"?after={len(text)}")
    assert (half.body, place(half)) == (b"half a", (len(text), len(text) + 6))
    with log(world).open("ab") as file:
        file.write(b" line\n")
    assert tail(world, f"?after={place(half)[1]}").body == b" line\n"
    assert tail(world, "?lines=1").body == b"half a line\n"
    assert tail(world, "?lines=0").body == b""


def test_a_log_that_was_moved_aside_begins_anew(world: Rig) -> None:
    log(world).write_bytes(b"of the new server\n")
    answer = tail(world, "?after=52428800")
    assert (answer.body, place(answer)) == (b"of the new server\n", (0, 18))


def test_what_follows_on_a_part_that_was_set_aside_has_moved_by_as_much(world: Rig) -> None:
    log(world, "alpha.log.1").write_bytes(b"x" * 1000)
    log(world).write_bytes(b"known\nnew\n")
    answer = tail(world, "?after=1006")
    assert (answer.body, place(answer)) == (b"new\n", (6, 10))
    assert tail(world, "?after=999").body == b"known\nnew\n"
    # It cannot be that one: another server's.
    assert tail(world, "?after=5000").body == b"known\nnew\n"


def test_of_a_large_log_only_the_end_is_read(world: Rig) -> None:
    with log(world).open("wb") as file:
        file.truncate(2**40)
        file.seek(0, os.SEEK_END)
        file.write(b"\nlast line\n")
    assert tail(world, "?lines=1").body == b"last line\n"
    for query in ("?lines=100000", "?after=0", "?after=5"):
        answer = tail(world, query)
        assert len(answer.body) <= MOST
        assert place(answer)[1] == 2**40 + 11


def test_no_character_is_cut(world: Rig) -> None:
    """Neither at the beginning, nor where a writer is in the middle of one."""
    for sign in ("\u00fc", "\u20ac", "\U0001f600"):
        whole = sign.encode()
        for shift in range(4):
            # A line without an end, longer than what is sent at once.
            log(world).write_bytes(b"x" * shift + whole * MOST)
            body = tail(world).body
            assert MOST - 4 < len(body) <= MOST
            assert set(body.decode()) == {sign}
        for size in range(1, len(whole)):
            log(world).write_bytes(b"ab" + whole[:size])
            answer = tail(world)
            assert (answer.body, place(answer)) == (b"ab", (0, 2))
        log(world).write_bytes(b"ab" + whole)
        assert tail(world, "?after=2").body == whole
    # What is no text at all is sent as it is.
    log(world).write_bytes(b"\x80\xff\x00\n")
    assert tail(world).body == b"\x80\xff\x00\n"


def test_each_replica_has_its_own_and_a_stopped_model_its_old_one(world: Rig) -> None:
    log(world, "twin.log").write_text("zero\n")
    log(world, "twin.1.log").write_text("one\n")
    log(world, "idle.log").write_text("was here\n")
    assert tail(world, name="twin").body == b"zero\n"
    assert tail(world, "?replica=1", "twin").body == b"one\n"
    assert tail(world, "?replica=2", "twin").status == 404
    assert tail(world, name="idle").body == b"was here\n"


def test_a_model_that_wrote_nothing_has_none_yet(world: Rig) -> None:
    assert tail(world).error == "there is no log of 'alpha' yet"
    log(world).touch()
    assert (tail(world).status, tail(world).body) == (200, b"")


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_file_is_not_opened(world: Rig, make: object) -> None:
    path = log(world, "twin.log")
    assert callable(make)
    make(path)
    try:
        assert tail(world, name="twin").status == 404
    finally:
        path.unlink() if path.is_fifo() else path.rmdir()


@pytest.mark.parametrize(
    "name",
    [
        "nope",
        "uno",
        "Alpha",
        "",
        "alpha/",
        "alpha.log",
        "alpha/../twin",
        "..",
        "%2e%2e",
        "..%2fdesired.yaml",
        "%2fetc%2fpasswd",
        "alpha%00",
        "__proto__",
    ],
)
def test_only_the_name_of_a_model_opens_anything(world: Rig, name: str) -> None:
    log(world).write_text("secret\n")
    answer = tail(world, name=name)
    assert answer.status in {400, 404}
    assert b"secret" not in answer.body


@pytest.mark.parametrize(
    "query", ["?after=x", "?after=-1", "?after=1.5", "?lines=", "?after=1&after=2", "?replica=-1"]
)
def test_what_is_no_number_is_refused(world: Rig, query: str) -> None:
    log(world).write_text("x\n")
    answer = tail(world, query)
    assert (answer.status, answer.json["error"]["code"]) == (400, "bad_argument")


def test_with_keys_a_log_needs_one_that_is_for_its_model() -> None:
    with rig() as made:
        keys = Path(made.site.root, "secrets", "keys")
        keys.parent.mkdir(parents=True)
        keys.write_text(f"alice:{ALICE}\nbob:{BOB}:twin\n")
        keys.chmod(0o600)
        Path(made.site.root, "logs").mkdir()
        log(made).write_text("secret\n")
        made.apply(made.render(MODELS, keys_file="secrets/keys"))
        assert tail(made).status == tail(made, key="wrong-key").status == 401
        assert tail(made, key=ALICE).body == b"secret\n"
        refused = tail(made, key=BOB)
        assert (refused.status, refused.json["error"]["code"]) == (403, "model_not_allowed")
        assert "alpha" not in tail(made, name="nope", key=BOB).error
