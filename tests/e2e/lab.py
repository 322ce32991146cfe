"""One root of its own under /tmp, and the real command in it.

In: models as plain dicts. Out: results of verbs, what runs, answers of the gateway.
Everything that was started here ends with `Lab.close`, which says what `down` left behind.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

from engine_programs import FAKE_LLAMA_SERVER, llama_server
from waiting import PATIENCE_S, eventually

from e2e import machine
from e2e.client import Answer, Stream, ask

COMMAND = Path(sys.executable).with_name("llm-reconcile")
FAKE_ENGINE = {"kind": "llama-server", "command": str(FAKE_LLAMA_SERVER)}
EMBEDDED = {"kind": "embedded"}
MEASURED = ("COVERAGE_PROCESS_START", "COVERAGE_FILE")
"""What `make coverage` sets to see which lines our own processes run."""
WORKERS = 4
"""Of nginx, as templates/nginx.conf.j2 says."""
ENDLESS = 10**6
"""Tokens of an answer that outlives a test."""


def engine_of(name: str) -> dict[str, str]:
    """The `engine` of the desired file for one of `engine_programs`."""
    if name == "embedded":
        return dict(EMBEDDED)
    return {"kind": "llama-server", "command": str(llama_server())}


@dataclass(frozen=True)
class Result:
    """How a verb ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def all(self) -> str:
        return f"{self.out}\n{self.err}"


