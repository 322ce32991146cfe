"""What a plan shows of a launch: the user's own fields, and no secret."""

from __future__ import annotations

from typing import Any

from builders import desired, files_of, instances, server

from reconciler.core import differences
from reconciler.core.desired import DesiredState
from reconciler.core.outline import Outline
from reconciler.core.plan import Detail


def created(state: DesiredState) -> list[tuple[str, str | None]]:
    one = instances(state)["a"]
    details = differences.creation(one.model, one.spec, files_of(one.model).given)
    assert all(detail.before is None and not detail.forces_restart for detail in details)
    return [(detail.path, detail.after) for detail in details]


def changed(before: DesiredState, after: DesiredState, **live: Any) -> list[Detail]:
    one = instances(after)["a"]
    old = server(before, "a", **live)
    details = differences.replacement(old, one.model, one.spec, files_of(one.model).given)
    assert all(detail.forces_restart for detail in details)
    return list(details)


def forced(path: str, before: str | None, after: str | None) -> Detail:
    return Detail(path, before, after, forces_restart=True)


def test_a_creation_shows_the_fields_of_the_file() -> None:
    model = {
        "port": 8001,
        "params": {"ctx_size": "1"},
        "args": {"jinja": True, "mmap": False, "lora": ("a", "b")},
        "env": {"HF_TOKEN": "hf_1", "A": "1"},
    }
    assert created(desired({"a": model})) == [
        ("engine", "auto"),
        ("model", "/r/a.gguf"),
        ("port", "8001"),
        ("params.ctx_size", "1"),
        ("args.jinja", "true"),
        ("args.lora", "a, b"),
        ("args.mmap", "false"),
        ("env.A", "(not shown)"),
        ("env.HF_TOKEN", "(not shown)"),
    ]
    assert created(desired({"a": {}})) == [("engine", "auto"), ("model", "/r/a.gguf")]


def test_a_replacement_shows_what_changed() -> None:
    before = desired({"a": {"params": {"temp": "1", "top_p": "2"}, "env": {"A": "1", "B": "2"}}})
    after = desired({"a": {"args": {"temp": "1.5"}, "env": {"A": "1", "API_KEY": "k"}}})
    assert changed(before, after) == [
        forced("args.temp", "1", "1.5"),
        forced("env.API_KEY", None, "(not shown)"),
        forced("env.B", "(not shown)", None),
        forced("params.top_p", "2", None),
    ]


def test_a_secret_that_changed_shows_neither_value() -> None:
    before = desired({"a": {"env": {"HF_TOKEN": "hf_old"}}})
    after = desired({"a": {"env": {"HF_TOKEN": "hf_new"}}})
    assert changed(before, after) == [forced("env.HF_TOKEN", "(not shown)", "(not shown)")]


def test_a_variable_that_every_server_has_changed_only_where_its_value_did() -> None:
    own = {"HOME": "/h", "LD_LIBRARY_PATH": "/old"}
    before = desired({"a": {"env": own}})
    live = {"env": (), "base_env": (*own.items(), ("PATH", "/bin"))}
    hotter = desired({"a": {"env": own, "params": {"temp": "2"}}})
    assert changed(before, hotter, **live) == [forced("params.temp", None, "2")]
    moved = desired({"a": {"env": {**own, "LD_LIBRARY_PATH": "/new"}}})
    shown = forced("env.LD_LIBRARY_PATH", "(not shown)", "(not shown)")
    assert changed(before, moved, **live) == [shown]


def test_a_flag_that_is_switched_off_keeps_its_place_in_the_file() -> None:
    on, off = desired({"a": {"args": {"mmap": True}}}), desired({"a": {"args": {"mmap": False}}})
    assert changed(on, off) == [forced("args.mmap", "true", "false")]
    assert changed(off, on) == [forced("args.mmap", "false", "true")]


def test_other_files_and_another_listener() -> None:
    before = desired({"a": {"port": 8001}})
    after = desired({"a": {"port": 8001, "source": {"path": "b.gguf"}}}, gateway=False)
    assert changed(before, after) == [
        forced("listen", "socket", "127.0.0.1:8001"),
        forced("model", "/r/a.gguf", "/r/b.gguf"),
    ]


def test_a_server_whose_arguments_cannot_be_read() -> None:
    state = desired({"a": {}})
    for argv in ((), ("--model",)):
        assert changed(state, state, argv=argv) == [forced("model", None, "/r/a.gguf")]


def test_what_leaves_no_trace_on_a_process_is_named_as_such() -> None:
    state = desired({"a": {}}, engine={"kind": "embedded"})
    assert changed(state, state) == [forced("engine or sha256", None, "embedded")]


def test_a_gateway_shows_the_models_that_are_reached_in_another_way() -> None:
    before = Outline(models={"a": "port 1, aliases x", "b": "routed", "c": "routed"})
    after = Outline(models={"a": "port 1, aliases x y", "b": "routed", "d": "port 2"}, rest="2")
    assert differences.configuration(before, after) == (
        "its configuration changed",
        (
            Detail("models.a", "port 1, aliases x", "port 1, aliases x y"),
            Detail("models.c", "routed", None),
            Detail("models.d", None, "port 2"),
        ),
    )
    # An older version kept no models: what they were is not known.
    assert differences.configuration(Outline(), after)[1] == ()


def test_further_files_are_shown_by_the_field_that_wants_them() -> None:
    state = desired({"a": {"source": {"repo": "org/x", "draft": "Q8"}, "quant": "Q4"}})
    one = instances(state)["a"]
    given = {"model": "/m", "mmproj": "/p", "model-draft": "/d"}
    details = differences.creation(one.model, one.spec, given)
    assert [(detail.path, detail.after) for detail in details[1:]] == [
        ("model", "/m"),
        ("source.mmproj", "/p"),
        ("source.draft", "/d"),
    ]
    argv = ("--model", "/m", "--alias", "a", "--mmproj", "/old", "--model-draft", "/d")
    old = server(state, "a", argv=argv)
    found = differences.replacement(old, one.model, one.spec, given)
    assert found == (forced("source.mmproj", "/old", "/p"),)
    assert differences.replacement(old, one.model, one.spec, {"model": "/m"}) == (
        forced("source.draft", "/d", None),
        forced("source.mmproj", "/old", None),
    )
