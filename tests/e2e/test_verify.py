"""Bytes are hashed once before a server starts on them; wrong ones are never served (BARS 20)."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from hub_server import HubServer, hub_server
from tiny_gguf import write_tiny_gguf

from e2e import machine
from e2e.lab import Lab
from e2e.terminal import CTRL_C, Terminal
from e2e.trace import traced
from reconciler.core.present import human_bytes

REPO = "org/tiny-GGUF"
NOTHING = "No changes. The machine matches desired/x.yaml.\n"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("tiny")
    write_tiny_gguf(folder / "tiny-Q4_0.gguf", per_shard=5)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def hub(weights: dict[str, bytes]) -> Iterator[HubServer]:
    with hub_server() as running:
        running.add(REPO, weights)
        yield running


def connect(lab: Lab, hub: HubServer) -> Path:
    cache = lab.folder / "hf"
    lab.variables |= {
        "HF_ENDPOINT": hub.endpoint,
        "NO_PROXY": "127.0.0.1,localhost",
        "HF_HUB_CACHE": str(cache),
    }
    return cache


def model(**more: Any) -> dict[str, Any]:
    return {"source": {"repo": REPO}, "quant": "Q4_0", **more}


def blobs(folder: Path) -> list[Path]:
    return sorted((folder / "models--org--tiny-GGUF" / "blobs").iterdir())


def flip(path: Path) -> None:
    """One bit, somewhere in the weights."""
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    with path.open("r+b") as file:
        file.write(content)


def whole_reads(trace: Any, path: Path) -> list[str]:
    """Mapping a header is a look into a file; reading it is another thing."""
    return [name for name in trace.reads_of(path) if name != "mmap"]


def fill(cache: Path, hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """What another tool fetches: the hub's own client."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    huggingface_hub.snapshot_download(REPO, cache_dir=cache, endpoint=hub.endpoint)
    huggingface_hub.close_session()


