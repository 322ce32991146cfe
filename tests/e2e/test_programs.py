"""The shipped templates before the programs that they are for: what these take, whom they reach.

In: LiteLLM, and parts of Continue and Open WebUI, as `.ci/get-programs` brings them. Out: what they
read, answers of a real server. `make programs` runs this; by day it is left out, and said.
"""

from __future__ import annotations

import ast
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from certificates import make_certificate
from proof_tools import CACHE
from test_shipped_renders import STATES, filled, variables
from waiting import eventually

from e2e import machine
from e2e.lab import Lab

KEY = "litellm-key-4711"
MASTER_KEY = "sk-of-litellm-itself"
NAMES = ["org/tiny:q4", "tiny"]
TAKING = """
import { readFileSync } from "node:fs";
import { isDeepStrictEqual } from "node:util";
import YAML from "yaml";
import { getTemplateVariables, parseConfigYaml } from "@continuedev/config-yaml";
const text = readFileSync(0, "utf8");
const taken = parseConfigYaml(text);
const isWhole = isDeepStrictEqual(YAML.parse(text), taken);
console.log(JSON.stringify({ isWhole, secrets: getTemplateVariables(text) }));
"""
"""What Continue's schema does not know it drops without a word."""
ASKING = """
import { readFileSync } from "node:fs";
import { parseConfigYaml } from "@continuedev/config-yaml";
import { constructLlmApi } from "@continuedev/openai-adapters";
const [model] = parseConfigYaml(readFileSync(0, "utf8")).models;
const messages = [{ role: "user", content: "Hello" }];
const asked = { model: model.model, messages, max_tokens: 8, stream: false };
const until = AbortSignal.timeout(60000);
const said = await constructLlmApi(model).chatCompletionNonStream(asked, until);
console.log(JSON.stringify(said.usage));
"""
READ = (
    "ENABLE_OPENAI_API",
    "OPENAI_API_BASE_URLS",
    "OPENAI_API_KEYS",
    "ENABLE_OLLAMA_API",
    "DEFAULT_MODELS",
    "ENABLE_PERSISTENT_CONFIG",
)
ALSO_READ = ("OPENAI_API_BASE_URL", "OPENAI_API_KEY")
"""The older names of two of them."""


