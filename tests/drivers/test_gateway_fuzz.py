"""Any gateway that a desired file can ask for is one that nginx takes, and no value escapes in it;
and whatever a client sends, it reaches only what its key is for.

In: values and requests made up by hypothesis. LLM_RECONCILE_NIGHT=1: many more of them.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from e2e.machine import free_port
from gateway_rig import WORLD, Rig, forget_requests, rig, write_keys
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from reconciler.core.desired import RESERVED_NAMES
from reconciler.errors import GatewayError

NIGHT = bool(os.environ.get("LLM_RECONCILE_NIGHT"))
PATIENCE_S = 10.0
QUIET_S = 0.3
"""A gateway that says nothing for so long waits for the rest of a request."""
FUZZED = settings(suppress_health_check=[HealthCheck.too_slow])
SPICE = ("{", "}", ";", "$", '"', "'", "\\", "#", "\n", "\r", " ", "${x}", "%2f", "..", "</script>")
"""What means something to nginx, njs or a page."""
texts = st.lists(st.one_of(st.sampled_from(SPICE), st.text(max_size=4)), max_size=6).map("".join)
names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", fullmatch=True)
hosts = st.from_regex(r"[a-z0-9]{1,9}(\.[a-z]{2,5})?", fullmatch=True)
origins = st.from_regex(r"https?://[a-z]{1,9}(\.lan)?(:[1-9][0-9]{0,3})?", fullmatch=True)
keys = st.from_regex(r"[!-9;-~]{8,40}", fullmatch=True)
limits = st.sampled_from(("", " rpm=7", " parallel=2", " rpm=60 parallel=4"))


@pytest.fixture(scope="module")
def folder() -> Iterator[Rig]:
    with rig() as made:
        yield made


@st.composite
def gateways(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, Any], str]:
    """Models, further fields of the gateway, the keys file (empty: none)."""
    found = draw(st.lists(names, unique_by=str.lower, min_size=1, max_size=4))
    models = {
        name: {
            "aliases": tuple(draw(st.lists(st.one_of(names, texts), max_size=3))),
            "quant": draw(st.none() | names),
            "replicas": draw(st.integers(0, 3)),
            "state": draw(st.sampled_from(("running", "present"))),
        }
        for name in found
    }
    fields = {
        "server_names": tuple(draw(st.lists(hosts, max_size=3))),
        "cors_origins": tuple(draw(st.lists(origins, max_size=2))),
    }
    scopes = st.sampled_from(("", ":" + ",".join(found), f":{found[0]}"))
    lines = [
        f"key{number}:{key}{draw(scopes)}{draw(limits)}"
        for number, key in enumerate(draw(st.lists(keys, unique=True, max_size=3)))
    ]
    return models, fields, "\n".join(lines)


def shape(config: str) -> list[str]:
    """A configuration without its words: what opens, ends and closes, outside of quotes."""
    plain = re.sub(r"(?m)^\s*#.*$", "", config)
    plain = re.sub(r"\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'", "Q", plain)
    return re.findall(r"[{};]", re.sub(r"\$\{\w+\}|\\.", "", plain))


@settings(FUZZED, max_examples=1000 if NIGHT else 40)
@given(gateway=gateways())
def test_any_gateway_is_one_that_nginx_takes(
    folder: Rig, gateway: tuple[dict[str, Any], dict[str, Any], str]
) -> None:
    models, fields, lines = gateway
    if lines:
        write_keys(folder, f"{lines}\n")
        fields = {**fields, "keys_file": "secrets/keys"}
    try:
        rendered = folder.render(models, **fields)
    except (ValidationError, GatewayError):
        # Refused before anything is rendered; what is accepted has to work.
        reject()
    assert nginx_says(folder, rendered.files) == ""
    tame = [f"m{number}" for number in range(len(models))]
    named = dict(zip(sorted(models), tame, strict=True))
    again = {named[name]: {**each, "aliases": ()} for name, each in models.items()}
    if lines:
        for old, new in sorted(named.items(), key=lambda pair: -len(pair[0])):
            lines = re.sub(rf"(?m)([:,]){re.escape(old)}(?=[,\s]|$)", rf"\1{new}", lines)
        write_keys(folder, f"{lines}\n")
    plain = folder.render(again, **fields)
    for file in rendered.files:
        if file.endswith(".conf"):
            assert shape(rendered.files[file]) == shape(plain.files[file]), file


def nginx_says(folder: Rig, files: Mapping[str, str]) -> str:
    """What nginx has against these files; empty when nothing."""
    root = Path(folder.site.gateway) / "fuzz"
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    for part in ("logs", "temp"):
        (Path(folder.site.gateway) / part).mkdir(exist_ok=True)
    nginx, why = folder.gateway.locate("auto")
    assert nginx, why
    Path(nginx[0]).chmod(0o755)
    argv = [*nginx, "-p", folder.site.gateway, "-c", "fuzz/nginx.conf", "-e", "logs/e.log", "-t"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return done.stderr if done.returncode else ""


# ---- requests

ALICE = "alice-key-1"


@pytest.fixture(scope="module")
def world() -> Iterator[Rig]:
    """Alice's key is for `alpha` only; `beta` must never hear of her."""
    with rig() as made:
        made.ports = {"alpha": free_port(), "beta": free_port()}
        write_keys(made, f"alice:{ALICE}:alpha\n")
        ports = {name: {**WORLD[name], "port": port} for name, port in made.ports.items()}
        made.apply(made.render({**WORLD, **ports}, keys_file="secrets/keys"))
        for instance in ("alpha", "beta"):
            made.backend(instance)
        yield made


