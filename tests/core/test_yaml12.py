"""YAML 1.2's scalars, places, limits; every case with libyaml and with PyYAML's own parser."""

from __future__ import annotations

import math

import pytest
import yaml

from reconciler.core import yaml12
from reconciler.core.validate import plain
from reconciler.core.yaml12 import Document, Entry, MapNode, ScalarNode, describe, read_yaml
from reconciler.errors import Position


@pytest.fixture(params=["CSafeLoader", "SafeLoader"])
def loader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(yaml12, "_LOADER", getattr(yaml, request.param))
    return str(request.param)


def read(text: str) -> Document:
    return read_yaml("f", text.encode())


def value(text: str) -> object:
    document = read(text)
    assert not document.problems
    assert document.root is not None
    return plain(document.root)


def problems(text: str) -> list[str]:
    return [str(problem) for problem in read(text).problems]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        *[(word, True) for word in ("true", "True", "TRUE")],
        *[(word, False) for word in ("false", "False", "FALSE")],
        *[(word, None) for word in ("null", "Null", "NULL", "~", "")],
        *[(word, word) for word in ("on", "off", "yes", "no", "y", "tRUE", "nUll", "=", "<<")],
        ("0", 0),
        ("-0", 0),
        ("+12", 12),
        ("0123", 123),
        ("089", 89),
        ("0o17", 15),
        ("0x1F", 31),
        ("0b11", "0b11"),
        ("-0x1F", "-0x1F"),
        ("1_000", "1_000"),
        ("12:30", "12:30"),
        ("2026-01-01", "2026-01-01"),
        ("1.0", 1.0),
        ("1.", 1.0),
        ("-.5", -0.5),
        ("1e-1", 0.1),
        ("1E3", 1000.0),
        ("1e999", math.inf),
        (".inf", math.inf),
        ("+.Inf", math.inf),
        ("-.INF", -math.inf),
        (".", "."),
        ("-", None),
        ("1.2.3", "1.2.3"),
        ("-x", "-x"),
        ('"true"', "true"),
        ("'1'", "1"),
        ('""', ""),
        ("!!str 1.0", "1.0"),
        ("! 12", "12"),
        ("|\n  1\n", "1\n"),
        ('"\\u2028"', "\u2028"),
        ("9" * 300, int("9" * 300)),
        ("9" * 301, 10**300),
        ("-" + "9" * 400, -(10**300)),
        ("0x" + "f" * 400, 10**300),
    ],
)
def test_scalars(loader: str, written: str, meant: object) -> None:
    if written == "-":
        assert value("- ") == (None,)
        return
    found = value(f"a: {written}")
    assert found == {"a": meant}
    assert isinstance(found, dict)
    assert type(found["a"]) is type(meant)


def test_nan(loader: str) -> None:
    found = value("[.nan, .NaN, .NAN]")
    assert isinstance(found, tuple)
    assert all(math.isnan(item) for item in found)


@pytest.mark.parametrize(
    ("node", "words"),
    [
        ("{}", "a mapping"),
        ("[]", "a list"),
        ("", "nothing"),
        ("~", "nothing"),
        ("TRUE", "TRUE"),
        ("0x1F", "the number 0x1F"),
        ("1e-1", "the number 1e-1"),
        ("on", 'the text "on"'),
        ('"a\\e[31m\\n"', 'the text "a\\x1b[31m\\n"'),
        ("x" * 99, f'the text "{"x" * 39}…"'),
    ],
)
def test_describe(node: str, words: str) -> None:
    document = read(f"a: {node}")
    assert isinstance(document.root, MapNode)
    assert describe(document.root.items["a"].value) == words


def test_every_part_knows_its_place(loader: str) -> None:
    document = read('a:\n  b: [1, "x"]\n  ü: *b\n'.replace("*b", "{c: d}"))
    assert isinstance(document.root, MapNode)
    entry = document.root.items["a"]
    assert str(entry.key.position) == "f:1:1"
    assert isinstance(entry.value, MapNode)
    assert str(entry.value.position) == "f:2:3"
    assert str(entry.position) == "f:1:1"
    listed = entry.value.items["b"].value
    assert isinstance(listed, yaml12.ListNode)
    assert [str(item.position) for item in listed.items] == ["f:2:7", "f:2:10"]
    inner = entry.value.items["ü"].value
    assert isinstance(inner, MapNode)
    assert str(inner.items["c"].position) == "f:3:10"


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_line_ends_and_a_byte_order_mark_move_nothing(loader: str, line_end: str) -> None:
    document = read_yaml("f", b"\xef\xbb\xbf" + f"a: 1{line_end}b: 2{line_end}".encode())
    assert isinstance(document.root, MapNode)
    assert str(document.root.items["b"].key.position) == "f:2:1"
    assert str(document.root.position) == "f:1:1"
    assert read_yaml("f", f"a: 1{line_end}  \x01".encode()).problems[0].position == Position(
        "f", 2, 3
    )


