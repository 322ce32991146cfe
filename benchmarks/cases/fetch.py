"""Downloads from a hub on this machine: `download` beside `hf download` and curl.

In: the real programs. Out: speed, CPU and memory of each for one large file and for eight; bytes
sent for a file after some kill -9; memory of a download of 400 GB. Each begins with an empty cache.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import fetch_child
from hub_faults import Made
from hub_server import HubServer, hub_server
from tiny_gguf import write_tiny_gguf

from benchmarks.hub import MEMORY, REPO, quick_hub, scratch
from benchmarks.lab import COMMAND, LIMIT_S, Bench, BenchmarkError, Timing, timed
from benchmarks.results import Bar, Row, Section, Unit, not_measured, ratio

ROUNDS = 3
ONE_MB, EIGHT_MB, KILLED_MIB = 2000, 250, 512
KILLS = 10
HUGE, HUGE_S = 400 * 10**9, 15.0
NEEDS_BYTES = 9 * 10**9
"""Weights, a store and a margin, all in memory."""
MOST_MEMORY = 150 * 10**6
NAMES = ("llm-reconcile download", "hf download", "curl")
HF = COMMAND.with_name("hf")


@dataclass(frozen=True, slots=True)
class Place:
    """Where to download to, and from which hub."""

    folder: Path
    hub: HubServer
    files: Mapping[str, Made]

    @property
    def size(self) -> int:
        """All bytes of the files."""
        return sum(map(len, self.files.values()))

    @property
    def environment(self) -> dict[str, str]:
        """What the programs see: nothing of this user's own settings."""
        return {
            "PATH": f"{COMMAND.parent}:{os.environ['PATH']}",
            "HOME": str(self.folder / "home"),
            "HF_HOME": str(self.folder / "hf"),
            "XDG_STATE_HOME": str(self.folder / "s"),
            "XDG_CACHE_HOME": str(self.folder / "c"),
            "HF_ENDPOINT": self.hub.endpoint,
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "NO_PROXY": "127.0.0.1,localhost",
            "LANG": "C.UTF-8",
        }

    def emptied(self) -> Path:
        """The folder with nothing in it but what a program needs to begin."""
        shutil.rmtree(self.folder, ignore_errors=True)
        (self.folder / "desired").mkdir(parents=True)
        model = {"source": {"repo": REPO}, "quant": "Q4", "state": "present"}
        whole = {"version": 1, "gateway": False, "models": {"m": model}}
        (self.folder / "desired" / "m.yaml").write_text(json.dumps(whole), encoding="utf-8")
        return self.folder

    def argv(self, name: str) -> list[str]:
        """How a program downloads all of it."""
        if name == NAMES[0]:
            return [str(COMMAND), "download", "m"]
        if name == NAMES[1]:
            return [str(HF), "download", REPO, *self.files]
        urls = [f"{self.hub.endpoint}/{REPO}/resolve/main/{one}" for one in self.files]
        outs = [word for number, url in enumerate(urls) for word in ("-o", f"f{number}", url)]
        return ["curl", "--silent", "--show-error", "--fail", "--location", "--parallel", *outs]


def measure(bench: Bench) -> Section:
    """Measure it."""
    one, eight, kills = bench.size(ONE_MB), bench.size(EIGHT_MB), bench.size(KILLS)
    about = f"""
From the same hub on this machine, whose weights nginx serves; the store lies in memory
({MEMORY}), so that no disk is measured. One file of {one} MB, and 8 of {eight} MB; whole processes,
each with an empty cache, in turn. Ours reads each byte's sha256 while it comes and then syncs the
file; the others do neither (the hub's client checks sizes; without the extra `hf_xet` paths, which
this hub does not speak). After each of {kills} kill -9 a program is started again; they are spread
evenly over the bytes of the file. Of the 400 GB, in four files, memory is
looked at after some seconds: files are sparse, bytes are made by the hub and dropped.
"""
    needs = bench.size(NEEDS_BYTES)
    if shutil.disk_usage(MEMORY).free < needs:
        why = f"{needs / 1e9:.1f} GB have to be free in {MEMORY}"
        return Section("Downloads", about, (not_measured("downloads", Unit.SPEED, why),))
    head = _head()
    single = {"m-Q4.gguf": Made(one * 10**6, 1, head=head)}
    shards = {
        f"Q4/m-Q4-0000{number}-of-00008.gguf": Made(eight * 10**6, 10 + number, head=head)
        for number in range(1, 9)
    }
    rows = [
        *_compared(bench, f"1 x {one} MB", single),
        *_compared(bench, f"8 x {eight} MB", shards),
        *_killed(bench, head, kills),
        _huge(bench),
    ]
    return Section("Downloads", about, tuple(rows))


