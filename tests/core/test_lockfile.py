"""The lock file: pins become a text and come back; what is wrong in it is told at its place."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import pytest
from builders import desired
from gguf import LlamaFileType
from hypothesis import given
from hypothesis import strategies as st

from reconciler.core.gguf import FILE_TYPES, Facts
from reconciler.core.lock_reader import read_lock
from reconciler.core.lockfile import FileRole, Lock, LockedFile, Pin, render_lock
from reconciler.core.words import ModelName
from reconciler.errors import InvalidDesiredError

COMMIT, SHA = "0123456789abcdef" * 2 + "01234567", "ab" * 32
FACTS = Facts("llama", 32, 16, 4, 8192, 7_000_000_000, "Q4_K_M")
WEIGHTS = LockedFile("UD-Q4/x-00001-of-00001.gguf", 123, SHA)
PROJECTOR = LockedFile("mmproj-F16.gguf", 5, git_sha1=COMMIT, role=FileRole.MMPROJ)
PIN = Pin("org/x", "main", "UD-Q4", COMMIT, (WEIGHTS, PROJECTOR), True, "Q8_0", FACTS)
TEXT = f"""\
# What each model of the hub stands for: commit, files, sizes, hashes. Commit this file.
# Written by llm-reconcile; `llm-reconcile update` moves its pins, nothing else does.
version: 1
models:
  x:
    repo: org/x
    revision: main
    quant: UD-Q4
    mmproj: true
    draft: Q8_0
    commit: {COMMIT}
    files:
      - name: UD-Q4/x-00001-of-00001.gguf
        size: 123
        sha256: {SHA}
      - name: mmproj-F16.gguf
        role: mmproj
        size: 5
        git_sha1: {COMMIT}
    header:
      architecture: llama
      layers: 32
      heads: 16
      kv_heads: 4
      context_length: 8192
      parameters: 7000000000
      file_type: Q4_K_M
