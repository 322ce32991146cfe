"""The shipped templates of `renders`, filled in: each is as its program documents it."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from builders import SITE, desired

from reconciler.core.desired import DesiredState
from reconciler.core.render_view import render_context
from reconciler.core.site import Site
from reconciler.core.templating import fill_in
from reconciler.drivers.templates import shipped_folder

FOLDER = shipped_folder() / "renders"
MODELS = {
    "a": {"port": 8001, "aliases": ("x/y:z",), "params": {"ctx_size": "8192"}},
    "b": {"port": 8002},
    "off": {"state": "absent"},
}
SAFE = {
    "listen": "0.0.0.0:9000",
    "server_names": ("llm.lan", "llm.example.org"),
    "keys_file": "secrets/keys",
    "tls": {"cert": "tls/cert.pem", "key": "tls/key.pem"},
}
STATES = {
    "plain": desired(MODELS),
    "safe": desired(MODELS, gateway=SAFE),
    "bare": desired(MODELS, gateway=False),
    "empty": desired({}),
    "empty and bare": desired({}, gateway=False),
}


def filled(name: str, state: DesiredState, site: Site = SITE) -> str:
    text = (FOLDER / name).read_text(encoding="utf-8")
    return fill_in(((name, text),), name, render_context(state, site))


def document(name: str, state: DesiredState) -> Any:
    return yaml.safe_load(filled(name, state))


@pytest.mark.parametrize("state", STATES.values(), ids=STATES)
@pytest.mark.parametrize("path", sorted(FOLDER.iterdir()), ids=lambda path: path.name)
def test_each_is_whole_whatever_is_wanted(path: Any, state: DesiredState) -> None:
    text = filled(path.name, state)
    assert text.startswith("# Made by llm-reconcile from desired/x.yaml")
    assert text.endswith("\n")
    assert "off" not in text
    assert "{%" not in text
    if ".y" in path.name:
        assert yaml.safe_load(text)


def test_litellm_knows_every_name() -> None:
    said = document("litellm.yaml.j2", STATES["safe"])["model_list"]
    assert [one["model_name"] for one in said] == ["a", "x/y:z", "b"]
    assert said[1]["litellm_params"] == {
        "model": "openai/x/y:z",
        "api_base": "https://127.0.0.1:9000/v1",
        "api_key": "os.environ/LLM_RECONCILE_KEY",
    }
    assert said[0]["model_info"] == {"max_input_tokens": 8192}
    bare = document("litellm.yaml.j2", STATES["bare"])["model_list"]
    assert [one["litellm_params"]["api_base"][-7:] for one in bare] == ["8001/v1"] * 2 + ["8002/v1"]
    assert document("litellm.yaml.j2", STATES["empty"])["model_list"] == []


def variables(state: DesiredState) -> dict[str, str]:
    lines = filled("open-webui.env.j2", state).splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def test_open_webui_has_each_address_once_and_never_another_one() -> None:
    said = variables(STATES["bare"])
    assert said["OPENAI_API_BASE_URLS"] == "http://127.0.0.1:8001/v1;http://127.0.0.1:8002/v1"
    assert said["OPENAI_API_KEYS"] == "none;none"
    assert said["DEFAULT_MODELS"] == "a"
    assert "OPENAI_API_KEYS" not in variables(STATES["safe"])
    # Without a model, too; and without any address it would ask OpenAI.
    empty = variables(STATES["empty"])
    assert (empty["OPENAI_API_BASE_URLS"], empty["ENABLE_OPENAI_API"]) == (
        "http://127.0.0.1:8888/v1",
        "true",
    )
    assert variables(STATES["empty and bare"])["ENABLE_OPENAI_API"] == "false"


def test_continue_names_the_key_and_does_not_have_it() -> None:
    said = document("continue.yaml.j2", STATES["safe"])
    assert {"name", "version", "schema"} <= said.keys()
    first = said["models"][0]
    assert first["apiKey"] == "${{ secrets.LLM_RECONCILE_KEY }}"
    assert first["defaultCompletionOptions"] == {"contextLength": 8192}
    assert "apiKey" not in document("continue.yaml.j2", STATES["plain"])["models"][0]


def test_prometheus_scrapes_the_gateway_or_each_server() -> None:
    [job] = document("prometheus.yml.j2", STATES["safe"])["scrape_configs"]
    assert job["scheme"] == "https"
    assert job["tls_config"] == {"ca_file": "/r/tls/cert.pem", "server_name": "llm.lan"}
    assert job["authorization"] == {"credentials_file": "prometheus.key"}
    assert job["static_configs"] == [{"targets": ["127.0.0.1:9000"]}]
    [bare] = document("prometheus.yml.j2", STATES["bare"])["scrape_configs"]
    assert [one["labels"]["model"] for one in bare["static_configs"]] == ["a", "b"]


def test_caddy_answers_to_the_names_that_the_gateway_does() -> None:
    text = filled("Caddyfile.j2", STATES["safe"])
    assert "llm.lan, llm.example.org {" in text
    assert "reverse_proxy https://127.0.0.1:9000 {" in text
    assert 'tls_trusted_ca_certs "/r/tls/cert.pem"' in text
    assert "tls_server_name llm.lan" in text
    assert text.count("{") == text.count("}")
