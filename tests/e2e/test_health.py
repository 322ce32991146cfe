"""`health` and `metrics`: what servers answer that work, load, hang, sleep or are not there."""

from __future__ import annotations

import contextlib
import json
import os
from http.client import HTTPConnection

import pytest
from waiting import eventually

from e2e import machine
from e2e.lab import ENDLESS, Lab, completion
from reconciler.drivers.base import Health
from reconciler.drivers.probes import HttpProber

NEVER_S = 600


def row(lab: Lab, name: str, *words: str, code: int = 0) -> dict[str, object]:
    rows = lab.run("health", name, "--json", *words, code=code).json["instances"]
    (found,) = rows
    assert isinstance(found, dict)
    return found


def test_a_real_server_makes_a_token(lab: Lab) -> None:
    lab.write({"a": {"params": {"ctx_size": 512}}, "b": {"replicas": 0}})
    lab.apply()
    before = lab.run("metrics", "--json").json["total"]["generated_tokens"]
    said = lab.run("health")
    header, line, gateway = said.out.splitlines()
    assert header.split() == ["NAME", "HEALTH", "1", "TOKEN", "RUNNING", "WAITING"]
    assert line.split()[:2] == ["a", "ok"]
    assert gateway == f"Gateway: ready on http://127.0.0.1:{lab.listen}"
    after = lab.run("metrics", "--json").json
    assert after["total"]["generated_tokens"] == before + 1
    assert after["instances"][0]["counters"]["requests_processing"] == 0
    assert after["instances"][0]["memory_bytes"] > 2**20
    table = lab.run("metrics").out.splitlines()
    assert table[0].split()[0] == "NAME"
    assert table[1].split()[:3] == ["a", "0", "0"]
    assert max(len(each) for each in table) < 80


def test_a_real_server_that_works_is_busy_and_is_left_alone(lab: Lab) -> None:
    lab.write({"a": {"params": {"ctx_size": 65536, "parallel": 1}}})
    lab.apply()
    with lab.stream("a", ENDLESS) as stream:
        stream.take(1)
        found = row(lab, "a")
    assert (found["health"], found["running"]) == ("busy", 1)


def test_a_real_server_with_more_requests_than_threads_is_busy(lab: Lab) -> None:
    """They hold all threads of its HTTP server while they wait: even /health is not answered."""
    lab.write({"a": {"params": {"ctx_size": 65536, "parallel": 1}}})
    lab.apply()
    address = lab.run("status", "a", "--json").json["instances"][0]["address"]
    with contextlib.ExitStack() as clients:
        for _ in range(3 * (os.cpu_count() or 1) + 30):
            client = HTTPConnection("127.0.0.1", lab.listen)
            clients.callback(client.close)
            client.request("POST", "/v1/completions", json.dumps(completion("a", ENDLESS)))
        eventually(lambda: HttpProber().health(address, 1.0) is Health.SILENT, "it is silent")
        found = row(lab, "a")
    assert (found["health"], found["running"]) == ("busy", None)


def test_a_server_that_hangs_is_found_out(fakes: Lab) -> None:
    """/health answers 200 all the time."""
    fakes.write({"a": {"args": {"fake-wedge": True}}, "b": {}})
    fakes.apply()
    assert fakes.run("status").code == 0
    found = row(fakes, "a", "--timeout", "0.5s", code=3)
    assert found["healthy"] is False
    with contextlib.closing(HTTPConnection("127.0.0.1", fakes.listen)) as client:
        client.request("POST", "/v1/completions", json.dumps(completion("a", 1)))
        eventually(lambda: _in_hand(fakes, "a") == 1, "it is given a request")
        found = row(fakes, "a", "--timeout", "2s", code=3)
        assert (found["health"], found["running"]) == ("stuck", 1)
        assert found["reason"] == "in 2 s it moved no token and used neither CPU nor GPU time"


def _in_hand(lab: Lab, name: str) -> object:
    return lab.run("metrics", name, "--json").json["instances"][0]["running"]


def test_what_loads_is_silent_or_is_down(fakes: Lab) -> None:
    fakes.write(
        {
            "dead": {},
            "loads": {"args": {"fake-load-seconds": NEVER_S}, "probe": {"startup": "1s"}},
            "mute": {"args": {"fake-silent": True}, "probe": {"startup": "1s"}},
            "rests": {},
        }
    )
    fakes.apply(code=3)
    machine.end(fakes.servers()["dead"])
    fakes.run("stop", "rests")
    said = fakes.run("health", "--json", code=3).json
    assert {one["name"]: one["health"] for one in said["instances"]} == {
        "dead": "down",
        "loads": "loading",
        "mute": "silent",
        "rests": "down",
    }
    assert said["healthy"] is False
    text = fakes.run("health", code=3).out
    assert "loads: its model is still loading." in text
    counted = fakes.run("metrics", code=3)
    assert "dead: exited" in counted.out
    assert "rests: " not in counted.out


def test_what_was_stopped_is_not_missed(fakes: Lab) -> None:
    fakes.write({"a": {}, "rests": {}})
    fakes.apply()
    fakes.run("stop", "rests")
    said = fakes.run("health").out
    assert said.splitlines()[2].split()[:2] == ["rests", "down"]
    assert "rests: suspended by `stop`." in said


@pytest.mark.parametrize("verb", ["health", "metrics"])
def test_nothing_is_there(fakes: Lab, verb: str) -> None:
    fakes.write({}, gateway=False)
    assert fakes.run(verb).out == "No server runs, and none is wanted.\n"
    assert fakes.run(verb, "--json").json["instances"] == []


def test_without_its_gateway_it_is_not_well(fakes: Lab) -> None:
    fakes.write({"a": {}})
    fakes.apply()
    master = fakes.nginx().master
    assert master is not None
    machine.kill([master, *fakes.nginx().workers])
    eventually(lambda: fakes.nginx().master is None, "nginx is gone")
    said = fakes.run("health", code=3)
    assert said.out.splitlines()[1].split()[:2] == ["a", "ok"]
    assert "Gateway: absent, not as wanted" in said.out
    assert fakes.run("health", "a").code == 0
