"""Finding the engine that serves models, and reading which flags it takes.

In: the kind and the command of the desired file. Out: an `ObservedEngine`; what cannot be used has
no kind and a reason that says what to do. A binary's `--help` is the only source for its flags
(they come and go between builds); it is run once for each binary and kept in the cache folder.
It must never start a server, and never fail: a missing engine blocks models, not a plan.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import importlib.util
import json
import os
import re
import shutil
import signal
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from reconciler import embedded_flags, embedded_server
from reconciler.core.desired import DEFAULT_COMMAND
from reconciler.core.engine import PASSED_ENVIRONMENT
from reconciler.core.engine_help import engine_of
from reconciler.core.facts import EngineNature
from reconciler.core.observed import ObservedServer, ProcessRef
from reconciler.core.observed_engine import ObservedEngine
from reconciler.core.os_errors import explain_os
from reconciler.core.words import EngineKind
from reconciler.drivers import effects
from reconciler.drivers.engine_configs import ETC, config_in
from reconciler.drivers.hub_cache import identity_of
from reconciler.drivers.programs import Answer, ask

HELP_TIMEOUT_S = 20.0
"""A help text takes 20 ms; a GPU build that first wakes its driver takes seconds."""
EMBEDDED_COMMAND = (sys.executable, "-P", "-m", "reconciler.embedded_server")
"""-P: a folder named `reconciler` in the working folder must not be taken for ours."""

_INSTALL = (
    f"pip install 'llm-reconcile[embedded]' (package {embedded_server.PACKAGE}), "
    "or put llama-server on PATH, or name it in `engine.command`"
)
_ELF = b"\x7fELF"
_VERSION = re.compile(r"^version: (.+)$", re.MULTILINE)
# `  CUDA0: NVIDIA H100 (81559 MiB, 80000 MiB free)`; one without memory (BLAS) is no card.
_DEVICE = re.compile(r"^  (\S+: .+) \([1-9]\d* MiB, \d+ MiB free\)$", re.MULTILINE)
_EXPECTED_FLAGS = frozenset({"model", "host", "port", "alias"})


class EngineFinder:
    """The `Engines` of this machine.

    Relative commands with a slash start at `root`; help texts are kept under `cache_folder`.
    """

    def __init__(self, cache_folder: str | Path, root: str | Path, etc: Path = ETC) -> None:
        self._etc = etc
        self._cache = Path(cache_folder) / "engine-help"
        self._root = Path(root)
        self._equal: dict[tuple[str, str], bool] = {}

    def find(self, kind: str, command: str) -> ObservedEngine:
        """The engine that new servers would start with."""
        if kind == EngineKind.EMBEDDED:
            return self._embedded() or _none(
                f"the embedded engine is not installed: pip install 'llm-reconcile[embedded]' "
                f"(package {embedded_server.PACKAGE})"
            )
        path = self._locate(command)
        if path is not None:
            return self._llama_server(path)
        if kind == EngineKind.AUTO and command == DEFAULT_COMMAND:
            return self._embedded() or _none(
                f"no engine was found: neither '{command}' nor the embedded one; {_INSTALL}"
            )
        where = "is no program" if "/" in command else "is not on PATH"
        return _none(
            f"'{command}' {where}: install llama-server, name it in `engine.command` (a path "
            "starts at the root), or set `engine.kind: embedded`"
        )

    def _locate(self, command: str) -> Path | None:
        if "/" not in command:
            found = shutil.which(command)
            return Path(found).absolute() if found else None
        # Joining keeps an absolute command as it is.
        path = Path(os.path.normpath(self._root / Path(command).expanduser())).absolute()
        return path if path.is_file() and os.access(path, os.X_OK) else None

    @staticmethod
    def _embedded() -> ObservedEngine | None:
        if importlib.util.find_spec(embedded_server.PACKAGE) is None:
            return None
        return engine_of(EngineKind.EMBEDDED, EMBEDDED_COMMAND, embedded_flags.help_text())

    def _llama_server(self, path: Path) -> ObservedEngine:
        try:
            text = self._help(path)
        except TimeoutError:
            said = f"{path} --help gave no answer within {HELP_TIMEOUT_S:.0f} s"
            return _none(f"{said}; try it by hand, or set `engine.kind: embedded`")
        except OSError as error:
            reason, hint = explain_os(error)
            reason = reason.removeprefix(f"{path}: ")
            return _none(f"{path} cannot be used: {reason}; {hint}, or `engine.kind: embedded`")
        engine = engine_of(EngineKind.LLAMA_SERVER, (str(path),), text)
        if not engine.flags.keys() >= _EXPECTED_FLAGS:
            return _none(f"{path} is not a llama-server: its --help names no --model or --host")
        config = config_in(self._etc, reaches_ours=True)
        return replace(engine, ambient=config.settings if config else ())

    def _help(self, path: Path) -> str:
        """The binary's help text, from the cache if this very file was asked before."""
        with path.open("rb") as file:
            about = os.fstat(file.fileno())
            is_program = file.read(len(_ELF)) == _ELF
        if not is_program:
            # A script may start anything: its own file says nothing about what that takes.
            return self._run_help(path)
        identity = f"{path}:{about.st_size}:{about.st_mtime_ns}:{about.st_ino}"
        kept = self._cache / f"{hashlib.sha256(identity.encode()).hexdigest()[:16]}.json"
        with contextlib.suppress(OSError, ValueError):
            known = json.loads(kept.read_text(encoding="utf-8"))
            if isinstance(known, dict) and known.get("identity") == identity:
                return str(known["help"])
        text = self._run_help(path)
        # The cache only saves time: a folder that cannot be written is no error.
        with contextlib.suppress(OSError):
            effects.make_folder(self._cache)
            effects.sweep(self._cache)
            effects.write_atomic(kept, json.dumps({"identity": identity, "help": text}))
        return text

    def _run_help(self, path: Path) -> str:
        answer = self._ask((str(path),), "--help")
        if answer.code:
            last = answer.talk.strip().splitlines()[-1:]
            raise OSError(": ".join([_how_it_ended(answer.code), *last]))
        return answer.out

    def _ask(self, command: Sequence[str], question: str) -> Answer:
        """Ask with the environment that a server gets: nothing of ours may change the answer."""
        environment = {name: os.environ[name] for name in PASSED_ENVIRONMENT if name in os.environ}
        environment["XDG_CONFIG_HOME"] = str(self._cache / "no-config")
        return ask([*command, question], timeout=HELP_TIMEOUT_S, environment=environment)

    def outdated(
        self, engine: ObservedEngine, servers: Iterable[ObservedServer]
    ) -> Mapping[ProcessRef, str]:
        """Servers that run on another program than this engine's is now -> how they differ.

        Of scripts and of the embedded engine nothing is known: what runs is their interpreter.
        """
        if engine.kind is not EngineKind.LLAMA_SERVER:
            return {}
        found: dict[ProcessRef, str] = {}
        for server in servers:
            with contextlib.suppress(OSError):
                if server.command == engine.command and (said := self._difference(server)):
                    found[server.ref] = said
        return found

    def _difference(self, server: ObservedServer) -> str:
        """How the program that it runs differs from the file that would be executed now."""
        # The kernel keeps the file of a running program, whoever has its name by now.
        runs, program = Path(f"/proc/{server.ref.pid}/exe"), Path(server.command[0])
        before, after = runs.stat(), program.stat()
        if os.path.samestat(before, after):
            return ""
        # A link's own time is when it was made to lead there.
        if server.since > max(after.st_ctime, program.lstat().st_ctime):
            # It was started by this very file: what runs is what that has executed.
            return ""
        with program.open("rb") as file:
            if file.read(len(_ELF)) != _ELF:
                return ""
        # Two builds are hardly ever of one size; a package that is installed again is no change.
        if before.st_size == after.st_size and self._are_equal(runs, program):
            return ""
        days = (_day(before), _day(after))
        return "engine changed: it runs the build of {}, now there is one of {}".format(*days)

    def _are_equal(self, runs: Path, program: Path) -> bool:
        """Whether two files hold the same; each pair is read once, a watch asks for months."""
        pair = (identity_of(runs), identity_of(program))
        if pair not in self._equal:
            self._equal[pair] = _digest(runs) == _digest(program)
        return self._equal[pair]

    def nature(self, engine: ObservedEngine) -> EngineNature:
        """Its version, and the devices that it can compute on; no server is started."""
        version, devices = "", None
        with contextlib.suppress(OSError):
            answer = self._ask(engine.command, "--version")
            version = next(_VERSION.finditer(answer.out + answer.talk), [""] * 2)[1]
        if "list-devices" in engine.flags:
            with contextlib.suppress(OSError):
                answer = self._ask(engine.command, "--list-devices")
                if answer.code == 0:
                    devices = tuple(match[1] for match in _DEVICE.finditer(answer.out))
        return EngineNature(version, devices)


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _day(file: os.stat_result) -> str:
    when = datetime.datetime.fromtimestamp(file.st_mtime, datetime.UTC)
    return f"{when:%Y-%m-%d %H:%M} UTC"


def _how_it_ended(code: int) -> str:
    if code < 0:
        return f"its --help died of {signal.Signals(-code).name}"
    return f"its --help ended with exit code {code}"


def _none(reason: str) -> ObservedEngine:
    return ObservedEngine(None, reason=reason)