@pytest.mark.needs("strace")
def test_what_others_fetched_is_verified_once(
    lab: Lab, hub: HubServer, weights: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = connect(lab, hub)
    fill(cache, hub, monkeypatch)
    lab.write({"a": model(), "b": model()})
    hub.requests.clear()
    size = sum(map(len, weights.values()))
    plan = traced(lab, "plan", str(lab.file))
    assert f"Verify {size / 1024:.1f} KiB.\n" in plan.result.out
    assert "~ model_file.a                     not verified yet, " in plan.result.out
    assert [one for path in blobs(cache) for one in whole_reads(plan, path)] == []
    assert not lab.state.exists()
    done = lab.apply()
    assert "model_file.a: verified (" in done.err
    assert lab.complete("a").status == 200
    assert hub.requests == []
    assert not (lab.root / "models").exists()
    lab.run("down", "-y")
    plan = traced(lab, "plan", str(lab.file))
    assert "erif" not in plan.result.out
    assert "erif" not in lab.apply().all
    again = traced(lab, "apply", str(lab.file), "-y")
    assert again.result.out == NOTHING
    for trace in (plan, again):
        assert [one for path in blobs(cache) for one in whole_reads(trace, path)] == []
    # The memory can be lost: nothing that runs minds, what starts is verified again.
    pids = lab.pids()
    (lab.state / "verified.json").write_text("{")
    assert lab.plan().out == NOTHING
    assert lab.apply().out == NOTHING
    assert lab.pids() == pids
    assert "Verify" in lab.run("restart", "a").all


def test_what_we_fetched_is_not_read_again(
    fakes: Lab, hub: HubServer, weights: dict[str, bytes]
) -> None:
    connect(fakes, hub)
    fakes.write({"a": model()})
    assert "Verify" not in fakes.plan().out
    fakes.apply()
    known = (fakes.state / "verified.json").read_text()
    assert all(hashlib.sha256(one).hexdigest() in known for one in weights.values())
    fakes.run("down", "-y")
    assert "Verify" not in fakes.plan().out
    fakes.apply()
    assert (fakes.state / "verified.json").read_text() == known


def test_a_flipped_bit_is_never_served(
    fakes: Lab, hub: HubServer, weights: dict[str, bytes]
) -> None:
    """No server starts on it; the next apply fetches that shard, and no other."""
    connect(fakes, hub)
    fakes.write({"a": model()})
    fakes.apply()
    fakes.run("down", "-y")
    blob = blobs(fakes.root / "models")[1]
    flip(blob)
    assert "Verify" in fakes.plan().out
    done = fakes.apply(code=3)
    found = hashlib.sha256(blob.read_bytes()).hexdigest()
    assert f"has wrong bytes: its sha256 is {found}, not {blob.name}" in done.err
    assert fakes.servers() == {}
    plan = fakes.plan("--json").json
    assert [one["address"] for one in plan["resource_drift"]] == ["model_file.a"]
    assert "wrong bytes" in plan["resource_drift"][0]["reason"]
    hub.sent = 0
    fakes.apply()
    assert hub.sent == len(weights_of(weights, blob.name))
    assert blob.read_bytes() == weights_of(weights, blob.name)
    assert fakes.servers().keys() == {"a"}
    assert fakes.plan().out == NOTHING


def weights_of(weights: dict[str, bytes], sha: str) -> bytes:
    return next(one for one in weights.values() if hashlib.sha256(one).hexdigest() == sha)


def test_a_cache_of_others_is_never_changed(
    fakes: Lab, hub: HubServer, weights: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = connect(fakes, hub)
    fill(cache, hub, monkeypatch)
    flip(blobs(cache)[0])
    before = machine.snapshot(cache)
    fakes.write({"a": model()})
    fakes.apply(code=3)
    assert fakes.servers() == {}
    fakes.apply()
    assert machine.snapshot(cache) == before
    stored = Path(fakes.run("status", "--argv").out.split("--model ")[1].split()[0])
    assert stored.is_relative_to(fakes.root / "models")
    assert stored.read_bytes() == weights[stored.name]


def test_what_others_fetched_under_another_commit_is_used_in_place(
    fakes: Lab, hub: HubServer, weights: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the hub; where it goes away, it is fetched after all."""
    cache = connect(fakes, hub)
    fakes.write({"a": model(state="present")})
    fakes.run("apply", str(fakes.file), "-y")
    shutil.rmtree(fakes.root / "models")
    hub.repos[REPO].commit({**weights, "README.md": b"new"})
    fill(cache, hub, monkeypatch)
    before = machine.snapshot(cache)
    fakes.write({"a": model()})
    hub.sent, hub.broken = 0, 503
    plan = fakes.plan("--offline").out
    assert "+ model_file.a                     on disk, but not under this commit" in plan
    assert "Download" not in plan
    fakes.apply("--offline")
    assert machine.snapshot(cache) == before
    stored = Path(fakes.run("status", "--argv").out.split("--model ")[1].split()[0])
    assert stored.is_relative_to(fakes.root / "models")
    assert stored.resolve().is_relative_to(cache)
    assert fakes.plan().out == NOTHING
    assert "Nothing to remove" in fakes.run("prune", "--dry-run").all
    fakes.run("down", "-y")
    shutil.rmtree(cache)
    hub.broken = 0
    fakes.apply()
    assert hub.sent == sum(map(len, weights.values()))
    assert not stored.resolve().is_relative_to(cache)


def test_a_path_with_another_hash_is_blocked(fakes: Lab) -> None:
    path = fakes.root / "own.gguf"
    shutil.copy(fakes.weights, path)
    right = hashlib.sha256(path.read_bytes()).hexdigest()
    fakes.write({"a": {"source": {"path": "own.gguf", "sha256": right}}})
    assert "not verified yet" in fakes.plan().out
    fakes.apply()
    assert fakes.plan().out == NOTHING
    pids = fakes.pids()
    fakes.write({"a": {"source": {"path": "own.gguf", "sha256": "0" * 64}}})
    said = f"own.gguf has wrong bytes: its sha256 is {right}, not {'0' * 64}"
    assert said in fakes.plan().out
    assert said in fakes.apply(code=3).err
    assert fakes.pids() == pids


def test_files_that_run_are_left_alone(fakes: Lab) -> None:
    """After an upgrade nobody knows what was hashed."""
    path = fakes.root / "own.gguf"
    shutil.copy(fakes.weights, path)
    sha = hashlib.sha256(path.read_bytes()).hexdigest()
    fakes.write({"a": {"source": {"path": "own.gguf", "sha256": sha}}})
    fakes.apply()
    pids = fakes.pids()
    (fakes.state / "verified.json").unlink()
    assert fakes.apply().out == NOTHING
    assert fakes.pids() == pids
    os.utime(path)
    assert "not verified" not in fakes.plan().out
    assert fakes.pids() == pids


# ---- the verb


def test_verify_reads_again_and_says_what_is_wrong(
    fakes: Lab, hub: HubServer, weights: dict[str, bytes]
) -> None:
    """A server that runs on wrong bytes serves until the right ones are here, then it goes."""
    connect(fakes, hub)
    fakes.write({"a": model(), "b": {}, "off": {"state": "absent"}})
    fakes.apply()
    size = sum(map(len, weights.values()))
    asked = list(hub.requests)
    done = fakes.run("verify")
    assert done.out == ""
    assert f"All {size / 1024:.1f} KiB are right." in done.err
    assert f"b: nothing says what {fakes.weights} should hold" in done.err
    blob = blobs(fakes.root / "models")[0]
    times = blob.stat()
    flip(blob)
    os.utime(blob, ns=(times.st_atime_ns, times.st_mtime_ns))
    # Nobody can see that without reading.
    assert fakes.plan().out == NOTHING
    before = fakes.pids()
    done = fakes.run("verify", "a", code=3)
    found = hashlib.sha256(blob.read_bytes()).hexdigest()
    assert f"has wrong bytes: its sha256 is {found}, not {blob.name}" in done.err
    assert "What runs on wrong bytes serves until `apply` has replaced it." in done.err
    assert fakes.pids() == before
    assert hub.requests == asked
    plan = fakes.plan()
    assert "-/+ instance.a                       it runs on wrong bytes" in plan.out
    said = human_bytes(blob.stat().st_size)
    assert "  ! model_file.a                     " in plan.out
    assert f": wrong bytes, {said} to download" in plan.out
    assert fakes.status(code=3)["converged"] is False
    hub.sent = 0
    fakes.apply()
    after = fakes.pids()
    assert hub.sent == len(weights_of(weights, blob.name))
    assert (after["a"] != before["a"], after["b"]) == (True, before["b"])
    assert fakes.plan().out == NOTHING
    assert fakes.run("verify", "--all", "-q").err == ""


def test_the_right_bytes_come_before_the_old_server_goes(fakes: Lab, hub: HubServer) -> None:
    connect(fakes, hub)
    fakes.write({"a": model()})
    fakes.apply()
    before = fakes.pids()
    for blob in blobs(fakes.root / "models"):
        flip(blob)
    fakes.run("verify", code=3)
    fakes.variables["HF_ENDPOINT"] = f"http://127.0.0.1:{machine.free_port()}"
    done = fakes.apply(code=3)
    assert "model_file.a: failed" in done.err
    assert fakes.pids() == before
    connect(fakes, hub)
    fakes.run("download", "a")
    assert fakes.pids() == before
    fakes.apply()
    assert fakes.pids() != before
    assert fakes.plan().out == NOTHING


def test_verify_as_events_and_of_what_is_not_here(fakes: Lab, hub: HubServer) -> None:
    connect(fakes, hub)
    fakes.write({"a": model(state="present"), "lost": {"source": {"path": "none.gguf"}}})
    done = fakes.run("verify")
    assert done.err.endswith("There was nothing to verify.\n")
    assert "lost: " in done.err
    fakes.run("download", "a")
    blobs(fakes.root / "models")[0].unlink()
    assert "a: 1 of its 3 files not here" in fakes.run("verify", "a").err
    events = [json.loads(line) for line in fakes.run("verify", "a", "--json").out.splitlines()]
    assert [one["event"] for one in events if one["event"] != "progress"] == ["step", "done"]
    files = [file for one in events if "files" in one for file in one["files"]]
    assert all(file["done"] == file["size"] for file in files[-2:])
    assert events[-1]["converged"] is True
    assert events[-1]["not_verified"] == {"a": "1 of its 3 files not here"}
    assert "leave one of them out" in fakes.run("verify", "a", "--all", code=1).err
    assert "no model is called x" in fakes.run("verify", "x", code=1).err


def test_ctrl_c_while_it_reads(fakes: Lab) -> None:
    """A sparse file takes its time, and no room."""
    path = fakes.root / "large.gguf"
    shutil.copy(fakes.weights, path)
    os.truncate(path, 60 << 30)
    fakes.write({"a": {"source": {"path": "large.gguf", "sha256": "0" * 64}}})
    with Terminal(fakes, "verify") as terminal:
        terminal.until("60.0 GiB")
        terminal.type(CTRL_C)
        assert terminal.end() == 130
        assert "Interrupted." in terminal.text
    assert "wrong bytes" not in fakes.plan().out
