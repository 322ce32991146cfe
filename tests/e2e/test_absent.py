"""`state: absent`: apply takes a model's files away, by plan, and only what nobody else needs."""

from __future__ import annotations

import json
import mmap
import os
from pathlib import Path

from hub_faults import sha_of
from hub_server import HubServer

from e2e.hub_lab import NOTHING, REPO, model
from e2e.lab import Lab

B = "tiny-Q8_0-00001-of-00002.gguf"


def names(lab: Lab) -> set[str]:
    """The files of snapshots."""
    return {path.name for path in (lab.root / "models").glob("*/snapshots/*/*")}


def used(lab: Lab) -> int:
    blobs = (lab.root / "models").glob("*/blobs/*")
    return sum(path.stat().st_blocks * 512 for path in blobs)


def both(lab: Lab, **second: object) -> None:
    lab.write({"a": model(), "b": model("Q8_0", **second)})


def test_its_files_go_after_its_server(fakes: Lab, hub: HubServer) -> None:
    both(fakes)
    fakes.apply()
    before, other = used(fakes), fakes.pids()["a"]
    both(fakes, state="absent")
    plan = fakes.plan("--allow-destroy", "1").out
    assert "- instance.b " in plan
    assert "- model_file.b                     state: absent, " in plan
    assert "KiB to remove" in plan
    assert "Free " in plan
    whole = fakes.plan("--json", "--allow-destroy", "1").json
    [change] = [one for one in whole["resource_changes"] if one["address"] == "model_file.b"]
    assert change["change"]["actions"] == ["delete"]
    assert change["depends_on"] == ["instance.b"]
    [disk] = whole["disks"]
    assert disk["folder"] == str(fakes.root / "models")
    assert disk["free_after_bytes"] - disk["free_bytes"] == change["impact"]["freed_bytes"]
    done = fakes.apply("--allow-destroy", "1")
    assert "model_file.b: removed" in done.err
    assert names(fakes) == {"tiny-Q4_0.gguf"}
    assert before - used(fakes) == change["impact"]["freed_bytes"] > 0
    assert fakes.pids() == {"a": other}
    assert fakes.plan().out == NOTHING
    assert fakes.run("prune", "-y").out == "Nothing to remove.\n"


def test_it_comes_back_as_it_was_pinned(fakes: Lab, hub: HubServer) -> None:
    both(fakes)
    fakes.apply()
    both(fakes, state="absent")
    fakes.apply("--allow-destroy", "1")
    hub.repos[REPO].commit({"tiny-Q4_0.gguf": b"other", "tiny-Q8_0.gguf": b"other"})
    both(fakes)
    fakes.apply()
    assert set(fakes.pids()) == {"a", "b"}
    assert B in names(fakes)


def test_the_last_of_all(fakes: Lab, hub: HubServer) -> None:
    fakes.write({"b": model("Q8_0")})
    fakes.apply()
    fakes.write({"b": model("Q8_0", state="absent")})
    fakes.apply("--allow-destroy", "1")
    assert not list((fakes.root / "models").iterdir())
    assert fakes.plan().out == NOTHING


def test_what_another_model_or_file_needs_stays(fakes: Lab, hub: HubServer) -> None:
    both(fakes)
    fakes.apply()
    fakes.write({"a": model(), "b": model("Q8_0", state="absent"), "c": model("Q8_0", port=None)})
    fakes.apply("--allow-destroy", "1")
    assert set(fakes.pids()) == {"a", "c"}
    assert B in names(fakes)
    assert fakes.plan().out == NOTHING
    other = fakes.file.with_name("other.yaml")
    other.write_text(json.dumps({"version": 1, "models": {"z": model("Q8_0")}}))
    both(fakes, state="absent")
    fakes.apply("--allow-destroy", "1")
    assert B in names(fakes)
    assert "its files stay: desired/other.yaml needs them" in fakes.plan().out
    other.write_text("models: [")
    seen = fakes.plan("--detailed-exitcode", code=2).out
    assert "! model_file.b " in seen
    assert "what else needs its files cannot be told: desired/other.yaml:2:1: " in seen
    fakes.apply(code=3)
    assert B in names(fakes)
    other.unlink()
    fakes.apply()
    assert names(fakes) == {"tiny-Q4_0.gguf"}


