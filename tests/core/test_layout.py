"""`fmt`: what a file says, its comments and its order stay; done twice it changes nothing."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.core.layout import UnusualLayoutError, comments, formatted
from reconciler.core.validate import plain
from reconciler.core.yaml12 import read_yaml
from reconciler.errors import InvalidDesiredError

ROOT = Path(__file__).parent.parent.parent
OWN = sorted([*ROOT.glob("desired/*.yaml"), *ROOT.glob("examples/*/desired/*.yaml")])

UGLY = """\


version:   1···
# top
models:
    # about a
    a:   # trailing
        source:  { path : 'x.gguf' }···
        aliases:
        - one
        -   "two"   # why


        # deep end

        args: {a : [1,2 , 3],'b':"it's",
          c: 4 # in brackets
          # own line
        , d: }
        env:
            X: |   # head
                text
                  more

                end
            Y: 'a
              b

              c'
            Z: 'says "so"'
        # end of a
    b:
        source:
            path: z
        drain:
            5m
 # odd
    c: &c
      [
       1,
       ]
    d: *c
# last


""".replace("·", " ")

NEAT = """\
version: 1
# top
models:
  # about a
  a:   # trailing
    source: {path: "x.gguf"}
    aliases:
      - one
      - "two"   # why

    # deep end

    args: {a: [1, 2, 3], "b": "it's",
      c: 4 # in brackets
      # own line
      , d: }
    env:
      X: |   # head
          text
            more

          end
      Y: 'a
        b

        c'
      Z: 'says "so"'
    # end of a
  b:
    source:
      path: z
    drain:
      5m
# odd
  c: &c
    [
      1,
    ]
  d: *c
# last
"""  # what stays odd is what has a meaning: how far a text is from its key, where a line ends


def neat(text: str) -> str:
    return formatted("x.yaml", text.encode()).decode()


def test_an_ugly_file() -> None:
    assert neat(UGLY) == NEAT
    assert neat(NEAT) == NEAT
    assert neat(UGLY.replace("\n", "\r\n")) == NEAT
    assert formatted("x.yaml", b"\xef\xbb\xbfa: 1") == b"a: 1\n"


@pytest.mark.parametrize("path", OWN, ids=lambda path: path.stem)
def test_our_own_files_are_in_our_layout(path: Path) -> None:
    assert formatted(path.name, path.read_bytes()) == path.read_bytes()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", ""),
        ("# only this", "# only this\n"),
        ("---\na: 1\n", "---\na: 1\n"),
        ("%YAML 1.2\n---  \n   {a: 1}", "%YAML 1.2\n---\n{a: 1}\n"),
        ("a:   |\n\n   x\n \n", "a: |\n\n   x\n \n"),
        ("a: |\n  cut off", "a: |\n  cut off"),
        ("-   - a\n    - b\n-\n  c: 1\n", "- - a\n  - b\n-\n  c: 1\n"),
        ("a:\n  - |\n   x\n", "a:\n  - |\n   x\n"),
        ("a:\n- >-\n  x\n  y\n", "a:\n  - >-\n    x\n    y\n"),
        ("a:\n# below\n- 1\n", "a:\n  # below\n  - 1\n"),
        ("[a,\n    b]\n", "[a,\n  b]\n"),
        ("a: {}   \n\n\n\nb: [ ]\n", "a: {}\n\nb: []\n"),
        ("? a\n: 1\n", "? a\n: 1\n"),
        ("[&x a , !   b, {*x : 1,c : 2}]", "[&x a, ! b, {*x : 1, c: 2}]\n"),
    ],
)
def test_layouts(before: str, after: str) -> None:
    assert neat(before) == after
    assert neat(after) == after


def test_what_is_not_understood_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidDesiredError, match="duplicate key"):
        neat("a: 1\na: 2\n")
    monkeypatch.setattr("reconciler.core.layout._written", lambda _: "a: [")
    with pytest.raises(UnusualLayoutError):
        neat("a: 1\n")


scalars = st.sampled_from(
    ["x", "1.0", "on", '"a b"', "'c'", "'it''s'", "*", "# no", "a: b", "", "|", "ä ö", '"x\\ny"']
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
    ),
    max_leaves=8,
)


class Messy:
    """Writes values as YAML with whatever space YAML allows."""

    def __init__(self, dice: random.Random) -> None:
        self.dice = dice

    def scalar(self, text: str, *, flow: bool) -> str:
        if text in {"*", "# no", "a: b"} or (flow and text in {"", "|"}):
            return f"'{text}'"
        return text

    def flow(self, value: object) -> str:
        gap = self.dice.choice(["", " ", "  "])
        if isinstance(value, dict):
            inner = f",{gap}".join(f"{key}: {gap}{self.flow(one)}" for key, one in value.items())
            return f"{{{gap}{inner}{gap}}}"
        if isinstance(value, list):
            return f"[{gap}{f'{gap}, '.join(map(self.flow, value))}{gap}]"
        return self.scalar(str(value), flow=True)

    def rest(self) -> str:
        return self.dice.choice(["", "", "   ", " # why", "   #why  "])

    def between(self, indent: int) -> list[str]:
        column = self.dice.randint(0, indent + 3)
        return self.dice.choice([[], [], [], ["", "", ""], [" " * column + "# note"]])

    def block(self, value: object, indent: int) -> list[str]:
        assert isinstance(value, dict | list)
        lines: list[str] = []
        entries = value.items() if isinstance(value, dict) else [(None, one) for one in value]
        for key, one in entries:
            lead = " " * indent + (f"{key}:" if key else "-")
            lines += self.between(indent)
            step = self.dice.randint(1, 4)
            if isinstance(one, dict | list) and one and self.dice.random() < 0.7:
                flat = isinstance(one, list) and key is not None and self.dice.random() < 0.3
                lines.append(lead + self.rest())
                lines += self.block(one, indent + (0 if flat else step))
            elif isinstance(one, str) and one == "|":
                lines.append(f"{lead}  {self.dice.choice('|>')}{self.dice.choice(['', '-'])}")
                lines += [" " * (indent + step) + "text", "", " " * (indent + step + 1) + "more"]
            else:
                text = self.scalar(one, flow=False) if isinstance(one, str) else self.flow(one)
                lines.append(f"{lead} {' ' * self.dice.randint(0, 3)}{text}{self.rest()}")
        return lines


@settings(max_examples=80)
@given(st.dictionaries(st.sampled_from("abcd"), values, min_size=1, max_size=4), st.randoms())
def test_formatting_changes_nothing_that_is_said(value: object, dice: random.Random) -> None:
    text = "\n".join(Messy(dice).block(value, dice.choice([0, 0, 2]))) + dice.choice(["", "\n"])
    before = read_yaml("x", text.encode())
    assert before.root
    made = neat(text)
    after = read_yaml("x", made.encode())
    assert after.root
    assert plain(after.root) == plain(before.root)
    assert sorted(comments(made)) == sorted(comments(text))
    assert neat(made) == made
    assert not any(line != line.rstrip() for line in made.splitlines())
