"""One root with real small processes in it, for the tests of the runtime.

In: launches of the stand-in engine. Out: a `ServerProcesses`, its site, its processes' logs.
Everything lies in one short folder under /tmp; at the end no process of the root is left.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from launches import make_launch
from waiting import PATIENCE_S, eventually

from reconciler.core.engine import LABEL_ROOT
from reconciler.core.launch import Launch
from reconciler.core.observed import ProcessRef
from reconciler.core.site import Site
from reconciler.core.words import InstanceName
from reconciler.drivers import proc
from reconciler.drivers.clock import SystemClock
from reconciler.drivers.processes import ServerProcesses

STAND_IN = Path(__file__).parents[1] / "fakes" / "stand_in.py"
COMMAND = (sys.executable, "-I", "-S", str(STAND_IN))
NEVER = threading.Event()
DIRTY = {
    "PATH": os.environ["PATH"],
    "HOME": "/home/somebody",
    "LLAMA_ARG_CTX_SIZE": "1",
    "LLAMA_CACHE": "/x",
    "HF_TOKEN": "hf_secret",
    "XDG_CONFIG_HOME": "/etc",
    "LLM_RECONCILE_ROOT": "/elsewhere",
    "LLM_RECONCILE_INSTANCE": "other",
    "HTTP_PROXY": "http://proxy",
}
"""An environment that no server may see all of."""


@dataclass
class ProcessRig:
    """A root, and how servers are started in it."""

    site: Site
    environment: Mapping[str, str] = field(default_factory=lambda: {"PATH": os.environ["PATH"]})
    runtimes: list[ServerProcesses] = field(default_factory=list)
    others: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.runtime = self.fresh()

    def fresh(self) -> ServerProcesses:
        """Another run's view: it knows nothing but what the machine tells."""
        # Kept to the end: what it started must not be collected while it runs.
        self.runtimes.append(ServerProcesses(self.site, self.environment, SystemClock()))
        return self.runtimes[-1]

    def launch(
        self,
        instance: str = "m",
        slot: str = "a",
        *flags: str,
        env: tuple[tuple[str, str], ...] = (),
        port: int | None = None,
        address: str | None = None,
    ) -> Launch:
        return make_launch(
            instance,
            slot,
            site=self.site,
            command=COMMAND,
            flags=flags,
            env=env,
            port=port,
            address=address,
        )

    def start(self, instance: str = "m", slot: str = "a", *flags: str) -> ProcessRef:
        """Start the stand-in and wait until it is up."""
        before = self.log(instance).count("up\n")
        ref = self.runtime.start(self.launch(instance, slot, *flags))
        eventually(lambda: self.log(instance).count("up\n") > before, f"{instance} is up")
        return ref

    def run(self, instance: str, *flags: str) -> ProcessRef:
        """Start the stand-in and wait for its end."""
        ref = self.runtime.start(self.launch(instance, "a", *flags))
        assert self.runtime.wait_gone(ref, PATIENCE_S, NEVER)
        return ref

    def beside(self, *keep: int, labelled: bool = False) -> subprocess.Popen[bytes]:
        """Another process of ours in the root, without labels or with some but no instance."""
        env = {LABEL_ROOT: self.site.root} if labelled else {}
        self.others.append(
            subprocess.Popen(
                COMMAND,
                env=env,
                pass_fds=keep,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        )
        return self.others[-1]

    def log(self, instance: str = "m") -> str:
        path = Path(self.site.log_file(InstanceName(instance)))
        return path.read_text(encoding="utf-8") if path.exists() else ""

    def pids(self) -> list[int]:
        """All live processes that carry the root's label, helpers included."""
        found = [
            pid
            for pid in proc.own_pids()
            if proc.environment(pid).get(LABEL_ROOT) == self.site.root and proc.ref_of(pid)
        ]
        return sorted(found)

    def close(self) -> None:
        for other in self.others:
            other.kill()
            other.wait()
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for runtime in self.runtimes:
            for started in runtime._started.values():
                started.child.wait(PATIENCE_S)
        eventually(lambda: not self.pids(), "no process of the root is left")


@contextlib.contextmanager
def process_rig(environment: Mapping[str, str] | None = None) -> Iterator[ProcessRig]:
    folder = Path(tempfile.mkdtemp(prefix="lr", dir="/tmp"))
    (folder / "root").mkdir()
    site = Site(str(folder / "root"), str(folder / "st"), "desired.yaml")
    made = ProcessRig(site) if environment is None else ProcessRig(site, environment)
    try:
        yield made
    finally:
        made.close()
        shutil.rmtree(folder)
