"""Keys and TLS in the gateway's configuration: what is in it, and that it is never left out."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from builders import SITE, desired

from reconciler.core.gateway import render_gateway
from reconciler.core.gateway_view import GatewayView, gateway_view
from reconciler.core.keys import GatewayKey
from reconciler.core.observed import GatewaySecrets
from reconciler.core.outline import KeyOutline, Outline
from reconciler.core.plan import RenderedGateway
from reconciler.drivers.templates import load_templates
from reconciler.errors import GatewayError

ALICE = GatewayKey("alice", "a" * 64)
BOB = GatewayKey("bob", "b" * 64, ("q", "tiny", "gone"))
NOBODY = GatewayKey("nobody", "c" * 64, ("gone",))
SECRETS = GatewaySecrets((ALICE, BOB, NOBODY), "1" * 12, "2027-01-01")
HUB: dict[str, Any] = {"source": {"repo": "org/far"}, "quant": "Q4"}
MODELS: dict[str, Any] = {"qwen": {"aliases": ("q",), "port": 8001}, "tiny": {}, "other": HUB}
GATEWAY: dict[str, Any] = {
    "keys_file": "secrets/keys",
    "tls": {"cert": "tls/c.pem", "key": "tls/k.pem"},
}
TEMPLATES = load_templates("/nowhere")


def view(secrets: GatewaySecrets = SECRETS, **gateway: Any) -> GatewayView:
    state = desired(MODELS, gateway={**GATEWAY, **gateway})
    return gateway_view(state, SITE, frozenset(), secrets)


def render(secrets: GatewaySecrets = SECRETS, **gateway: Any) -> RenderedGateway:
    return render_gateway(view(secrets, **gateway), TEMPLATES)


def conf(secrets: GatewaySecrets = SECRETS, **gateway: Any) -> str:
    return render(secrets, **gateway).files["nginx.conf"]


def test_a_scope_is_the_names_of_models_that_are_there() -> None:
    keys = view().keys
    assert keys is not None
    assert [(key.name, key.models) for key in keys] == [
        ("alice", None),
        ("bob", ("qwen", "tiny")),
        ("nobody", ()),
    ]


def test_keys_are_in_it_by_their_digests() -> None:
    text = conf()
    assert f"{ALICE.digest} alice;" in text
    assert f'{BOB.digest} ",qwen,tiny,";' in text
    assert f'{NOBODY.digest} ",,";' in text
    assert f'{ALICE.digest} "' not in text
    # Each way to a model is behind both checks: two of it, and one port.
    assert text.count("if ($beyond_scope) { return 403; }") == 3 * len(MODELS) + 1
    assert text.count("{ return 401; }") == 2
    assert "js_set" not in conf(keys_file=None)
    assert "return 401" not in conf(keys_file=None)
    assert "{ return 403; }" not in conf(keys_file=None)


SLOW = dataclasses.replace(ALICE, per_minute=1, at_once=2)
PACED = dataclasses.replace(BOB, per_minute=7)
LIMITED = dataclasses.replace(SECRETS, keys=(SLOW, PACED, NOBODY))


def test_a_limit_counts_at_each_way_to_a_model_by_the_name_of_its_key() -> None:
    text = conf(LIMITED)
    assert text.count("limit_req zone=pace_1 nodelay;") == 3 * len(MODELS) + 1
    assert text.count("limit_req zone=pace_7 burst=6 nodelay;") == 3 * len(MODELS) + 1
    assert text.count("limit_conn width_2 2;") == 3 * len(MODELS) + 1
    assert text.count(f'"POST {SLOW.digest}" alice;') == 2
    assert text.count(f'"POST {PACED.digest}" bob;') == 1
    assert f"POST {NOBODY.digest}" not in text
    assert "limit" not in conf()


@pytest.mark.parametrize(("rpm", "pause"), [(1, 63), (2, 31), (7, 9), (60, 1), (60000, 1)])
def test_a_pause_is_as_long_as_nginx_takes_for_one_request(rpm: int, pause: int) -> None:
    keys = view(dataclasses.replace(SECRETS, keys=(dataclasses.replace(ALICE, per_minute=rpm),)))
    assert keys.keys is not None
    assert keys.keys[0].pause_s == pause


def test_limits_are_in_the_outline() -> None:
    assert render(LIMITED).outline.keys == {
        "alice": KeyOutline("a" * 12, "all models, 1 request a minute and 2 at once"),
        "bob": KeyOutline("b" * 12, "qwen, tiny, 7 requests a minute"),
        "nobody": KeyOutline("c" * 12, "no model"),
    }


def test_an_own_template_that_holds_nothing_is_refused_once_it_shall() -> None:
    older = {**TEMPLATES, "_hold.conf.j2": TEMPLATES["_hold.conf.j2"].replace("@again_", "@x_")}
    assert render_gateway(view(), older).outline.keys
    with pytest.raises(GatewayError, match="does nothing with gateway"):
        render_gateway(view(hold="1m"), older)


def test_an_own_template_without_limits_is_refused_once_there_are_some() -> None:
    older = {**TEMPLATES, "_keys.conf.j2": TEMPLATES["_keys.conf.j2"].replace("zone=", "zone=x")}
    assert render_gateway(view(), older).outline.keys
    with pytest.raises(GatewayError, match="does nothing with the limits of"):
        render_gateway(view(LIMITED), older)


def test_all_addresses_are_encrypted() -> None:
    text = conf()
    assert f'ssl_certificate "{SITE.root}/tls/c.pem";' in text
    assert f'ssl_certificate_key "{SITE.root}/tls/k.pem";' in text
    assert "ssl_protocols TLSv1.2 TLSv1.3;" in text
    assert "http2 on;" in text
    listens = [line.strip() for line in text.splitlines() if line.strip().startswith("listen 1")]
    assert len(listens) == 4
    assert all(" ssl" in line for line in listens)
    assert "ssl" not in conf(tls=None)


def test_the_outline() -> None:
    assert render().outline == Outline(
        listens=("127.0.0.1:8001", "127.0.0.1:8888"),
        keys={
            "alice": KeyOutline("a" * 12, "all models"),
            "bob": KeyOutline("b" * 12, "qwen, tiny"),
            "nobody": KeyOutline("c" * 12, "no model"),
        },
        certificate="1" * 12,
        valid_until="2027-01-01",
        rest=render(keys_file=None, tls=None).outline.rest,
        models={"other": "quant Q4", "qwen": "port 8001, aliases q", "tiny": "routed"},
    )
    assert render(keys_file=None, tls=None).outline.keys is None


@pytest.mark.parametrize(
    "change",
    [
        {"keys": (ALICE, BOB)},
        {"keys": (ALICE, BOB, dataclasses.replace(NOBODY, digest="d" * 64))},
        {"keys": (ALICE, BOB, dataclasses.replace(NOBODY, name="somebody"))},
        {"keys": (ALICE, BOB, dataclasses.replace(NOBODY, models=("tiny",)))},
        {"certificate": "2" * 12},
    ],
)
def test_other_secrets_are_another_generation_and_the_same_rest(change: dict[str, Any]) -> None:
    other = render(dataclasses.replace(SECRETS, **change))
    assert other.generation != render().generation
    assert other.outline.rest == render().outline.rest


def test_lines_and_order_of_the_keys_file_are_no_matter() -> None:
    moved = tuple(dataclasses.replace(key, line=9, column=9) for key in (NOBODY, BOB, ALICE))
    assert render(dataclasses.replace(SECRETS, keys=moved)) == render()


@pytest.mark.parametrize(
    ("secrets", "said"),
    [
        (GatewaySecrets(problem="secrets/keys:1: no"), "secrets/keys:1: no"),
        (GatewaySecrets(certificate="1"), "gateway.keys_file was not read"),
        (GatewaySecrets((), "1"), "gateway.keys_file was not read"),
        (GatewaySecrets((ALICE,)), "gateway.tls was not read"),
    ],
)
def test_without_its_secrets_there_is_no_configuration(secrets: GatewaySecrets, said: str) -> None:
    with pytest.raises(GatewayError, match=said) as caught:
        view(secrets)
    assert not caught.value.retryable


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("", "does nothing with gateway.keys_file"),
        ("{% for key in view.keys %}{{ key.digest }}{% endfor %}", "does nothing with gateway.tls"),
        ("{{ view.tls.key }}", "does nothing with gateway.keys_file"),
        ("{{ view.tls.key }} {{ view.keys[0].digest }}", "does nothing with gateway.keys_file"),
    ],
)
def test_an_own_template_that_protects_nothing_is_refused(template: str, said: str) -> None:
    templates = {**TEMPLATES, "nginx.conf.j2": template}
    with pytest.raises(GatewayError, match=said):
        render_gateway(view(), templates)
    assert render_gateway(view(keys_file=None, tls=None), {"nginx.conf.j2": ""}).outline.rest


@pytest.mark.parametrize(
    ("secrets", "said"),
    [
        (GatewaySecrets((GatewayKey("a;b", "a" * 64),), "1"), "'a;b' is not a key's name"),
        (GatewaySecrets((GatewayKey("a", "secret"),), "1"), "'a' is not a key's name"),
    ],
)
def test_a_key_that_nginx_would_misread_is_refused(secrets: GatewaySecrets, said: str) -> None:
    with pytest.raises(GatewayError, match=said):
        render(secrets)


def test_a_path_that_nginx_would_misread_is_refused() -> None:
    with pytest.raises(GatewayError, match="cannot carry"):
        render(tls={"cert": "tls/$c.pem", "key": "tls/k.pem"})
