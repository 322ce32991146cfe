"""What `import` makes of other programs' configurations: valid, tidy, and honest about the rest."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from import_cases import CASES, expected, read

from reconciler.core.importing.carried import Carried, Imported, Remark
from reconciler.core.importing.environment import take_variables
from reconciler.core.importing.flags import Given, flags_of, take_flags
from reconciler.core.importing.recognise import SourceKind, recognise
from reconciler.core.importing.settle import settled
from reconciler.core.parse import ParsedDesired, SourceText, parse_desired
from reconciler.core.yaml_text import Raw
from reconciler.errors import InvalidDesiredError, UsageError


def parsed(text: str) -> ParsedDesired:
    return parse_desired([SourceText("made.yaml", text.encode())])


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.name)
def test_documented_configurations(case: Path) -> None:
    """As the documents of those programs show them; the files beside say what is made of them."""
    text = settled(read(case.name, case.read_bytes()))
    assert text == expected(case).read_text(encoding="utf-8")
    assert parsed(text).warnings == ()
    assert "hunter" not in text
    assert max(len(line) for line in text.splitlines()) <= 100


def test_every_remark_names_its_line() -> None:
    for case in CASES:
        imported = read(case.name, case.read_bytes())
        settled(imported)
        lines = case.read_text(encoding="utf-8").splitlines()
        assert imported.all_remarks()
        for one in imported.all_remarks():
            name, line, _ = one.where.split(":")
            assert (name, lines[int(line) - 1] != "") == (case.name, True), one


def one_model(*words: str) -> tuple[str, Carried]:
    """A server's command line as a desired file."""
    imported = Imported("a test", "test")
    model = imported.add("m", "test:1:1")
    take_flags([*flags_of(words, "test:1:1")], model)
    return settled(imported), model


def test_flags_go_to_their_fields() -> None:
    text, model = one_model(
        *("-hf", "org/name:Q8_0", "--no-mmproj", "-a", "m,other", "--port", "81", "-c", "4096"),
        *("-ngl", "99", "-fa", "--no-mmap", "--no-host", "--metrics", "--lora", "a", "--lora", "b"),
    )
    made = parsed(text).desired.models["m"]
    assert (made.source.repo, made.quant, made.port) == ("org/name", "Q8_0", 81)
    assert (made.aliases, made.params) == (("other",), {"ctx_size": "4096"})
    flags = {"n-gpu-layers": "99", "flash-attn": "on", "mmap": False, "no-host": True}
    assert made.args == {**flags, "lora": ("a", "b")}
    assert model.remarks == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--api-key", "hunter2"), "`api-key` is a secret"),
        (("--ctx-size", "5", "--api-key=hunter2"), "`api-key` is a secret"),
        (("--hf-token", "hunter2"), "`hf-token` is a secret"),
        (("--api-key-file", "keys"), "`api-key-file` is not carried over"),
        (("--ssl-key-file", "k.pem"), "`args.ssl-key-file` is not carried over"),
        (("-mu", "https://host/x.gguf"), "does not tell which bytes are right"),
        (("-hfd", "org/draft"), "the draft model `org/draft` is not carried over"),
        (("--models-max", "2"), "one server serves one model"),
        (("--host", "192.168.1.5"), "was open to other machines"),
        (("-hff", "some-file"), "tells no quant by its name"),
    ],
)
def test_what_has_no_place_here_is_said(words: tuple[str, ...], said: str) -> None:
    text, model = one_model("stray", "-m", "/x.gguf", *words)
    assert [one.said for one in model.remarks if said in one.said]
    assert "a word belongs to no flag" in text
    assert "hunter" not in text


def test_variables_that_are_or_hold_a_secret_are_left_out() -> None:
    imported = Imported("a test", "test")
    model = imported.add("m", "here")
    pairs = {"MY_TOKEN": "hunter2", "HTTPS_PROXY": "http://ann:hunter2@proxy:1", "PLAIN": "x"}
    take_variables(model, [(name, value, "here") for name, value in pairs.items()])
    assert [one.said.split("`")[1] for one in model.remarks] == ["MY_TOKEN", "HTTPS_PROXY"]
    assert model.part("env") == {"PLAIN": Raw("x")}


