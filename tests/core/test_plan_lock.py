"""What of the lock file a plan writes: shown plainly, before the fetch that needs it, no more."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from builders import SITE, all_files, desired, files_of, observed, pin_of, plan, server, steps_of

from reconciler.core.desired import DesiredState
from reconciler.core.lockfile import Lock, LockedFile, Pin
from reconciler.core.observed import FileStatus, ObservedFiles, ObservedState
from reconciler.core.plan import Action, FetchFiles, Plan, WritePins
from reconciler.core.plan_lock import refuse_changes
from reconciler.core.plan_parts import only_files, restrict
from reconciler.core.planner import make_plan
from reconciler.core.present import plan_text, plan_values
from reconciler.core.status import is_converged
from reconciler.core.words import ModelName
from reconciler.errors import InvalidDesiredError, Position

A, B, C = ModelName("a"), ModelName("b"), ModelName("c")
FAR = {"source": {"repo": "org/far"}, "quant": "Q4"}
HUB = desired({"a": FAR, "b": FAR, "c": {}})


def seen(
    state: DesiredState, lock: Lock | None, missing: tuple[str, ...] = (), **pins: Pin
) -> ObservedState:
    """The machine with this lock file; each model's pin is as it should be, or as `pins` says."""
    files = {}
    for name, model in state.models.items():
        status = FileStatus.MISSING if name in missing else FileStatus.PRESENT
        found = files_of(model, status, 5 * 2**30)
        if model.source.repo is not None:
            whole = pins.get(name) or pin_of(model, is_read=name not in missing)
            found = replace(found, pin=whole)
        files[ModelName(name)] = found
    return observed(state, files=files, lock=lock)


def lines(made: Plan) -> list[str]:
    text = plan_text(made).splitlines()
    begin = next(at for at, line in enumerate(text) if " lock " in line)
    return text[begin : text.index("", begin)]


def test_what_is_new_is_pinned_before_it_is_fetched() -> None:
    made = plan(HUB, seen(HUB, {}, missing=("b",)))
    assert steps_of(made)[:3] == [
        "1 WritePins lock",
        "2 WritePins lock",
        "3 FetchFiles model_file.b <2",
    ]
    known, unread = made.steps[0].effect, made.steps[1].effect
    assert known == WritePins(((A, pin_of(HUB.models["a"])),))
    assert unread == WritePins(((B, pin_of(HUB.models["b"], is_read=False)),), learn=True)
    assert lines(made) == [
        "  + lock                             desired/x.lock.yaml: 2 pinned",
        "      a: Q4 at cccccccccccc, 1 file, 140 B",
        "      b: Q4 at cccccccccccc, 1 file, 140 B",
    ]
    [change] = [one for one in made.changes if one.address == "lock"]
    assert change.action is Action.CREATE
    whole: Any = plan_values(made)
    [values] = [one for one in whole["resource_changes"] if one["address"] == "lock"]
    assert values["type"] == "lock"
    assert values["change"]["after"].keys() == {"a", "b"}


def test_a_lock_that_holds_it_all_is_no_change() -> None:
    lock = {A: pin_of(HUB.models["a"]), B: pin_of(HUB.models["b"])}
    made = plan(HUB, seen(HUB, lock, missing=("b",), b=lock[B]))
    assert [step for step in made.steps if step.address == "lock"] == []
    [fetch] = [step for step in made.steps if isinstance(step.effect, FetchFiles)]
    assert fetch.needs == ()
    [change] = [one for one in made.changes if one.address == "lock"]
    assert (change.action, change.reason) == (Action.NO_OP, "holds what is wanted")
    assert "lock" not in plan_text(made)


def test_nothing_to_pin_needs_no_lock_file() -> None:
    alone = desired({"c": {}})
    assert "lock" not in {change.address for change in plan(alone, seen(alone, {})).changes}


def test_without_a_part_in_it_the_lock_file_stays_as_it_is() -> None:
    made = plan(HUB, seen(HUB, None))
    assert "lock" not in {change.address for change in made.changes}


def test_what_the_file_no_longer_names_is_dropped() -> None:
    state = desired({"a": {}, "b": {**FAR, "state": "absent"}})
    pin = pin_of(HUB.models["a"])
    made = plan(state, seen(state, {A: pin, B: pin, C: pin}, b=replace(pin, commit="d" * 40)))
    assert lines(made) == [
        "  ~ lock                             desired/x.lock.yaml: 2 dropped",
        "      a: Q4 at cccccccccccc, 1 file, 140 B -> (none)",
        "      c: Q4 at cccccccccccc, 1 file, 140 B -> (none)",
    ]
    [step] = [step for step in made.steps if step.address == "lock"]
    assert step.effect == WritePins(((A, None), (C, None)))


