"""What a released version left on a machine: kept as data, and laid out again for today's code.

In: a lab of that version (`keep`), or the kept folder and a fresh lab (`lay_out`). Out: files under
tests/data/state/VERSION; and a machine on which that version's servers and nginx still run.
What differs between machines is replaced: folders, ports, the identity of the weights.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine_programs import FAKE_LLAMA_SERVER
from waiting import eventually

from e2e import machine
from e2e.client import ask_socket
from e2e.lab import Lab
from reconciler.core.site import Site
from reconciler.drivers import effects
from reconciler.drivers.nginx import NginxGateway

KEPT = Path(__file__).parents[1] / "data" / "state"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
ENGINE = {"kind": "llama-server", "command": "./engine"}
"""Relative, as the weights are a hub's: so the spec hash is the same wherever the root lies."""
HUB = {"source": {"repo": "org/tiny-GGUF", "revision": COMMIT}, "quant": "Q4_0"}
MODELS: dict[str, dict[str, Any]] = {
    "plain": {},
    "flags": {
        "aliases": ["org/flags:latest"],
        "port": "@PORT1@",
        "params": {"ctx_size": 256, "temp": 0.7, "top_p": 1e-1},
        "args": {"jinja": True, "flash-attn": "on", "seed": ["1", "2"], "warmup": False},
        "env": {"CUDA_VISIBLE_DEVICES": "0,1", "MY_TOKEN": "t"},
    },
    "pair": {"replicas": 2},
    "swift": {"rollout": "surge"},
    "gold": {"protect": True},
    "off": {"drain": "1s"},
    "bad": {"args": {"fake-exit-loading": 1}},
}
REASON = "card is hot"
LONG_AGO = 1_000_000_000
"""Seconds since the epoch: in 2001."""


def make_ready(lab: Lab) -> None:
    """The engine and the weights that the models name."""
    engine = lab.root / "engine"
    engine.write_text(f'#!/bin/sh\nexec "{FAKE_LLAMA_SERVER}" "$@"\n')
    engine.chmod(0o755)
    weights = weights_of(lab)
    weights.parent.mkdir(parents=True)
    shutil.copy(lab.weights, weights)


def weights_of(lab: Lab) -> Path:
    folder = lab.root / "models" / "models--org--tiny-GGUF" / "snapshots" / COMMIT
    return folder / "tiny-Q4_0.gguf"


@dataclass(frozen=True)
class Wordings:
    """What stands for a machine's own words in the kept files: placeholder -> word."""

    words: Mapping[str, str]

    @classmethod
    def of(cls, lab: Lab, ports: Mapping[str, int]) -> Wordings:
        about = weights_of(lab).stat()
        identity = f"{about.st_dev:x}:{about.st_ino}:{about.st_size}:{about.st_mtime_ns}"
        numbers = {name: str(port) for name, port in ports.items()}
        folders = {"@STATE@": str(lab.state), "@ROOT@": str(lab.root), "@FOLDER@": str(lab.folder)}
        return cls({**folders, "@FILES@": identity, **numbers})

    def hide(self, text: str) -> str:
        for placeholder, word in self.words.items():
            text = re.sub(rf"(?<!\w){re.escape(word)}(?!\w)", placeholder, text)
        return text

    def show(self, text: str) -> str:
        for placeholder, word in self.words.items():
            text = text.replace(placeholder, word)
        return text


def copy_texts(source: Path, target: Path, change: Callable[[str], str]) -> None:
    """Copy files and links, with their texts changed; sockets cannot be kept."""
    for path in sorted(source.rglob("*")):
        copy = target / path.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        if path.is_symlink():
            copy.symlink_to(path.readlink())
        elif path.is_file():
            copy.write_text(change(path.read_text()))
            copy.chmod(path.stat().st_mode)
            # Where a file's time says something, it is that what it tells of is long ago.
            os.utime(copy, (LONG_AGO, LONG_AGO))


