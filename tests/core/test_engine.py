"""What an engine is given: flags, their hash, and the way back from a running server."""

from __future__ import annotations

from typing import Any

import pytest
from builders import desired, instances
from hypothesis import given
from hypothesis import strategies as st

from reconciler.core.engine import (
    OWNED_FLAGS,
    Flag,
    LaunchSpec,
    declared_engine,
    flag_name,
    masked,
    model_flags,
    owned_argv,
    to_flag,
    user_argv,
    user_flags_of,
)
from reconciler.core.fields import FlagValue
from reconciler.core.words import ModelName

A = ModelName("a")
SPEC = LaunchSpec(
    model=A,
    engine="auto",
    flags=(Flag("ctx-size", ("4096",)), Flag("jinja"), Flag("lora", ("x", "y"))),
    env=(("CUDA_VISIBLE_DEVICES", "0,1"), ("Ä", "ö")),
    files="org/repo@0123/x-Q4.gguf",
)


def test_the_hash_of_a_spec_is_the_same_in_every_version() -> None:
    """If this fails, an upgrade restarts every server of every user (BARS 8)."""
    assert SPEC.hash == "4a9f80a436c3"
    bare = LaunchSpec(A, "llama-server:/opt/llama-server", (), (), "/r/a.gguf", "127.0.0.1:8001")
    assert bare.hash == "88a8273e6246"


def test_the_hash_of_a_desired_model_is_the_same_in_every_version() -> None:
    model = {
        "source": {"path": "a.gguf", "sha256": "0" * 64},
        "params": {"temp": "0.7", "ctx_size": "4096"},
        "args": {"jinja": True, "mmap": False},
        "env": {"B": "2", "A": "1"},
        "port": 8001,
    }
    assert instances(desired({"a": model}))["a"].spec.hash == "679e18a61288"
    # What costs no restart is not in it.
    free = {
        "port": 8009,
        "aliases": ("x",),
        "rollout": "surge",
        "protect": True,
        "drain": "1s",
        "grace": "1s",
        "probe": {"startup": "1s"},
        "replicas": 2,
    }
    assert instances(desired({"a": {**model, **free}}))["a[1]"].spec.hash == "679e18a61288"


@pytest.mark.parametrize(
    "change",
    [
        {"params": {"temp": "1"}},
        {"args": {"jinja": True}},
        {"env": {"A": "1"}},
        {"source": {"path": "b.gguf"}},
        {"source": {"path": "a.gguf", "sha256": "0" * 64}},
        {"source": {"repo": "org/far"}, "quant": "Q4"},
    ],
)
def test_what_an_engine_is_given_is_in_the_hash(change: dict[str, Any]) -> None:
    before, after = desired({"a": {}}), desired({"a": change})
    assert instances(before)["a"].spec.hash != instances(after)["a"].spec.hash


def test_name_engine_and_listener_are_in_the_hash_too() -> None:
    model = {"a": {"port": 8001}}
    specs = [
        desired(model),
        desired(model, gateway=False),
        desired(model, engine={"kind": "embedded"}),
        desired(model, engine={"kind": "llama-server"}),
        desired(model, engine={"kind": "llama-server", "command": "/opt/x"}),
    ]
    hashes = {instances(one)["a"].spec.hash for one in specs}
    hashes.add(instances(desired({"b": {"source": {"path": "a.gguf"}}}))["b"].spec.hash)
    assert len(hashes) == 6


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("auto", "llama-server:/bin/x"),
        ("embedded", "embedded"),
        ("llama-server", "llama-server:/bin/x"),
    ],
)
def test_the_engine_as_declared(kind: str, said: str) -> None:
    state = desired({}, engine={"kind": kind, "command": "/bin/x"})
    assert declared_engine(state.engine) == said


def test_auto_is_itself_until_a_command_is_named() -> None:
    assert declared_engine(desired({}, engine={"kind": "auto"}).engine) == "auto"


@pytest.mark.parametrize(
    ("key", "value", "flag"),
    [
        ("ctx_size", "4096", Flag("ctx-size", ("4096",))),
        ("--flash-attn", "on", Flag("flash-attn", ("on",))),
        ("jinja", True, Flag("jinja")),
        ("mmap", False, Flag("no-mmap")),
        ("lora", ("a", "b"), Flag("lora", ("a", "b"))),
    ],
)
def test_an_entry_becomes_a_flag(key: str, value: FlagValue, flag: Flag) -> None:
    assert to_flag(key, value) == flag


