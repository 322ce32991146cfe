"""A secret stands nowhere but where it is needed: in the server's environment (BARS 5).

Looked for in all that the verbs say, in all files that they write, and in everybody's arguments.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_server import TOKEN, hub_server

from e2e import machine
from e2e.lab import Lab

IN_FILE = {
    "HF_TOKEN": "hf_FileFileFileFile",
    "OPENAI_API_KEY": "sk-proj-9f8e7d6c5b4a",
    "DB_PASSWORD": "correct-horse-battery",
    "PLAIN_LOOKING": "swordfish-4711",
    "CUDA_SECRET": "cudasecret0815",
}
NEW = "sk-proj-changed-0001"
OF_CALLER = {"HF_TOKEN": TOKEN, "AWS_SECRET_ACCESS_KEY": "aws-wJalrXUtnFEMI"}
SECRETS = (*IN_FILE.values(), NEW, *OF_CALLER.values())
FILE = "FILE"
VERBS = (
    ("plan", FILE),
    ("plan", FILE, "--json"),
    ("apply", FILE, "-y", "-v"),
    ("apply", FILE, "-y", "--json"),
    ("status", "--json"),
    ("status", "a"),
    ("status", "a", "--json"),
    ("status", "a", "--argv"),
    ("restart", "a", "-v"),
    ("logs", "a"),
)


def leaks(text: str) -> list[str]:
    return [secret for secret in SECRETS if secret in text]


class Listener:
    """Everything that verbs say is searched at once."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab

    def run(self, *words: str, code: int = 0) -> str:
        said = [str(self._lab.file) if word == FILE else word for word in words]
        done = self._lab.run(*said, code=code)
        assert leaks(done.all) == [], words
        return done.all


@contextlib.contextmanager
def watched(lab: Lab) -> Iterator[None]:
    """At the end: no file but the user's own holds one, and nobody's arguments do."""
    yield
    tops = (lab.root, *(lab.folder / name for name in ("s", "c", "home")))
    files = [path for top in tops for path in top.rglob("*") if path.is_file()]
    assert len(files) > 10
    for path in files:
        if path.parent == lab.state / "generations":
            # Copies of the user's own file, for his eyes alone.
            assert path.stat().st_mode & 0o077 == 0, path
        elif path != lab.file:
            assert leaks(path.read_bytes().decode(errors="replace")) == [], path
    for pid in machine.pids():
        assert leaks(machine.command_line(pid)) == [], pid


def test_secrets_of_file_and_caller(lab: Lab) -> None:
    with hub_server() as hub, watched(lab):
        weights = {"tiny-Q4_0.gguf": lab.weights.read_bytes()}
        hub.add("org/private-GGUF", weights, private=True)
        lab.variables = {**OF_CALLER, "HF_ENDPOINT": hub.endpoint}
        private = {"source": {"repo": "org/private-GGUF"}, "quant": "Q4_0"}
        listener = Listener(lab)
        lab.write({"a": {"env": IN_FILE}, "b": {}, "c": private})
        for words in VERBS:
            listener.run(*words)
        lab.write({"a": {"env": IN_FILE | {"OPENAI_API_KEY": NEW}}, "b": {}, "c": private})
        assert "env.OPENAI_API_KEY" in listener.run("plan", FILE)
        listener.run("plan", FILE, "--json")
        listener.run("apply", FILE, "-y", "-v")
        env = machine.environment(lab.pids()["a"])
    assert {name: env[name] for name in IN_FILE} == IN_FILE | {"OPENAI_API_KEY": NEW}
    # The caller's own go to nobody: neither to another server nor to nginx.
    for pid in (lab.pids()["b"], lab.pids()["c"], *lab.nginx().workers):
        assert leaks(Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace")) == []


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ("env: {HF_TOKEN: [hf_FileFileFileFile]}", "`HF_TOKEN`"),
        ("env: {1TOKEN: hf_FileFileFileFile}", "`1TOKEN`"),
        ("env: HF_TOKEN=hf_FileFileFileFile", "`env`"),
        ("env: {HF_TOKEN=hf_FileFileFileFile: }", "`HF_TOKEN=…`"),
        ("args: {api-key: sk-proj-9f8e7d6c5b4a}", "gateway.keys_file"),
        ("args: {hf-token: hf_FileFileFileFile}", "must not stand in argv"),
        ("params: {api_key: sk-proj-9f8e7d6c5b4a}", "gateway.keys_file"),
    ],
)
def test_errors_do_not_repeat_a_secret(fakes: Lab, field: str, said: str) -> None:
    source = f"source: {{path: {fakes.weights}}}"
    fakes.file.write_text(f"version: 1\nmodels:\n  a:\n    {source}\n    {field}\n")
    for words in (("validate", FILE), ("apply", FILE, "-y")):
        assert said in Listener(fakes).run(*words, code=1)


def test_failures_do_not_repeat_a_secret(fakes: Lab) -> None:
    """A server that dies, a hub that refuses the token, one that breaks; with -v."""
    with hub_server() as hub, watched(fakes):
        hub.add("org/gated-GGUF", {"tiny-Q4_0.gguf": b"GGUF"}, gated=True)
        fakes.variables = {"HF_TOKEN": OF_CALLER["AWS_SECRET_ACCESS_KEY"], "LLM": "x"}
        fakes.variables["HF_ENDPOINT"] = hub.endpoint
        gated = {"source": {"repo": "org/gated-GGUF"}, "quant": "Q4_0"}
        dies = {"env": IN_FILE, "args": {"fake-exit-loading": 1}}
        fakes.write({"dies": dies, "gated": gated})
        listener = Listener(fakes)
        said = listener.run("apply", FILE, "-y", "-v", code=3)
        assert "instance.dies: failed" in said
        assert "gated" in said
        hub.broken = 500
        listener.run("plan", FILE)
        listener.run("status", code=3)
        listener.run("logs", "dies")


def test_what_a_server_says_last_is_told_without_a_secret(fakes: Lab, tmp_path: Path) -> None:
    """Its own log has it all; what goes to others, like plans and snapshots, has not."""
    end = tmp_path / "end.txt"
    said = " ".join((IN_FILE["DB_PASSWORD"], IN_FILE["PLAIN_LOOKING"], NEW))
    end.write_text(f"exit: 1\n\nerror: no entry with {said}\nat: {said}\n", encoding="utf-8")
    args = {"fake-end": str(end)}
    listener, old = Listener(fakes), {"env": IN_FILE | {"OPENAI_API_KEY": NEW}, "args": args}
    fakes.write({"a": old, "b": {}})
    assert "no entry with (not shown)" in listener.run("apply", FILE, "-y", "-v", code=3)
    for words in (
        ("plan", FILE),
        ("plan", FILE, "--format", "markdown"),
        ("plan", FILE, "--json"),
        ("status", "--snapshot", "-"),
        ("history", "--json"),
    ):
        listener.run(*words)
    for words in (("status", "a"), ("status", "a", "--json")):
        listener.run(*words, code=3)
    for path in fakes.state.rglob("*"):
        if path.is_file() and path.parent.name != "generations":
            assert leaks(path.read_bytes().decode(errors="replace")) == [], path
