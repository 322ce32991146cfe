"""The schema of a plan's JSON: it is the one that is committed, and real plans keep to it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from builders import plan
from plan_cases import CASES

from reconciler.core.guards import Allowed, guard
from reconciler.core.plan_schema import plan_document_schema
from reconciler.core.present import plan_values
from reconciler.core.selection import Selection

ROOT = Path(__file__).parents[2]
SCHEMA = plan_document_schema()
OUTSIDE: dict[str, Any] = {
    "timestamp": "2026-11-26T10:00:00+00:00",
    "desired": {"path": "desired/x.yaml", "sha256": "0" * 64, "git": None},
    "lock": {"path": "desired/x.lock.yaml", "sha256": None},
    "observed": {"fingerprint": "0" * 12, "boot_id": "", "source": "machine", "snapshot": None},
    "selection": {"destroy": False, **Selection().values()},
    "diagnostics": [{"severity": "warning", "summary": "x", "range": ""}],
}

SNAPSHOT_OF_A_COMMIT = {
    "desired": {**OUTSIDE["desired"], "git": {"commit": "c" * 40, "dirty": True}},
    "observed": {
        **OUTSIDE["observed"],
        "source": "snapshot",
        "snapshot": {"host": "h", "root": "/r", "taken_at": "", "age": "", "made_by": ""},
    },
}


def closed(value: Any) -> Any:
    """The same schema, that allows nothing that it does not describe."""
    if isinstance(value, list):
        return [closed(one) for one in value]
    if not isinstance(value, dict):
        return value
    found = {key: closed(one) for key, one in value.items()}
    return {**found, "additionalProperties": False} if "properties" in value else found


STRICT = jsonschema.Draft202012Validator(closed(SCHEMA))


def errors(document: object) -> list[str]:
    return [one.message for one in STRICT.iter_errors(json.loads(json.dumps(document)))]


def test_it_is_a_schema_and_the_committed_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    committed = ROOT / "schema" / "plan.schema.json"
    assert json.loads(committed.read_text(encoding="utf-8")) == SCHEMA, (
        "llm-reconcile schema --plan > schema/plan.schema.json"
    )


@pytest.mark.parametrize("name", sorted(CASES))
def test_every_plan_keeps_to_it(name: str) -> None:
    state, seen = CASES[name]
    made = plan(state, seen)
    document = {**OUTSIDE, **plan_values(made, guard(made, state, seen, Allowed()))}
    assert errors(document) == []
    assert errors({**document, "standing": None, "reasons": ["x"]}) == []
    assert errors({**document, "standing": "good"})
    assert errors({**document, **SNAPSHOT_OF_A_COMMIT}) == []
    assert errors({**document, "more": 1})
    del document["guards"]
    assert errors(document) == ["'guards' is a required property"]
