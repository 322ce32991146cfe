"""Downloads that are killed, and big ones: what they cost in bytes and memory.

The processes are real, and end by SIGKILL. With any bad luck in any order the store holds the right
bytes in the end, or there is an error that says what was wrong.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import fetch_child
import huggingface_hub
import pytest
from fetch_rig import HURRIED, KIB, WEIGHTS, Rig
from hub_faults import Fault, Kind, Made, sha_of
from hub_server import HubServer, hub_server
from hypothesis import given, settings
from hypothesis import strategies as st
from waiting import eventually

from reconciler.drivers import effects
from reconciler.drivers.fetch.order import Limits
from reconciler.drivers.fetch.partial import journal_of, partial_of
from reconciler.errors import HubError

KILLS = 10
BIG = int(os.environ.get("LLM_RECONCILE_BIG_FILE_MIB") or 256) << 20
"""At night: 2048."""
MOST_KIB = 150 * 1024
PART_MIB = 400
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["fetch_child", "reconciler.drivers.hub_client", "httpx"])
LOCAL = {"NO_PROXY": "127.0.0.1,localhost", "HF_TOKEN": "", "HF_HUB_DISABLE_TELEMETRY": "1"}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    for name, value in LOCAL.items():
        monkeypatch.setenv(name, value)
    with hub_server() as running:
        yield running
    huggingface_hub.close_session()


def start(hub: HubServer, store: Path, limits: Limits) -> ForkServerProcess:
    process = CONTEXT.Process(target=fetch_child.fetch, args=(hub.endpoint, str(store), limits))
    process.start()
    return process


def kill_at(hub: HubServer, process: ForkServerProcess, sent: int) -> None:
    """Kill it once so many bytes were sent, unless it ends before."""
    eventually(lambda: hub.sent >= sent or process.exitcode is not None, "bytes flow")
    process.kill()
    process.join()


def test_ten_kills_cost_at_most_two_per_cent(hub: HubServer, tmp_path: Path) -> None:
    rig = Rig(hub, tmp_path / "store")
    content = Made(BIG, 1)
    rig.add({"m-Q4.gguf": content})
    for kill in range(1, KILLS + 1):
        process = start(hub, rig.folder, Limits())
        kill_at(hub, process, kill * BIG // (KILLS + 1))
        assert process.exitcode == -signal.SIGKILL
        assert not rig.is_here()
    process = start(hub, rig.folder, Limits())
    process.join()
    assert process.exitcode == 0
    assert hub.sent <= 1.02 * BIG
    rig.assert_right(content)


def test_ten_kills_of_a_url_cost_no_more(hub: HubServer, tmp_path: Path) -> None:
    content = Made(BIG, 1)
    hub.files["x.gguf"] = content
    argv = (f"{hub.endpoint}/files/x.gguf", sha_of(content), str(tmp_path), Limits())
    for kill in range(1, KILLS + 1):
        process = CONTEXT.Process(target=fetch_child.fetch_url, args=argv)
        process.start()
        kill_at(hub, process, kill * BIG // (KILLS + 1))
        assert process.exitcode == -signal.SIGKILL
    fetch_child.fetch_url(*argv)
    assert hub.sent <= 1.02 * BIG
    [path] = (path for path in tmp_path.rglob("*") if path.is_file())
    with path.open("rb") as file:
        assert path.name == sha_of(content) == hashlib.file_digest(file, "sha256").hexdigest()


def dead_pid() -> int:
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def test_who_comes_just_as_another_finishes_fetches_nothing(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look whether the file is here and the making of a partial, another ends.

    Of one that was killed before, nothing stays either.
    """
    rig = Rig(hub, tmp_path / "store")
    rig.add({"m-Q4.gguf": WEIGHTS})
    target = rig.blobs / sha_of(WEIGHTS)

    half_written = target.with_name(f".{journal_of(target).name}.{dead_pid()}.tmp")

    def end_first(moment: str) -> None:
        if moment == f"before create {partial_of(target)}":
            target.write_bytes(WEIGHTS.part(0, len(WEIGHTS)))
            half_written.touch()

    monkeypatch.setattr(effects, "hook", end_first)
    rig.fetch()
    rig.assert_right(WEIGHTS)
    assert rig.gets() == 0


