"""Nothing to do is nothing done, and looking changes nothing (BARS 1, 2).

What a verb did is told by the kernel (strace) and by what lies on the disk before and after.
"""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path
from typing import Any

import pytest
from engine_programs import real_engines
from hub_faults import sha_of
from hub_server import HubServer, hub_server

from e2e import machine
from e2e.lab import Lab, engine_of
from e2e.trace import traced
from reconciler.cli.main import command_line

COUNT = 20
CAP_DAC_OVERRIDE, PR_CAPBSET_DROP = 1, 24
FILE = "the desired file"
OUT = "where a plan is saved"
SEEN = "where a snapshot is written"
WRITES = {"--out": OUT, "--snapshot": SEEN}
LOOKS: dict[str, tuple[tuple[str, ...], ...]] = {
    "validate": ((FILE, "--engine"),),
    "fmt": ((FILE, "--check"),),
    "plan": (
        (FILE, "--target", "a", "--observed", SEEN),
        (FILE, "--format", "markdown", "--out", OUT),
        (FILE, "--against", FILE),
    ),
    "show": ((OUT,),),
    "drift": ((),),
    "status": ((), ("a", "--argv"), ("--snapshot", SEEN)),
    "list": ((),),
    "logs": (("a",),),
    "health": ((),),
    "metrics": ((),),
    "schema": (("--plan",),),
    "doctor": ((),),
    "events": ((), ("a",), ("--json",)),
    "history": ((), ("--json",)),
    "version": ((),),
    "import": (("processes",),),
}
"""The verbs that only look, and with which words they are tried."""
ACTS = {
    "apply",
    "down",
    "stop",
    "start",
    "restart",
    "update",
    "download",
    "verify",
    "set",
    "prune",
    "rollback",
    "watch",
}
ASKS_PROGRAMS = {"doctor"}
"""Who may run other programs, and try them on temporary files: only they can tell what they are."""


def verbs() -> set[str]:
    commands = command_line().registered_commands
    return {str(one.name or getattr(one.callback, "__name__", "")) for one in commands}


def test_every_verb_is_known_to_look_or_to_act() -> None:
    """A new verb that looks is to be tried here too."""
    assert verbs() <= LOOKS.keys() | ACTS


def twenty(lab: Lab, hub: HubServer) -> None:
    """Models of all kinds; one of them from a hub, one from a URL."""
    hub.add("org/tiny-GGUF", {"tiny-Q4_0.gguf": lab.weights.read_bytes()})
    hub.files["x.gguf"] = lab.weights.read_bytes() + b"other"
    url = {"url": f"{hub.endpoint}/files/x.gguf", "sha256": sha_of(hub.files["x.gguf"])}
    lab.variables = {"HF_ENDPOINT": hub.endpoint}
    (lab.root / "resting.gguf").write_bytes(lab.weights.read_bytes())
    small = {"ctx_size": 256, "parallel": 1}
    models: dict[str, dict[str, Any]] = {f"m{number}": {} for number in range(COUNT - 6)}
    models |= {
        "hub": {"source": {"repo": "org/tiny-GGUF"}, "quant": "Q4_0"},
        "url": {"source": url},
        "two": {"replicas": 2, "port": machine.free_port(), "rollout": "surge"},
        "files": {"state": "present", "source": {"path": "resting.gguf"}},
        "off": {"aliases": ["org/off:latest"], "source": {"path": "resting.gguf"}},
        "gold": {"protect": True, "env": {"CUDA_VISIBLE_DEVICES": "0"}},
    }
    lab.write(models, defaults={"params": small, "drain": "2s", "grace": "3s"})
    lab.apply()
    lab.run("stop", "off")


def everything(lab: Lab) -> machine.Snapshot:
    """All that lies in the root, the state folder, the caches and at home, logs aside."""
    return machine.snapshot(lab.root, *(lab.folder / name for name in ("s", "c", "home")))


@pytest.mark.needs("strace")
def test_second_apply_does_nothing(lab: Lab) -> None:
    """With the real llama-server where it was built."""
    lab.engine = engine_of(real_engines()[-1].name)
    with hub_server() as hub:
        twenty(lab, hub)
        pids, nginx = lab.pids(), lab.nginx()
        assert len(pids) == COUNT - 1
        born = {pid: machine.stat(pid)[19] for pid in (*pids.values(), *nginx.workers)}
        generation = lab.status()["gateway"]["generation"]
        before, asked = everything(lab), list(hub.requests)
        trace = traced(lab, "apply", str(lab.file), "-y")
        assert everything(lab) == before
        assert hub.requests == asked
    assert trace.result.code == 0, trace.result.all
    assert "No changes. The machine matches" in trace.result.out
    # Locks are taken: those of the run, and of slots that nobody holds.
    assert trace.deeds(but=(lab.state / "run.lock", lab.state / "slots")) == []
    assert trace.reads_of(lab.weights) == []
    # What does not run is looked at for its header, to say in time that it is truncated.
    assert set(trace.reads_of(lab.root / "resting.gguf")) == {"mmap"}
    # Of servers and nginx; and whether there is a watch, which it would wait for.
    sockets = (f'sun_path="{lab.state}/s/', f'sun_path="{lab.state}/watch.sock"')
    assert trace.connections
    assert [one for one in trace.connections if not any(ours in one for ours in sockets)] == []
    assert lab.pids() == pids
    assert lab.nginx() == nginx
    assert {pid: machine.stat(pid)[19] for pid in born} == born
    assert lab.status()["gateway"]["generation"] == generation