def test_what_a_stranger_has_mapped_stays(fakes: Lab, hub: HubServer) -> None:
    both(fakes)
    fakes.apply()
    both(fakes, state="absent")
    paths = sorted((fakes.root / "models").glob("*/snapshots/*/tiny-Q8*"))
    opened = [path.open("rb") for path in paths]
    maps = [mmap.mmap(one.fileno(), 0, access=mmap.ACCESS_READ) for one in opened]
    for one in opened:
        one.close()
    fakes.apply("--allow-destroy", "1")
    assert B in names(fakes)
    assert f"its files stay: process {os.getpid()} uses them" in fakes.plan().out
    for mapped in maps:
        mapped.close()
    fakes.apply()
    assert names(fakes) == {"tiny-Q4_0.gguf"}


def test_only_what_is_its_own(fakes: Lab, hub: HubServer) -> None:
    """Not a quant that nobody's `quants` name, nor a file beside it, nor another repository."""
    fakes.write({"b": model("Q8_0"), "a": model(state="present")})
    fakes.run("download", "--all")
    folder = next((fakes.root / "models").glob("*/snapshots/*"))
    (folder / "README.md").write_text("mine")
    fakes.write({"b": model("Q8_0", state="absent")})
    fakes.apply()
    assert names(fakes) == {"tiny-Q4_0.gguf", "README.md"}


def test_quants_that_it_ran_before_go_too(fakes: Lab, hub: HubServer) -> None:
    catalogue = {"Q8_0": "1MB", "Q4_0": "1MB"}
    fakes.write({"b": model("Q8_0", quants=catalogue)})
    fakes.apply()
    fakes.write({"b": model("Q4_0", quants=catalogue)})
    fakes.apply()
    assert len(names(fakes)) == 3
    fakes.write({"b": model("Q4_0", quants=catalogue, state="absent")})
    fakes.apply("--allow-destroy", "1")
    assert names(fakes) == set()


def test_a_partial_download_goes(fakes: Lab, hub: HubServer, weights: dict[str, bytes]) -> None:
    both(fakes)
    fakes.apply()
    both(fakes, state="absent")
    blobs = next((fakes.root / "models").glob("*/blobs"))
    [first, *_] = sorted((fakes.root / "models").glob("*/snapshots/*/tiny-Q8*"))
    partial = blobs / f"{first.resolve().name}.incomplete"
    partial.write_bytes(b"half")
    fakes.apply("--allow-destroy", "1")
    assert not partial.exists()


def test_down_and_stop_remove_nothing(fakes: Lab, hub: HubServer) -> None:
    both(fakes)
    fakes.apply()
    both(fakes, state="absent")
    before = names(fakes)
    fakes.run("stop", "b")
    assert names(fakes) == before
    fakes.run("stop", "--all")
    fakes.run("down", "-y")
    assert names(fakes) == before
    both(fakes)
    fakes.run("down", "-y")
    assert names(fakes) == before


def test_a_file_with_a_url_goes_by_its_hash(fakes: Lab, hub: HubServer) -> None:
    content = fakes.weights.read_bytes()
    hub.files["x.gguf"] = content
    url = {"source": {"url": f"{hub.endpoint}/files/x.gguf", "sha256": sha_of(content)}}
    fakes.write({"u": url, "a": model()})
    fakes.apply()
    fakes.write({"u": {**url, "state": "absent"}, "a": model()})
    assert "- model_file.u " in fakes.plan("--allow-destroy", "1").out
    fakes.apply("--allow-destroy", "1")
    assert not (fakes.root / "models" / "urls").exists()
    assert names(fakes) == {"tiny-Q4_0.gguf"}
    assert fakes.plan().out == NOTHING


def test_the_cache_of_others_is_never_touched(fakes: Lab, hub: HubServer) -> None:
    both(fakes)
    fakes.apply()
    both(fakes, state="absent")
    fakes.variables["HF_HUB_CACHE"] = str(fakes.root / "models")
    done = fakes.apply("--allow-destroy", "1", code=3)
    assert "`store: models` is the hub's own cache, which other tools use too" in done.err
    assert B in names(fakes)


def test_the_users_own_files_are_never_touched(fakes: Lab, tmp_path: Path) -> None:
    fakes.write({"a": {"state": "absent"}})
    fakes.apply()
    assert fakes.weights.exists()
