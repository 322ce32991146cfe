"""The downtime that a plan names, against the one that its apply brings (BARS 24).

In: the engine, SmolLM2. Out: seconds that the plan says, seconds without an answer, their ratio.
A client asks without a pause; what counts is the time from its last good answer of the old server
to the first good one of the new one.
"""

from __future__ import annotations

import http.client
import json
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import Self

from e2e.client import ask

from benchmarks.lab import COMMAND, Bench, BenchmarkError, Lab, smollm2
from benchmarks.results import Bar, Row, Section, Unit, not_measured, ratio

ROUNDS = 7
PAUSE_S = 0.003


def measure(bench: Bench) -> Section:
    """Measure it."""
    about = """
One SmolLM2-135M (98 MB) behind the gateway, idle but for one client that asks for a token every
3 ms. Its parameters change (`rollout: recreate`): `plan --json` says `impact.downtime_s`, by how
long the last start of this model took here; then `apply -y`. Without an answer: from the client's
last good answer before to the first one after. Loading takes a third of a second here, so that
20 % are little more than 0.1 s; of a model that loads for minutes the stop and our own part are
next to nothing.
"""
    title = "The downtime in a plan"
    with tempfile.TemporaryDirectory() as folder:
        weights = smollm2(Path(folder))
        if weights is None:
            why = "the model could not be fetched"
            return Section(title, about, (not_measured("downtime", Unit.SECONDS, why),))
        with Lab(bench, 1, weights) as lab:
            rows = _replacements(lab)
    return Section(title, about, rows)


def _replacements(lab: Lab) -> tuple[Row, ...]:
    lab.bench.tell("downtime: replacements of a model")
    lab.apply()
    said, seen = [], []
    for turn in range(lab.bench.rounds(ROUNDS)):
        desired = json.loads(lab.file.read_text(encoding="utf-8"))
        desired["models"][lab.names[0]]["params"] = {"temp": (turn + 1) / 1000}
        lab.file.write_text(json.dumps(desired), encoding="utf-8")
        said.append(_planned(lab))
        with Asking(lab.port, lab.names[0]) as asking:
            lab.apply()
        seen.append(asking.longest_s)
    planned = Row("the plan says", Unit.SECONDS, tuple(said))
    measured = Row("without an answer", Unit.SECONDS, tuple(seen))
    bar = Bar(least=0.8, most=1.2)
    return (planned, measured, ratio("without an answer / the plan says", measured, planned, bar))


def _planned(lab: Lab) -> float:
    done = subprocess.run(
        [str(COMMAND), "plan", "--json", str(lab.file)],
        cwd=lab.root,
        env=lab.environment,
        capture_output=True,
        check=False,
    )
    changes = json.loads(done.stdout)["resource_changes"]
    found = [one["impact"]["downtime_s"] for one in changes if one["impact"]["downtime_s"]]
    if len(found) != 1:
        raise BenchmarkError(f"a plan of one replacement names {len(found)} downtimes")
    return float(found[0])


class Asking:
    """One client that asks all the time; the longest time between two good answers."""

    def __init__(self, port: int, model: str) -> None:
        self._port = port
        self._body = {"model": model, "prompt": "hello", "max_tokens": 1}
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._go_on, daemon=True)
        self.longest_s = 0.0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _go_on(self) -> None:
        last = 0.0
        while not self._end.wait(PAUSE_S):
            if not self._is_answered():
                continue
            now = time.perf_counter()
            self.longest_s = max(self.longest_s, now - (last or now))
            last = now

    def _is_answered(self) -> bool:
        try:
            return ask(self._port, "/v1/completions", self._body).status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False
