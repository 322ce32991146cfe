"""Each of many ends of a server has its own reason in `status`, and what comes next (BARS 16).

The fake server says and does what the files of tests/data/ends tell: most are logs of the real one.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

from waiting import eventually

from e2e import machine
from e2e.lab import Lab

ENDS = sorted((Path(__file__).parents[1] / "data" / "ends").glob("*.txt"))
FEWEST = 25


def told(path: Path) -> dict[str, str]:
    head = path.read_text(encoding="utf-8").partition("\n\n")[0]
    return dict(line.split(": ", 1) for line in head.splitlines())


def one_of_each() -> dict[str, str]:
    """One end of each reason: its name, the reason."""
    found: dict[str, str] = {}
    for path in ENDS:
        said = told(path)
        is_real = said["exit"].lstrip("-").isdecimal() and int(said["exit"]) > -signal.SIGRTMAX
        # Whether the kernel counts what it kills for lack of memory depends on the machine.
        reason = said["reason"].partition(", perhaps")[0]
        if is_real and reason not in found.values():
            found[path.stem] = reason
    return found


def test_each_end_of_a_start_has_its_reason(fakes: Lab) -> None:
    wanted = one_of_each()
    assert len(wanted) >= FEWEST
    files = {path.stem: path for path in ENDS}
    fakes.write({name: {"args": {"fake-end": str(files[name])}} for name in wanted})
    fakes.apply(code=3)
    rows = {row["name"]: row for row in fakes.status(code=3)["instances"]}
    reasons = {name: rows[name]["reason"] for name in wanted}
    wrong = {
        name: reason
        for name, reason in reasons.items()
        if not reason.startswith(f"exited: it died while loading: {wanted[name]}")
    }
    assert wrong == {}
    assert len(set(reasons.values())) == len(wanted)
    assert all(rows[name]["next"] for name in wanted)
    name = next(name for name in wanted if "graphics card that it wants" in wanted[name])
    one = fakes.run("status", name, code=3).out
    assert "To do: see CUDA_VISIBLE_DEVICES" in one


def test_how_a_server_ended_is_known_without_anybody_there(fakes: Lab) -> None:
    """No watch, no apply: the shell above it noted it."""
    fakes.write({"a": {}, "b": {}})
    fakes.apply()
    os.kill(fakes.pids()["a"], signal.SIGBUS)
    eventually(lambda: set(fakes.servers()) == {"b"}, "it is dead")
    assert "killed by SIGBUS: a file that it had mapped was cut" in fakes.run("status", code=3).out
    fakes.apply()
    assert "killed by SIGBUS" in fakes.run("status", "a").out
    machine.kill([machine.parent(fakes.pids()["a"])])
    assert fakes.apply().out.startswith("No changes.")