"""


def read(text: str) -> Lock:
    return read_lock("x.lock.yaml", text.encode())


def test_the_text_is_made_for_git_and_comes_back() -> None:
    lock = {ModelName("x"): PIN}
    assert render_lock(lock) == TEXT
    assert read(TEXT) == lock
    assert render_lock({}).endswith("version: 1\nmodels: {}\n")
    assert read(render_lock({})) == {}


def test_the_order_of_pins_is_their_names() -> None:
    names = [ModelName(name) for name in ("b", "a", "C")]
    texts = {render_lock(dict.fromkeys(order, PIN)) for order in (names, names[::-1])}
    assert len(texts) == 1


def text_of(alphabet: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.text(alphabet, min_size=1, max_size=20).filter(
        lambda text: not text.startswith("/") and ".." not in text
    )


WILD = text_of(st.characters(codec="utf-8", exclude_characters="\ufeff"))
HEX = st.sampled_from("0123456789abcdefe")
NUMBERS = st.none() | st.integers(0, 2**40)
FILES = st.builds(
    LockedFile,
    name=WILD,
    size=st.integers(0, 2**50),
    sha256=st.text(HEX, min_size=64, max_size=64),
    role=st.just(FileRole.WEIGHTS),
) | st.builds(
    LockedFile,
    name=WILD,
    size=st.integers(0, 9),
    git_sha1=st.text(HEX, min_size=40, max_size=40),
    role=st.just(FileRole.DRAFT),
)
PINS = st.builds(
    Pin,
    repo=WILD,
    revision=WILD,
    quant=WILD,
    commit=st.text(HEX, min_size=40, max_size=40),
    files=st.lists(FILES, max_size=3).map(lambda files: (WEIGHTS, *files)),
    mmproj=st.booleans() | WILD,
    draft=st.just("") | WILD,
    facts=st.none()
    | st.builds(
        Facts, st.just("") | WILD, NUMBERS, NUMBERS, NUMBERS, NUMBERS, NUMBERS, st.just("") | WILD
    ),
)
NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True)


@given(lock=st.dictionaries(NAMES.map(ModelName), PINS, max_size=3))
def test_whatever_is_pinned_comes_back(lock: Lock) -> None:
    assert read(render_lock(lock)) == lock


@given(text=st.text(max_size=60), at=st.integers(0, len(TEXT)))
def test_no_text_raises_anything_else(text: str, at: int) -> None:
    for one in (text, TEXT[:at] + text, TEXT[:at] + text + TEXT[at:]):
        with contextlib.suppress(InvalidDesiredError):
            read_lock("x.lock.yaml", one.encode("utf-8", "replace"))


BAD = {
    "": "x.lock.yaml:1:1: expected a lock file with `version` and `models`, found nothing",
    "[]": "x.lock.yaml:1:1: expected a lock file with `version` and `models`, found a list",
    "models: {}": "x.lock.yaml:1:1: the required key `version` is missing",
    "version: 2\nmodels: {}": "x.lock.yaml:1:10: `version`: only 1 is known here, found the number",
    "version: true\nmodels: {}": "x.lock.yaml:1:10: `version`: only 1 is known here, found true",
    "version: {}\nmodels: {}": "x.lock.yaml:1:1",
    "version: 1": "x.lock.yaml:1:1: the required key `models` is missing",
    "version: 1\nmodels: []": "x.lock.yaml:2:9: expected a mapping, found a list",
    "version: 1\nmodel: {}\nmodels: {}": "x.lock.yaml:2:1: unknown key `model`; did you mean `mod",
    "version: 1\nmodels: {/: {}}": "x.lock.yaml:2:10: `/` is not a model's name",
    "version: 1\nmodels: {a: 1}": "x.lock.yaml:2:13: expected a mapping, found the number 1",
    "version: 1\nmodels: {a: {}}": "`a`: its `files` name no weights",
    TEXT.replace("    repo: org/x\n", ""): ":6:5: `x`: the required key `repo` is missing",
    TEXT.replace("org/x", "[]"): ":6:11: `repo`: expected text, found a list",
    TEXT.replace("org/x", "~"): ":6:11: `repo`: expected text, found nothing",
    TEXT.replace("    repo:", "    repos:"): ":6:5: unknown key `repos`; did you mean `repo`?",
    TEXT.replace(f"commit: {COMMIT}", "commit: main"): ":11:13: `commit`: expected 40 hex digits",
    TEXT.replace(SHA, "ab"): ":15:17: `sha256`: expected 64 hex digits",
    TEXT.replace("UD-Q4/x-", "../x-"): ":13:15: `../x-00001-of-00001.gguf` leads out of the rep",
    TEXT.replace("UD-Q4/x-", "/x-"): ":13:15: `/x-00001-of-00001.gguf` leads out of the reposit",
    TEXT.replace("size: 123", "size: -1"): ":14:15: expected a whole number, found the number -1",
    TEXT.replace("size: 123", "size: true"): ":14:15: expected a whole number, found true",
    TEXT.replace("size: 123", "size: {}"): ":14:15: expected a whole number, found a mapping",
    TEXT.replace("        size: 123\n", ""): ":13:9: the required key `size` is missing",
    TEXT.replace("role: mmproj", "role: eyes"): ":17:15: `role`: expected one of weights, mmproj,",
    TEXT.replace("size: 5", f"size: 5\n        sha256: {SHA}"): ":16:9: a file has one of `sha256`",
    TEXT.replace("layers: 32", "layer: 32"): ":22:7: unknown key `layer`; did you mean `layers`?",
    TEXT.replace("layers: 32", "layers: many"): ":22:15: expected a whole number, found the text",
    f"{TEXT[: TEXT.index('    files:')]}    files: 1\n": ":12:12: expected a list, found the numb",
    f"{TEXT[: TEXT.index('      - name')]}      - 1\n": ":13:9: expected a mapping, found the num",
    TEXT.replace("    header:\n", "    header: 1\n    headers:\n"): ":20:13: expected a mapping",
    "a: [": "YAML syntax",
}


@pytest.mark.parametrize("text", BAD, ids=range(len(BAD)))
def test_a_mistake_is_told_at_its_place(text: str) -> None:
    with pytest.raises(InvalidDesiredError) as caught:
        read(text)
    assert BAD[text] in str(caught.value)
    assert all(one.hint for one in caught.value.diagnostics if "YAML syntax" not in one.summary)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_an_unresolved_merge_is_told_as_such(end: str) -> None:
    sides = ["<<<<<<< HEAD", "    quant: UD-Q4", "=======", "    quant: Q8_0", ">>>>>>> theirs"]
    text = TEXT.replace("    quant: UD-Q4", "\n".join(sides)).replace("\n", end)
    with pytest.raises(InvalidDesiredError) as caught:
        read(text)
    assert str(caught.value) == (
        "x.lock.yaml:8:1: a conflict of a merge stands here unresolved\n"
        "  take the text of one side whole; the next `plan` shows what it lacks"
    )


def test_what_a_pin_covers() -> None:
    source = {"repo": "org/x", "revision": "main"}
    state = desired(
        {
            "same": {"source": source, "quant": "UD-Q4"},
            "other": {"source": source, "quant": "Q8_0"},
            "moved": {"source": {**source, "revision": "v2"}, "quant": "UD-Q4"},
        }
    )
    pin = Pin("org/x", "main", "UD-Q4", COMMIT, (WEIGHTS,))
    assert [pin.covers(one) for one in state.models.values()] == [True, False, False]
    more = desired(
        {
            "sees": {"source": {**source, "mmproj": True}, "quant": "UD-Q4"},
            "guesses": {"source": {**source, "draft": "Q8"}, "quant": "UD-Q4"},
        }
    )
    assert [pin.covers(one) for one in more.models.values()] == [False, False]
    both = [replace(pin, mmproj=True), replace(pin, draft="Q8")]
    assert [pin.covers(one) for pin, one in zip(both, more.models.values(), strict=True)] == [
        True,
        True,
    ]
    assert [pin.holds_commit(one) for one in state.models.values()] == [True, True, False]
    assert PIN.size == 128
    assert [file.digest for file in PIN.files] == [SHA, COMMIT]


def test_the_names_of_file_types_are_llama_cpps() -> None:
    theirs = {
        one.value: one.name.removeprefix("MOSTLY_").removeprefix("ALL_") for one in LlamaFileType
    }
    ours = {number: name for number, name in FILE_TYPES.items() if name != "-"}
    assert ours == {number: name for number, name in theirs.items() if name != "GUESSED"}
