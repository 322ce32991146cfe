"""The dashboard of an example, against the schema of Grafana as Grafana publishes it in Python.

In: examples/07-prometheus/dashboard.json. Out: a failure that names what Grafana does not know.
What it asks Prometheus for is tried in e2e/test_examples.py.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

FILE = Path(__file__).parents[1] / "examples" / "07-prometheus" / "dashboard.json"
COLUMNS = 24
register_default_plugins()


@pytest.fixture
def board() -> dict[str, Any]:
    value: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    return value


def unknown(board: dict[str, Any]) -> list[str]:
    """What is lost when Grafana's own types read and write it."""
    known = Dashboard.from_json(copy.deepcopy(board))
    return list(_lost(board, json.loads(JSONEncoder().encode(known)), ""))


def _lost(given: Any, kept: Any, where: str) -> Iterator[str]:
    if isinstance(given, dict) and isinstance(kept, dict):
        for key, value in given.items():
            if key in kept:
                yield from _lost(value, kept[key], f"{where}.{key}")
            else:
                yield f"{where}.{key}"
    elif isinstance(given, list) and isinstance(kept, list) and len(given) == len(kept):
        for number, (one, other) in enumerate(zip(given, kept, strict=True)):
            yield from _lost(one, other, f"{where}[{number}]")
    elif given != kept:
        yield where


def test_grafana_knows_all_of_it(board: dict[str, Any]) -> None:
    assert unknown(board) == []


def test_what_grafana_does_not_know_is_seen(board: dict[str, Any]) -> None:
    board["made"] = 1
    board["panels"][0]["targets"][0]["expression"] = "up"
    board["panels"][0]["options"]["colour"] = "value"
    wrong = ["targets[0].expression", "options.colour"]
    assert sorted(unknown(board)) == sorted([".made", *(f".panels[0].{one}" for one in wrong)])


def test_panels_have_their_own_place_and_number(board: dict[str, Any]) -> None:
    panels = board["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= COLUMNS
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells


def test_all_questions_go_to_the_chosen_prometheus(board: dict[str, Any]) -> None:
    asking = [*board["panels"], *board["annotations"]["list"]]
    asking += [target for panel in board["panels"] for target in panel["targets"]]
    asking += [one for one in board["templating"]["list"] if one["type"] == "query"]
    for one in asking:
        assert one["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
