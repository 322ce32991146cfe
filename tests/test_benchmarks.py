"""The benchmarks' harness: its arithmetic, its document, and one run of the cheapest of them.

No number is judged here. That a bad answer or a missing program cannot pass for a result is.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from e2e.machine import mentioning
from waiting import eventually

from benchmarks import machine
from benchmarks.cases import CASES
from benchmarks.document import render
from benchmarks.results import Bar, Row, Section, Unit, not_measured, percentile, ratio
from benchmarks.supervisor import supervised
from benchmarks.wrk import parse

ROOT = Path(__file__).parent.parent
CHECKED = (
    "checked answers=400 bad={bad} broken={broken} micros=2000000 p50=90 p99=1500 first={said}"
)


def seconds(name: str, *values: float) -> Row:
    return Row(name, Unit.SECONDS, values)


def test_a_ratio_is_taken_round_by_round() -> None:
    found = ratio("a / b", seconds("a", 2, 8, 30), seconds("b", 1, 2, 10), Bar(most=3))
    assert found == Row("a / b", Unit.RATIO, (2, 4, 3), Bar(most=3))
    assert found.median == 3


def test_rounds_that_do_not_match_make_no_ratio() -> None:
    with pytest.raises(ValueError, match="shorter"):
        ratio("a / b", seconds("a", 1, 2), seconds("b", 1))


def test_what_was_not_measured_makes_no_ratio_and_says_why() -> None:
    absent = not_measured("b", Unit.SECONDS, "b is not installed")
    for over, under in ((seconds("a", 1), absent), (absent, seconds("a", 1))):
        found = ratio("a / b", over, under, Bar(most=2))
        assert (found.values, found.note) == ((), "not measured: b is not installed")


def test_a_ratio_of_an_invalid_row_is_invalid() -> None:
    invalid = Row("b", Unit.RATE, (10,), note="INVALID: 3 bad answers")
    assert ratio("a / b", Row("a", Unit.RATE, (20,)), invalid).note == "INVALID: 3 bad answers"


def test_percentiles_are_measured_values() -> None:
    values = [float(number) for number in range(1, 101)]
    assert [percentile(values, share) for share in (0.5, 0.99, 1)] == [50, 99, 100]
    assert percentile([7], 0.99) == 7


@pytest.mark.parametrize(
    ("row", "cells"),
    [
        (seconds("r", 0.0123, 0.5, 2.34), "| r | 500 ms (12.3 ms..2.34 s) | 3 |  |"),
        (Row("r", Unit.BYTES, (512,)), "| r | 512 bytes | 1 |  |"),
        (Row("r", Unit.BYTES, (3 * 2**20, 2**30)), "| r | 514 MiB (3.00 MiB..1.00 GiB) | 2 |  |"),
        (Row("r", Unit.RATE, (12345.6,)), "| r | 12,346/s | 1 |  |"),
        (Row("r", Unit.SPEED, (553.4e6,)), "| r | 553 MB/s | 1 |  |"),
        (Row("r", Unit.COUNT, (0,), Bar(most=0)), "| r | 0 | 1 | at most 0: met |"),
        (Row("r", Unit.COUNT, (1,), Bar(most=0)), "| r | 1 | 1 | at most 0: **missed** |"),
        (
            Row("r", Unit.RATIO, (1.2,), Bar(most=1.3, aim=1.1)),
            "| r | 1.20 x | 1 | at most 1.30 x, aim 1.10 x: met, the aim is not |",
        ),
        (Row("r", Unit.RATIO, (1.05,), Bar(most=1.3, aim=1.1)), "aim 1.10 x: met |"),
        (Row("r", Unit.RATIO, (3.9,), Bar(least=4)), "at least 4.00 x: **missed** |"),
        (
            Row("r", Unit.RATIO, (9,), Bar(least=4), "INVALID: x"),
            "| r | 9.00 x **INVALID: x** | 1 | at least 4.00 x: **missed** |",
        ),
        (
            not_measured("r", Unit.RATE, "wrk is not installed"),
            "| r | not measured: wrk is not installed | 0 |  |",
        ),
        (Row("r", Unit.RATIO, (), Bar(most=2), "why"), "| r | why | 0 | at most 2.00 x |"),
    ],
)
def test_how_a_row_reads(row: Row, cells: str) -> None:
    text = render("make bench", {}, [Section("T", "About.", (row,))])
    assert text.endswith(f"{cells}\n")


DOCUMENT = """\
|  | this run |
| --- | --- |
| commit | abc |
| CPU | one, 2 cores |

## First

About it.

|  | median (least..most) | rounds | bar |
| --- | --- | --- | --- |
| r | 1.00 s | 1 |  |

## Next

About it.

