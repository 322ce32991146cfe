"""Reloads and replacements under load: no request fails, no stream is cut (BARS 22, 24).

By day a tenth of what LLM_RECONCILE_NIGHT=1 does: 100 reloads, 20 replacements.
"""

from __future__ import annotations

from typing import Any

import pytest
from waiting import eventually

from e2e.faults import NIGHT
from e2e.lab import Lab
from e2e.load import WHOLE, kept_requests, requests, streams

pytestmark = pytest.mark.timeout(3600 if NIGHT else 300)
SURGES = 20 if NIGHT else 2
RELOADS_A_SURGE = 5 if NIGHT else 3
STREAMS = 25
"""Of each model."""
TOKENS = 40


def wanted(turn: int, reload: int) -> dict[str, Any]:
    """Each turn replaces `sur`; each reload gives `other` another alias."""
    each = {"args": {"fake-token-seconds": 0.05}, "drain": "60s"}
    params = {"parallel": STREAMS + 4}
    return {
        "sur": {
            **each,
            "rollout": "surge",
            "params": {**params, "temp": 0.01 * (turn + 1)},
        },
        "other": {**each, "params": params, "aliases": [f"alias-{reload}"]},
    }


def generation(lab: Lab) -> str:
    return str(lab.ask("/api/models").json["generation"])


def test_nothing_fails_while_all_changes(fakes: Lab) -> None:
    """50 streams, and 100 requests a second as far as the machine can."""
    fakes.write(wanted(0, 0))
    fakes.apply()
    quiet = {"pause_s": 0.05}
    asking = [
        ask(fakes, model, 5, **quiet)
        for ask in (requests, kept_requests)
        for model in ("sur", "other")
    ]
    streaming = [streams(fakes, model, STREAMS, TOKENS) for model in ("sur", "other")]
    for each in (*asking, *streaming):
        each.start()
    generations, copies = set(), {fakes.pids()["sur"]}
    other, master = fakes.pids()["other"], fakes.nginx().master
    try:
        for turn in range(1, SURGES + 1):
            for reload in range(RELOADS_A_SURGE):
                fakes.write(wanted(turn - 1, turn * RELOADS_A_SURGE + reload))
                fakes.apply()
                generations.add(generation(fakes))
            fakes.write(wanted(turn, turn * RELOADS_A_SURGE + reload))
            fakes.apply()
            copies.add(fakes.pids()["sur"])
            assert generation(fakes) in generations
    finally:
        answers = [each.stop() for each in asking]
        streamed = [each.stop() for each in streaming]
    assert all(set(counts) == {"200"} for counts in answers), answers
    assert all(set(counts) == {WHOLE} for counts in streamed), streamed
    assert all(counts["whole"] >= STREAMS for counts in streamed), streamed
    assert (len(generations), len(copies)) == (SURGES * RELOADS_A_SURGE, SURGES + 1)
    assert (fakes.pids()["other"], fakes.nginx().master) == (other, master)
    eventually(lambda: len(fakes.nginx().workers) <= 4, "old workers are gone")
