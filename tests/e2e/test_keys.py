"""Keys and TLS with the real command: who gets in, what a change costs, where a key shows up."""

from __future__ import annotations

import hashlib
import json
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from certificates import Certificate, make_certificate
from openai import AuthenticationError, DefaultHttpxClient, OpenAI, PermissionDeniedError

from e2e import machine
from e2e.client import Answer, ask
from e2e.lab import Lab

ALICE, BOB = "alice-secret-key", "bob-secret-key"
FILE = f"# of the team\nalice:{ALICE}\nbob:{BOB}:one\n"
MARK = "-secret-key"
"""In every key of this file, and in nothing else."""

pytestmark = pytest.mark.needs("openssl")


class Guarded:
    """A root with two models behind keys and, if wanted, TLS."""

    def __init__(self, lab: Lab, *, tls: bool = False) -> None:
        self.lab = lab
        self.port = machine.free_port()
        self.gateway: dict[str, Any] = {
            "listen": f"127.0.0.1:{lab.listen}",
            "keys_file": "secrets/keys",
        }
        self.write_keys(FILE)
        self.certificate: Certificate | None = None
        if tls:
            self.gateway["tls"] = {"cert": "tls/cert.pem", "key": "tls/key.pem"}
            self.renew()
        self.write()

    def write(self) -> None:
        models = {"one": {"port": self.port, "aliases": ["uno"]}, "two": {}}
        self.lab.write(models, gateway=self.gateway)

    def write_keys(self, text: str, mode: int = 0o600) -> None:
        path = self.lab.root / "secrets" / "keys"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(mode)

    def renew(self) -> None:
        self.certificate = make_certificate(self.lab.root / "tls")

    def ask(
        self, path: str, body: Any = None, key: str | None = None, port: int | None = None
    ) -> Answer:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        trust = self.certificate.trust if self.certificate else None
        return ask(port or self.lab.listen, path, body, headers, trust)

    def client(self, key: str) -> OpenAI:
        """The client that people use."""
        scheme, trust = ("https", self.certificate.trust) if self.certificate else ("http", True)
        return OpenAI(
            base_url=f"{scheme}://127.0.0.1:{self.lab.listen}/v1",
            api_key=key,
            http_client=DefaultHttpxClient(verify=trust),
            max_retries=0,
        )


def answer(client: OpenAI, model: str) -> str:
    messages: list[Any] = [{"role": "user", "content": "hi"}]
    made = client.chat.completions.create(model=model, messages=messages, max_tokens=4)
    return made.model


def test_keys_and_tls(real: Lab) -> None:
    """From nothing to an answer; without the right key nobody gets one."""
    guarded = Guarded(real, tls=True)
    assert MARK not in real.plan().out
    done = real.apply()
    assert f"https://127.0.0.1:{real.listen}" in done.err
    assert f"https://127.0.0.1:{real.listen}" in real.run("status").out
    assert real.apply().out.startswith("No changes.")
    with guarded.client(ALICE) as alice, guarded.client(BOB) as bob:
        assert answer(alice, "two") == "two"
        assert answer(bob, "uno") == "one"
        assert [one.id for one in bob.models.list()] == ["one"]
        with pytest.raises(PermissionDeniedError, match="not meant for the model two"):
            answer(bob, "two")
        stream = alice.completions.create(model="one", prompt="a", max_tokens=9, stream=True)
        assert len(list(stream)) > 1
    with guarded.client("wrong-key") as nobody, pytest.raises(AuthenticationError):
        answer(nobody, "one")
    body = {"model": "one", "prompt": "a", "max_tokens": 1}
    for path, asked in (("/api/models", None), ("/v1/models", None), ("/v1/completions", body)):
        assert guarded.ask(path, asked).status == 401
        assert guarded.ask(path, asked, ALICE).status == 200
    assert guarded.ask("/health", port=guarded.port).status == 401
    assert guarded.ask("/v1/completions", body, BOB, guarded.port).status == 200
    assert guarded.ask("/health").status == 200
    assert b"<html" in guarded.ask("/").body.lower()


def test_a_key_shows_up_nowhere(fakes: Lab) -> None:
    guarded = Guarded(fakes, tls=True)
    said = [fakes.plan("--json").all, fakes.apply("-v").all]
    for key in (ALICE, BOB, f"wrong{MARK}"):
        guarded.ask("/v1/completions", {"model": "one", "prompt": "a"}, key)
        guarded.ask(f"/v1/models?key={key}")
    guarded.write_keys(FILE + f"carol:carol{MARK}\n")
    said.append(fakes.apply("--json").all)
    guarded.write_keys(FILE + f"carol carol{MARK}\n")
    said += [fakes.apply(code=3).all, fakes.run("status", code=3).all]
    assert not [text for text in said if MARK in text]
    nginx = fakes.nginx()
    for pid in [*fakes.pids().values(), nginx.master or 0, *nginx.workers]:
        assert MARK not in machine.command_line(pid)
        assert MARK not in json.dumps(machine.environment(pid))
    private = Path(guarded.certificate.key if guarded.certificate else "").read_text()
    for top in (fakes.root, fakes.folder / "s", fakes.folder / "home", fakes.folder / "c"):
        for path in top.rglob("*"):
            if not path.is_file() or path.parent.name in {"secrets", "tls"}:
                continue
            text = path.read_text(errors="replace")
            assert MARK not in text, path
            assert private.splitlines()[1] not in text, path
            # Not even by its digest, where others may read.
            if hashlib.sha256(ALICE.encode()).hexdigest() in text:
                assert path.stat().st_mode & 0o077 == 0
                assert path.parent.stat().st_mode & 0o077 == 0


