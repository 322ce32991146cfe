"""/metrics: what the servers count and what the gateway knows of them, on one page."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gateway_rig import Rig, eventually, rig
from prometheus_text import Page, read_page

from reconciler.core.words import InstanceName
from reconciler.drivers import proc

ALICE, BOB = "alice-key-1", "bob-key-22"
FRESH_S = 5.0
"""For so long an answer of a server serves; its twin is in templates/scrape.js."""
COUNTS = """\
# HELP llamacpp:prompt_tokens_total Number of prompt tokens processed
# TYPE llamacpp:prompt_tokens_total counter
llamacpp:prompt_tokens_total 7
# TYPE llamacpp:requests_processing gauge
llamacpp:requests_processing 0
"""
ODD = r"""# a word
# TYPE odd_seconds histogram
odd_seconds_bucket{le="0.1",model="its own",replica="x"} 1
odd_seconds_bucket{le="+Inf",model="its own",replica="x",} 2
odd_seconds_sum{model="its own",replica="x"} 0.25
odd_seconds_count{model="its own",replica="x"} 2

# HELP odd_text a \\ and a \n
# TYPE odd_text gauge
odd_text{a="say \",model=\", \\ { } \n", my_model="m"} NaN
odd_text{ a="2" } -1.5e-3 1700000000000
odd_text{a="2"} 4
odd_text +Inf
untold 3
llamacpp:prompt_tokens_total 1
""".replace("\n\n", "\r\n")
RUBBISH = {
    "none": "",
    "page": "<html>hello</html>\n",
    "cut": "llamacpp:prompt_tokens_total 7\nllamacpp:requests_pro",
    "number": "llamacpp:prompt_tokens_total 1.2.3\n",
    "label": 'llamacpp:prompt_tokens_total{a="b} 1\n',
    "inject": 'llamacpp:prompt_tokens_total 1\nfake{model="alpha"} 1 2 3\n',
    "ours": 'llm_reconcile_gateway_info{generation="x"} 1\n',
}
MODELS: dict[str, Any] = {
    "alpha": {"quant": "Q4_0"},
    "twin": {"replicas": 2},
    "odd": {},
    "down": {},
    "old": {},
    "kept": {"state": "present"},
    **{name: {} for name in RUBBISH},
}


@pytest.fixture(scope="module")
def world() -> Iterator[Rig]:
    with rig() as made:
        keys = Path(made.site.root) / "secrets" / "keys"
        keys.parent.mkdir(parents=True)
        keys.write_text(f"alice:{ALICE}\nbob:{BOB}:twin,down\n")
        keys.chmod(0o600)
        made.apply(made.render(MODELS, keys_file="secrets/keys"))
        counts = {"alpha": COUNTS, "twin": COUNTS, "twin[1]": COUNTS, "odd": ODD, **RUBBISH}
        for instance, text in counts.items():
            made.backend(instance).metrics = text
        made.backend("old")
        yield made


def page(world: Rig, key: str = ALICE) -> Page:
    answer = world.ask("GET", "/metrics", headers={"x-api-key": key})
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"
    return read_page(answer.body.decode())


def test_every_series_of_a_server_says_whose_it_is(world: Rig) -> None:
    found = page(world)
    assert found.values("llamacpp:prompt_tokens_total") == {
        "model=alpha,replica=0": 7,
        "model=odd,replica=0": 1,
        "model=twin,replica=0": 7,
        "model=twin,replica=1": 7,
    }
    assert found.types["llamacpp:prompt_tokens_total"] == "counter"
    assert found.helps["llamacpp:prompt_tokens_total"] == "Number of prompt tokens processed"
    assert found.value("llamacpp:requests_processing", model="alpha", replica="0") == 0
    asked = world.backends["alpha.a"].scrapes[0].lower()
    assert "alice" not in asked
    assert "x-api-key" not in asked


def test_what_a_server_says_is_kept_as_it_is(world: Rig) -> None:
    found = page(world)
    own = {"model": "odd", "replica": "0"}
    theirs = {"exported_model": "its own", "exported_replica": "x"}
    assert found.value("odd_seconds_bucket", le="0.1", **own, **theirs) == 1
    assert found.value("odd_seconds_bucket", le="+Inf", **own, **theirs) == 2
    assert found.value("odd_seconds_sum", **own, **theirs) == 0.25
    assert found.value("odd_seconds_count", **own, **theirs) == 2
    assert found.types["odd_seconds"] == "histogram"
    text = 'say ",model=", \\ { } \n'
    assert str(found.value("odd_text", a=text, my_model="m", **own)) == "nan"
    assert found.value("odd_text", a="2", **own) == -0.0015
    assert found.value("odd_text", **own) == float("inf")
    assert found.helps["odd_text"] == r"a \\ and a \n"
    assert (found.types["untold"], found.value("untold", **own)) == ("untyped", 3)


def test_a_server_that_tells_nothing_is_said_to(world: Rig) -> None:
    """One is down, one has no /metrics, the rest answers rubbish: the page comes."""
    found = page(world)
    told = found.values("llm_reconcile_instance_scrape_success")
    good = {"model=alpha", "model=odd", "model=twin"}
    silent = {f"model={name}" for name in ("down", "old", *RUBBISH)}
    assert {key.partition(",")[0] for key, value in told.items() if value == 1} == good
    assert {key.partition(",")[0] for key, value in told.items() if value == 0} == silent
    from_servers = {
        dict(labels)["model"]
        for name, rows in found.series.items()
        for labels in rows
        if not name.startswith("llm_reconcile_")
    }
    assert from_servers == {"alpha", "odd", "twin"}
    assert found.values("llm_reconcile_gateway_info") == {
        f"generation={world.gateway.observe().generation}": 1
    }


def test_a_server_is_asked_seldom(world: Rig) -> None:
    """llama.cpp notices a client that left only after a second without a task."""
    backend = world.backends["alpha.a"]
    before, began = len(backend.scrapes), time.monotonic()
    for _ in range(20):
        page(world)
    most = 2 + (time.monotonic() - began) / FRESH_S
    assert len(backend.scrapes) - before <= most


def test_new_counts_come(world: Rig) -> None:
    world.backends["twin.a"].metrics = COUNTS.replace(" 7", " 8")
    name = "llamacpp:prompt_tokens_total"
    eventually(lambda: page(world).value(name, model="twin", replica="0") == 8)


def test_a_server_that_hangs_holds_nobody_up(world: Rig) -> None:
    """It takes connections and never answers."""
    with socket.socket(socket.AF_UNIX) as hung:
        hung.bind(world.site.socket(InstanceName("down"), "a"))
        hung.listen()
        world.route("down", "a")
        row = {"model": "down", "replica": "0"}
        phase = "llm_reconcile_instance_phase"
        eventually(lambda: page(world).value(phase, phase="unhealthy", **row) == 1)
        found = page(world)
    world.unroute("down")
    assert found.value("llm_reconcile_instance_scrape_success", **row) == 0
    assert found.value("llamacpp:requests_processing", model="alpha", replica="0") == 0
    eventually(lambda: page(world).value(phase, phase="exited", **row) == 1)


def test_phases(world: Rig) -> None:
    found = page(world)

    def phase(model: str, replica: str = "0") -> str:
        rows = found.values("llm_reconcile_instance_phase", model=model, replica=replica)
        assert len(rows) == 5
        (now,) = (key for key, value in rows.items() if value == 1)
        assert sum(rows.values()) == 1
        return now.removeprefix("phase=")

    assert phase("alpha") == phase("twin", "1") == "ready"
    assert phase("down") == "exited"
    info = "llm_reconcile_model_info"
    assert found.values(info, model="kept") == {"quant=,state=present": 1}
    assert found.values(info, model="alpha") == {"quant=Q4_0,state=running": 1}
    assert found.values("llm_reconcile_instance_phase", model="kept") == {}
    world.gateway.publish({"down": {"phase": "suspended", "reason": "x"}})
    rest = {"model": "down", "replica": "0", "phase": "suspended"}
    eventually(lambda: page(world).value("llm_reconcile_instance_phase", **rest) == 1)
    world.gateway.publish({})


def test_what_was_noted_of_a_server(world: Rig) -> None:
    me = proc.ref_of(os.getpid())
    assert me
    note = {"since": 1700, "size_bytes": 2**40, "restarts": 3, "pid": me.pid}
    world.gateway.publish(
        {
            "alpha": {**note, "start_ticks": me.start_ticks},
            # Its pid came round: it is another process now.
            "twin": {**note, "start_ticks": me.start_ticks - 1},
            "twin[1]": {"since": "soon", "size_bytes": None, "pid": "../1", "start_ticks": 1},
            "down": {**note, "pid": 2**30, "start_ticks": 1},
        }
    )
    restarts = "llm_reconcile_instance_restarts_total"
    eventually(lambda: page(world).values(restarts) != {})
    found = page(world)
    alpha = {"model": "alpha", "replica": "0"}
    assert found.value(restarts, **alpha) == 3
    assert found.values("llm_reconcile_model_file_bytes", model="alpha") == {"": 2**40}
    started = found.values("llm_reconcile_instance_start_time_seconds")
    assert started == {"model=alpha,replica=0": 1700, "model=twin,replica=0": 1700}
    memory = found.values("llm_reconcile_instance_resident_memory_bytes")
    assert list(memory) == ["model=alpha,replica=0"]
    assert 2**20 < memory["model=alpha,replica=0"] < 2**36
    world.gateway.publish({})


def test_what_the_last_run_left_to_do(world: Rig) -> None:
    path = Path(world.site.gateway) / "status.json"
    assert "llm_reconcile_plan_changes_pending" not in page(world).series
    change = {"action": "create", "reason": "x"}
    kinds = {"alpha": "instance", "twin[1]": "instance", "gateway": "gateway"}
    loading = {"model": "alpha", "file": 'a"b\\c.gguf', "bytes": 5, "of": 9}
    status = {
        "at": 1700.5,
        "pending": [{"name": name, "type": kind, **change} for name, kind in kinds.items()],
    }
    path.write_text(json.dumps(status))
    me = proc.ref_of(os.getpid())
    assert me
    files = [
        loading,
        {**loading, "bytes": 6},
        {**loading, "file": "unknown size", "of": None},
        "rubbish",
    ]
    coming = path.with_name(f"downloads.{me.pid}.json")
    coming.write_text(json.dumps({"process": [me.pid, me.start_ticks], "downloads": files}))
    found = page(world)
    assert found.value("llm_reconcile_plan_timestamp_seconds") == 1700.5
    assert found.value("llm_reconcile_plan_changes_pending") == 3
    of_file = {"model": "alpha", "file": 'a"b\\c.gguf'}
    assert found.value("llm_reconcile_download_bytes", **of_file) == 5
    assert found.values("llm_reconcile_download_size_bytes") == {'file=a"b\\c.gguf,model=alpha': 9}
    limited = page(world, BOB)
    assert limited.value("llm_reconcile_plan_changes_pending") == 1
    assert "llm_reconcile_download_bytes" not in limited.series
    path.write_text(json.dumps({"at": 1, "pending": [None, 7, {"type": "instance"}]}))
    assert page(world).value("llm_reconcile_plan_changes_pending") == 1
    for rubbish in ("", "{", "[]", '{"at": "x", "pending": {"length": 9}, "downloads": 3}'):
        path.write_text(rubbish)
        coming.write_text(rubbish)
        served = page(world).series
        assert not {name for name in served if "_plan_" in name or "_download_" in name}
    path.unlink()
    coming.unlink()


def test_a_key_sees_its_models_alone(world: Rig) -> None:
    assert page(world, BOB).seen("model") == {"twin", "down"}
    assert page(world).seen("model") == set(MODELS)
    assert world.ask("GET", "/metrics").status == 401
    assert world.ask("GET", "/-/metrics/x.sock", headers={"x-api-key": ALICE}).status == 404