class Runs(Protocol):
    """Runs a verb in a root, with further variables and in a folder of its own if it must be."""

    def __call__(
        self, lab: Lab, *words: str, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> Result: ...


@dataclass(frozen=True)
class Nginx:
    """The processes of the root's gateway."""

    master: int | None
    workers: tuple[int, ...]


@dataclass
class Lab:
    """One root."""

    folder: Path
    weights: Path
    engine: Mapping[str, Any] = field(default_factory=lambda: dict(EMBEDDED))
    listen: int = field(default_factory=machine.free_port)
    under: tuple[str, ...] = ()
    """What every verb is run by: a program that changes its world, with its arguments."""
    variables: dict[str, str] = field(default_factory=dict)
    """Further variables of the environment of every verb."""
    _running: list[subprocess.Popen[str]] = field(default_factory=list)
    quick: ClassVar[Runs | None] = None
    """How a verb is run to its end where its process may be a fork; else it is started anew."""

    def __post_init__(self) -> None:
        for path in (self.root / "desired", self.folder / "home"):
            path.mkdir(parents=True)

    # ---- where things lie

    @property
    def root(self) -> Path:
        return self.folder / "r"

    @property
    def file(self) -> Path:
        return self.root / "desired" / "x.yaml"

    @property
    def lock(self) -> Path:
        return self.file.with_suffix(".lock.yaml")

    @property
    def state(self) -> Path:
        name = hashlib.sha256(str(self.root).encode()).hexdigest()[:12]
        home = Path(self.environment["XDG_STATE_HOME"])
        return home / "llm-reconcile" / name

    @property
    def environment(self) -> dict[str, str]:
        measured = {name: os.environ[name] for name in MEASURED if name in os.environ}
        return {
            **measured,
            "PATH": f"{COMMAND.parent}:{os.environ['PATH']}",
            "HOME": str(self.folder / "home"),
            "XDG_STATE_HOME": str(self.folder / "s"),
            "XDG_CACHE_HOME": str(self.folder / "c"),
            "LANG": "C.UTF-8",
            "LLM_RECONCILE_DEBUG": "1",
            **self.variables,
        }

    def pid_file(self, name: str) -> Path:
        return self.root / "run" / f"{name}.pid"

    def log(self, name: str) -> str:
        return (self.root / "logs" / f"{name}.log").read_text(errors="replace")

    def left_over(self) -> list[str]:
        """Sockets and pid files."""
        found = [*(self.state / "s").glob("*"), *(self.root / "run").glob("*.pid")]
        return sorted(path.name for path in found)

    # ---- the desired file

    def model(self, **fields: Any) -> dict[str, Any]:
        return {"source": {"path": str(self.weights)}, **fields}

    def write(self, models: Mapping[str, Mapping[str, Any]], **top: Any) -> None:
        """Write the desired file: what a model does not say is short and small by default."""
        if "gateway" not in top:
            top["gateway"] = {"listen": f"127.0.0.1:{self.listen}"}
        defaults = {"drain": "2s", "grace": "3s"}
        whole = {"version": 1, "engine": dict(self.engine), "defaults": defaults, **top}
        whole["models"] = {name: self.model(**fields) for name, fields in models.items()}
        saved = self.file.with_suffix(".new")
        saved.write_text(json.dumps(whole, indent=1))
        saved.replace(self.file)

    # ---- verbs

    def popen(self, *words: str, **options: Any) -> subprocess.Popen[str]:
        """Start a verb and leave it running."""
        child = subprocess.Popen(
            [*self.under, *options.pop("under", ()), str(COMMAND), *words],
            cwd=options.pop("cwd", self.root),
            env=self.environment | options.pop("env", {}),
            stdin=options.pop("stdin", subprocess.DEVNULL),
            stdout=options.pop("stdout", subprocess.PIPE),
            stderr=options.pop("stderr", subprocess.PIPE),
            text=True,
            start_new_session=True,
            **options,
        )
        self._running.append(child)
        return child

    def end(self, child: subprocess.Popen[str], timeout: float = 60.0) -> Result:
        """Wait for a verb that was left running."""
        try:
            out, err = child.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            child.kill()
            out, err = child.communicate()
            raise AssertionError(f"{child.args!r} did not end:\n{out}\n{err}") from None
        self._running.remove(child)
        return Result(child.returncode, out or "", err or "")

    def run(self, *words: str, code: int = 0, **options: Any) -> Result:
        """Run a verb to its end; it must end with this code."""
        done = self._done(words, options)
        assert done.code == code, f"{words}: exit {done.code}, not {code}\n{done.out}\n{done.err}"
        return done

    def _done(self, words: tuple[str, ...], options: dict[str, Any]) -> Result:
        if self.quick is None or self.under or options.keys() - {"env", "cwd"}:
            return self.end(self.popen(*words, **options))
        return self.quick(self, *words, **options)

    def plan(self, *words: str, code: int = 0) -> Result:
        return self.run("plan", str(self.file), *words, code=code)

    def apply(self, *words: str, code: int = 0) -> Result:
        return self.run("apply", str(self.file), "-y", *words, code=code)

    def begin_apply(self, *words: str) -> subprocess.Popen[str]:
        return self.popen("apply", str(self.file), "-y", *words)

    def status(self, *, code: int = 0) -> Any:
        return self.run("status", "--json", code=code).json

    def phases(self, *, code: int = 0) -> dict[str, str]:
        rows = self.status(code=code)["instances"]
        return {row["name"]: row["phase"] for row in rows}

    # ---- what runs

    def servers(self) -> dict[str, list[int]]:
        return machine.labelled(self.root)

    def pids(self) -> dict[str, int]:
        """One pid an instance; two copies of one fail the test."""
        servers = self.servers()
        assert all(len(found) == 1 for found in servers.values()), servers
        return {name: found[0] for name, found in servers.items()}

    def nginx(self) -> Nginx:
        """A master of a moment ago has not forked all of its workers: they are waited for."""
        deadline = time.monotonic() + PATIENCE_S
        while (seen := self._nginx()).master and len(seen.workers) < WORKERS:
            if time.monotonic() > deadline:
                break
            time.sleep(0.01)
        return seen

    def _nginx(self) -> Nginx:
        """A worker that only finishes its streams does not count."""
        found = {
            pid: machine.command_line(pid) for pid in machine.holders(self.state / "gateway.lock")
        }
        titled = [pid for pid, title in found.items() if title.startswith("nginx: master")]
        # A worker that was forked a moment ago still has its master's title.
        masters = [pid for pid in titled if machine.parent(pid) not in titled]
        assert len(masters) <= 1, found
        workers = [pid for pid, title in found.items() if title == "nginx: worker process"]
        return Nginx(masters[0] if masters else None, tuple(workers))

    def wait_for(self, instance: str) -> int:
        """Wait until a server of this name lives."""
        eventually(lambda: instance in self.servers(), f"{instance} is started")
        return self.pids()[instance]

    # ---- requests

    def ask(
        self, path: str, body: Mapping[str, Any] | None = None, port: int | None = None
    ) -> Answer:
        return ask(port or self.listen, path, body)

    def complete(self, model: str, tokens: int = 4, port: int | None = None) -> Answer:
        return self.ask("/v1/completions", completion(model, tokens), port)

    def stream(self, model: str, tokens: int = ENDLESS, port: int | None = None) -> Stream:
        return Stream(port or self.listen, "/v1/completions", completion(model, tokens))

    # ---- the end

    def close(self) -> list[str]:
        """End everything; returns what should not have been there."""
        for child in self._running:
            child.kill()
            child.communicate()
        complaints = []
        done = self._done(("down", "-y", *self._protected()), {})
        if done.code:
            complaints.append(f"down ended with {done.code}:\n{done.all}")
        for name, found in self.servers().items():
            complaints.append(f"{name} survived `down`: {found}")
            machine.kill(found)
        lock = self.state / "gateway.lock"
        if left := machine.holders(lock):
            complaints.append(f"nginx survived `down`: {left}")
            machine.kill(left)
            eventually(lambda: not machine.holders(lock), "nginx is gone")
        return complaints

    def _protected(self) -> Sequence[str]:
        try:
            journal = json.loads((self.state / "journal.json").read_text())
        except FileNotFoundError:
            return ()
        return [word for name in journal["protected"] for word in ("--allow-protected", name)]


def completion(model: str, tokens: int) -> dict[str, Any]:
    return {"model": model, "prompt": "hello", "max_tokens": tokens, "ignore_eos": True}