|  | median (least..most) | rounds | bar |
| --- | --- | --- | --- |
| r | 1.00 s | 1 |  |
"""


def test_the_whole_document() -> None:
    facts = {"commit": "abc", "CPU": "one, 2 cores"}
    sections = [Section(title, "\nAbout it.\n", (seconds("r", 1),)) for title in ("First", "Next")]
    text = render("make bench", facts, sections)
    assert text.startswith("# Benchmarks\n\nWritten by `make bench`; an edit here is lost")
    assert text.endswith(f"\n\n{DOCUMENT}")
    assert "quick" not in text
    quick = render("make bench", facts, sections, quick=True)
    assert "**This was a quick run" in quick
    assert quick.endswith(f"\n\n{DOCUMENT}")


def test_wrk_counts_good_answers() -> None:
    load = parse(f"Running 2s test\n{CHECKED.format(bad=0, broken=0, said='')}\n")
    assert (load.rate, load.p50_s, load.p99_s) == (200, 0.00009, 0.0015)
    assert load.complaint == ""


@pytest.mark.parametrize(
    ("bad", "broken", "said", "complaint"),
    [
        (3, 0, "503 loading", "INVALID: 3 of 400 answers were bad (503 loading)"),
        (0, 2, "", "INVALID: 2 connections broke (400 good answers)"),
    ],
)
def test_one_bad_answer_is_said(bad: int, broken: int, said: str, complaint: str) -> None:
    load = parse(CHECKED.format(bad=bad, broken=broken, said=said))
    assert load.complaint == complaint
    assert load.rate == (400 - bad) / 2


def test_wrk_that_does_not_count_is_an_error() -> None:
    assert parse(CHECKED.format(bad=0, broken=0, said="").replace("400", "0")).complaint
    with pytest.raises(ValueError, match="unable to connect"):
        parse("unable to connect to 127.0.0.1:1 Connection refused")


# ---- the harness itself


def harness(folder: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks", *words],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def servers(folder: Path) -> list[Mapping[str, str]]:
    seen = (machine.environment(pid) for pid in machine.pids())
    return [env for env in seen if env.get("LLM_RECONCILE_ROOT", "").startswith(f"{folder}/")]


def test_one_benchmark_from_end_to_end(short_folder: Path) -> None:
    document, raw = short_folder / "benchmarks.md", short_folder / "raw.json"
    words = ["memory", "--quick", "--out", str(document), "--json", str(raw)]
    run = harness(short_folder, *words)
    out, said = run.communicate(timeout=110)
    assert (run.returncode, out) == (0, ""), said
    text = document.read_text(encoding="utf-8")
    assert "Written by `python -m benchmarks memory --quick`" in text
    assert str(short_folder) not in text
    assert "## At rest" in text
    values = json.loads(raw.read_text(encoding="utf-8"))
    rows = {row["name"]: row["values"] for row in values["sections"][0]["rows"]}
    assert rows["processes of llm-reconcile left after apply"] == [0]
    assert rows["processes of nginx"][0] >= 2
    assert rows["the 2 servers"][0] > 2**20
    assert servers(short_folder) == []
    assert sorted(path.name for path in short_folder.iterdir()) == ["benchmarks.md", "raw.json"]


@pytest.mark.needs("curl")
def test_downloads_are_compared(short_folder: Path) -> None:
    """With the real programs: each brings all bytes, and is measured in each way."""
    raw = short_folder / "raw.json"
    run = harness(short_folder, "fetch", "--quick", "--json", str(raw))
    out, said = run.communicate(timeout=110)
    assert run.returncode == 0, said
    assert "## Downloads" in out
    values = json.loads(raw.read_text(encoding="utf-8"))
    rows = {row["name"]: row["values"] for row in values["sections"][0]["rows"]}
    assert [name for name, measured in rows.items() if len(measured) != 1] == [], out
    for what in ("1 x 200 MB", "8 x 25 MB"):
        for name in ("llm-reconcile download", "hf download", "curl"):
            assert rows[f"{what}: {name}"][0] > 10**5
            assert rows[f"{what}: {name}: peak memory"][0] > 2**20
    for name in ("llm-reconcile", "hf"):
        assert rows[f"{name} download: bytes sent / file"][0] >= 1
    assert sorted(path.name for path in short_folder.iterdir()) == ["raw.json"]


def test_supervisord_keeps_what_it_is_compared_with(short_folder: Path) -> None:
    argv = ["sleep", f"1{os.getpid()}"]

    def others(*known: int) -> list[int]:
        return [pid for pid in mentioning(" ".join(argv)) if pid not in known]

    with supervised({"one": argv}, {"PATH": os.environ["PATH"]}, short_folder / "s") as pid:
        eventually(lambda: bool(others()), "it is started")
        first = others()[0]
        os.kill(first, signal.SIGKILL)
        eventually(lambda: bool(others(first)), "it is started again")
        assert machine.wake_ups(pid)
        assert machine.cpu_seconds(pid) > 0
    assert others() == []


def test_supervisord_leaves_nothing_running_that_will_not_end(short_folder: Path) -> None:
    deaf = ["sh", "-c", f"trap '' TERM; while :; do sleep 0.{os.getpid()}; done"]

    def live() -> list[int]:
        return mentioning(deaf[2])

    folder = short_folder / "s"
    with supervised({"deaf": deaf}, {"PATH": os.environ["PATH"]}, folder, patience_s=0.1):
        eventually(lambda: bool(live()), "it is started")
    eventually(lambda: not live(), "it is ended")


def test_ctrl_c_leaves_nothing_running(short_folder: Path) -> None:
    # Few servers, so that its end is quick, and rests of seconds, so that it lasts until then.
    run = harness(short_folder, "watch", "--quick")
    eventually(lambda: bool(servers(short_folder)), "its servers are started")
    os.kill(run.pid, signal.SIGINT)
    _, said = run.communicate(timeout=110)
    assert run.returncode == 130, said
    assert said.endswith("interrupted; everything that was started has been ended\n")
    assert servers(short_folder) == []
    assert list(short_folder.iterdir()) == []


def test_a_benchmark_that_is_not_there() -> None:
    run = harness(ROOT, "nothing")
    _, said = run.communicate(timeout=60)
    assert run.returncode == 2
    assert f"no benchmark is called nothing; there are {', '.join(CASES)}" in said
