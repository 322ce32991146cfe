"""A desired file with a mistake: told at its place, exit 1, and nothing is done (BARS 5).

All of tests/data/bad go through the parser in tests/core; some of them here through the command.
"""

from __future__ import annotations

from pathlib import Path

from e2e import machine
from e2e.lab import Lab

BAD = sorted((Path(__file__).parents[1] / "data" / "bad").glob("*.yaml"))
EACH = 25


def expected(path: Path) -> str:
    """What is kept for the parser, as the command says it."""
    lines = path.with_suffix(".txt").read_text().replace(path.name, "desired/x.yaml").splitlines()
    return "".join(f"{'' if line.startswith('  ') else 'error: '}{line}\n" for line in lines)


def test_a_mistake_does_nothing(fakes: Lab) -> None:
    fakes.write({"a": {}, "b": {}})
    fakes.apply()
    tops = (fakes.root, fakes.folder / "s", fakes.folder / "c", fakes.folder / "home")
    pids, nginx, before = fakes.pids(), fakes.nginx(), machine.snapshot(*tops)
    good, changed = fakes.file.read_bytes(), str(fakes.file)
    for number, path in enumerate(BAD[::EACH]):
        # In place, so that only this file's own times and size differ.
        fakes.file.write_bytes(path.read_bytes())
        verb = ("apply", "plan", "validate")[number % 3]
        done = fakes.run(verb, str(fakes.file), *(["-y"] if verb == "apply" else []), code=1)
        assert (done.out, done.err) == ("", expected(path))
    after = machine.snapshot(*tops)
    assert after.keys() == before.keys()
    assert {path for path in before if after[path] != before[path]} == {changed}
    assert (fakes.pids(), fakes.nginx()) == (pids, nginx)
    fakes.file.write_bytes(good)
    assert fakes.apply().out.startswith("No changes.")
