"""What runs leave for people: /api/status, as it is after each kind of end."""

from __future__ import annotations

import signal
from typing import Any

from hub_server import HubServer
from waiting import eventually

from e2e import hub_lab, machine
from e2e.lab import Lab

DIES = {"args": {"fake-exit-loading": 3}}


def told(lab: Lab) -> Any:
    answer = lab.ask("/api/status")
    assert answer.status == 200
    return answer.json


def pending(lab: Lab) -> dict[str, tuple[str, str]]:
    """What is pending of instances: action and reason."""
    found = [one for one in told(lab)["pending"] if one["type"] == "instance"]
    return {one["name"]: (one["action"], one["reason"]) for one in found}


def test_what_failed_is_pending_until_it_is_mended(fakes: Lab) -> None:
    (fakes.root / "empty.gguf").touch()
    empty: dict[str, Any] = {"source": {"path": "empty.gguf"}}
    fakes.write({"fine": {}, "dies": DIES, "empty": empty})
    fakes.apply(code=3)
    found = pending(fakes)
    assert set(found) == {"dies", "empty"}
    assert (found["dies"][0], found["empty"][0]) == ("create", "blocked")
    assert "died" in found["dies"][1]
    assert "is empty" in found["empty"][1]
    assert told(fakes)["file"] == "desired/x.yaml"
    # A run about one model leaves what is known of the others.
    fakes.run("restart", "fine")
    assert set(pending(fakes)) == {"dies", "empty"}
    fakes.write({"fine": {}})
    fakes.apply()
    assert told(fakes)["pending"] == []
    before = machine.written(fakes.state / "gateway" / "status.json")
    fakes.apply()
    assert machine.written(fakes.state / "gateway" / "status.json") == before


def test_what_an_interrupted_run_left_is_pending(fakes: Lab) -> None:
    fakes.write({"quick": {}})
    fakes.apply()
    fakes.write({"quick": {}, "slow": {"args": {"fake-load-seconds": 3}}})
    child = fakes.begin_apply()
    fakes.wait_for("slow")
    child.send_signal(signal.SIGINT)
    assert fakes.end(child).code == 130
    assert "interrupted" in pending(fakes)["slow"][1]
    fakes.apply()
    assert pending(fakes) == {}


def test_files_on_their_way_are_shown_while_they_come(fakes: Lab, hub: HubServer) -> None:
    """kill -9 of the run that fetches them: nobody does any more, and the next run clears it."""
    content = fakes.weights.read_bytes() + bytes(8 * 2**20)
    hub.add("org/far-GGUF", {"far-Q4_0.gguf": content})
    far = {"source": {"repo": "org/far-GGUF"}, "quant": "Q4_0"}
    fakes.write({"here": {}})
    fakes.apply()
    fakes.write({"here": {}, "far": far})
    child = fakes.begin_apply("--limit-rate", "200k")
    eventually(lambda: told(fakes)["downloads"], "it is shown")
    [coming] = told(fakes)["downloads"]
    assert (coming["model"], coming["of"]) == ("far", len(content))
    assert coming["file"].endswith("far-Q4_0.gguf")
    assert coming["bytes"] < len(content)
    assert pending(fakes)["far"] == ("create", "files are on their way")
    child.kill()
    child.wait()
    assert told(fakes)["downloads"] == []
    assert list(fakes.state.glob("gateway/downloads.*.json"))
    fakes.apply()
    assert (told(fakes)["pending"], told(fakes)["downloads"]) == ([], [])
    assert list(fakes.state.glob("gateway/*downloads.*")) == []


def test_a_download_is_told_too(fakes: Lab, hub: HubServer) -> None:
    fakes.write({"a": {}})
    fakes.apply()
    fakes.write({"a": {}, "far": hub_lab.model(state="present")})
    fakes.run("download", "far")
    fakes.run("download", "far")
    records = fakes.run("history", "--json").json["records"]
    assert [(one["verb"], one["outcome"]) for one in records] == [
        ("download", "applied"),
        ("apply", "applied"),
    ]
    assert {one["type"] for one in records[0]["changes"]} <= {"model_file", "lock"}
    assert told(fakes)["pending"] == []


def test_what_a_guard_refused_is_pending(fakes: Lab) -> None:
    fakes.write({"a": {"protect": True}, "b": {}})
    fakes.apply()
    fakes.write({"a": {"protect": True, "params": {"temp": 0.1}}, "b": {}})
    fakes.apply(code=4)
    assert pending(fakes)["a"] == (
        "replace",
        "refused: a is protected and would be stopped or replaced",
    )
    # Another file is not what this root follows.
    other = fakes.file.with_name("other.yaml")
    other.write_text(fakes.file.read_text())
    fakes.run("apply", str(other), "-y", code=4)
    assert told(fakes)["file"] == "desired/x.yaml"
    fakes.apply("--allow-protected", "a")
    assert pending(fakes) == {}
