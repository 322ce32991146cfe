"""A root of its own with real servers, and the real command in it, timed.

In: an engine, how many servers. Out: how long verbs took and their peak memory; the processes.
Everything that was started ends with the `with` block: by `down`, by pid, and also on Ctrl-C.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from engine_programs import EngineProgram
from tiny_gguf import write_tiny_gguf

from benchmarks import REPOSITORY, machine

COMMAND = Path(sys.executable).with_name("llm-reconcile")
TIMED = Path(__file__).with_name("timed.py")
FETCH = REPOSITORY / "examples" / "01-quickstart" / "fetch_models.py"
LIMIT_S = 300.0
"""Longest time of one command, and of a wait; what takes longer hangs."""
POLL_S = 0.002
FLAGS = {"ctx_size": 512, "threads": 1}
"""llama-server flags of every server, ours or not: small, so that many fit on a small machine."""


class BenchmarkError(Exception):
    """Something did not do what it was to be measured at; the message says what."""


@dataclass(frozen=True, slots=True)
class Bench:
    """How a run of the harness measures."""

    engine: EngineProgram
    quick: bool = False

    def rounds(self, whole: int) -> int:
        """How often to measure: `whole` in a whole run."""
        return 1 if self.quick else whole

    def size(self, whole: int) -> int:
        """How many servers or models: `whole` in a whole run, a tenth in a quick one."""
        return max(2, whole // 10) if self.quick else whole

    @staticmethod
    def tell(text: str) -> None:
        """Say what is being done."""
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()


@dataclass(frozen=True, slots=True)
class Timing:
    """What one command took."""

    seconds: float
    cpu_s: float
    peak_bytes: float


def timed(argv: Sequence[str], *, cwd: Path, env: Mapping[str, str], code: int = 0) -> Timing:
    """Run a command to its end.

    Raises:
        BenchmarkError: it ended with another exit code than `code`, or hangs.
    """
    with tempfile.TemporaryDirectory() as folder:
        report, said = Path(folder, "report"), Path(folder, "said")
        with said.open("wb") as output:
            child = subprocess.Popen(
                [sys.executable, "-I", "-S", str(TIMED), str(report), *argv],
                cwd=cwd,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
            try:
                child.wait(LIMIT_S)
            except subprocess.TimeoutExpired as error:
                raise BenchmarkError(f"{shlex.join(argv)} took over {LIMIT_S:.0f} s") from error
            finally:
                if child.poll() is None:
                    end_group(child)
        text = said.read_text(errors="replace")[-2000:]
        if child.returncode:
            raise BenchmarkError(f"{shlex.join(argv)} could not be timed:\n{text}")
        seconds, cpu, peak, ended = report.read_text(encoding="ascii").split()
    if int(ended) != code:
        raise BenchmarkError(f"{shlex.join(argv)} ended with exit code {ended}:\n{text}")
    return Timing(float(seconds), float(cpu), float(peak))


def smollm2(folder: Path) -> Path | None:
    """Fetch SmolLM2-135M (98 MB) into a folder; None where it cannot be had."""
    done = subprocess.run(
        [sys.executable, str(FETCH), str(folder)], check=False, stdout=subprocess.DEVNULL
    )
    models = sorted(folder.glob("SmolLM2*.gguf"))
    return models[0] if models and not done.returncode else None


def end_group(child: subprocess.Popen[bytes], patience_s: float = 10.0) -> None:
    """End a process that leads its own group, and all in it: TERM, then KILL."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(patience_s)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


