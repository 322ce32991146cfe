"""prune: what no desired file, lock file or live process needs goes, and nothing else."""

from __future__ import annotations

import fcntl
import json
import mmap
import os
import shutil
from pathlib import Path

from hub_server import HubServer

from e2e import machine
from e2e.hub_lab import NOTHING, REPO, model
from e2e.lab import Lab
from e2e.terminal import Terminal


def names(lab: Lab) -> set[str]:
    """The files of snapshots."""
    return {path.name for path in (lab.root / "models").glob("*/snapshots/*/*")}


def blobs(lab: Lab) -> list[Path]:
    return sorted((lab.root / "models" / "models--org--tiny-GGUF" / "blobs").iterdir())


def both_then_one(lab: Lab) -> None:
    """Files of two models, one of which is wanted no more."""
    lab.write({"a": model(), "b": model("Q8_0")})
    lab.apply()
    lab.write({"a": model()})
    lab.apply("--allow-destroy", "1")


def test_what_is_wanted_no_more_goes(fakes: Lab, hub: HubServer, weights: dict[str, bytes]) -> None:
    both_then_one(fakes)
    pids = fakes.pids()
    outside = machine.snapshot(fakes.root / "desired")
    count = len(blobs(fakes))
    dry = fakes.run("prune", "--dry-run")
    assert "tiny-Q8_0-00001-of-00002.gguf" in dry.out
    assert "no desired file wants it" in dry.out
    assert "tiny-Q4_0" not in dry.out
    assert len(blobs(fakes)) == count
    assert "add -y" in fakes.run("prune", code=1).err
    assert len(blobs(fakes)) == count
    done = fakes.run("prune", "-y")
    assert "Freed " in done.err
    assert names(fakes) == {"tiny-Q4_0.gguf"}
    assert [path.read_bytes() for path in blobs(fakes)] == [weights["tiny-Q4_0.gguf"]]
    assert fakes.run("prune", "-y").out == "Nothing to remove.\n"
    assert (fakes.plan().out, fakes.pids()) == (NOTHING, pids)
    assert machine.snapshot(fakes.root / "desired") == outside
    fakes.write({"a": model(), "b": model("Q8_0")})
    fakes.apply()
    assert len(fakes.pids()) == 2


def test_another_desired_file_needs_it(fakes: Lab, hub: HubServer) -> None:
    both_then_one(fakes)
    other = fakes.file.with_name("other.yaml")
    other.write_text(json.dumps({"version": 1, "models": {"b": model("Q8_0")}}))
    assert fakes.run("prune", "-y").out == "Nothing to remove.\n"
    other.write_text('{"version": 1, "models": {"b": {"sorce": 1}}}')
    bad = fakes.run("prune", "-y", code=1)
    assert "desired/other.yaml:1:" in bad.err
    fakes.lock.with_name("other.lock.yaml").write_text("version: 1\n")
    other.write_text(json.dumps({"version": 1, "models": {"b": model("Q8_0")}}))
    assert "desired/other.lock.yaml:1:1" in fakes.run("prune", "-y", code=1).err
    assert "tiny-Q8_0-00001-of-00002.gguf" in names(fakes)


def test_the_lock_file_alone_keeps_it(fakes: Lab, hub: HubServer) -> None:
    fakes.write({"a": model(), "b": model("Q8_0")})
    fakes.apply()
    fakes.write({"a": model()})
    assert fakes.run("prune", "-y").out == "Nothing to remove.\n"


def test_what_a_process_has_mapped_stays(fakes: Lab, hub: HubServer) -> None:
    both_then_one(fakes)
    kept = fakes.root / "models" / "models--org--tiny-GGUF" / "snapshots"
    path = next(kept.glob("*/tiny-Q8_0-00001-of-00002.gguf"))
    with path.open("rb") as opened:
        mapped = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
    fakes.run("prune", "-y")
    assert names(fakes) == {"tiny-Q4_0.gguf", "tiny-Q8_0-00001-of-00002.gguf"}
    mapped.close()
    fakes.run("prune", "-y")
    assert names(fakes) == {"tiny-Q4_0.gguf"}


