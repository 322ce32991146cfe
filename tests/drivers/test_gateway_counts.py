"""Requests as /metrics counts them: each once, by whom it was answered and how."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from e2e.machine import free_port
from gateway_rig import Answer, Rig, eventually, rig, write_keys
from prometheus_text import Page, read_page

from reconciler.drivers import nginx

TOTAL = "llm_reconcile_requests_total"
DURATION = "llm_reconcile_request_duration_seconds"
FIRST = "llm_reconcile_request_first_byte_seconds"
KEYS = {"alice": "alice-key-1", "bob": "bob-key-22", "once": "once-key-3"}
FILE = "alice:alice-key-1\nbob:bob-key-22:beta\nonce:once-key-3 rpm=1\n"


Counts = Counter[tuple[str, str, str]]


@dataclass
class World:
    """A gateway, and how much there is for it to count."""

    rig: Rig
    sent: int = 0

    def apply(self, **gateway: object) -> None:
        alpha = {"port": self.rig.ports["alpha"]}
        models = {"alpha": alpha, "beta": {}, "twin": {"replicas": 2}, "down": {}}
        self.rig.apply(self.rig.render(models, keys_file="secrets/keys", **gateway))

    def ask(self, path: str, model: str | None, who: str = "alice", **more: Any) -> Answer:
        self.sent += 1
        headers = {"x-api-key": KEYS.get(who, who)} if who else {}
        return self.rig.ask("POST", path, model and {"model": model}, headers=headers, **more)

    def page(self, who: str = "alice") -> Page:
        answer = self.rig.ask("GET", "/metrics", headers={"x-api-key": KEYS[who]})
        assert answer.status == 200
        return read_page(answer.body.decode())

    def counts(self) -> Counts:
        """By model, key and status, of all that was sent."""
        eventually(lambda: _counts(self.page()).total() == self.sent)
        return _counts(self.page())

    @property
    def log(self) -> Path:
        return Path(self.rig.site.gateway) / "logs" / "access.log"

    def note(self, text: str, lines: int) -> None:
        """Write into the log, beside nginx."""
        with self.log.open("a") as file:
            file.write(text)
        self.sent += lines


def _counts(page: Page) -> Counts:
    rows = ((dict(labels), value) for labels, value in page.series.get(TOTAL, {}).items())
    return Counter({(of["model"], of["key"], of["status"]): int(value) for of, value in rows})


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with rig() as made:
        made.ports = {"alpha": free_port()}
        write_keys(made, FILE)
        World(made).apply()
        for instance in ("alpha", "beta", "twin", "twin[1]"):
            made.backend(instance).go_on.set()
        yield World(made)


def test_each_way_to_a_model_is_counted_once(world: World) -> None:
    before = world.counts()
    world.ask("/v1/chat/completions", "alpha")
    world.ask("/v1/x/stream", "alpha")
    world.ask("/api/alpha/v1/x/stream", None)
    world.ask("/x", None, port=world.rig.ports["alpha"])
    world.ask("/v1/x?model=alpha", None)
    world.ask("/v1/x", "twin")
    wanted = [("alpha", "alice", "200")] * 5 + [("twin", "alice", "200")]
    assert world.counts() - before == Counter(wanted)


def test_each_refusal_is_counted_once(world: World) -> None:
    world.ask("/v1/x", "alpha", "once")
    before = world.counts()
    answers = {
        ("-", "-", "401"): world.ask("/api/alpha/x", None, "wrong-key"),
        ("alpha", "bob", "403"): world.ask("/v1/x", "alpha", "bob"),
        ("-", "alice", "404"): world.ask("/v1/x", "nope"),
        ("-", "alice", "400"): world.ask("/v1/x", None),
        ("alpha", "once", "429"): world.ask("/v1/x", "alpha", "once"),
        ("down", "alice", "503"): world.ask("/v1/x", "down"),
        ("alpha", "alice", "502"): world.ask("/v1/break", "alpha"),
    }
    assert world.ask("/v1/x", "alpha", "").status == 401
    assert world.ask("/api/alpha/x", None, "bob").status == 403
    assert [str(answer.status) for answer in answers.values()] == [wanted[2] for wanted in answers]
    twice = [("-", "-", "401"), ("alpha", "bob", "403")]
    assert world.counts() - before == Counter([*answers, *twice])


def test_no_client_makes_up_a_label(world: World) -> None:
    line = '" 200 1 key=made model=up time=1 first=1'
    before = world.counts()
    world.ask("/v1/x", f"made{line}")
    world.ask(f"/v1/x{line}".replace(" ", "%20"), "made")
    world.ask(f"/api/alpha/x?{line}".replace(" ", "%20"), None)
    with socket.create_connection(("127.0.0.1", world.rig.listen), 10) as opened:
        opened.sendall(f"GET /{line.replace(' ', '+')} HTTP/1.1\r\nHost: made\r\n\r\n".encode())
        assert opened.recv(4096).startswith(b"HTTP/1.1 421 ")
    world.sent += 1
    wanted = [("-", "alice", "404")] * 2 + [("alpha", "alice", "200"), ("-", "-", "421")]
    assert world.counts() - before == Counter(wanted)


def test_a_reload_loses_none(world: World) -> None:
    before = world.counts()
    for name in ("one", "two"):
        for _ in range(10):
            world.ask("/v1/x", "alpha")
        world.apply(server_names=(name,))
        for _ in range(10):
            world.ask("/v1/x", "alpha")
    assert world.counts() - before == Counter([("alpha", "alice", "200")] * 40)


def test_a_restart_begins_anew(world: World) -> None:
    world.ask("/v1/x", "alpha")
    world.counts()
    world.rig.stop(grace=10)
    world.apply()
    world.sent = 0
    world.ask("/v1/x", "twin")
    assert world.counts() == Counter([("twin", "alice", "200")])
    assert "model=alpha" in world.log.with_name("access.log.1").read_text()


def test_a_full_log_is_set_aside_and_loses_no_request(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.ask("/v1/x", "alpha")
    before = world.counts()
    monkeypatch.setattr(nginx, "LOG_LIMIT_BYTES", 100)
    for path, turned in (("/v1/before", ".1"), ("/v1/after", "")):
        world.ask(path, "beta")
        assert (world.counts() - before).total() == (1 if turned else 2)
        if turned:
            world.rig.gateway.publish({})
            eventually(world.log.exists)
        assert f"POST {path} " in Path(f"{world.log}{turned}").read_text()
    # A run that was killed in between: nginx still writes into the old one.
    world.log.rename(f"{world.log}.1")
    world.rig.gateway.publish({})
    eventually(world.log.exists)


def line(time: str, first: str, key: str = "bob") -> str:
    asked = '2026-01-01T00:00:00+00:00 127.0.0.1 "GET /\\x22 7 7 HTTP/1.1"'
    return f"{asked} 299 7 key={key} model=beta time={time} first={first}\n"


def test_how_long_it_took(world: World) -> None:
    """The log is what is counted, so it is where a test says how long something took."""
    world.counts()
    before = world.page()
    part = line("0.000", "0.000 : -")
    whole = [line("0.200", "0.010"), line("4000.000", "2.500, 0.001"), line("9.000", "-")]
    world.note("".join(whole) + part[:-30], 3)
    world.counts()
    world.note(part[-30:], 1)
    world.counts()
    found = world.page()

    def more(name: str, **labels: str) -> float:
        of_beta = frozenset({("model", "beta"), *labels.items()})
        then = before.series.get(name, {}).get(of_beta, 0)
        return round(found.series[name][of_beta] - then, 3)

    buckets = {"0.01": 1, "0.1": 1, "0.5": 2, "1800": 2, "+Inf": 3}
    assert {le: more(f"{DURATION}_bucket", le=le) for le in buckets} == buckets
    assert (more(f"{DURATION}_sum"), more(f"{DURATION}_count")) == (4000.2, 3)
    buckets = {"0.01": 2, "1": 2, "2.5": 2, "5": 3, "+Inf": 3}
    assert {le: more(f"{FIRST}_bucket", le=le) for le in buckets} == buckets
    assert (more(f"{FIRST}_sum"), more(f"{FIRST}_count")) == (2.511, 3)
    assert found.types[DURATION] == found.types[FIRST] == "histogram"


def test_what_is_no_line_is_not_counted(world: World) -> None:
    before, good = world.counts(), line("0.001", "0.001", key="alice")
    rubbish = ["x\n", '" \n', good.replace("key=", ""), good.replace("299", "2990"), "\n"]
    rubbish += [good.replace("time=0", "time=x"), good.replace("model=beta", "model="), "\x00\n"]
    world.note("".join(rubbish) + good, 1)
    world.counts()
    # Cut by a rotation that copies: it goes on with what is written from then on.
    world.log.write_text("")
    world.note(good, 1)
    world.counts()
    # A line without end is passed over, however long it is.
    world.note("x" * 2**20 + "\n" + good, 1)
    assert world.counts() - before == Counter([("beta", "alice", "299")] * 3)


def test_a_key_sees_its_own_requests_alone(world: World) -> None:
    world.ask("/v1/x", "beta", "bob")
    world.ask("/v1/x", "beta")
    world.ask("/v1/x", "alpha", "bob")
    seen = {(model, key) for model, key, _ in world.counts()}
    assert seen >= {("beta", "bob"), ("beta", "alice"), ("alpha", "bob")}
    mine = world.page("bob")
    assert {(model, key) for model, key, _ in _counts(mine)} == {("beta", "bob")}
    assert mine.seen("model") == {"beta"}