def test_quiet_hosts_ports_and_files() -> None:
    text, _ = one_model("-m", "/x.gguf", "-hf", "o/r", "-hff", "r-Q5_K_M.gguf", "--host", "::1")
    made = parsed(text).desired.models["m"]
    assert (made.source.path, made.source.repo, made.quant) == (None, "o/r", "Q5_K_M")
    text, _ = one_model("-m", "/x.gguf", "--host", "/run/x.sock", "--port", "0", "--port", "x")
    assert parsed(text).desired.models["m"].port is None


def test_what_is_wrong_is_taken_out_and_the_rest_stays() -> None:
    imported = Imported("a test", "test")
    for number, name in enumerate(("status", "a" * 70, "ä ö", "x/y-GGUF:Q4_0", "y-Q4_0"), 1):
        model = imported.add(name, f"test:{number}:1")
        model.put(("source", "path"), f"/models/{number}.gguf", f"test:{number}:1")
        model.put(("grace",), "soon", f"test:{number}:1")
        model.put(("env", "BAD NAME"), "x", f"test:{number}:1")
    imported.defaults.put(("args", "host"), "x", "test:9:1")
    made = parsed(settled(imported)).desired.models
    assert sorted(made) == sorted(["status-2", "a" * 63, "model", "y-Q4_0", "y-Q4_0-2"])
    assert made["y-Q4_0"].aliases == ("x/y-GGUF:Q4_0",)
    assert made["y-Q4_0"].grace == 30.0
    said = "\n".join(one.said for one in imported.all_remarks())
    assert "`env` is not carried over" not in said
    assert "`env.BAD NAME` is not carried over" in said
    assert "`grace` is not carried over" in said
    assert "test:9:1" in {one.where for one in imported.defaults.remarks}


def test_a_model_is_left_out_once_and_long_lists_take_lines() -> None:
    imported = Imported("a test", "test")
    bad = imported.add("bad", "test:1:1")
    bad.put(("source", "repo"), "nothing", "test:1:1")
    bad.put(("quant",), "a b", "test:2:1")
    good = imported.add("good", "test:3:1")
    good.put(("source", "path"), "/x", "test:3:1")
    good.put(("args", "lora"), [Raw("x"), "a\0b"], "test:4:1")
    for number in range(30):
        good.add_alias(f"name-{number}", "test:5:1")
    text = settled(imported)
    assert list(parsed(text).desired.models) == ["good"]
    assert "    aliases:\n      - name-0\n" in text
    assert [one.where for one in imported.left] == ["test:2:1"]
    assert [one.said for one in good.remarks] == [
        "`args.lora` is not carried over: `lora` must not hold a NUL character"
    ]


def test_nothing_is_left_of_defaults_that_are_no_good() -> None:
    imported = Imported("a test", "test")
    imported.defaults.put(("quant",), "a b", "test:1:1")
    assert parsed(settled(imported)).desired.models == {}


def test_what_cannot_be_a_file_of_theirs_is_an_error() -> None:
    for name, text, message in (
        ("a.json", '{"models": ', "YAML syntax"),
        ("a.ini", "[a]\nthis is no line", "expected `[name]`"),
    ):
        with pytest.raises(InvalidDesiredError, match=rf"{name}:.*{message[:6]}"):
            read(name, text.encode())
    with pytest.raises(UsageError, match="holds no mapping"):
        read("a.json", b'["a"]')
    imported = read("a.json", b'{"a": {"path": "/x", "path": "/y"}}')
    assert [one.said for one in imported.remarks] == ["duplicate key `path`; first on line 1"]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("NAME    ID    SIZE    MODIFIED\nllama3.2:latest a80c 2.0 GB now\n", SourceKind.OLLAMA),
        ("; presets\n\n[*]\n", SourceKind.PRESET),
        ("version = 1\n", SourceKind.PRESET),
        ('\n{"models": {}}', SourceKind.MODELS_JSON),
        ("# swap\nmodels:\n  a:\n    cmd: x\n", SourceKind.LLAMA_SWAP),
    ],
)
def test_kinds_are_recognised(text: str, kind: SourceKind) -> None:
    assert recognise(SourceText("some.txt", text.encode())) is kind


