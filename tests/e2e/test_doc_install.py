"""The README is typed: what installs, and what the file that it shows says at its top.

In: README.md; a checkout, a `pipx` (`installing`), a hub that nobody can reach. Out: how each
command of the program that was installed ended.
"""

from __future__ import annotations

import re
from pathlib import Path

from doc_pages import ROOT, Command, File, commands
from test_doc_commands import ONLY_PARSED

from e2e.doc_reader import Reader, Turn
from e2e.installing import CHECKOUT, prepare

README = ROOT / "README.md"
FILE = ROOT / "desired" / "prod.yaml"
NOTED = re.compile(r"^#   (llm-reconcile \w+ \S+)", re.MULTILINE)
TURNS = {"llm-reconcile apply desired/prod.yaml": Turn(code=3)}
"""Its models are blocked: nothing can be fetched."""


def test_the_readme_is_typed(short_folder: Path) -> None:
    typed = [one for one in commands(README) if one.text not in ONLY_PARSED]
    assert [one.text.split()[:2] for one in typed] == [["pipx", "install"]] * 2
    noted = NOTED.findall(README.read_text(encoding="utf-8"))
    assert [line.split()[1] for line in noted] == ["validate", "plan", "apply"]
    reader = Reader(short_folder, "http://127.0.0.1:9", variables=prepare(short_folder))
    reader.places[CHECKOUT] = str(short_folder / "checkout")
    begin: list[Command | File] = [
        Command("command -v llm-reconcile"),
        Command("cd ~/checkout"),
        File("desired/prod.yaml", FILE.read_text(encoding="utf-8")),
    ]
    end = Command("llm-reconcile down -y")
    done = reader.read([*typed, *begin, *map(Command, noted), end], TURNS)
    assert reader.end_all() == []
    said = {one.text: text for one, text in done}
    assert said["command -v llm-reconcile"].strip() == "/home/ann/.local/bin/llm-reconcile"
    validated, planned, applied = (said[line] for line in noted)
    assert "is valid: 2 models" in validated
    for name in ("glm-5", "qwen3.5"):
        assert f"! instance.{name}" in planned
        assert f"instance.{name} is blocked" in applied
