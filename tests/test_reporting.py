"""What a run tells must never change what it does."""

from __future__ import annotations

import json

import pytest
from launches import make_launch, start_step

from reconciler.cli.output import Output
from reconciler.cli.reporting import Reporter
from reconciler.core.desired import Source
from reconciler.core.observed import ObservedFile
from reconciler.core.plan import FetchFiles, Step
from reconciler.core.transfers import FileProgress
from reconciler.core.words import ModelName
from reconciler.execute import Outcome, Progress, StepResult

STEP = start_step(1, make_launch("m"))


@pytest.mark.parametrize("json", [True, False])
def test_a_reader_that_has_gone_ends_no_step(json: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_words: object, **_more: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr(Output, "event", gone)
    monkeypatch.setattr(Output, "say", gone)
    report = Reporter(Output(json=json))
    report(Progress(STEP, "loading", 30.0))
    report(StepResult(STEP, Outcome.DONE))


# ---- downloads

MIB = 2**20


def download(number: int, name: str = "m") -> Step:
    effect = FetchFiles(ModelName(name), Source(repo="org/m"), "c", (ObservedFile("f", 9 * MIB),))
    return Step(number, f"model_file.{name}", effect, "not on disk")


def came(step: Step, done: int, seconds: float, name: str = "f.gguf") -> Progress:
    files = (FileProgress(name, done, 9 * MIB, done),)
    return Progress(step, "downloaded", seconds, files)


def test_a_download_in_a_pipe_is_a_line_every_ten_seconds(
    capsys: pytest.CaptureFixture[str],
) -> None:
    report, step = Reporter(Output()), download(1)
    for second in range(31):
        report(came(step, second * MIB // 4, float(second)))
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(",")[0] for line in lines] == [
        "  model_file.m: 2.5/9.0 MiB downloaded (27 %)",
        "  model_file.m: 5.0/9.0 MiB downloaded (55 %)",
        "  model_file.m: 7.5/9.0 MiB downloaded (83 %)",
    ]


def test_events_of_a_download_come_once_a_second_and_at_its_end(
    capsys: pytest.CaptureFixture[str],
) -> None:
    report, step = Reporter(Output(json=True)), download(1)
    for tick in range(10):
        report(came(step, tick * MIB, tick / 4))
    report(came(step, 9 * MIB, 2.3))
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["seconds"] for one in events] == [1.0, 2.0, 2.25, 2.3]
    assert events[0]["files"] == [
        {"name": "f.gguf", "done": 4 * MIB, "size": 9 * MIB, "came": 4 * MIB}
    ]


class Terminal(Output):
    """Shows its live lines to the test."""

    shown: tuple[str, ...] = ()
    is_live = True
    live_width = 79

    def progress(self, *lines: str) -> None:
        self.shown = lines


def test_bars_of_all_downloads_and_what_else_goes_on() -> None:
    output = Terminal(quiet=True)
    report = Reporter(output)
    report(Progress(STEP, "loading", 2.0))
    report(came(download(2, "x"), 3 * MIB, 1.0, "x.gguf"))
    report(came(download(3, "y"), 6 * MIB, 1.0, "y.gguf"))
    report(StepResult(STEP, Outcome.SKIPPED))
    report(Progress(STEP, "loading", 2.0))
    assert [line.split()[0] for line in output.shown] == ["x", "y", "all", "instance.m:"]
    assert " 50 % " in output.shown[2]
    report(StepResult(download(2, "x"), Outcome.DONE))
    assert [line.split()[0] for line in output.shown] == ["y", "all", "instance.m:"]
    assert " 83 % " in output.shown[1]
    # What failed is not on its way any more.
    report(StepResult(download(2, "x"), Outcome.FAILED, "refused"))
    assert [line.split()[0] for line in output.shown] == ["y", "instance.m:"]
    report(StepResult(download(3, "y"), Outcome.DONE))
    assert [line.split()[0] for line in output.shown] == ["instance.m:"]