def test_flags_have_one_order() -> None:
    one = desired({"a": {"params": {"temp": "1", "c": "2"}, "args": {"b": True}}}).models["a"]
    two = desired({"a": {"params": {"c": "2", "temp": "1"}, "args": {"b": True}}}).models["a"]
    assert model_flags(one) == model_flags(two)
    assert [flag.name for flag in model_flags(one)] == ["b", "c", "temp"]


def test_flags_are_spelled_as_the_engine_spells_them() -> None:
    flags = (Flag("c", ("1",)), Flag("jinja"), Flag("lora", ("x", "y")))
    known = {"c": "-c", "jinja": "--jinja"}
    assert user_argv(flags, known) == ["-c", "1", "--jinja", "--lora", "x", "--lora", "y"]


def test_our_own_flags() -> None:
    everything = dict.fromkeys(
        ("metrics", "slots", "no-ui", "cors-origins", "sse-ping-interval"), "--x"
    )
    assert owned_argv(A, {"model": "/m.gguf"}, "unix:/s/a.sock", everything) == [
        *("--model", "/m.gguf", "--alias", "a", "--host", "/s/a.sock"),
        *("--metrics", "--slots", "--no-ui"),
        *("--cors-origins", "localhost", "--sse-ping-interval", "2"),
    ]
    assert owned_argv(A, {"model": "/m.gguf"}, "127.0.0.1:8001", {"slots": "--slots"}) == [
        *("--model", "/m.gguf", "--alias", "a", "--host", "127.0.0.1", "--port", "8001"),
        "--slots",
    ]


def test_all_files_are_given() -> None:
    given = {"model": "/m.gguf", "model-draft": "/d.gguf", "mmproj": "/p.gguf"}
    assert owned_argv(A, given, "unix:/s/a.sock", {}) == [
        *("--model", "/m.gguf", "--alias", "a"),
        *("--mmproj", "/p.gguf", "--model-draft", "/d.gguf", "--host", "/s/a.sock"),
    ]


VALUES = st.text("abc-_.0123", min_size=1).filter(lambda text: not text.startswith("-"))
FLAGS = st.lists(
    st.builds(Flag, st.sampled_from(("temp", "c", "jinja", "lora", "no-mmap")), st.tuples(VALUES)),
    unique_by=lambda flag: flag.name,
)


@given(flags=FLAGS, bare=st.booleans(), address=st.sampled_from(("unix:/s/a.sock", "[::1]:80")))
def test_what_the_user_gave_can_be_read_back(flags: list[Flag], bare: bool, address: str) -> None:
    given_flags = sorted([*flags, Flag("verbose")] if bare else flags)
    known = dict.fromkeys(("metrics", "slots", "no-ui", "cors-origins", "sse-ping-interval"), "--x")
    argv = [
        *owned_argv(A, {"model": "/m.gguf"}, address, known),
        *user_argv(given_flags, {"c": "-c"}),
    ]
    assert user_flags_of(argv) == tuple(given_flags)


def test_reading_back_keeps_what_the_user_changed_of_ours() -> None:
    argv = ["stray", "--cors-origins", "https://x", "--no-ui", "--n", "-1", "--lora", "a"]
    assert user_flags_of([*argv, "--lora", "b"]) == (
        Flag("cors-origins", ("https://x",)),
        Flag("lora", ("a", "b")),
        Flag("n", ("-1",)),
    )


@pytest.mark.parametrize("name", OWNED_FLAGS)
def test_owned_flags_are_spelled_canonically_and_say_what_to_use(name: str) -> None:
    assert flag_name(name) == name
    assert len(OWNED_FLAGS[name]) > 10


def test_what_the_contract_calls_ours_is_ours() -> None:
    assert OWNED_FLAGS.keys() >= {
        *("host", "port", "model", "alias", "metrics", "slots"),
        *("api-key", "api-key-file", "ssl-key-file", "ssl-cert-file"),
    }


@pytest.mark.parametrize(
    "name",
    ["HF_TOKEN", "MY_PWD", "SENTRY_DSN", "HTTPS_PROXY", "DATABASE_URL", "LLAMA_API_KEY", "XCUDA_A"],
)
def test_what_may_hold_a_secret_is_not_shown(name: str) -> None:
    assert masked(name, "hf_123") == "(not shown)"


@pytest.mark.parametrize("name", ["CUDA_VISIBLE_DEVICES", "GGML_CUDA_NO_VMM", "OMP_NUM_THREADS"])
def test_settings_of_compute_libraries_are_shown(name: str) -> None:
    assert masked(name, "0") == "0"