def test_what_cannot_be_told_is_asked_for() -> None:
    with pytest.raises(UsageError, match="a desired file already"):
        recognise(SourceText("prod.yaml", b"version: 1\nmodels: {}\n"))
    with pytest.raises(UsageError, match="cannot be told") as told:
        recognise(SourceText("x", b""))
    assert told.value.hint.endswith("models-json, llama-swap, preset, ollama")


def test_a_number_without_end_is_no_port() -> None:
    imported = read("models.json", b'{"a": {"path": "/x", "port": 1e400, "quants": {"q": 1e400}}}')
    assert parsed(settled(imported)).desired.models["a"].port is None
    assert [one.said for one in imported.all_remarks()] == ["`port` is no port"]


def test_a_preset_of_one_model() -> None:
    imported = read("one.ini", b"[a]\nm = /x.gguf\n")
    assert parsed(settled(imported)).desired.models["a"].source.path == "/x.gguf"
    assert imported.all_remarks() == []


def test_a_registry_without_a_frame() -> None:
    """Names at the top; parameters as words; what cannot be read is said."""
    registry = {
        "a": {"path": "/a.gguf", "args": ["-c", 512], "env": "X=1", "params": "-c '"},
        "e": {"path": "/e.gguf", "params": {"lora": ["a", "b"], "temp": None}, "alias": None},
        "b": {"repo": "o/r", "file": "/never.gguf", "quants": {"Q4_0": {"files": 1}}, "port": 80},
        "c": {"repo": "o/r", "quants": {"Q4_0": 4_000_000_000, "Q8_0": None}, "quant": "Q8_0"},
        "d": {"repo": "o/r", "quants": 4},
    }
    imported = read("models.json", json.dumps(registry).encode())
    made = parsed(settled(imported)).desired.models
    assert made["a"].params == {"ctx_size": "512"}
    assert (made["b"].quant, made["b"].quants, made["b"].port) == ("Q4_0", {}, 80)
    assert (made["c"].quant, made["c"].quants) == ("Q8_0", {"Q4_0": 4_000_000_000})
    assert "d" not in made
    assert (made["e"].args, made["e"].params, made["e"].aliases) == ({"lora": ("a", "b")}, {}, ())
    said = [one.said for one in imported.all_remarks()]
    assert "`params` cannot be read: No closing quotation" in said


names = st.text("ab-._/: \n\"'#{é\x07", max_size=8)
values = st.one_of(names, st.booleans(), st.lists(names, min_size=1, max_size=3).map(tuple))
flags = st.sampled_from(
    ["c", "temp", "host", "no-mmap", "model", "hf", "port", "alias", "api-key", "x-", "lora", "hff"]
)


@settings(max_examples=25)
@given(
    st.lists(st.tuples(names, st.lists(st.tuples(flags | names, values), max_size=4)), max_size=3)
)
def test_whatever_comes_in_a_valid_file_comes_out(
    models: list[tuple[str, list[tuple[str, bool | str | tuple[str, ...]]]]],
) -> None:
    imported = Imported("a test", "test")
    for name, given_flags in models:
        model = imported.add(name, "test:1:1")
        model.about = name
        model.put(("source", "path"), "/x.gguf", "test:1:1")
        take_flags([Given(flag, value, "test:2:1") for flag, value in given_flags], model)
    made = parsed(settled(imported)).desired
    assert len(made.models) == len(imported.models)
    assert all(isinstance(one, Remark) for one in imported.all_remarks())
