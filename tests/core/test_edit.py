"""`set`: one value changes, and every other character stays."""

from __future__ import annotations

import pytest

from reconciler.core.edit import Change, edited, parse_change
from reconciler.core.parse import SourceText
from reconciler.errors import UsageError

FILE = """\
# what runs here
version: 1
models:
  glm:  # the large one
    source: {repo: o/r}   # from the hub
    # the usual one
    quant: Q4_0
    params:   # sampling
      # calm
      temp: 1.0  # as its card says
      top_p: 0.95
    aliases:  # for clients
      - a   # old
      - b
    env:
    args: {n-gpu-layers: 99, flash-attn: on,}

  small: {source: {path: /x.gguf}, params: {temp: 1}}
  text:
    source: {path: /y.gguf}
    args:
      grammar: |
        root ::= "x"

      jinja: true
    env: {A: "1"}
  last: {source: {path: /z.gguf}, port: 80, args: {}}
# the end
"""


def changed(model: str, *words: str, text: str = FILE) -> str:
    source = SourceText("desired/x.yaml", text.encode())
    return edited(source, model, [parse_change(word) for word in words]).decode()


@pytest.mark.parametrize(
    ("model", "words", "before", "after"),
    [
        ("glm", "quant=Q8_0", "quant: Q4_0", "quant: Q8_0"),
        ("glm", "params.temp=0.50", "temp: 1.0  # as", "temp: 0.50  # as"),
        ("glm", "params.top_k=20", "0.95\n", "0.95\n      top_k: 20\n"),
        ("glm", "params.temp-", "      temp: 1.0  # as its card says\n", ""),
        ("glm", "aliases=[c, d]", ":  # for clients\n      - a   # old\n      - b\n",
         ": [c, d]  # for clients\n"),
        ("glm", "port=8001", "      - b\n", "      - b\n    port: 8001\n"),
        ("glm", "revision=x", "99, flash-attn: on,}\n", "99, flash-attn: on,}\n    revision: x\n"),
        ("glm", "source.revision=v1", "o/r}   #", "o/r, revision: v1}   #"),
        ("glm", "env.X=0,1", "    env:\n", '    env: {X: "0,1"}\n'),
        ("glm", "env={X: 1, Y: [a, b]}", "    env:\n", "    env: {X: 1, Y: [a, b]}\n"),
        ("glm", "args.lora=a: b", "on,}", 'on, lora: "a: b",}'),
        ("glm", "args.flash-attn=null", "99, flash-attn: on,}", "99,}"),
        ("glm", "args.n-gpu-layers-", "n-gpu-layers: 99, ", ""),
        ("glm", "quant=", "quant: Q4_0", 'quant: ""'),
        ("glm", "params-", """\
    params:   # sampling
      # calm
      temp: 1.0  # as its card says
      top_p: 0.95
""", ""),
        ("small", "params.temp-", ", params: {temp: 1}", ""),
        ("small", "state=present", "temp: 1}}", "temp: 1}, state: present}"),
        ("small", "protect=true", "temp: 1}}", "temp: 1}, protect: true}"),
        ("text", "args.grammar='x'", '|\n        root ::= "x"\n', "x\n"),
        ("text", "args.grammar-", '      grammar: |\n        root ::= "x"\n', ""),
        ("text", "env.A-", '    env: {A: "1"}\n', ""),
        ("text", "port=1", "y.gguf}\n", "y.gguf}\n    port: 1\n"),
        ("last", "args.x=true", "args: {}", "args: {x: true}"),
        ("last", "port-", "port: 80, ", ""),
        ("last", "source-", "source: {path: /z.gguf}, ", ""),
    ],
)  # fmt: skip
def test_only_that_value_changes(model: str, words: str, before: str, after: str) -> None:
    assert FILE.count(before) == 1
    assert changed(model, words) == FILE.replace(before, after)


def test_several_changes_and_other_line_ends() -> None:
    text = "version: 1\r\nmodels:\r\n  a:\r\n    quant: x\r\n    port: 1"
    made = changed("a", "quant=y", "state=present", "port-", text=text)
    assert made == "version: 1\r\nmodels:\r\n  a:\r\n    quant: y\r\n    state: present"
    assert changed("a", "quant-", text="models: {a: {quant: x}}") == "models: {a: {}}"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("grace-", "`grace` is not said there"),
        ("params.seed-", "`params.seed` is not said there"),
        ("probe.startup-", "`probe.startup` is not said there"),
        ("quant.x=1", "`quant.x` cannot be changed where it stands"),
    ],
)
def test_what_is_not_there_is_not_removed(words: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        changed("glm", words)


def test_what_others_share_is_not_changed_behind_their_back() -> None:
    text = "models:\n  a: {params: &p {temp: 1}}\n  b: {params: *p}\n"
    with pytest.raises(UsageError, match="cannot be changed") as told:
        changed("b", "params.temp=2", text=text)
    assert told.value.hint == "edit desired/x.yaml by hand"
    assert changed("b", "params={temp: 2}", text=text) == text.replace("*p", "{temp: 2}")
    with pytest.raises(UsageError, match="cannot be changed"):
        changed("a", "params={temp: 2}", text=text)


def test_a_model_that_says_nothing_was_refused_before() -> None:
    with pytest.raises(TypeError):
        changed("a", "quant=x", text="models: {a: }")


@pytest.mark.parametrize("words", ["quant", "=x", ".x=1", "a.=1", "-"])
def test_words_that_set_nothing(words: str) -> None:
    with pytest.raises(UsageError):
        parse_change(words)


def test_values_are_written_as_they_are_meant() -> None:
    texts = {
        "a=1e-1": "1e-1", "a='1'": '"1"', "a=on": "on", "a=false": "false", "a=a #b": "a",
        "a=[": '"["', "a={b: 'c'}": "{b: c}", "a=x\ny: 1": '"x\\ny: 1"', "a=- x": '"- x"',
    }  # fmt: skip
    assert {words: parse_change(words).text for words in texts} == texts
    words = ("env.T=x", "a.b=1", "a-", "source.url=https://h/x?k=y&s=z", "source={url: 'u://h?k'}")
    assert [parse_change(one).shown for one in words] == [
        "env.T=...",
        "a.b=1",
        "a-",
        'source.url="https://h/x?…"',
        'source={url: "u://h?…"}',
    ]
    assert parse_change("a=[1, b]") == Change(("a",), "[1, b]", (1, "b"))