def test_changed_keys_are_a_reload(fakes: Lab) -> None:
    guarded = Guarded(fakes)
    fakes.apply()
    pids, nginx = fakes.pids(), fakes.nginx()
    guarded.write_keys(f"alice:new{MARK}\nbob:{BOB}\n")
    done = fakes.apply()
    assert done.out.splitlines()[:3] == [
        "  ~ gateway                          its keys changed",
        "      keys.alice: all models -> all models, another key",
        "      keys.bob: one -> all models",
    ]
    assert "Gateway: reload." in done.out
    assert (fakes.pids(), fakes.nginx().master) == (pids, nginx.master)
    assert guarded.ask("/v1/models", key=ALICE).status == 401
    assert guarded.ask("/v1/models", key=f"new{MARK}").status == 200
    assert guarded.ask("/api/two/v1/models", key=BOB).status == 200
    # Comments and order say nothing new.
    guarded.write_keys(f"bob:{BOB}\n\n# first\nalice:new{MARK}\n")
    assert fakes.apply().out.startswith("No changes.")
    del guarded.gateway["keys_file"]
    guarded.write()
    assert "keys: asked for -> not asked for" in fakes.apply().out
    assert guarded.ask("/v1/models").status == 200


def test_renewed_certificate_is_a_reload(fakes: Lab) -> None:
    guarded = Guarded(fakes, tls=True)
    fakes.apply()
    pids, nginx = fakes.pids(), fakes.nginx()
    guarded.renew()
    with pytest.raises(OSError, match="certificate verify failed"):
        guarded.ask("/health")
    plan = fakes.apply().out
    assert "its certificate changed" in plan
    assert "tls: certificate until " in plan
    assert (fakes.pids(), fakes.nginx().master) == (pids, nginx.master)
    assert guarded.ask("/health").status == 200


def test_keys_that_cannot_be_used_change_nothing(fakes: Lab) -> None:
    """Nothing is started without them; what runs with good ones goes on with these."""
    guarded = Guarded(fakes)
    guarded.write_keys(FILE, mode=0o644)
    said = "others can read or change secrets/keys (mode 0644): chmod 600 secrets/keys"
    assert said in fakes.apply(code=3).err
    assert fakes.nginx().master is None
    assert not machine.listens(fakes.listen)
    assert not machine.listens(guarded.port)
    assert fakes.status(code=3)["gateway"]["phase"] == "blocked"
    guarded.write_keys(FILE)
    fakes.apply()
    pids, nginx = fakes.pids(), fakes.nginx()
    for text, said in (
        (f"alice:{ALICE}\nbob:short\n", "secrets/keys:2: the key has to be 8 to 256"),
        ("", "secrets/keys holds no key"),
    ):
        guarded.write_keys(text)
        done = fakes.apply(code=3)
        assert f"blocked, keeps serving: {said}" in done.out
        assert f"gateway is blocked: {said}" in done.err
        assert (fakes.pids(), fakes.nginx()) == (pids, nginx)
        assert guarded.ask("/v1/models").status == 401
        assert guarded.ask("/v1/models", key=ALICE).status == 200
    (fakes.root / "secrets" / "keys").unlink()
    assert "secrets/keys cannot be read: No such file" in fakes.run("status", code=3).out


def test_certificate_that_cannot_be_used_changes_nothing(fakes: Lab) -> None:
    guarded = Guarded(fakes, tls=True)
    fakes.apply()
    trusted, nginx = guarded.certificate, fakes.nginx()
    assert trusted
    good = trusted.trust
    other = make_certificate(fakes.folder / "other")
    other.key.replace(trusted.key)
    said = "tls/key.pem is not the private key of tls/cert.pem"
    assert said in fakes.apply(code=3).err
    assert fakes.nginx() == nginx
    assert ask(fakes.listen, "/health", trust=good).status == 200


def test_model_that_a_key_names_and_that_is_not_there(fakes: Lab) -> None:
    guarded = Guarded(fakes)
    guarded.write_keys(f"bob:{BOB}:one,tow\n")
    said = "secrets/keys:1:24: a key is for a model that is not in the desired file"
    assert f"Warning: {said}; did you mean `two`?\n" in fakes.plan().out
    shown = fakes.plan("--json").json["diagnostics"]
    assert [one["range"] for one in shown] == ["secrets/keys:1:24"]
    assert said in fakes.apply().out
    assert guarded.ask("/api/two/x", key=BOB).status == 403


def test_listening_everywhere_is_a_restart(fakes: Lab) -> None:
    """A reload cannot do it; no server is touched, and it is said before."""
    guarded = Guarded(fakes)
    fakes.apply()
    pids, nginx = fakes.pids(), fakes.nginx()
    narrow = guarded.gateway["listen"]
    guarded.gateway["listen"] = wide = f"{IPv4Address(0)}:{fakes.listen}"
    guarded.write()
    plan = fakes.plan().out
    assert "-/+ gateway" in plan
    assert f"{narrow} -> {wide}  # forces restart" in plan
    assert "Gateway: restart." in plan
    for listen in (wide, narrow):
        guarded.gateway["listen"] = listen
        guarded.write()
        fakes.apply()
        assert fakes.pids() == pids
        assert fakes.nginx().master not in {None, nginx.master}
        nginx = fakes.nginx()
        assert guarded.ask("/v1/models", key=ALICE).status == 200
        assert guarded.ask("/health", key=BOB, port=guarded.port).status == 200
    assert fakes.apply().out.startswith("No changes.")