def test_anchors(loader: str) -> None:
    text = "a: &x {p: 1}\nb: *x\nc: &y z\n*y : [*y, &l [1], *l]\n"
    assert value(text) == {"a": {"p": 1}, "b": {"p": 1}, "c": "z", "z": ("z", (1,), (1,))}
    document = read(text)
    assert isinstance(document.root, MapNode)
    reused = document.root.items["b"].value
    assert str(reused.position) == "f:2:4"
    assert isinstance(reused, MapNode)
    assert str(reused.items["p"].position) == "f:1:11"


def test_an_anchor_can_be_given_again(loader: str) -> None:
    assert value("[&a 1, *a, &a 2, *a]") == (1, 1, 2, 2)


def test_many_aliases_are_fine(loader: str) -> None:
    assert value(f"[&a [1, 2, 3], {', '.join(['*a'] * 1000)}]") == ((1, 2, 3),) * 1001


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [" + "1," * 400 + "]\nb: &b [" + "*a," * 300 + "]\n",
        f"a: &a {'x' * 100_000}\nb: [" + "*a," * 101 + "]\n",
    ],
)
def test_what_explodes_is_refused(loader: str, text: str) -> None:
    (found,) = problems(text)
    assert "aliases blow this file up beyond 100,000 values" in found
    assert read(text).root is None


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, "- " * 100_000, "{a: " * 33 + "}" * 33, "? " * 500 + "a"],
)
def test_depth_is_limited(loader: str, text: str) -> None:
    if loader == "SafeLoader":
        text = text[:1000]
    (found,) = problems(text)
    assert "nested deeper than 32 levels" in found


def test_depth_to_the_limit(loader: str) -> None:
    assert problems("[" * 32 + "]" * 32) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: &a [*a]", "f:1:8: `*a` stands inside its own anchor"),
        ("a: *b", "f:1:4: no anchor `&b` stands above"),
        ("&a {*a : 1}", "f:1:5: `*a` stands inside its own anchor"),
        ("a: 1\n---\nb: 1", "f:2:1: a second document starts here; a file holds one"),
        ("a: 1\na: 2", "f:2:1: duplicate key `a`; first on line 1"),
        ('a: 1\n"a": 2', "f:2:1: duplicate key `a`; first on line 1"),
        ("1: a", "f:1:1: a key must be text, found the number 1\n  put it in quotes"),
        ("?\n: a", "f:1:2: a key must be text, found nothing"),
        ("? {a: b}\n: c", "f:1:3: a key must be text, found a mapping"),
        ("a:\n\tb: 1", "f:2:1: a tab cannot indent\n  use spaces"),
        ("a: `x`", "f:1:4: a text cannot start with `\n  put it in quotes"),
        ("a: !x 1", "f:1:4: the tag `!x` is not allowed\n  write the value plainly"),
        ("a: !!set {b}", "f:1:4: the tag `!!set` is not allowed\n  write the value plainly"),
        ("a: !!omap []", "f:1:4: the tag `!!omap` is not allowed\n  write the value plainly"),
    ],
)
def test_refused(loader: str, text: str, expected: str) -> None:
    assert problems(text) == [expected]


def test_merge_keys_are_refused_unless_quoted(loader: str) -> None:
    document = read("a: &a {b: 1}\nc: {<<: *a}\n")
    (found,) = document.problems
    assert str(found).startswith("f:2:5: merge keys (`<<`) are not part of YAML 1.2")
    assert isinstance(document.root, MapNode)
    merged = document.root.items["c"].value
    assert isinstance(merged, MapNode)
    assert not merged.whole
    assert value('"<<": 1') == {"<<": 1}


def test_several_mistakes_in_one_reading(loader: str) -> None:
    found = problems("a: 1\na: 2\n3: !x 4\nb: [\n")
    assert len(found) == 4
    assert found[:3] == [
        "f:2:1: duplicate key `a`; first on line 1",
        "f:3:4: the tag `!x` is not allowed\n  write the value plainly",
        "f:3:1: a key must be text, found the number 3\n  put it in quotes",
    ]
    assert found[3].startswith("f:5:1: YAML syntax: ")


def test_what_only_the_slow_parser_lets_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yaml12, "_LOADER", yaml.SafeLoader)
    assert problems('a: "\\ud800"') == ["f:1:4: half of a surrogate pair is not a character"]
    (found,) = problems('a: "\\UFFFFFFFF"')
    assert found.startswith("f:1:1: YAML syntax: ")


@pytest.mark.parametrize("text", ["", "# only this\n", "---\n...\n"])
def test_nothing_is_no_problem_here(loader: str, text: str) -> None:
    document = read(text)
    assert not document.problems
    assert document.root is None or plain(document.root) is None


def test_a_scalar_is_where_it_stands_and_a_mapping_at_its_key() -> None:
    key, scalar = ScalarNode("f", 1, 1, "k", plain=True), ScalarNode("f", 1, 4, "v", plain=True)
    assert Entry(key, scalar).position == scalar.position
    assert Entry(key, MapNode("f", 2, 3)).position == key.position