def _head() -> bytes:
    """A header that makes a file a model: it is read before all else."""
    with scratch() as folder:
        return write_tiny_gguf(folder / "tiny.gguf").read_bytes()


def _compared(bench: Bench, what: str, files: Mapping[str, Made]) -> list[Row]:
    bench.tell(f"fetch: {what}")
    names = NAMES if shutil.which("curl") else NAMES[:2]
    timings: dict[str, list[Timing]] = {name: [] for name in names}
    with scratch() as folder, quick_hub(folder, files) as hub:
        place = Place(folder / "to", hub, files)
        # What a machine gives of its memory for the first time it gives slowly.
        _download(place, names[-1])
        for number in range(bench.rounds(ROUNDS)):
            first = number % len(names)
            for name in (*names[first:], *names[:first]):
                timings[name].append(_download(place, name))
    return _rows(what, place.size, timings)


def _download(place: Place, name: str) -> Timing:
    timing = timed(place.argv(name), cwd=place.emptied(), env=place.environment)
    held = sum(path.stat().st_size for path in place.folder.rglob("*") if not path.is_symlink())
    if held < place.size:
        raise BenchmarkError(f"{name} ended without an error, and without the files")
    return timing


def _rows(what: str, size: int, timings: Mapping[str, Sequence[Timing]]) -> list[Row]:
    def row(name: str, unit: Unit, value: Callable[[Timing], float], end: str = "") -> Row:
        if name not in timings:
            return not_measured(f"{what}: {name}{end}", unit, f"{name} is not installed")
        return Row(f"{what}: {name}{end}", unit, tuple(value(one) for one in timings[name]))

    speeds = [row(name, Unit.SPEED, lambda one: size / one.seconds) for name in NAMES]
    ours, hub_client, curl = speeds
    return [
        *speeds,
        ratio(f"{what}: speed, ours / hf", ours, hub_client, Bar(least=1)),
        ratio(f"{what}: speed, ours / curl", ours, curl, Bar(least=0.8)),
        *(
            row(name, Unit.SECONDS, lambda one: one.cpu_s / size * 1e9, ": CPU for each GB")
            for name in NAMES
        ),
        *(row(name, Unit.BYTES, lambda one: one.peak_bytes, ": peak memory") for name in NAMES),
    ]


def _killed(bench: Bench, head: bytes, kills: int) -> list[Row]:
    size = bench.size(KILLED_MIB) << 20
    bench.tell(f"fetch: {kills} kills")
    rows = []
    with scratch() as folder, hub_server() as hub:
        files = {"m-Q4.gguf": Made(size, 3, head=head)}
        hub.add(REPO, files)
        place = Place(folder / "to", hub, files)
        for name, bar in ((NAMES[0], Bar(most=1.02)), (NAMES[1], None)):
            place.emptied()
            before = hub.sent
            for _ in range(kills):
                _kill(place, name, hub.sent + size // (kills + 1))
            timed(place.argv(name), cwd=place.folder, env=place.environment)
            sent = (hub.sent - before) / size
            rows.append(Row(f"{name}: bytes sent / file", Unit.RATIO, (sent,), bar))
    return rows


def _kill(place: Place, name: str, sent: int) -> None:
    """Let a program download until so many bytes were sent, and kill it with all it started."""
    deadline = time.monotonic() + LIMIT_S
    child = subprocess.Popen(
        place.argv(name),
        cwd=place.folder,
        env=place.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        while place.hub.sent < sent:
            if child.poll() is not None or time.monotonic() > deadline:
                raise BenchmarkError(f"{name} was to be killed, and ended or hung before")
            time.sleep(0.001)
    finally:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def _huge(bench: Bench) -> Row:
    bench.tell("fetch: 400 GB")
    seconds = HUGE_S / 5 if bench.quick else HUGE_S
    name = f"llm-reconcile's downloads, {seconds:.0f} s of 400 GB: peak memory"
    with scratch() as folder, hub_server() as hub:
        shards = [Made(HUGE // 4, seed, sha=f"{seed:064x}") for seed in range(1, 5)]
        hub.add(REPO, {f"m-Q4-0000{one.seed}-of-00004.gguf": one for one in shards})
        argv = [sys.executable, fetch_child.__file__, hub.endpoint, str(folder), str(seconds)]
        done = subprocess.run(argv, check=True, capture_output=True, text=True, timeout=LIMIT_S)
    peak, came = map(int, done.stdout.split())
    if not came:
        raise BenchmarkError("nothing came of the 400 GB")
    return Row(name, Unit.BYTES, (float(peak * 1024),), Bar(most=MOST_MEMORY))