def keep(lab: Lab, folder: Path, wordings: Wordings) -> None:
    """Keep the state folder, the pid files, the desired file, and how each server was started."""
    copy_texts(lab.state, folder / "state", wordings.hide)
    shutil.rmtree(folder / "state" / "gateway" / "logs", ignore_errors=True)
    copy_texts(lab.root / "run", folder / "run", wordings.hide)
    (folder / "desired.yaml").write_text(wordings.hide(lab.file.read_text()))
    servers = [started(pid) for _, pid in sorted(lab.pids().items())]
    text = json.dumps({"servers": servers}, indent=1, sort_keys=True)
    (folder / "processes.json").write_text(wordings.hide(text) + "\n")


def started(pid: int) -> dict[str, Any]:
    """A server's own arguments, and what its environment has that is not the caller's."""
    words = machine.command_line(pid).split(" ")
    env = machine.environment(pid)
    callers = {"PATH", "HOME", "LANG", "PWD"}
    own = {name: value for name, value in env.items() if name not in callers}
    return {"argv": words[words.index("--model") :], "env": own, "pid": pid}


def answers(socket: str) -> bool:
    try:
        return b"ok" in ask_socket(socket, "/health")
    except OSError:
        return False


def nginx(lab: Lab) -> str:
    """The nginx of the wheel, ready to run."""
    program = NginxGateway(Site(str(lab.root), str(lab.state), "")).locate("auto")[0][0]
    effects.make_executable(program)
    return program


def lay_out(folder: Path, lab: Lab) -> OldMachine:
    """Lay out what was kept in a fresh lab; nothing runs there yet."""
    make_ready(lab)
    wordings = Wordings.of(lab, {"@PORT0@": lab.listen, "@PORT1@": machine.free_port()})
    copy_texts(folder / "state", lab.state, wordings.show)
    copy_texts(folder / "run", lab.root / "run", wordings.show)
    lab.file.write_text(wordings.show((folder / "desired.yaml").read_text()))
    for private in (lab.state, lab.state / "s"):
        private.chmod(0o700)
    return OldMachine(lab, folder, wordings)


@dataclass
class OldMachine:
    """The kept files laid out in a lab, and that version's processes."""

    lab: Lab
    folder: Path
    wordings: Wordings
    _processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def journal(self) -> Any:
        return json.loads((self.folder / "state" / "journal.json").read_text())

    def start(self) -> None:
        """Start the servers, each with its slot's lock, and nginx with the gateway's."""
        text = self.wordings.show((self.folder / "processes.json").read_text())
        for server in json.loads(text)["servers"]:
            name, slot = (server["env"][f"LLM_RECONCILE_{key}"] for key in ("INSTANCE", "SLOT"))
            lock = self.lab.state / "slots" / f"{name}.{slot}"
            command = [str(self.lab.root / "engine"), *server["argv"]]
            child = self._run(command, lock, server["env"])
            pid_file = self.lab.root / "run" / f"{name.replace('[', '.').rstrip(']')}.pid"
            pid_file.write_text(pid_file.read_text().replace(str(server["pid"]), str(child.pid)))
        for pid in self.lab.pids().values():
            eventually(functools.partial(answers, machine.listens_on(pid)), "it is ready")
        gateway = self.lab.state / "gateway"
        for empty in ("logs", "temp"):
            (gateway / empty).mkdir()
        command = [nginx(self.lab), "-p", str(gateway), "-c", "current/nginx.conf"]
        command += ["-e", "logs/error.log"]
        if os.geteuid() == 0:
            command += ["-g", "user root;"]
        self._run(command, self.lab.state / "gateway.lock", {})
        eventually(lambda: machine.listens(self.lab.listen), "nginx listens")

    def _run(self, command: list[str], lock: Path, env: Mapping[str, str]) -> Any:
        descriptor = os.open(lock, os.O_RDWR)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        child = subprocess.Popen(
            command,
            # Its interpreter first: a `python3` on PATH may be a script that forks.
            env={
                "PATH": self.lab.environment["PATH"],
                "HOME": str(self.lab.folder / "home"),
                **env,
            },
            cwd=self.lab.root,
            pass_fds=(descriptor,),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            umask=0o077,
        )
        os.close(descriptor)
        self._processes.append(child)
        return child

    def close(self) -> None:
        """Reap what `down` has ended; what it has not is for the lab to complain about."""
        for child in self._processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(1)