class Lab:
    """One root with `count` models, tiny ones; a context that ends what runs in it."""

    def __init__(self, bench: Bench, count: int, weights: Path | None = None) -> None:
        self.bench = bench
        self.folder = Path(tempfile.mkdtemp(prefix="lb"))
        self.root = self.folder / "r"
        for path in (self.root / "desired", self.folder / "home", self.folder / "empty"):
            path.mkdir(parents=True)
        self.weights = weights or write_tiny_gguf(self.folder / "tiny.gguf")
        self.names = [f"m{number:04}" for number in range(count)]
        self.port, *ports = machine.free_ports(1 + count)
        self.ports = dict(zip(self.names, ports, strict=True))
        self.file = self.root / "desired" / "bench.yaml"
        self.hub = ""
        """The address of the hub that the measured commands know."""
        self.write()

    def __enter__(self) -> Lab:
        return self

    def __exit__(self, *_: object) -> None:
        # A second Ctrl-C must not leave servers behind.
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            self.down()
        finally:
            self.kill()
            shutil.rmtree(self.folder, ignore_errors=True)
            signal.signal(signal.SIGINT, before)

    # ---- the desired file

    def write(
        self, *, gateway: bool = True, engine: Mapping[str, str] | None = None, repo: str = ""
    ) -> None:
        """Write the desired file; with `gateway` nginx stands in front, else each has its port.

        With `repo` each model is a quant of that repository, named as the model in capitals.
        """
        program = self.bench.engine
        declared = {"kind": program.name}
        if program.name == "llama-server":
            declared["command"] = program.command[0]
        listens = {"listen": f"127.0.0.1:{self.port}"}
        whole = {
            "version": 1,
            "engine": engine or declared,
            "gateway": listens if gateway else False,
            "defaults": {"params": FLAGS, "drain": "1s", "grace": "5s"},
            "models": {
                name: {**self._source(name, repo), "port": self.ports[name]} for name in self.names
            },
        }
        self.file.write_text(json.dumps(whole, indent=1), encoding="utf-8")

    def _source(self, name: str, repo: str) -> dict[str, object]:
        if repo:
            return {"source": {"repo": repo}, "quant": name.upper()}
        return {"source": {"path": str(self.weights)}}

    # ---- verbs

    @property
    def environment(self) -> dict[str, str]:
        """What the measured commands see: nothing of this user's own settings."""
        return {
            "PATH": f"{COMMAND.parent}:{os.environ['PATH']}",
            "HOME": str(self.folder / "home"),
            "XDG_STATE_HOME": str(self.folder / "s"),
            "XDG_CACHE_HOME": str(self.folder / "c"),
            "LANG": "C.UTF-8",
            **({"HF_ENDPOINT": self.hub, "NO_PROXY": "127.0.0.1"} if self.hub else {}),
        }

    def timed(self, *argv: str, code: int = 0) -> Timing:
        """Run any command in the root."""
        return timed(argv, cwd=self.root, env=self.environment, code=code)

    def plan(self, code: int = 0) -> Timing:
        """`plan`; exit 2 where it finds changes, so that a no-op is known for one."""
        return self.timed(str(COMMAND), "plan", "--detailed-exitcode", str(self.file), code=code)

    def apply(self) -> Timing:
        """`apply -y`, until all is ready."""
        return self.timed(str(COMMAND), "apply", "-y", str(self.file))

    def down(self) -> Timing:
        """`down -y`."""
        return self.timed(str(COMMAND), "down", "-y")

    # ---- what runs

    @property
    def state(self) -> Path:
        """The root's state folder."""
        name = hashlib.sha256(str(self.root).encode()).hexdigest()[:12]
        return self.folder / "s" / "llm-reconcile" / name

    def servers(self) -> dict[str, int]:
        """The live servers of this root: instance -> pid."""
        seen = ((pid, machine.environment(pid)) for pid in machine.pids())
        return {
            env["LLM_RECONCILE_INSTANCE"]: pid
            for pid, env in seen
            if env.get("LLM_RECONCILE_ROOT") == str(self.root)
        }

    def kill(self) -> None:
        """KILL all servers; for what `down` left, or what is not worth a gentle end."""
        for pid in self.servers().values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def nginx(self) -> list[int]:
        """The live processes of this root's nginx."""
        return machine.holders(self.state / "gateway.lock")

    def same_by_hand(self, pid: int, port: int) -> tuple[list[str], dict[str, str]]:
        """How one would start the server `pid` without us: its own argv, on a TCP port."""
        argv = machine.command_line(pid)
        at = argv.index("--host")
        listens = ["--host", "127.0.0.1", "--port", str(port)]
        after = argv[at + 2 :]
        if after[:1] == ["--port"]:
            after = after[2:]
        env = machine.environment(pid)
        ours = {name: env[name] for name in env if not name.startswith("LLM_RECONCILE_")}
        return [*argv[:at], *listens, *after], ours | {
            "XDG_CONFIG_HOME": str(self.folder / "empty")
        }


@contextlib.contextmanager
def by_hand(argv: Sequence[str], env: Mapping[str, str], log: Path) -> Iterator[None]:
    """While it lasts, a server runs that we did not start with our own command."""
    with log.open("ab") as output:
        child = subprocess.Popen(
            argv,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield
    finally:
        end_group(child)


def is_healthy(port: int, path: str = "/health") -> bool:
    """Whether a server says there that it is ready."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2.0)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def until(holds: Callable[[], bool], what: str) -> float:
    """Seconds until it holds.

    Raises:
        BenchmarkError: it never does.
    """
    began = time.perf_counter()
    while not holds():
        if time.perf_counter() - began > LIMIT_S:
            raise BenchmarkError(f"{what} did not come true in {LIMIT_S:.0f} s")
        time.sleep(POLL_S)
    return time.perf_counter() - began


def total(values: Iterable[int]) -> float:
    """Their sum, as rows hold it."""
    return float(sum(values))
