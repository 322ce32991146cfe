"""What a run tells must never change what it does."""

from __future__ import annotations

import pytest
from launches import make_launch, start_step

from reconciler.cli.output import Output
from reconciler.cli.reporting import Reporter
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
