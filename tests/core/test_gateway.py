"""The gateway's configuration as text: what enters it, and what must never enter it."""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Mapping
from typing import Any

import pytest

from reconciler.core.desired import DesiredState
from reconciler.core.gateway import PART, PLACEHOLDER, render_gateway
from reconciler.core.gateway_view import (
    GatewayModel,
    GatewayView,
    RoutedInstance,
    ServedKey,
    gateway_view,
    instance_names,
    live_file,
)
from reconciler.core.outline import OUTLINE_FILE, read_outline
from reconciler.core.site import Site
from reconciler.core.words import InstanceName, ModelName, ModelState
from reconciler.drivers.templates import load_templates
from reconciler.errors import GatewayError

SITE = Site(root="/r", state="/s", desired="desired/x.yaml")
MODELS: dict[str, Any] = {
    "glm-5.1": {"aliases": ("glm", "org/glm:Q4"), "port": 8001, "quant": "Q4_K_M"},
    "tiny": {"replicas": 3},
    "kept": {"state": "present", "port": 8003},
    "gone": {"state": "absent"},
    "zero": {"replicas": 0, "port": 8004},
}


def desired(models: Mapping[str, Any], **gateway: object) -> DesiredState:
    whole = {name: {"source": {"path": "x.gguf"}, **each} for name, each in models.items()}
    return DesiredState.model_validate({"version": 1, "gateway": gateway, "models": whole})


def view(models: Mapping[str, Any] = MODELS, *strangers: int, **gateway: object) -> GatewayView:
    return gateway_view(desired(models, **gateway), SITE, frozenset(strangers))


TEMPLATES = load_templates("/nowhere")


def conf(shown: GatewayView) -> str:
    return render_gateway(shown, TEMPLATES).files["nginx.conf"]


def router(shown: GatewayView) -> Any:
    """The models as the router lists them."""
    _, _, after = render_gateway(shown, TEMPLATES).files["models.js"].partition("function all() {")
    return json.loads(after.partition("return ")[2].partition(";\n")[0])


def test_what_is_served_follows_from_the_desired_state() -> None:
    shown = view()
    assert [model.name for model in shown.models] == ["glm-5.1", "gone", "kept", "tiny", "zero"]
    assert [model.name for model in shown.routed] == ["glm-5.1", "tiny"]
    assert [model.name for model in shown.listeners] == ["glm-5.1"]
    tiny = shown.routed[1]
    assert [instance.name for instance in tiny.instances] == ["tiny", "tiny[1]", "tiny[2]"]
    first = InstanceName("tiny")
    assert tiny.instances[0].route == SITE.route(first)
    assert tiny.instances[0].copies == (SITE.socket(first, "a"), SITE.socket(first, "b"))
    assert shown.folder == SITE.gateway
    assert shown.control_socket == SITE.control_socket
    assert shown.live_file == live_file(SITE)
    assert (shown.listen, shown.host) == ("127.0.0.1:8888", "127.0.0.1")


def test_the_instances_of_a_model() -> None:
    models = desired(MODELS).models
    assert instance_names("glm-5.1", models["glm-5.1"]) == ("glm-5.1",)
    assert instance_names("tiny", models["tiny"]) == ("tiny", "tiny[1]", "tiny[2]")
    for name in ("kept", "gone", "zero"):
        assert instance_names(name, models[name]) == ()


def test_host_names_are_ours_the_listeners_and_the_users() -> None:
    shown = view({}, listen="[fd00::1]:80", server_names=("LLM.lan", "llm.lan", "localhost"))
    assert shown.server_names == ("127.0.0.1", "[::1]", "[fd00::1]", "llm.lan", "localhost")
    assert "server_name 127.0.0.1 [::1] [fd00::1] llm.lan localhost;" in conf(shown)
    assert "listen [fd00::1]:80 default_server;" in conf(shown)


def test_a_strangers_port_is_left_out_and_nothing_else() -> None:
    assert "8001" not in conf(view(MODELS, 8001))
    assert view(MODELS, 8001).routed[0].name == "glm-5.1"
    assert "listen 127.0.0.1:8001;" in conf(view(MODELS, 8002))


def test_without_a_gateway_there_is_no_view() -> None:
    nothing = DesiredState.model_validate({"version": 1, "gateway": None})
    with pytest.raises(ValueError, match="gateway: false"):
        gateway_view(nothing, SITE, frozenset())


def test_the_configuration() -> None:
    text = conf(view())
    assert (
        f'upstream model_glm-5.1 {{\n        server "unix:{SITE.route(InstanceName("glm-5.1"))}"'
        in text
    )
    assert text.count("max_fails=0;") == 4
    assert text.count("least_conn;") == 1
    assert text.count("max_fails=0 max_conns=4;") == 3
    assert text.count("hash $conversation consistent;") == 1
    assert text.count("proxy_next_upstream error;") == 4
    assert text.count("keepalive 0;") == 3
    assert "location /api/tiny/ {" in text
    assert "8003" not in text
    assert "8004" not in text
    assert "model_kept" not in text
    assert "/api/kept" not in text
    # Nothing of nginx's own lies outside its folder.
    assert f'listen "unix:{SITE.control_socket}";' in text
    assert "error_log logs/error.log" in text


