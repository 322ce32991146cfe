"""A snapshot asked of another desired state: what it knows is kept, the rest is said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from builders import SITE, TEMPLATES, desired, disk, files_of, pin_of, plan, running, with_pin

from reconciler.core.capacity import cards_matter
from reconciler.core.desired import DesiredState
from reconciler.core.keys import GatewayKey
from reconciler.core.lockfile import Lock
from reconciler.core.observed import GatewaySecrets, Journal, ObservedState
from reconciler.core.plan import Action, Plan
from reconciler.core.present import plan_text
from reconciler.core.recalled import Checkout, Recalled, recall
from reconciler.core.renders import ObservedRender, RenderNote
from reconciler.core.resources import ObservedGpu, ObservedMemory
from reconciler.core.snapshot import Snapshot, asked_of
from reconciler.core.stored import Blob, ObservedStore, StoredRepo
from reconciler.core.suspension import Suspension
from reconciler.core.words import ModelName, ModelState

NOW = 1000.0
HUB = {"source": {"repo": "org/a"}, "quant": "Q4", "quants": {"Q4": "1GB", "Q8": "2GB"}}
URL = {"source": {"url": "https://host/a.gguf", "sha256": "a" * 64}}
A = ModelName("a")
KEYS = {"keys_file": "secrets/keys"}
TLS = {"tls": {"cert": "c.pem", "key": "k.pem"}}
SECRETS = GatewaySecrets((GatewayKey("ann", "a" * 64),), "c" * 12, "2027-01-01")


def pins_of(state: DesiredState) -> Lock:
    return {
        ModelName(name): pin_of(model) for name, model in state.models.items() if model.source.repo
    }


def snapshot(state: DesiredState, **special: Any) -> Snapshot:
    """A machine on which all is as `state` wants it, pinned."""
    lock = pins_of(state)
    files = {
        ModelName(name): with_pin(files_of(model), model, lock.get(ModelName(name)))
        for name, model in state.models.items()
        if model.state is not ModelState.ABSENT
    }
    for name in lock.keys() & files.keys():
        pin, [file] = lock[name], files[name].files
        digested = replace(file, digest=pin.files[0].digest)
        files[name] = replace(files[name], files=(digested,))
    hashes = {one.files[0].identity: one.files[0].digest for one in files.values()}
    whole = {"files": files, "lock": lock, "hashes": hashes, **special}
    seen = running(state, **whole)
    return Snapshot("gpu1", SITE.root, SITE.state, NOW, asked_of(state), seen, disk(10**12))


def recalled(
    before: DesiredState, after: DesiredState, lock: Lock | None = None, **special: Any
) -> Recalled:
    made = snapshot(before, **special)
    return recall(made, after, checkout(made.observed.lock if lock is None else lock), NOW)


def checkout(lock: Lock | None, **renders: ObservedRender) -> Checkout:
    return Checkout(lock, TEMPLATES, renders)


def changed(made: Plan) -> Mapping[str, Action]:
    return {one.address: one.action for one in made.changes if one.action is not Action.NO_OP}


def one(front: object = True, **fields: Any) -> DesiredState:
    return desired({"a": fields}, gateway=front)


def test_a_change_of_what_is_known_leaves_nothing_open() -> None:
    before, after = one(**HUB), one(**HUB, params={"temp": "1"})
    found = recalled(before, after)
    assert found.unknown == ()
    assert changed(plan(after, found.observed)) == {"instance.a": Action.REPLACE}


def test_a_model_with_another_name_has_the_same_files() -> None:
    after = desired({"b": HUB})
    lock = {ModelName("b"): pin_of(after.models["b"])}
    found = recalled(one(**HUB), after, lock)
    assert found.unknown == ()
    made = plan(after, found.observed)
    assert changed(made)["instance.b"] is Action.CREATE
    assert "model_file.b" not in changed(made)


@pytest.mark.parametrize("is_pinned", [True, False])
def test_another_quant_is_fetched_as_lock_file_or_catalogue_say(is_pinned: bool) -> None:
    after = one(**{**HUB, "quant": "Q8"})
    pin = pin_of(after.models["a"])
    pin = replace(pin, files=(replace(pin.files[0], size=7, sha256="7" * 64),))
    found = recalled(one(**HUB), after, {A: pin} if is_pinned else {})
    assert found.unknown == ("the files of a",)
    assert found.observed.disks[A].free_bytes > 10**12
    made = plan(after, found.observed)
    assert changed(made)["model_file.a"] is Action.CREATE
    assert made.download_bytes == (7 if is_pinned else 2 * 10**9)


def test_the_disk_of_what_is_to_go_is_known_too() -> None:
    before, after = one(**HUB), one(**{**HUB, "state": "absent"})
    [file] = pin_of(before.models["a"]).files
    blob = Blob(f"/r/models/{file.sha256}", file.sha256, file.size, (1, 2))
    repo = StoredRepo("models--org--a", blobs=(blob,))
    store = ObservedStore({A: repo})
    assert recalled(before, before, store=store).observed.disks == {}
    made = plan(after, recalled(before, after, store=store).observed)
    [room] = made.disks
    assert room.free_after_bytes - room.free_bytes == made.freed_bytes == file.size


def test_bytes_that_are_there_are_not_fetched_again() -> None:
    """Of another commit the same file; of a URL that moved; of a path that is said otherwise."""
    before = one(**HUB)
    pin = replace(pin_of(before.models["a"]), commit="d" * 40)
    found = recalled(before, before, {A: pin})
    assert found.unknown == ("the files of a",)
    assert plan(before, found.observed).download_bytes == 0
    moved = {**URL["source"], "url": "https://mirror/a.gguf"}
    assert recalled(one(**URL), one(source=moved)).unknown == ()
    path = {"path": "a.gguf", "sha256": "5" * 64}
    known = recalled(one(), one(source=path))
    assert known.unknown == ("the files of a",)
    assert known.observed.files[A].identity == files_of(one().models["a"]).identity


def test_a_pin_that_is_read_since_is_the_same_one() -> None:
    state = one(**HUB)
    pin = replace(pin_of(state.models["a"]), facts=None)
    found = recalled(state, state, {A: pin})
    assert found.unknown == ()
    assert found.observed.files[A].pin == pin
    assert changed(plan(state, found.observed)) == {}
    # Without a pin it is as on the machine whose lock file lacks it: it is written.
    assert changed(plan(state, recalled(state, state, {}).observed)) == {"lock": Action.CREATE}


def test_what_is_to_be_absent() -> None:
    before = desired({"a": HUB, "b": {}})
    gone = desired({"a": {**HUB, "state": "absent"}, "c": {**URL, "state": "absent"}})
    repos = {A: StoredRepo("models--org--a"), ModelName("b"): StoredRepo("x")}
    found = recalled(before, gone, store=ObservedStore(repos))
    assert found.unknown == ("what the store holds of c",)
    assert found.observed.store.repos.keys() == {"a"}
    assert found.observed.files == {}
    # Files of a model that was absent were not looked for.
    assert recalled(gone, before, store=ObservedStore(repos)).unknown == (
        "the files of a",
        "the files of b",
    )


def test_what_was_not_looked_at_is_named() -> None:
    after = desired(
        {"a": {"port": 8009}},
        gateway={"listen": "10.0.0.1:9000", "nginx": "/opt/nginx", **KEYS, **TLS},
        engine={"command": "other-server"},
        renders=({"template": "templates/x.j2", "dest": "run/x"},),
    )
    made = snapshot(one(), nginx=(), has_listen_address=False)
    beside = checkout({}, **{"run/x": ObservedRender("text", note=RenderNote("1"))})
    found = recall(made, after, beside, NOW)
    assert found.unknown == (
        "the engine `other-server`",
        "port 8009",
        "port 9000",
        "the address 10.0.0.1",
        "the nginx `/opt/nginx`",
        "the keys in secrets/keys",
        "the certificate",
        "what lies at run/x",
    )
    assert found.observed.has_listen_address
    assert found.observed.renders == {"run/x": ObservedRender("text")}
    text = plan_text(plan(after, found.observed))
    assert "keys: not asked for -> asked for" in text
    assert "tls: certificate until a day that is not known" in text
    assert "blocked" not in text


def test_of_the_gateways_secrets_what_stays_is_known() -> None:
    both, keys, tls = ({**KEYS, **TLS}, KEYS, TLS)
    cases: list[tuple[Any, Any, GatewaySecrets]] = [
        (both, both, SECRETS),
        (both, keys, replace(SECRETS, certificate="", valid_until="")),
        (both, tls, replace(SECRETS, keys=None)),
        (tls, both, replace(SECRETS, keys=(GatewayKey("any", "0" * 64),))),
        (both, False, GatewaySecrets()),
    ]
    for before, after, expected in cases:
        seen = replace(SECRETS, keys=SECRETS.keys if "keys_file" in before else None)
        assert recalled(one(before), one(after), secrets=seen).observed.secrets == expected


def test_a_listener_of_this_machine_alone_is_no_question() -> None:
    state = one({"listen": "127.0.0.2:8888"})
    assert recalled(one(), state).unknown == ()


def test_what_the_operator_stopped_may_be_over() -> None:
    seen = snapshot(one(), journal=Journal(suspended={A: Suspension(1.0, until=NOW + 60)}))
    for now, count in ((NOW, 1), (NOW + 61, 0)):
        found = recall(seen, one(), checkout({}), now)
        assert len(found.observed.journal.suspended) == count


def test_cards_are_left_out_where_nobody_would_look() -> None:
    state = one()
    memory = ObservedMemory(ram_bytes=1, gpus=(ObservedGpu("x", 1),))
    seen = snapshot(state, memory=memory)
    for anew, expected in ((False, None), (True, memory.gpus)):
        found = recall(seen, state, checkout({}), NOW, anew=anew)
        assert found.observed.memory.gpus == expected
    plenty = replace(memory, ram_bytes=10**12)
    assert not cards_matter(state, seen.observed.files, plenty, frozenset())


def test_where_lock_file_and_renders_play_no_part() -> None:
    bare = replace(snapshot(one()), observed=ObservedState(), disk=None)
    found = recall(bare, one(**HUB), checkout(None), NOW)
    assert found.observed.lock is None
    assert found.observed.disks == {}
    assert found.observed.renders == {}