def test_what_cannot_be_found_out_keeps_its_pin() -> None:
    state = desired({"a": {**FAR, "quant": "Q8"}})
    files = {A: ObservedFiles(FileStatus.UNKNOWN, reason="no network")}
    made = plan(state, observed(state, files=files, lock={A: pin_of(HUB.models["a"])}))
    assert [step for step in made.steps if step.address == "lock"] == []


def test_a_moved_pin_shows_which_files_are_other_ones() -> None:
    files = (LockedFile("same", 1, "1" * 64), LockedFile("other", 2, "2" * 64))
    before = Pin("org/old", "main", "Q4", "a" * 40, (*files, LockedFile("gone", 3, "3" * 64)))
    after = Pin(
        "org/far",
        "v2",
        "Q8",
        "b" * 40,
        (files[0], LockedFile("other", 2048, "4" * 64), LockedFile("new", 5, "5" * 64)),
    )
    state = desired({"a": FAR})
    made = plan(state, seen(state, {A: before}, a=after))
    assert lines(made) == [
        "  ~ lock                             desired/x.lock.yaml: 1 changed",
        "      a repo: org/old -> org/far",
        "      a revision: main -> v2",
        "      a: Q4 at aaaaaaaaaaaa, 3 files, 6 B -> Q8 at bbbbbbbbbbbb, 3 files, 2.0 KiB",
        "      a gone: 333333333333, 3 B -> (none)",
        "      a new: 555555555555, 5 B",
        "      a other: 222222222222, 2 B -> 444444444444, 2.0 KiB",
    ]


def test_a_part_of_a_plan_pins_its_models_alone() -> None:
    made = plan(HUB, seen(HUB, {C: pin_of(HUB.models["a"])}, missing=("b",)))
    part = restrict(made, frozenset({A}))
    [step] = [step for step in part.steps if step.address == "lock"]
    assert step.effect == WritePins(((A, pin_of(HUB.models["a"])),))
    assert lines(part) == [
        "  ~ lock                             desired/x.lock.yaml",
        "      a: Q4 at cccccccccccc, 1 file, 140 B",
    ]
    assert "lock" not in {change.address for change in restrict(made, frozenset()).changes}
    assert [one for one in restrict(made, frozenset()).steps if one.address == "lock"] == []


def test_a_machine_is_as_wanted_though_a_pin_is_not_written_down() -> None:
    state = desired({"a": FAR})
    files = {A: replace(all_files(state)[A], pin=pin_of(state.models["a"]))}
    made = make_plan(state, SITE, observed(state, server(state, "a"), files=files, lock={}))
    assert [type(step.effect) for step in made.steps] == [WritePins]
    assert not made.is_noop
    assert is_converged(made)


def test_a_changed_quant_says_so_and_nothing_else() -> None:
    state = desired({"a": {**FAR, "quant": "Q8"}})
    made = plan(state, seen(state, {A: pin_of(HUB.models["a"])}))
    assert lines(made) == [
        "  ~ lock                             desired/x.lock.yaml: 1 changed",
        "      a: Q4 at cccccccccccc, 1 file, 140 B -> Q8 at cccccccccccc, 1 file, 140 B",
    ]


def test_a_download_pins_what_it_fetches() -> None:
    made = plan(HUB, seen(HUB, {C: pin_of(HUB.models["a"])}, missing=("b",)))
    part = only_files(made, frozenset({B}))
    assert [type(step.effect) for step in part.steps] == [WritePins, FetchFiles]
    assert [change.address for change in part.changes] == ["lock", "model_file.b"]
    assert only_files(made, frozenset({A})).steps == ()


def refused(state: DesiredState, lock: Lock, only: frozenset[ModelName] | None = None) -> list[str]:
    place = Position("x.yaml", 3, 4)
    try:
        refuse_changes(state, lock, {("models", "a", "quant"): place}, "x.lock.yaml", only)
    except InvalidDesiredError as error:
        return [str(one).partition("\n")[0] for one in error.diagnostics]
    return []


def test_a_lock_that_must_not_change_says_what_it_lacks() -> None:
    pin = pin_of(HUB.models["a"])
    whole = {A: pin, B: pin}
    assert refused(HUB, whole) == []
    absent = desired({"a": {**FAR, "state": "absent"}, "b": FAR})
    assert refused(absent, {B: pin}) == []
    first, second, third = refused(HUB, {A: replace(pin, quant="Q8"), C: pin})
    assert first.startswith("x.yaml:3:4: `a` wants Q4 of org/far@main; x.lock.yaml has another")
    assert "another one (Q8 of org/far@main), and --locked keeps it as it is" in first
    assert second.startswith("`b` wants Q4 of org/far@main; x.lock.yaml lacks it, and --locked")
    assert third.startswith("x.lock.yaml pins `c`, which is no longer wanted, and --locked keeps")
    assert refused(HUB, {A: pin, C: pin}, frozenset({A})) == []