@pytest.mark.parametrize(
    ("flags", "slots"),
    [
        ({}, 4),
        ({"params": {"parallel": "16"}}, 16),
        ({"args": {"parallel": "2"}}, 2),
        ({"args": {"np": "1"}}, 1),
        ({"args": {"np": "-1"}}, 4),
        ({"args": {"np": "x; y"}}, 4),
        ({"args": {"np": ("1", "2")}}, 4),
    ],
)
def test_a_replica_has_as_many_conversations_as_slots(flags: dict[str, Any], slots: int) -> None:
    text = conf(view({"tiny": {"replicas": 2, **flags}}))
    assert text.count(f"max_fails=0 max_conns={slots};") == 2
    assert conf(view({"tiny": flags})) == conf(view({"tiny": {}}))


def test_who_does_not_hold_pays_nothing_for_it() -> None:
    assert "proxy_request_buffering on;" not in conf(view())
    assert "@again_" not in conf(view())
    held = conf(view(hold="1m30s"))
    # Each way to a model, and the way back: two of it, and one port.
    assert held.count("proxy_request_buffering on;") == 4 * 2 + 2
    assert held.count("location @again_glm-5.1 {") == 2
    assert "rewrite ^/api/glm-5[.]1$ / break;" in held
    script = render_gateway(view(hold="1m30s"), TEMPLATES).files["models.js"]
    assert "const HOLD_MILLISECONDS = 90000;" in script


def test_the_routers_table() -> None:
    models = router(view())
    assert [model["name"] for model in models] == [
        "glm-5.1",
        "gone",
        "kept",
        "tiny",
        "zero",
    ]
    assert models[0]["aliases"] == ["glm", "org/glm:Q4"]
    assert models[2] == {
        "name": "kept",
        "aliases": [],
        "quant": None,
        "port": 8003,
        "state": "present",
        "logs": [f"{SITE.root}/logs/kept.log"],
        "instances": [],
    }


def test_no_request_pays_for_the_number_of_models() -> None:
    """njs runs anew for each request what stands outside of functions."""
    lines = render_gateway(view(), TEMPLATES).files["models.js"].splitlines()
    outside = [line for line in lines if line and not line.startswith((" ", "}"))]
    assert f'const SOCKETS = "{SITE.sockets}";' in outside
    assert not any("glm" in line or "tiny" in line for line in outside)


def test_the_generation_stands_for_the_text() -> None:
    rendered = render_gateway(view(), TEMPLATES)
    assert len(rendered.generation) == 12
    wholes = (name.removesuffix(".j2") for name in TEMPLATES if not name.startswith(PART))
    assert set(rendered.files) == {*wholes, OUTLINE_FILE}
    assert read_outline(rendered.files[OUTLINE_FILE]) == rendered.outline
    assert f'return 200 "{rendered.generation}"' in rendered.files["nginx.conf"]
    assert not any(PLACEHOLDER in text for text in rendered.files.values())


def test_order_changes_nothing() -> None:
    expected = render_gateway(view(), TEMPLATES)
    chance = random.Random(1)  # noqa: S311 - shuffles a test's input
    for _ in range(10):
        names = list(MODELS)
        chance.shuffle(names)
        models = {name: dict(MODELS[name]) for name in names}
        models["glm-5.1"]["aliases"] = tuple(reversed(MODELS["glm-5.1"]["aliases"]))
        templates = dict(sorted(TEMPLATES.items(), key=lambda _: chance.random()))
        assert render_gateway(view(models), templates) == expected


@pytest.mark.parametrize(
    "change",
    [
        {"glm-5.1": {**MODELS["glm-5.1"], "port": 8002}},
        {"glm-5.1": {**MODELS["glm-5.1"], "aliases": ("glm",)}},
        {"glm-5.1": {**MODELS["glm-5.1"], "quant": "Q5_K_M"}},
        {"tiny": {"replicas": 2}},
        {"tiny": {"replicas": 3, "state": "present"}},
        {"new": {}},
    ],
)
def test_what_the_gateway_serves_changes_the_generation(change: dict[str, Any]) -> None:
    before = render_gateway(view(), TEMPLATES).generation
    assert render_gateway(view({**MODELS, **change}), TEMPLATES).generation != before


def test_every_template_changes_the_generation() -> None:
    def generation(templates: Mapping[str, str]) -> str:
        key = ServedKey("alice", "a" * 64, None)
        shown = dataclasses.replace(view(hold="1m"), keys=(key,))
        return render_gateway(shown, templates).generation

    for name, text in TEMPLATES.items():
        # Of a part only its macros are taken over.
        changed = text.replace("{% endmacro %}", "\n{% endmacro %}") + "\n"
        assert generation({**TEMPLATES, name: changed}) != generation(TEMPLATES), name


