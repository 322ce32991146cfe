"""Who asks from a browser: our own page, pages of this machine, named ones, apps; nobody else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from e2e.machine import free_port
from gateway_rig import WORLD, Answer, Rig, forget_requests, only, rig

CHAT, KEY = "https://chat.lan:3000", "alice-key-1"
ASK = {"model": "alpha"}


@pytest.fixture(scope="module")
def whole_world() -> Iterator[Rig]:
    with rig() as made:
        made.ports["alpha"] = free_port()
        alpha = {**WORLD["alpha"], "port": made.ports["alpha"]}
        made.apply(
            made.render({**WORLD, "alpha": alpha}, server_names=("llm.lan",), cors_origins=(CHAT,))
        )
        made.backend("alpha")
        yield made


@pytest.fixture
def world(whole_world: Rig) -> Rig:
    forget_requests(whole_world)
    return whole_world


def cors(answer: Answer) -> Mapping[str, str]:
    return {
        name: value
        for name, value in answer.headers.items()
        if name.startswith("access-control") or name == "vary"
    }


@pytest.mark.parametrize("where", ["main", "own port"])
@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "https://evil.example:8888",
        "http://llm.lan.evil.example",
        "http://localhost.evil.example",
        "http://127.0.0.1.evil.example:80",
        "https://chat.lan",
        "https://chat.lan:30000",
        "http://chat.lan:3000",
        "null",
        "*",
        "evil",
    ],
)
def test_pages_of_others_reach_nobody(world: Rig, origin: str, where: str) -> None:
    port = world.ports["alpha"] if where == "own port" else None
    for path in ("/v1/completions", "/api/alpha/v1/completions", "/api/models"):
        answer = world.ask("POST", path, ASK, port=port, headers={"Origin": origin})
        assert (answer.status, answer.json["error"]["code"]) == (403, "origin_not_allowed")
        assert not cors(answer)
    assert not any(each.seen for each in world.backends.values())


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("llm.lan", "http://llm.lan"),
        ("llm.lan:8888", "https://llm.lan:8888"),
        ("LLM.lan", "http://llm.LAN"),
        ("localhost", "http://localhost:3000"),
        ("localhost", "https://127.0.0.1"),
        ("127.0.0.1", "http://[::1]:5173"),
        ("localhost", "app://obsidian.md"),
        ("localhost", "vscode-webview://1abc"),
        ("localhost", "file://"),
    ],
)
def test_pages_of_this_host_and_apps_may_ask(world: Rig, host: str, origin: str) -> None:
    answer = world.ask("POST", "/v1/completions", ASK, headers={"Host": host, "Origin": origin})
    assert answer.status == 200
    assert not cors(answer)
    assert only(world, "alpha.a").seen


@pytest.mark.parametrize("path", ["/v1/completions", "/api/alpha/v1/completions", "/api/models"])
def test_a_named_page_may_ask_and_read(world: Rig, path: str) -> None:
    method = "GET" if path == "/api/models" else "POST"
    answer = world.ask(method, path, ASK, headers={"Origin": CHAT})
    assert answer.status == 200
    assert cors(answer) == {"access-control-allow-origin": CHAT, "vary": "Origin"}


@pytest.mark.parametrize("where", ["main", "own port"])
def test_a_named_page_asks_beforehand(world: Rig, where: str) -> None:
    """The server is not asked: what it says of origins is not meant for whom we let in."""
    port = world.ports["alpha"] if where == "own port" else None
    wants = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-a, b"}
    headers = {"Origin": CHAT, **wants}
    answer = world.ask("OPTIONS", "/v1/completions", headers=headers, port=port)
    assert answer.status == 204
    assert cors(answer) == {
        "access-control-allow-origin": CHAT,
        "access-control-allow-methods": "GET, POST, DELETE",
        "access-control-allow-headers": "x-a, b",
        "vary": "Origin",
    }
    assert not any(each.seen for each in world.backends.values())
    refused = world.ask(
        "OPTIONS", "/v1/completions", headers={"Origin": "http://x.example", **wants}
    )
    assert (refused.status, cors(refused)) == (403, {})


def test_a_named_page_reads_errors_too(world: Rig) -> None:
    answer = world.ask("POST", "/v1/completions", {"model": "nope"}, headers={"Origin": CHAT})
    assert answer.status == 404
    assert cors(answer)["access-control-allow-origin"] == CHAT


def test_with_keys() -> None:
    """Asking beforehand needs no key, asking does; and a page reads that it lacks one."""
    with rig() as made:
        path = Path(made.site.root) / "secrets" / "keys"
        path.parent.mkdir(parents=True)
        path.write_text(f"alice:{KEY}\n")
        path.chmod(0o600)
        made.apply(made.render(WORLD, keys_file="secrets/keys", cors_origins=(CHAT,)))
        made.backend("alpha")
        asked = made.ask(
            "OPTIONS",
            "/v1/completions",
            headers={"Origin": CHAT, "Access-Control-Request-Headers": "authorization"},
        )
        assert (asked.status, cors(asked)["access-control-allow-headers"]) == (204, "authorization")
        lacking = made.ask("POST", "/v1/completions", ASK, headers={"Origin": CHAT})
        assert lacking.status == 401
        assert cors(lacking) == {"access-control-allow-origin": CHAT, "vary": "Origin"}
        headers = {"Origin": CHAT, "Authorization": f"Bearer {KEY}"}
        assert made.ask("POST", "/v1/completions", ASK, headers=headers).status == 200
        headers["Origin"] = "http://evil.example"
        assert made.ask("POST", "/v1/completions", ASK, headers=headers).status == 403