@contextlib.contextmanager
def litellm(lab: Lab) -> Iterator[str]:
    """LiteLLM's proxy with the file that was rendered; its address."""
    port = machine.free_port()
    program, file = CACHE / "litellm" / "bin" / "litellm", lab.root / "run" / "litellm.yaml"
    words = [str(program), "--config", str(file), "--host", "127.0.0.1", "--port", str(port)]
    own = {"LLM_RECONCILE_KEY": KEY, "LITELLM_MASTER_KEY": MASTER_KEY}
    own |= {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    own |= {"SSL_CERT_FILE": str(lab.root / "tls" / "cert.pem")}
    environment = {"PATH": os.environ["PATH"], "HOME": str(lab.folder / "home"), **own}
    with (lab.folder / "litellm.log").open("wb") as log:
        child = subprocess.Popen(words, env=environment, stdout=log, stderr=log)
    try:
        eventually(
            lambda: machine.listens(port) or child.poll() is not None, "LiteLLM", patience_s=300.0
        )
        assert child.poll() is None, (lab.folder / "litellm.log").read_text()
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        child.terminate()
        child.wait()


@pytest.fixture
def served(lab: Lab) -> Lab:
    """A model behind keys and TLS, and the shipped templates for those who ask it."""
    make_certificate(lab.root / "tls")
    keys = lab.root / "secrets" / "keys"
    keys.parent.mkdir()
    keys.write_text(f"client:{KEY}\n")
    keys.chmod(0o600)
    tls = {"cert": "tls/cert.pem", "key": "tls/key.pem"}
    gateway = {"listen": f"127.0.0.1:{lab.listen}", "keys_file": "secrets/keys", "tls": tls}
    renders = [
        {"template": f"templates/renders/{name}.yaml.j2", "dest": f"run/{name}.yaml"}
        for name in ("litellm", "continue")
    ]
    model = {"aliases": NAMES[:1], "params": {"ctx_size": 4096}}
    lab.write({"tiny": model}, gateway=gateway, renders=renders)
    lab.apply()
    return lab


@pytest.mark.timeout(400)
@pytest.mark.needs("litellm")
@pytest.mark.needs("openssl")
def test_litellm_passes_requests_on_by_every_name(served: Lab) -> None:
    with litellm(served) as url, openai.OpenAI(base_url=url, api_key=MASTER_KEY) as client:
        assert sorted(one.id for one in client.models.list()) == NAMES
        for name in NAMES:
            said = client.chat.completions.create(
                model=name, messages=[{"role": "user", "content": "Hello"}], max_tokens=8
            )
            assert said.usage
            assert said.usage.completion_tokens > 0
            with client.chat.completions.stream(
                model=name, messages=[{"role": "user", "content": "Hello"}], max_tokens=8
            ) as stream:
                assert [one for one in stream if one.type == "chunk"]


def by_continue(script: str, folder: Path, text: str) -> Any:
    """What a script says that uses Continue's packages; it is given a configuration."""
    (folder / "script.mjs").write_text(script)
    (folder / "node_modules").symlink_to(CACHE / "continue" / "node_modules")
    words = ["node", str(folder / "script.mjs")]
    done = subprocess.run(words, input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.needs("continue")
@pytest.mark.needs("openssl")
def test_continue_asks_the_gateway(served: Lab, tmp_path: Path) -> None:
    text = (served.root / "run" / "continue.yaml").read_text()
    text = text.replace("${{ secrets.LLM_RECONCILE_KEY }}", KEY)
    assert by_continue(ASKING, tmp_path, text)["completion_tokens"] > 0


@pytest.mark.needs("continue")
@pytest.mark.parametrize("state", STATES)
def test_continue_takes_every_word(state: str, tmp_path: Path) -> None:
    said = by_continue(TAKING, tmp_path, filled("continue.yaml.j2", STATES[state]))
    assert said["isWhole"]
    assert said["secrets"] == (["secrets.LLM_RECONCILE_KEY"] if state == "safe" else [])


def read_by_open_webui(given: dict[str, str]) -> Any:
    """What it makes of these variables: its own lines about them, run alone."""
    tree = ast.parse((CACHE / "open-webui" / "open_webui" / "config.py").read_text("utf-8"))

    def is_meant(node: ast.stmt) -> bool:
        found = [one for one in ast.walk(node) if isinstance(one, ast.Name)]
        stored = {one.id for one in found if isinstance(one.ctx, ast.Store)} - {"url"}
        return bool(stored) and all(one in READ or one in ALSO_READ for one in stored)

    tree.body = [node for node in tree.body if is_meant(node)]
    wanted = ", ".join(f"{name!r}: {name}" for name in READ)
    lines = f"import json, os\n{ast.unparse(tree)}\nprint(json.dumps({{{wanted}}}))"
    words = [sys.executable, "-c", lines]
    return json.loads(subprocess.run(words, env=given, capture_output=True, check=True).stdout)


@pytest.mark.needs("open-webui")
@pytest.mark.parametrize("state", STATES)
def test_open_webui_asks_our_addresses_and_no_others(state: str) -> None:
    given = variables(STATES[state])
    read = read_by_open_webui(given)
    urls = given["OPENAI_API_BASE_URLS"].split(";")
    assert read["ENABLE_OPENAI_API"] is (state != "empty and bare")
    assert read["OPENAI_API_BASE_URLS"] == urls or not read["ENABLE_OPENAI_API"]
    assert len(read["OPENAI_API_KEYS"]) == len(urls)
    assert (read["ENABLE_OLLAMA_API"], read["ENABLE_PERSISTENT_CONFIG"]) == (False, False)
    assert read["DEFAULT_MODELS"] == (None if "empty" in state else "a")
