"""The file of a saved plan: it comes back as it was, and is nothing else by accident."""

from __future__ import annotations

import json
from typing import Any

import pytest
from builders import NGINX, desired, observed, plan
from hypothesis import given
from hypothesis import strategies as st

from reconciler.core.basis import basis_of
from reconciler.core.guards import Allowed
from reconciler.core.plan import Action
from reconciler.core.plan_file import (
    Options,
    SavedPlan,
    is_plan,
    plan_file_text,
    read_plan_file,
)
from reconciler.core.present import plan_text, plan_values
from reconciler.core.selection import Selection
from reconciler.core.words import ModelName
from reconciler.errors import UsageError

STATE = desired({"a": {}, "b": {"env": {"HF_TOKEN": "hf_secret"}}})
SEEN = observed(STATE, gateway=NGINX)
PLAN = plan(STATE, SEEN)
DOCUMENT: dict[str, Any] = {
    "desired": {"path": "desired/x.yaml", "sha256": "0" * 64},
    **json.loads(json.dumps(plan_values(PLAN))),
}
SAVED = SavedPlan(
    "/r",
    Options(2, ["a"], targets=[], excludes=[], replacing=["a"]),
    basis_of(PLAN, SEEN),
    DOCUMENT,
    plan_text(PLAN),
    made_by="0.1.0",
)
TEXT = plan_file_text(SAVED)


def read(text: str) -> SavedPlan:
    return read_plan_file("x.plan", text.encode())


def test_it_comes_back_as_it_was() -> None:
    assert read(TEXT) == SAVED
    assert is_plan(TEXT.encode())
    assert SAVED.desired == "desired/x.yaml"
    assert SAVED.actions["instance.a"] is Action.CREATE
    assert SAVED.actions["gateway"] is Action.REPLACE
    assert SAVED.actions["model_file.b"] is Action.NO_OP


def test_no_secret_is_in_it() -> None:
    assert "hf_secret" not in TEXT


def test_what_it_is_about_comes_back() -> None:
    assert SAVED.options.selection == Selection(replacing=frozenset({ModelName("a")}))


def test_what_is_allowed_adds_up() -> None:
    assert SAVED.options.allowed(Allowed()) == Allowed(2, frozenset("a"))
    more = Allowed(1, frozenset("b"), switch_file=True)
    assert SAVED.options.allowed(more) == Allowed(2, frozenset("ab"), switch_file=True)


@given(at=st.integers(0, len(TEXT) - 3))
def test_a_torn_file_is_never_taken_for_a_whole_one(at: int) -> None:
    with pytest.raises(UsageError, match=r"no saved plan|not whole"):
        read(TEXT[:at])


def test_an_edited_file_says_so() -> None:
    with pytest.raises(UsageError, match="not as it was written") as caught:
        read(TEXT.replace("to add", "to love"))
    assert "make it anew" in caught.value.hint


def test_a_stump_says_so() -> None:
    with pytest.raises(UsageError, match="not as it was written"):
        read(json.dumps({"llm_reconcile_plan": 1}))


def test_a_newer_form_says_so() -> None:
    values = {**json.loads(TEXT), "llm_reconcile_plan": 2, "made_by": "9.9"}
    with pytest.raises(UsageError, match=r"made by llm-reconcile 9\.9") as caught:
        read(json.dumps(values))
    assert "use that version" in caught.value.hint


@pytest.mark.parametrize("text", ["", "version: 1\nmodels: {}\n", '{"version": 1}', "\0\xff"])
def test_what_is_no_plan_says_so(text: str) -> None:
    assert not is_plan(text.encode())
    with pytest.raises(UsageError, match=r"x\.plan is no saved plan") as caught:
        read(text)
    assert "--out" in caught.value.hint
