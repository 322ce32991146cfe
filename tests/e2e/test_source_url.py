"""Models whose file has a URL: fetched, verified, served, and known by its hash alone."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from certificates import make_certificate
from hub_faults import Content, Made, sha_of
from hub_server import HubServer, hub_server
from tiny_gguf import write_tiny_gguf
from waiting import eventually

from e2e.lab import Lab
from reconciler.core.present import human_bytes
from reconciler.core.ranges import length, parse_journal

MIB = 2**20
NOTHING = "No changes. The machine matches desired/x.yaml.\n"
QUERY = "?key=sk-secret"
MARK = QUERY.rpartition("=")[2]


@pytest.fixture
def server() -> Iterator[HubServer]:
    with hub_server() as running:
        yield running


@pytest.fixture
def weights(tmp_path: Path) -> tuple[bytes, bytes]:
    """Two models, of which the second takes a moment to come."""
    write_tiny_gguf(tmp_path / "one.gguf", seed=1)
    write_tiny_gguf(tmp_path / "two.gguf", seed=2)
    one, two = ((tmp_path / f"{name}.gguf").read_bytes() for name in ("one", "two"))
    return one, two + bytes(8 * MIB)


def serve(lab: Lab, server: HubServer, **files: Content) -> None:
    lab.variables |= {"NO_PROXY": "127.0.0.1,localhost", "HF_TOKEN": f"hf_{MARK}"}
    server.files |= {f"{name}.gguf": content for name, content in files.items()}


def model(server: HubServer, name: str, query: str = "", **more: Any) -> dict[str, Any]:
    digest = sha_of(server.files[f"{name}.gguf"])
    url = f"{server.endpoint}/files/{name}.gguf{query}"
    return {"source": {"url": url, "sha256": digest}, **more}


def blobs(lab: Lab) -> set[str]:
    return {path.name for path in (lab.root / "models" / "urls" / "blobs").iterdir()}


def mapped(pid: int) -> set[str]:
    lines = Path(f"/proc/{pid}/maps").read_text(encoding="utf-8").splitlines()
    return {line.split()[-1] for line in lines}


@pytest.mark.needs("openssl")
def test_the_engine_serves_what_came(real: Lab, weights: tuple[bytes, bytes]) -> None:
    """Over https, with a secret in the URL that nobody is shown."""
    certificate = make_certificate(real.folder / "tls")
    real.variables["SSL_CERT_FILE"] = str(certificate.cert)
    with hub_server(certificate) as server:
        serve(real, server, one=weights[0])
        real.write({"a": model(server, "one", QUERY)})
        plan, done = real.plan(), real.apply()
        assert "+ model_file.a                     not on disk, 1" in plan.out
        assert f"url: {server.endpoint}/files/one.gguf?…" in plan.out
        assert "Download 1" in plan.out
        assert real.complete("a").status == 200
        digest = sha_of(weights[0])
        brought = real.root / "models" / "urls" / "blobs" / digest
        assert str(brought) in mapped(real.pids()["a"])
        assert not real.lock.exists()
        asked = list(server.requests)
        said = [done, real.plan(), real.plan("--json"), real.run("list"), real.run("status", "a")]
        assert said[1].out == NOTHING
        assert server.requests == asked
        assert server.told_secret == []
    assert [one for one in said if MARK in one.all] == []
    # What was in force is kept for `rollback`, as private as the state folder.
    of_files = set(real.folder.glob("s/llm-reconcile/*/generations/*"))
    assert {path.stat().st_mode & 0o077 for path in of_files} == {0}
    others = [path for path in real.folder.rglob("*") if path.is_file() and path != real.file]
    kept = [path for path in others if MARK.encode() in path.read_bytes()]
    assert set(kept) <= of_files


def test_its_hash_alone_says_which_file_it_is(
    fakes: Lab, server: HubServer, weights: tuple[bytes, bytes]
) -> None:
    """Another URL of the same bytes costs nothing; other bytes are here before the old ones go."""
    serve(fakes, server, one=weights[0], same=weights[0], two=weights[1])
    fakes.write({"a": model(server, "one"), "b": {}})
    fakes.apply()
    before, asked = fakes.pids(), list(server.requests)
    fakes.write({"a": model(server, "same"), "b": {}})
    assert fakes.plan().out == NOTHING
    assert fakes.apply().out == NOTHING
    assert server.requests == asked
    changed = model(server, "two")
    server.broken = 503
    fakes.write({"a": changed, "b": {}})
    done = fakes.apply(code=3)
    assert "blocked, keeps running" in done.out
    assert "its server answered HTTP 503" in done.out
    assert fakes.pids() == before
    server.broken = 0
    child = fakes.begin_apply("--limit-rate", "4M")
    eventually(lambda: server.sent > len(weights[0]) + MIB, "bytes flow")
    assert fakes.pids() == before
    assert fakes.end(child).code == 0
    after = fakes.pids()
    assert (after["a"] != before["a"], after["b"]) == (True, before["b"])
    assert blobs(fakes) == {sha_of(one) for one in weights}
    gone = fakes.run("prune", "-y")
    assert sha_of(weights[0]) in gone.out
    assert blobs(fakes) == {sha_of(weights[1])}
    assert fakes.plan().out == NOTHING
    fakes.write({"a": {**changed, "state": "absent"}, "b": {}})
    fakes.apply("--allow-destroy", "1")
    fakes.run("prune", "-y")
    assert not (fakes.root / "models" / "urls").exists()


def test_two_models_share_a_file(
    fakes: Lab, server: HubServer, weights: tuple[bytes, bytes]
) -> None:
    serve(fakes, server, one=weights[0], same=weights[0])
    fakes.write({"a": model(server, "one"), "b": model(server, "same")})
    done = fakes.apply()
    assert f"Download {human_bytes(len(weights[0]))}." in done.out
    assert done.err.count(": downloaded") == 1
    assert set(fakes.servers()) == {"a", "b"}
    assert fakes.plan().out == NOTHING


def noted(lab: Lab, size: int) -> int:
    """How many bytes of a file on its way are noted to be here."""
    paths = (lab.root / "models").rglob("*.reconcile.journal")
    found = (parse_journal(path.read_text(), size) for path in paths)
    return sum(length(one.spans) for one in found if one)


def test_a_kill_keeps_what_came(
    fakes: Lab, server: HubServer, weights: tuple[bytes, bytes]
) -> None:
    serve(fakes, server, two=weights[1])
    size = len(weights[1])
    fakes.write({"a": model(server, "two")})
    child = fakes.popen("download", "a", "--limit-rate", "2M")
    # What the server has sent may still be on its way.
    eventually(lambda: noted(fakes, size) > MIB, "so much is here")
    child.send_signal(signal.SIGKILL)
    assert fakes.end(child).code == -signal.SIGKILL
    [row] = fakes.run("list", "--json").json["models"]
    assert MIB < row["here_bytes"] < size
    assert (row["source"], row["on_disk"]) == (f"{server.endpoint}/files/two.gguf", "missing")
    sent = server.sent
    done = fakes.run("download", "a", "--json")
    told = [json.loads(line) for line in done.out.splitlines()]
    [name] = {file["name"] for one in told for file in one.get("files", ())}
    assert name == "two.gguf"
    assert server.sent - sent <= row["missing_bytes"] + 8
    assert blobs(fakes) == {sha_of(weights[1])}
    assert "all " in fakes.run("list", "--offline").out
    assert "Nothing to remove" in fakes.run("prune", "-y").out
    asked = list(server.requests)
    fakes.apply()
    assert server.requests == asked


def test_a_flipped_bit_is_found_and_mended(
    fakes: Lab, server: HubServer, weights: tuple[bytes, bytes]
) -> None:
    serve(fakes, server, one=weights[0])
    fakes.write({"a": model(server, "one")})
    fakes.apply()
    before = fakes.pids()
    path = fakes.root / "models" / "urls" / "blobs" / sha_of(weights[0])
    content = bytearray(weights[0])
    content[-100] ^= 1
    with path.open("r+b") as file:
        file.write(content)
    assert "has wrong bytes" in fakes.run("verify", code=3).err
    plan = fakes.plan()
    assert "! model_file.a                     " in plan.out
    assert "wrong bytes, 1" in plan.out
    assert "it runs on wrong bytes" in plan.out
    fakes.apply("--allow-destroy", "1")
    assert path.read_bytes() == weights[0]
    assert fakes.pids() != before
    assert "All " in fakes.run("verify", "a").err
    assert fakes.plan().out == NOTHING


def test_what_lies_there_unverified_is_hashed_before_a_start(
    fakes: Lab, server: HubServer, weights: tuple[bytes, bytes]
) -> None:
    """As of a state folder that was lost; it asks nobody."""
    serve(fakes, server, one=weights[0])
    wanted = model(server, "one")
    fakes.write({"a": wanted})
    fakes.apply()
    fakes.run("down", "-y")
    (fakes.state / "verified.json").unlink()
    asked = list(server.requests)
    done = fakes.apply()
    assert "Verify 1" in done.out
    assert server.requests == asked
    assert fakes.plan().out == NOTHING


def test_what_cannot_be_had_keeps_nothing_else_from_coming(
    fakes: Lab, server: HubServer, weights: tuple[bytes, bytes]
) -> None:
    serve(fakes, server, one=weights[0], bad=Made(5 * MIB))
    bad = model(server, "bad")
    bad["source"]["sha256"] = "a" * 64
    gone = {"source": {"url": f"{server.endpoint}/files/none.gguf", "sha256": "b" * 64}}
    fakes.write({"good": model(server, "one"), "bad": bad, "gone": gone})
    done = fakes.apply(code=3)
    assert "came twice with wrong bytes" in done.err
    assert sha_of(Made(5 * MIB)) in done.err
    assert "a" * 64 in done.err
    assert "files/none.gguf cannot be read: its server answered HTTP 404: check `source.url" in (
        done.out
    )
    assert set(fakes.servers()) == {"good"}
    assert blobs(fakes) == {sha_of(weights[0])}
    assert "gone: its files are not here\n" in fakes.run("verify", "--all").err
    offline = fakes.plan("--offline")
    assert f"{server.endpoint}/files/none.gguf is not here, and --offline keeps it" in offline.out


def test_no_room_for_it(fakes: Lab, server: HubServer) -> None:
    """Refused with the numbers before the first byte, together with what else is to come."""
    free = os.statvfs(fakes.folder).f_bavail * os.statvfs(fakes.folder).f_frsize
    half = Made(free // 2 + MIB, sha="c" * 64), Made(free // 2 + MIB, sha="d" * 64)
    serve(fakes, server, one=half[0], two=half[1])
    models = {name[0]: model(server, name, state="present") for name in ("one", "two")}
    fakes.write(models)
    done = fakes.apply(code=4)
    assert f"{human_bytes(2 * len(half[0]))} to download" in done.err
    assert "stay free; nothing was done\n  make room there (`llm-reconcile prune" in done.err
    assert server.sent <= 4
    assert not (fakes.root / "models").exists()