def test_an_old_revision_goes_and_a_running_server_keeps_its_files(
    fakes: Lab, hub: HubServer, weights: dict[str, bytes]
) -> None:
    """The fake engine maps nothing: its files are known by what is noted on it."""
    fakes.write({"a": model()})
    fakes.apply()
    (old,) = (path.name for path in (fakes.root / "models").glob("*/snapshots/*"))
    hub.repos[REPO].commit({name: content[:-1] + b"!" for name, content in weights.items()})
    fakes.lock.unlink()
    text = fakes.file.read_text()
    fakes.file.write_text('{"version": 1, "models": {}}')
    assert fakes.run("prune", "-y").out == "Nothing to remove.\n"
    fakes.file.write_text(text)
    fakes.apply()
    fakes.run("update", "-y", "--allow-destroy", "1")
    done = fakes.run("prune", "-y")
    assert "an old revision" in done.out
    assert old not in [path.name for path in (fakes.root / "models").glob("*/snapshots/*")]
    assert len(blobs(fakes)) == 1
    assert fakes.plan().out == NOTHING


def test_partials_stay_a_week(fakes: Lab, hub: HubServer) -> None:
    fakes.write({"a": model()})
    fakes.apply()
    partial = blobs(fakes)[0].with_name(f"{'0' * 64}.reconcile.incomplete")
    partial.write_bytes(b"half")
    assert fakes.run("prune", "-y").out == "Nothing to remove.\n"
    os.utime(partial, (1, 1))
    events = [json.loads(one) for one in fakes.run("prune", "-y", "--json").out.splitlines()]
    assert [one["event"] for one in events] == ["prune", "done"]
    (removal,) = events[0]["removals"]
    assert (removal["repo"], removal["path"]) == (REPO, str(partial))
    assert removal["bytes"] == events[1]["bytes"] == events[0]["bytes"] > 0
    assert not partial.exists()


def test_never_in_the_cache_of_others(fakes: Lab, hub: HubServer) -> None:
    both_then_one(fakes)
    fakes.variables["HF_HUB_CACHE"] = str(fakes.root / "models")
    assert "is the hub's own cache" in fakes.run("prune", "-y", code=1).err
    assert "tiny-Q8_0-00001-of-00002.gguf" in names(fakes)
    del fakes.variables["HF_HUB_CACHE"]
    cache = fakes.folder / "c" / "huggingface" / "hub"
    shutil.copytree(fakes.root / "models", cache, symlinks=True)
    before = machine.snapshot(cache)
    fakes.run("prune", "-y")
    assert machine.snapshot(cache) == before


def test_not_while_a_run_is_at_work(fakes: Lab, hub: HubServer) -> None:
    both_then_one(fakes)
    with (fakes.state / "run.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = fakes.run("prune", "-y", "--lock-timeout", "0s", code=5)
    assert "another run is at work" in done.err
    assert "tiny-Q8_0-00001-of-00002.gguf" in names(fakes)


def test_it_asks(fakes: Lab, hub: HubServer) -> None:
    both_then_one(fakes)
    with Terminal(fakes, "prune") as terminal:
        terminal.until("remove all this?")
        terminal.type("no\n")
        assert terminal.end() == 4
    assert "tiny-Q8_0-00001-of-00002.gguf" in names(fakes)
    with Terminal(fakes, "prune") as terminal:
        terminal.until("remove all this?")
        terminal.type("yes\n")
        assert terminal.end() == 0
    assert names(fakes) == {"tiny-Q4_0.gguf"}


def test_no_desired_file_is_no_leave_to_remove(fakes: Lab, hub: HubServer) -> None:
    both_then_one(fakes)
    gone = fakes.file.rename(fakes.folder / "away")
    assert "desired/x.yaml" in fakes.run("prune", "-y", code=1).err
    gone.rename(fakes.file)
    assert "is not a folder" in fakes.run("prune", "--root", "/none", code=1).err
    assert "tiny-Q8_0-00001-of-00002.gguf" in names(fakes)
