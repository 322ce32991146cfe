"""The real command in processes of its own, with or without a fault at a moment (see faults.py).

In: requests on stdin, one JSON a line. Out: on stdout for each of them its pid, then its exit code.
Every command is a fork of this process, which has imported all of it once: that costs more than an
apply. A moment is what `effects.hook` is told, or one of Python's audit events within an effect or
outside of any: an effect that is added later has its moments without a word here.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import re
import resource
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from reconciler.__main__ import main
from reconciler.cli.main import command_line
from reconciler.drivers import effects

CHANGES = ("os.", "shutil.", "subprocess.", "socket.bind")
LOOKS = frozenset({"os.listdir", "os.scandir", "os.walk", "os.putenv", "os.unsetenv", "os.fork"})
MEASURED = os.environ.get("COVERAGE_FILE", "\0")
"""Where lines that were run are noted, under `make coverage`: no file of ours."""
_fsync = os.fsync


class Moments:
    """What a process passes, written down in order; at one of them the fault happens."""

    def __init__(self, request: dict[str, Any]) -> None:
        self._fault: dict[str, Any] = request["fault"]
        self._next, self._read = request["next"], ""
        self._short: dict[str, str] = request["short"]
        self._book = os.open(request["book"], os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        self._counts: dict[str, int] = {}
        self._lock = threading.Lock()
        self._thread = threading.local()

    def on_effect(self, said: str) -> None:
        """Be `effects.hook`."""
        when, _, what = said.partition(" ")
        if when == "before":
            self._thread.effect = self._plain(what)
        effect = self._thread.effect
        self._thread.within = ""
        self._pass(f"{when} {effect}")
        self._thread.within = effect if when == "before" else ""

    def on_audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Hear of each call before it is made."""
        if event == "open":
            path, _, flags = arguments
            is_reading = not flags & (os.O_WRONLY | os.O_RDWR)
            if isinstance(path, int) or path == os.devnull or (is_reading and not self._within):
                return
        elif event in LOOKS or not event.startswith(CHANGES):
            return
        if str(next(iter(arguments), "")).startswith(MEASURED):
            return
        self._call(event, arguments)

    def on_fsync(self, fd: Any) -> None:
        """Be `os.fsync`, of which no audit hook hears."""
        self._call("os.fsync", ())
        _fsync(fd)

    @property
    def _within(self) -> str:
        return getattr(self._thread, "within", "")

    def _call(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self._within:
            self._pass(f"within {self._within}: {event}")
        else:
            self._pass(f"outside: {event} {self._plain(str(next(iter(arguments), '')))}")

    def _pass(self, what: str) -> None:
        with self._lock:
            self._look_for_another()
            count = self._counts[what] = self._counts.get(what, 0) + 1
            moment = what if count == 1 else f"{what} (#{count})"
            os.write(self._book, f"{moment}\n".encode())
            number = self._fault["errno"]
            if self._fault["at"] != (what if self._fault["lasts"] else moment):
                return
            if number is None:
                signal.raise_signal(signal.SIGKILL)
        raise OSError(number, os.strerror(number))

    def _look_for_another(self) -> None:
        """A fault that we were told of while we run; with it all is counted anew."""
        with contextlib.suppress(FileNotFoundError):
            told = str(Path(self._next).readlink())
            if told != self._read:
                self._read, self._fault = told, json.loads(told)
                self._counts.clear()

    def _plain(self, what: str) -> str:
        """What an effect is on, alike in each run: no pid, no slot, no generation, no content."""
        for path, name in self._short.items():
            what = what.replace(path, name)
        what = re.sub(r"\b([0-9a-f]{64}|[0-9a-f]{40})\b", "CONTENT", what)
        what = re.sub(r"(?<=/generations/)\d+\b", "NUMBER", what)
        what = re.sub(r"(?<= )\d+$", lambda pid: owner(pid[0]), what)
        return re.sub(r"\.[ab]\b", ".slot", re.sub(r"\b[0-9a-f]{12}\b", "GENERATION", what))


def owner(pid: str) -> str:
    """Whose process it is: an instance's name, or nginx."""
    environment = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace")
    label = re.search(r"LLM_RECONCILE_INSTANCE=([^\0]*)", environment)
    return label[1] if label else "nginx"


def become(request: dict[str, Any]) -> None:
    """Be the command: its folder, environment, streams and arguments, and its fault."""
    os.setsid()
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for descriptor, path in ((1, request["out"]), (2, request["err"])):
        os.dup2(os.open(path, os.O_WRONLY), descriptor)
    sys.argv = [str(Path(sys.executable).with_name("llm-reconcile")), *request["words"]]
    for constant, value in request["waits"].items():
        module, _, name = constant.partition(":")
        setattr(importlib.import_module(module), name, value)
    if request["fault"]:
        moments = Moments(request)
        for name, limit in request["fault"]["limits"].items():
            resource.setrlimit(getattr(resource, name), (limit, limit))
        effects.hook = moments.on_effect
        os.fsync = moments.on_fsync
        sys.addaudithook(moments.on_audit)


def serve() -> None:
    """Fork a command for each request."""
    command_line()
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            become(json.loads(line))
            main()
        sys.stdout.write(f"{child}\n")
        sys.stdout.flush()
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    serve()
