"""The keys file: what may stand in it, and that no mistake in it says a key aloud."""

from __future__ import annotations

import hashlib

import pytest
from builders import desired

from reconciler.core.keys import GatewayKey, key_texts, known_scope, parse_keys, scope_warnings
from reconciler.errors import GatewayError

ALICE, BOB = "alice-key-1", "sk-2_$%&/()=?"
MODELS = desired({"qwen": {"aliases": ("org/qwen:Q4", "chat")}, "tiny": {}}).models


def digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def test_a_line_is_a_name_a_key_and_perhaps_models() -> None:
    text = f"alice:{ALICE}\nbob@home.lan:{BOB}:qwen,org/qwen:Q4\n"
    assert parse_keys("k", text.encode()) == (
        GatewayKey("alice", digest(ALICE), None, 1, len(f"alice:{ALICE}") + 1),
        GatewayKey("bob@home.lan", digest(BOB), ("qwen", "org/qwen:Q4"), 2, 28),
    )


@pytest.mark.parametrize(
    "text",
    [
        f"alice:{ALICE}",
        f"\ufeffalice:{ALICE}\r\n",
        f"# of alice\r\n\r\n  alice:{ALICE} \t\r\n   # alice:other-key\n\n",
    ],
)
def test_what_an_editor_leaves_behind_does_not_matter(text: str) -> None:
    (key,) = parse_keys("k", text.encode())
    assert (key.name, key.digest, key.models) == ("alice", digest(ALICE), None)


@pytest.mark.parametrize("length", [8, 256])
def test_the_length_of_a_key(length: int) -> None:
    assert parse_keys("k", b"a:" + b"x" * length)[0].digest == digest("x" * length)


@pytest.mark.parametrize(
    ("words", "per_minute", "at_once"),
    [
        (" rpm=60", 60, None),
        ("\tparallel=4 ", None, 4),
        ("  parallel=1   rpm=60000\r", 60000, 1),
    ],
)
def test_behind_a_space_stand_limits(words: str, per_minute: int, at_once: int) -> None:
    for scope, models in (("", None), (":qwen,tiny", ("qwen", "tiny"))):
        (key,) = parse_keys("k", f" alice:{ALICE}{scope}{words}\n".encode())
        assert (key.per_minute, key.at_once, key.models) == (per_minute, at_once, models)
        assert key.column == len(f" alice:{ALICE}") + bool(scope) + 1


SHAPE = "write NAME:KEY or NAME:KEY:MODEL,MODEL"
NAME = "before the first colon stands the name: 1 to 63 letters, digits, `.`, `_`, `@`, `-`"
KEY = "the key has to be 8 to 256 printable ASCII characters, no spaces or colons"
LIMITS = (
    "after a space stand limits, each once and from 1 to 60000: "
    "rpm=60 (requests a minute), parallel=4 (at once)"
)
SCOPE = "after the second colon stand models, separated by commas without spaces"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", f"secrets/keys holds no key: {SHAPE}, one a line"),
        ("# nothing\n\n", f"secrets/keys holds no key: {SHAPE}, one a line"),
        ("\nsecret-key\n", f"secrets/keys:2: {SHAPE}"),
        (":secret-key", f"secrets/keys:1: {NAME}"),
        ("-a:secret-key", f"secrets/keys:1: {NAME}"),
        ("a b:secret-key", f"secrets/keys:1: {NAME}"),
        ("ü:secret-key", f"secrets/keys:1: {NAME}"),
        ('a"b:secret-key', f"secrets/keys:1: {NAME}"),
        (f"{'a' * 64}:secret-key", f"secrets/keys:1: {NAME}"),
        ("a:", f"secrets/keys:1: {KEY}"),
        ("a:secret7", f"secrets/keys:1: {KEY}"),
        (f"a:{'s' * 257}", f"secrets/keys:1: {KEY}"),
        ("a:secret key", f"secrets/keys:1: {KEY}"),
        ("a: secret-key", f"secrets/keys:1: {KEY}"),
        ("a:secret-kéy", f"secrets/keys:1: {KEY}"),
        ("a:secret\x00key", f"secrets/keys:1: {KEY}"),
        ("a:secret-key:", f"secrets/keys:1: {SCOPE}"),
        ("a:secret-key:qwen,", f"secrets/keys:1: {SCOPE}"),
        ("a:secret-key:qwen, tiny", f"secrets/keys:1: {SCOPE}"),
        ("a:secret-key secret", f"secrets/keys:1: {LIMITS}"),
        ("a:secret-key # rpm=1", f"secrets/keys:1: {LIMITS}"),
        ("a:secret-key rpm", f"secrets/keys:1: {LIMITS}"),
        ("a:secret-key rpm=0", f"secrets/keys:1: {LIMITS}"),
        ("a:secret-key rpm=-1", f"secrets/keys:1: {LIMITS}"),
        ("a:secret-key rpm=60001", f"secrets/keys:1: {LIMITS}"),
        ("a:secret-key rpm=\u0661", f"secrets/keys:1: {LIMITS}"),
        ("a:secret-key rpm=1 rpm=1", f"secrets/keys:1: {LIMITS}"),
        ("a:secret-key:qwen parallel=4x", f"secrets/keys:1: {LIMITS}"),
        ("a:secret-key rpm=1:qwen", f"secrets/keys:1: {LIMITS}"),
        ("a:secret-key\na:secret-kez", "secrets/keys:2: the name is that of line 1 too"),
        ("a:secret-key\n#\nb:secret-key:q", "secrets/keys:3: the key is that of line 1 too"),
        ("secret\nb:x", f"secrets/keys:1: {SHAPE}; secrets/keys:2: {KEY}"),
    ],
)
def test_a_mistake_is_told_with_its_line_and_without_the_key(text: str, said: str) -> None:
    with pytest.raises(GatewayError) as caught:
        parse_keys("secrets/keys", text.encode())
    assert caught.value.message == said
    assert not caught.value.retryable


def test_what_is_no_text_is_told_with_its_line() -> None:
    with pytest.raises(GatewayError, match="k:2: this is not UTF-8 text"):
        parse_keys("k", b"a:secret-key\nb:\xff\xfe-secret-key\n")


def test_a_scope_names_models_or_aliases() -> None:
    text = b"all:secret-key-1\nsome:secret-key-2:tiny,chat,org/qwen:Q4\nnone:secret-key-3:gone"
    every, some, none = parse_keys("k", text)
    assert known_scope(every, MODELS) is None
    assert known_scope(some, MODELS) == ("qwen", "tiny")
    assert known_scope(none, MODELS) == ()


def test_a_model_that_is_not_there_is_a_warning_at_its_place() -> None:
    text = b"all:secret-key-1\n  some:secret-key-2:tiny,qwem,secret-key-4 \n"
    said = [str(one) for one in scope_warnings("k", parse_keys("k", text), MODELS)]
    assert said == [
        "k:2:26: a key is for a model that is not in the desired file; did you mean `qwen`?",
        "k:2:31: a key is for a model that is not in the desired file",
    ]


def test_what_may_be_a_key_can_be_hidden_even_where_the_file_is_wrong() -> None:
    text = b"# alice:alice-key-1\nprometheus:key-of-it rpm=5\n bob : bob-key-22:tiny\n\n"
    assert list(key_texts(text)) == ["key-of-it", "bob-key-22"]
    assert list(key_texts(b"swapped-key-1:me\nlonely-key-2\n\xff")) == [
        "swapped-key-1",
        "lonely-key-2",
    ]