def looks(lab: Lab, *names: str) -> None:
    """Verbs that look, one after the other."""
    temporary = lab.folder / "tmp"
    temporary.mkdir(exist_ok=True)
    lab.variables = {**lab.variables, "TMPDIR": str(temporary)}
    # It tries whether locks work where the state folder lies, or will.
    scratch = (temporary, lab.folder / ".llm-reconcile-", lab.state / ".llm-reconcile-")
    files = {FILE: lab.file, OUT: lab.folder / "saved", SEEN: lab.folder / "seen"}
    before = everything(lab)
    for verb in names:
        for words in LOOKS[verb]:
            trace = traced(lab, verb, *(str(files.get(word, word)) for word in words))
            asks = verb in ASKS_PROGRAMS
            asked = trace.programs if asks else []
            made = [files[name] for flag, name in WRITES.items() if flag in words]
            may = tuple(one for path in made for one in (path, path.with_name(f".{path.name}.")))
            assert trace.deeds(but=scratch if asks else may) == asked, (verb, words)
    assert everything(lab) == before
    assert list(temporary.iterdir()) == []


@pytest.mark.timeout(600)
@pytest.mark.needs("strace")
def test_looking_changes_nothing(lab: Lab) -> None:
    """On an empty machine, and on one that is not as wanted. What does something shows it."""
    lab.write({"a": {}, "b": {"port": machine.free_port()}, "c": {}})
    looks(lab, "status", "plan")
    assert not lab.state.exists()
    lab.apply()
    machine.end([lab.pids()["b"]])
    lab.write({"a": {"params": {"temp": 0.1}}, "b": {"aliases": ["x"]}, "new": {}})
    pids, nginx = lab.pids(), lab.nginx()
    looks(lab, *sorted(LOOKS.keys() & verbs()))
    assert (lab.pids(), lab.nginx()) == (pids, nginx)
    stop = traced(lab, "stop", "a")
    assert stop.result.code == 0
    assert [one for one in stop.signals if "SIGTERM" in one]
    assert f"unlink {lab.pid_file('a')}" in stop.writes()


@pytest.mark.needs("strace")
def test_the_engines_help_is_asked_for_once(real: Lab) -> None:
    """The one program that a plan runs; what it said is kept in the cache, and only there."""
    real.write({"a": {}})
    first = traced(real, "plan", str(real.file))
    assert first.deeds(but=(real.folder / "c",)) == []
    asks = real.engine["kind"] == "llama-server"
    assert bool(first.writes()) == asks
    before = everything(real)
    assert traced(real, "plan", str(real.file)).deeds() == []
    assert everything(real) == before


def without_override() -> None:
    """Let file modes count for root too."""
    ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, 0, 0, 0)


def places(lab: Lab) -> list[Path]:
    # A socket on a read-only file system can be connected to; one without write permission not.
    tops = (lab.root, lab.state, lab.folder / "home")
    found = [path for top in tops for path in (top, *top.rglob("*"))]
    return [path for path in found if not path.is_symlink() and (path.is_dir() or path.is_file())]


def test_looking_on_a_read_only_tree(lab: Lab) -> None:
    lab.write({"one": {"port": machine.free_port()}, "two": {"port": machine.free_port()}})
    lab.apply()
    lab.write({"one": {"params": {"temp": 0.1}}})
    modes = {path: path.stat().st_mode for path in places(lab)}
    for path, mode in modes.items():
        path.chmod(mode & ~0o222)
    try:
        touch = ["touch", str(lab.root / "new")]
        assert subprocess.run(touch, preexec_fn=without_override, check=False).returncode == 1
        before = machine.snapshot(lab.root, lab.state, without=())
        plan = lab.run("plan", str(lab.file), preexec_fn=without_override)
        status = lab.run("status", code=3, preexec_fn=without_override)
        for words in (("validate", str(lab.file)), ("list",), ("logs", "one")):
            lab.run(*words, preexec_fn=without_override)
        assert machine.snapshot(lab.root, lab.state, without=()) == before
    finally:
        for path, mode in modes.items():
            path.chmod(mode)
    assert "-/+ instance.one" in plan.out
    assert "- instance.two" in plan.out
    assert "Not as wanted" in status.out
