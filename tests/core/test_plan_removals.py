"""What `state: absent` takes away, and what stays of a model's files, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from builders import desired, observed, pin_of, plan, server, steps_of

from reconciler.core.desired import DesiredState
from reconciler.core.observed import ObservedServer, ObservedState, ProcessRef
from reconciler.core.plan import Action, Change, Plan, RemoveFiles
from reconciler.core.prune import files_of, leavings
from reconciler.core.stored import (
    Blob,
    Inode,
    Link,
    Needed,
    ObservedStore,
    Partial,
    Reference,
    StoredRepo,
)
from reconciler.core.words import ModelName

COMMIT, OLD = "c" * 40, "a" * 40
DIGEST = "5" * 64
FAR = {"source": {"repo": "org/far"}, "quant": "Q4", "port": 8001}
A = ModelName("a")


def link(name: str, digest: str, number: int, commit: str = COMMIT) -> Link:
    return Link(f"/s/{commit[:1]}/{name}", commit, name, digest, 0, (1, number))


STORED = StoredRepo(
    "models--org--far",
    (Reference("/refs/main", COMMIT), Reference("/refs/v1", OLD)),
    (
        link("Q4.gguf", DIGEST, 2),
        link("x-Q8.gguf", "8" * 64, 8),
        link("README.md", "9" * 64, 9),
        link("Q4.gguf", "4" * 64, 4, OLD),
    ),
    tuple(
        Blob(f"/b/{digest[0]}", digest, 100, (1, number))
        for digest, number in ((DIGEST, 2), ("8" * 64, 8), ("9" * 64, 9), ("4" * 64, 4))
    ),
    (Partial(f"/b/{DIGEST}.incomplete", 7, 1e9), Partial(f"/b/{'7' * 64}.incomplete", 7, 1e9)),
)


def absent(**more: Any) -> DesiredState:
    models = {"a": {**FAR, "state": "absent", **more.pop("model", {})}, **more}
    return desired(models, gateway=False)


def machine(
    state: DesiredState,
    *servers: ObservedServer,
    users: Mapping[Inode, frozenset[int]] | None = None,
    **store: Any,
) -> ObservedState:
    far = {ModelName(name): one for name, one in state.models.items() if one.source.repo}
    pins = {name: pin_of(one) for name, one in far.items()}
    seen = ObservedStore({A: STORED}, open=users or {}, **store)
    files = {name: one for name, one in observed(state).files.items() if name != A}
    return replace(observed(state, *servers), files=files, store=seen, lock=pins)


def of_file(made: Plan) -> Change:
    return next(one for one in made.changes if one.address == "model_file.a")


def gone(made: Plan) -> list[str]:
    effects = (step.effect for step in made.steps)
    return [one.path for each in effects if isinstance(each, RemoveFiles) for one in each.removals]


def test_all_that_is_its_own_goes_links_first() -> None:
    made = plan(absent(), machine(absent()))
    assert gone(made) == [
        "/refs/v1",
        "/s/c/Q4.gguf",
        "/s/a/Q4.gguf",
        "/b/5",
        "/b/4",
        f"/b/{DIGEST}.incomplete",
    ]
    change = of_file(made)
    assert (change.action, change.reason) == (Action.DELETE, "state: absent")
    assert change.impact.freed_bytes == made.freed_bytes == 207


def test_it_waits_for_all_its_servers() -> None:
    state = desired({"a": FAR}, gateway=False)
    live = server(state, "a", helpers=(78,))
    users = {(1, 2): frozenset({live.ref.pid, 78})}
    made = plan(absent(), machine(absent(), live, users=users))
    assert steps_of(made) == ["1 StopServer instance.a", "2 RemoveFiles model_file.a <1"]


def test_the_quants_of_its_catalogue_are_its_own() -> None:
    state = absent(model={"quants": {"Q8": 5, "Q2": 5}})
    assert {"/s/c/x-Q8.gguf", "/b/8"} <= set(gone(plan(state, machine(state))))
    assert "/b/9" not in gone(plan(state, machine(state)))


def test_of_another_repository_a_pin_says_nothing() -> None:
    model = absent().models["a"]
    pin = replace(pin_of(model), repo="org/else", quant="Q9")
    own = files_of(model.model_copy(update={"quant": "Q9"}), pin, STORED)
    assert own == StoredRepo(STORED.repo)
    assert not own.has_files
    assert STORED.has_files
    assert leavings(own, STORED, Needed()) == ()
    assert leavings(STORED, STORED, Needed(repos=frozenset({STORED.repo}))) == ()


def test_what_another_model_needs_stays() -> None:
    state = absent(b={**FAR, "port": 8002})
    made = plan(state, machine(state))
    assert not {"/b/5", f"/b/{DIGEST}.incomplete"} & set(gone(made))
    only = replace(STORED, references=(), links=STORED.links[:1], blobs=STORED.blobs[:1])
    seen = machine(state)
    made = plan(state, replace(seen, store=replace(seen.store, repos={A: only})))
    assert gone(made) == []
    assert of_file(made).reason == "state: absent; another model needs the same files"
    assert not of_file(made).drift


def test_what_another_file_needs_stays() -> None:
    needs = Needed(
        digests=frozenset({("models--org--far", DIGEST), ("models--org--far", "4" * 64)}),
        files=frozenset({("models--org--far", one, "Q4.gguf") for one in (COMMIT, OLD)}),
    )
    others = {"desired/q.yaml": Needed(), "desired/z.yaml": needs}
    made = plan(absent(), machine(absent(), elsewhere=others))
    assert gone(made) == []
    assert of_file(made).drift == "its files stay: desired/z.yaml needs them"


def test_what_others_use_stays() -> None:
    users = {(1, 2): frozenset({7, 9}), (1, 4): frozenset({7})}
    made = plan(absent(), machine(absent(), users=users))
    assert "/b/5" not in gone(made)
    only = replace(STORED, links=STORED.links[:1], blobs=STORED.blobs[:1], partials=())
    seen = machine(absent(), users=users)
    made = plan(absent(), replace(seen, store=replace(seen.store, repos={A: only})))
    assert gone(made) == []
    assert of_file(made).drift == "its files stay: process 7, process 9 uses them"


def test_what_another_server_noted_as_its_own_stays() -> None:
    """Though it has it open no more: it was read into memory, and may be started again."""
    state = absent(b={"port": 8002})
    other = server(state, "b", files="1:2:100:3", ref=ProcessRef(70, 1))
    made = plan(state, machine(state, other))
    assert "/b/5" not in gone(made)
    assert "/b/4" in gone(made)


def test_doubt_takes_nothing() -> None:
    made = plan(absent(), machine(absent(), doubt="desired/z.yaml:1:1: no"))
    assert gone(made) == []
    assert of_file(made).blocked == (
        "what else needs its files cannot be told: desired/z.yaml:1:1: no"
    )