def test_memory_does_not_grow_with_the_file(hub: HubServer, tmp_path: Path) -> None:
    rig = Rig(hub, tmp_path / "store")
    rig.add({"m-Q4.gguf": Made(BIG, 2)})
    argv = [sys.executable, fetch_child.__file__, hub.endpoint, str(rig.folder)]
    ended = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert rig.is_here()
    assert int(ended.stdout.split()[0]) < MOST_KIB


def test_memory_of_four_hundred_gigabytes(hub: HubServer, tmp_path: Path) -> None:
    """Of a small part of them: all its connections, buffers and journals are there."""
    rig = Rig(hub, tmp_path / "store")
    shards = [Made(100 * 10**9, seed, sha=f"{seed:064x}") for seed in range(1, 5)]
    rig.add({f"m-Q4-0000{one.seed}-of-00004.gguf": one for one in shards})
    argv = [sys.executable, fetch_child.__file__, hub.endpoint, str(rig.folder), f"{PART_MIB}M"]
    ended = subprocess.run(argv, capture_output=True, text=True, check=True)
    peak, came = map(int, ended.stdout.split())
    assert came >= PART_MIB << 20
    assert peak < MOST_KIB


# ---- any bad luck in any order

FAULTS = st.lists(
    st.builds(
        Fault,
        st.sampled_from([kind for kind in Kind if kind not in {Kind.STATUS, Kind.STALL}]),
        st.integers(0, 64 * KIB),
    )
    | st.builds(
        lambda status, wait: Fault(Kind.STATUS, status=status, headers=(("Retry-After", wait),)),
        st.sampled_from([403, 404, 408, 416, 429, 500, 503]),
        st.sampled_from(["0", "", "soon"]),
    ),
    max_size=6,
)
ENDS = st.sampled_from(["run", "kill", "kill", "two"])
RUNS = st.lists(st.tuples(FAULTS, ENDS, st.integers(0, 700 * KIB), st.booleans()), max_size=5)
SLOW = replace(HURRIED, bytes_per_s=4_000_000)


def told_by(rig: Rig) -> str:
    """Fetch, and what an error says."""
    try:
        rig.fetch()
    except HubError as error:
        return error.message
    return ""


def test_any_bad_luck_ends_with_the_right_bytes_or_a_right_error(hub: HubServer) -> None:
    right = ("came twice", "times on its way", "sent ", "HTTP ", "cannot be reached")

    @settings(max_examples=int(os.environ.get("LLM_RECONCILE_FETCH_EXAMPLES") or 6))
    @given(st.integers(1, 700 * KIB), RUNS)
    def check(size: int, runs: list[tuple[list[Fault], str, int, bool]]) -> None:
        content = Made(size, 3)
        with tempfile.TemporaryDirectory() as folder:
            rig = Rig(hub, Path(folder) / "store", HURRIED)
            rig.add({"m-Q4.gguf": content})
            for faults, end, at, is_new in runs:
                hub.faults = list(faults)
                hub.etag += "x" if is_new else ""
                said = right[0]
                if end == "kill":
                    kill_at(hub, start(hub, rig.folder, SLOW), hub.sent + at)
                elif end == "two":
                    # Who waits for the other's file takes over where that one is killed.
                    first, second = (start(hub, rig.folder, SLOW) for _ in range(2))
                    kill_at(hub, first, hub.sent + at)
                    second.join()
                    assert second.exitcode in {0, 3}
                else:
                    said = told_by(rig) or said
                assert any(one in said for one in right), said
                hub.faults = []
                if rig.is_here():
                    rig.assert_right(content)
            rig.fetch()
            rig.assert_right(content)

    check()
