"""download: files only, at any speed, from any interruption on; and downloads beside other runs."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hub_faults import Content
from hub_server import HubServer, hub_server
from tiny_gguf import write_tiny_gguf
from waiting import eventually

from e2e.lab import Lab
from e2e.terminal import CTRL_C, Terminal

REPO = "org/m-GGUF"
MIB = 2**20
SLOW = ("--limit-rate", "1M")


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with hub_server() as running:
        yield running


def hub_model(repo: str = REPO, quant: str = "Q4", **more: Any) -> dict[str, Any]:
    return {"source": {"repo": repo}, "quant": quant, **more}


@pytest.fixture
def padded(tiny_model: Path) -> bytes:
    """A model that takes a moment to come: llama.cpp does not mind what follows the tensors."""
    return tiny_model.read_bytes() + bytes(8 * MIB)


def shards(folder: Path, **how: Any) -> dict[str, Content]:
    folder.mkdir()
    write_tiny_gguf(folder / "m-Q4.gguf", per_shard=4, **how)
    return {f"Q4/{one.name}": one.read_bytes() for one in sorted(folder.iterdir())}


def connect(lab: Lab, hub: HubServer) -> None:
    lab.variables = {"HF_ENDPOINT": hub.endpoint, "NO_PROXY": "127.0.0.1,localhost"}


def gets(hub: HubServer) -> int:
    return sum(one.startswith("GET /cdn/") for one in hub.requests)


def partials(lab: Lab) -> list[str]:
    return [path.name for path in (lab.root / "models").rglob("*.reconcile.*")]


def test_files_only(lab: Lab, hub: HubServer) -> None:
    """Also of a model that is to run; the second time there is nothing to ask anybody for."""
    connect(lab, hub)
    hub.add(REPO, {"m-Q4.gguf": lab.weights.read_bytes()})
    lab.write({"m": hub_model(aliases=["chat"]), "rest": hub_model(state="present"), "by-path": {}})
    done = lab.run("download", "chat")
    assert done.out == ""
    assert "m: 1 file, " in done.err
    assert "model_file.m: downloaded" in done.err
    assert done.err.endswith("All files are here.\n")
    assert not lab.servers()
    # No journal and no lock: it is nobody's turn. What it did is told.
    told = {"gateway", "history.jsonl"}
    assert {path.name for path in lab.state.iterdir()} == {"verified.json", *told}
    asked = list(hub.requests)
    again = lab.run("download", "--all")
    assert "m: here, " in again.err
    assert "rest: here, " in again.err
    assert "by-path: here, " in again.err
    assert hub.requests == asked
    lab.apply()
    assert hub.requests == asked
    assert set(lab.servers()) == {"m", "by-path"}
    assert lab.complete("m").status == 200


def test_what_cannot_be_had_keeps_nothing_else_from_coming(lab: Lab, hub: HubServer) -> None:
    connect(lab, hub)
    hub.add(REPO, {"m-Q4.gguf": lab.weights.read_bytes()})
    models = {"m": hub_model(), "no": hub_model("org/none"), "off": hub_model(state="absent")}
    lab.write(models)
    done = lab.run("download", "--all", code=3)
    assert "model_file.m: downloaded" in done.err
    assert "no: hub repository org/none does not exist, or is private" in done.err
    assert "off" not in done.err
    hub.faults.clear()
    lab.write({"m": hub_model(quant="Q9")})
    assert "Q9" in lab.run("download", "m", code=3).err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "name models, or say --all"),
        (("m", "--all"), "name models, or say --all"),
        (("n",), "no model is called n"),
        (("off",), "the file wants nothing of off here"),
        (("m", "--parallelism", "0"), "--parallelism"),
        (("m", "--limit-rate", "fast"), "expected bytes a second"),
        (("m", "--limit-rate", "0"), "more than nothing"),
    ],
)
def test_bad_words(lab: Lab, words: tuple[str, ...], said: str) -> None:
    lab.write({"m": {}, "off": {"state": "absent"}})
    assert said in lab.run("download", *words, code=1).err


def test_ctrl_c_keeps_what_came(lab: Lab, hub: HubServer, padded: bytes) -> None:
    connect(lab, hub)
    hub.add(REPO, {"m-Q4.gguf": padded})
    lab.write({"m": hub_model()})
    with Terminal(lab, "download", "m", *SLOW) as terminal:
        terminal.until("##")
        terminal.type(CTRL_C)
        assert terminal.end() == 130
        assert "Interrupted: what has come is kept." in terminal.text
        assert "Interrupted. The next download or apply goes on from there." in terminal.text
        words = " ".join(terminal.text.split())
        assert "MiB of 8.1 MiB are here, the next run goes on from there" in words
    assert len(partials(lab)) == 2
    [row] = lab.run("list", "--json").json["models"]
    assert MIB // 2 < row["here_bytes"] < len(padded) - MIB
    assert row["missing_bytes"] == len(padded) - row["here_bytes"]
    share = 100 * row["here_bytes"] // len(padded)
    assert f"MiB ({share} %)  8.1 MiB  Q4" in lab.run("list").out
    sent = hub.sent
    assert sent < len(padded)
    lab.run("download", "m")
    assert partials(lab) == []
    assert hub.sent - sent < len(padded) - MIB


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_any_end_keeps_what_came(lab: Lab, hub: HubServer, padded: bytes, number: int) -> None:
    connect(lab, hub)
    hub.add(REPO, {"m-Q4.gguf": padded})
    lab.write({"m": hub_model()})
    child = lab.popen("download", "m", *SLOW)
    eventually(lambda: hub.sent > 3 * MIB, "bytes flow")
    child.send_signal(number)
    assert lab.end(child).code == (143 if number == signal.SIGTERM else -number)
    sent = hub.sent
    lab.apply()
    assert hub.sent - sent < len(padded) - MIB
    assert lab.complete("m").status == 200


def test_a_download_holds_up_no_other_run(lab: Lab, hub: HubServer, padded: bytes) -> None:
    connect(lab, hub)
    hub.add(REPO, {"m-Q4.gguf": padded})
    lab.write({"m": hub_model(), "a": {}})
    lab.run("start", "a")
    child = lab.popen("download", "m", "--limit-rate", "500k")
    eventually(lambda: hub.sent > 0, "bytes flow")
    lab.run("stop", "a", "--lock-timeout", "0")
    assert not lab.servers()
    assert child.poll() is None
    child.send_signal(signal.SIGINT)
    assert lab.end(child).code == 130


def test_two_runs_that_want_the_same_file(lab: Lab, hub: HubServer, padded: bytes) -> None:
    """One fetches, both use it."""
    connect(lab, hub)
    hub.add(REPO, {"m-Q4.gguf": padded})
    lab.write({"m": hub_model()})
    first = lab.popen("download", "m", "--limit-rate", "4M")
    eventually(lambda: hub.sent > 0, "bytes flow")
    second = lab.begin_apply()
    assert lab.end(first).code == 0
    done = lab.end(second)
    assert done.code == 0, done.all
    assert lab.complete("m").status == 200
    assert hub.sent == len(padded)


def test_the_file_changes_while_a_download_runs(lab: Lab, hub: HubServer, padded: bytes) -> None:
    """What was begun is brought to its end; the next run does what the file says then."""
    connect(lab, hub)
    hub.add(REPO, {"m-Q4.gguf": padded, "m-Q8.gguf": lab.weights.read_bytes()})
    lab.write({"m": hub_model(), "b": {}})
    child = lab.begin_apply("--limit-rate", "4M")
    eventually(lambda: hub.sent > 0, "bytes flow")
    lab.write({"m": hub_model(quant="Q8"), "b": {"params": {"ctx_size": 512}}})
    done = lab.end(child)
    assert done.code == 0, done.all
    assert hub.sent == len(padded)
    before = lab.pids()
    lab.apply()
    assert lab.pids().keys() == before.keys()
    assert all(lab.pids()[name] != before[name] for name in before)
    assert hub.sent == len(padded) + lab.weights.stat().st_size
    assert lab.complete("m").status == 200


def test_events(lab: Lab, hub: HubServer, padded: bytes) -> None:
    connect(lab, hub)
    hub.add(REPO, {"m-Q4.gguf": padded})
    lab.write({"m": hub_model()})
    done = lab.run("download", "m", "--json", "--limit-rate", "6M")
    events = [json.loads(line) for line in done.out.splitlines()]
    assert [one["event"] for one in events if one["event"] != "progress"] == [
        "plan",
        "step",
        "step",
        "done",
    ]
    told = [one for one in events if one.get("files")]
    # The first MiB came with the header.
    size, came = len(padded), len(padded) - MIB
    assert told[-1]["files"] == [{"name": "m-Q4.gguf", "done": size, "size": size, "came": came}]
    assert any(0 < one["bytes_per_s"] < 20 * MIB for one in told)
    assert events[-1] == {"event": "done", "converged": True, "lacking": {}}
    assert done.err == ""


def test_a_pipe_gets_a_line_now_and_then(lab: Lab, hub: HubServer, padded: bytes) -> None:
    connect(lab, hub)
    hub.add(REPO, {"m-Q4.gguf": padded})
    lab.write({"m": hub_model()})
    child = lab.popen("download", "m", "--limit-rate", "700k")
    assert child.stderr is not None
    lines = iter(child.stderr.readline, "")
    said = next(line for line in lines if "downloaded (" in line)
    child.send_signal(signal.SIGINT)
    assert lab.end(child).code == 130
    assert "/8.1 MiB downloaded (" in said
    assert "KiB/s, " in said
    assert said.endswith(" s left\n")
    assert "\x1b" not in said


@pytest.mark.parametrize("files", ["one", "three"])
def test_the_engine_serves_what_came(real: Lab, hub: HubServer, tmp_path: Path, files: str) -> None:
    connect(real, hub)
    content: dict[str, Content] = {"m-Q4.gguf": real.weights.read_bytes()}
    if files == "three":
        content = shards(tmp_path / "shards")
        assert list(content) == [f"Q4/m-Q4-0000{n}-of-00003.gguf" for n in (1, 2, 3)]
    hub.add(REPO, content)
    real.write({"m": hub_model()})
    real.run("download", "m", "--parallelism", "3")
    real.apply()
    assert real.complete("m").status == 200
    [pid] = real.pids().values()
    mapped = Path(f"/proc/{pid}/maps").read_text(encoding="utf-8")
    brought = {os.path.realpath(path) for path in (real.root / "models").rglob("*.gguf")}
    assert brought <= {line.split()[-1] for line in mapped.splitlines()}