@pytest.mark.parametrize(
    "change",
    [
        {"params": {"ctx_size": "4096"}, "args": {"n-gpu-layers": "9"}, "env": {"X": "1"}},
        {"drain": "1m", "grace": "5s", "rollout": "surge", "protect": True},
    ],
)
def test_how_a_model_runs_does_not(change: dict[str, Any]) -> None:
    before = render_gateway(view(), TEMPLATES).generation
    after = {**MODELS, "tiny": {"replicas": 3, **change}}
    assert render_gateway(view(after), TEMPLATES).generation == before


HOSTILE = [
    '"',
    "'",
    "</script>",
    "*/ //",
    "\\",
    "${x}",
    "\u2028",
    "__proto__",
    "`",
    "{{ view }}",
    "\n",
]


@pytest.mark.parametrize("alias", HOSTILE)
def test_a_hostile_alias_is_only_ever_data(alias: str) -> None:
    models = {"tiny": {"aliases": (alias,), "quant": alias}}
    shown = view({"tiny": {}})
    model = dataclasses.replace(shown.models[0], aliases=(alias,), quant=alias)
    hostile = dataclasses.replace(shown, models=(model,))
    (listed,) = router(hostile)
    assert listed["aliases"] == [alias]
    assert listed["quant"] == alias
    assert models["tiny"]["aliases"] == (alias,)
    script = render_gateway(hostile, TEMPLATES).files["models.js"]
    assert "</script>" not in script
    assert "\u2028" not in script
    # nginx's own configuration never sees one.
    plain = conf(shown).replace(render_gateway(shown, TEMPLATES).generation, "G")
    assert conf(hostile).replace(render_gateway(hostile, TEMPLATES).generation, "G") == plain


def _model(name: str = "tiny", route: str = "/s/x.sock", alias: str = "a") -> GatewayModel:
    instance = RoutedInstance(InstanceName(name), route)
    return GatewayModel(ModelName(name), (alias,), None, None, ModelState.RUNNING, (instance,))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"listen": "127.0.0.1:80; include /etc/passwd"}, "is not an address"),
        ({"listen": "unix:/x"}, "is not an address"),
        ({"server_names": ("a b",)}, "is not a Host name"),
        ({"server_names": ("~^.*$",)}, "is not a Host name"),
        ({"server_names": ("x;",)}, "is not a Host name"),
        ({"server_names": ("",)}, "is not a Host name"),
        ({"cors_origins": ('https://a"',)}, "is no origin"),
        ({"models": (_model("x;y"),)}, "is not a model's name"),
        ({"models": (_model("models"),)}, "is not a model's name"),
        ({"models": (_model(alias=PLACEHOLDER),)}, "an alias must not contain"),
        ({"models": (_model(route='/s/x".sock'),)}, "cannot carry"),
        ({"folder": "/s/$x"}, "cannot carry"),
        ({"folder": "relative"}, "cannot carry"),
        ({"control_socket": "/s/\n.sock"}, "cannot carry"),
        ({"sockets": "/s:x"}, "cannot carry"),
    ],
)
def test_a_value_that_nginx_would_misread_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(GatewayError, match=said):
        render_gateway(dataclasses.replace(view(), **change), TEMPLATES)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("a\n{% if %}\n", "nginx.conf.j2:2"),
        ("a\n\n{{ nothing }}\n", "nginx.conf.j2:3"),
        ("{{ view.nothing }}", "nginx.conf.j2:1"),
        ("a\n{{ 1 / 0 }}", "nginx.conf.j2:2"),
        ("a\n{{ view + 1 }}", "nginx.conf.j2:2"),
        ("a\n{{ view.__class__.__mro__ }}", "nginx.conf.j2:2"),
        ("{% include 'other' %}", "nginx.conf.j2:1"),
    ],
)
def test_a_broken_template_is_named_with_its_line(text: str, place: str) -> None:
    with pytest.raises(GatewayError) as caught:
        render_gateway(view(), {**TEMPLATES, "nginx.conf.j2": text})
    assert caught.value.message.startswith(f"templates/{place}: ")
    assert not caught.value.retryable
    assert "template" in caught.value.hint


@pytest.mark.parametrize("text", ["\n{% if %}", "\n{{ nothing }}"])
def test_an_error_in_an_included_template_names_that_one(text: str) -> None:
    templates = {**TEMPLATES, "nginx.conf.j2": "{% include 'b.j2' %}", "b.j2": text}
    with pytest.raises(GatewayError, match=r"templates/b\.j2:2"):
        render_gateway(view(), templates)


def test_the_main_template_must_be_there() -> None:
    with pytest.raises(GatewayError, match=r"nginx\.conf\.j2 is missing"):
        render_gateway(view(), {"index.html": ""})