PIECES = (
    *("/", "//", "api", "v1", "alpha", "beta", "models", "chat/completions", "..", ".", "logs"),
    *("%2f", "%2e%2e", "%5c", "\\", "%00", "?model=beta", "?model=alpha", "&model=beta", "#", ";"),
    *("%62eta", "BETA", "status", "history", "-/health", "@model_beta", "tokenize", "metrics", "*"),
)
paths = st.lists(st.sampled_from(PIECES), min_size=1, max_size=7).map(
    lambda all: "/" + "".join(all)
)
HEADERS = (
    "X-Conversation-Id: beta",
    "Content-Length: 5",
    "Content-Length: 5, 6",
    "Transfer-Encoding: chunked",
    "Transfer-Encoding: xchunked",
    "Transfer-Encoding : chunked",
    " folded: beta",
    "X-Accel-Redirect: /api/beta/x",
    "X-Original-URL: /api/beta/x",
    "X-Rewrite-URL: /api/beta/x",
    "X-Model: beta",
    "Connection: x-api-key, authorization",
    "Upgrade: h2c",
    "Expect: 100-continue",
    "X-Long: " + "a" * 9000,
    "Content-Type: multipart/form-data; boundary=x",
    "Content-Type: multipart/form-data; boundary=",
    "Origin: https://evil.example",
    "Host: beta",
    "Host:",
)
BODIES = (
    '{"model":"beta"}',
    '{"model":"alpha","model":"beta"}',
    '{"model":"alpha","x":{"model":"beta"}}',
    '{"model":"b\\u0065ta"}',
    '{"mod\\u0065l":"beta"}',
    '{"model":["beta"]}',
    '{"model":"@model_beta"}',
    '{"model":"__proto__"}',
    '{"model":"alpha\\r\\nX-Evil: 1"}',
    '{"model":"../beta"}',
    '--x\r\nContent-Disposition: form-data; name="model"\r\n\r\nbeta\r\n--x--\r\n',
    "[" * 40,
    "\x00\xff",
    "5\r\nhello\r\n0\r\n\r\n",
    "0\r\n\r\nGET /api/beta/x HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "GET /api/beta/smuggled HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: other-key\r\n\r\n",
)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """Bytes that are nearly a request."""
    method = draw(
        st.sampled_from(("GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD", "TRACE", "get"))
    )
    path = draw(paths)
    version = draw(st.sampled_from(("HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/2.0", "")))
    headers = draw(st.lists(st.sampled_from(HEADERS), max_size=3, unique=True))
    body = draw(st.lists(st.sampled_from(BODIES), max_size=2).map("".join))
    if draw(st.booleans()):
        headers = [*headers, f"Content-Length: {len(body.encode('latin-1'))}"]
    front = [
        f"{method} {path} {version}",
        "Host: localhost",
        f"X-Api-Key: {ALICE}",
        "Connection: close",
        *headers,
    ]
    return ("\r\n".join([*front, "", ""]) + body).encode("latin-1")


def say(world: Rig, sent: bytes, port: int) -> bytes:
    """All that comes back until the gateway has closed, or waits for more."""
    with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as connection:
        connection.sendall(sent)
        # To shut our side down would be to have left, for nginx.
        connection.settimeout(QUIET_S)
        answer = b""
        with contextlib.suppress(ConnectionResetError, TimeoutError):
            while part := connection.recv(65536):
                answer += part
    return answer


@settings(FUZZED, max_examples=10_000 if NIGHT else 300)
@given(sent=requests(), way=st.sampled_from(("gateway", "alpha", "beta")))
def test_a_request_reaches_only_what_its_key_is_for(world: Rig, sent: bytes, way: str) -> None:
    forget_requests(world)
    port = world.listen if way == "gateway" else world.ports[way]
    answer = say(world, sent, port)
    for status in re.findall(rb"(?m)^HTTP/1\.1 (\d+)", answer):
        assert status != b"500", answer
    heads = answer.split(b"\r\n\r\n")[0]
    assert b"\nX-Evil" not in heads
    assert world.backends["beta.a"].seen == []
    for seen in world.backends["alpha.a"].seen:
        assert "x-api-key" not in seen.headers
        assert not re.search(r"(^|/)\.\.(/|$)", seen.path)
    if not sent.startswith(b"get"):
        assert world.ask("GET", "/health").status == 200


def test_the_fuzz_can_reach_who_it_may(world: Rig) -> None:
    """Else the test above would hold for a gateway that answers nobody."""
    forget_requests(world)
    body = json.dumps({"model": "alpha"})
    front = f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: {ALICE}\r\n"
    front += "Connection: close\r\n"
    sent = f"{front}Content-Length: {len(body)}\r\n\r\n{body}".encode()
    assert b" 200 " in say(world, sent, world.listen)
    assert len(world.backends["alpha.a"].seen) == 1
    assert not RESERVED_NAMES & WORLD.keys()
